"""The figures, a family a file: `FIGURES` has what draws each of collected results, and what its caption says.

Success is in per cent and never smoothed. Colours are those of methods.yaml.
"""

import importlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from trqam.config.errors import UserError
from trqam.report.collected import Collected, mixed_note
from trqam.report.drawing import save
from trqam.report.selection import figure_module, figure_names


class Drawing(NamedTuple):
    """What a figure shows, ``of`` collected results and what follows `--` in its name; then two functions of that."""

    of: Callable[..., Any]
    draw: Callable[[Any], Figure]
    caption: Callable[[Any], str]


def names(collected: Collected) -> tuple[str, ...]:
    """The figures of the scale, and that of imported curves if there are any."""
    return figure_names(collected.config, not collected.imported.empty)


def draw(name: str, collected: Collected, out_path: str | Path) -> None:
    """Writes the figure ``name`` to ``out_path`` (.pdf) and, beside it, as .png; equal input gives equal bytes."""
    drawing, runs = find(name, collected)
    save(partial(drawing.draw, runs), out_path)


def captions(collected: Collected) -> dict[str, str]:
    """What each figure of the scale shows, and what is mixed; the paper and the page print the same words."""
    drawings = {name: find(name, collected) for name in names(collected)}
    return {name: drawing.caption(runs) + mixed_note(collected) for name, (drawing, runs) in drawings.items()}


def find(name: str, collected: Collected) -> tuple[Drawing, Any]:
    """The figure, and what it shows: `curves--cube-double-play` a domain."""
    if name not in names(collected):
        known = ", ".join(names(collected))
        raise UserError(f"render: figure {name!r}: unknown, or not of this scale; use one of {known}")
    family, *arguments = name.split("--")
    drawing = importlib.import_module(figure_module(name)).FIGURES[family]
    return drawing, drawing.of(collected, *arguments)
