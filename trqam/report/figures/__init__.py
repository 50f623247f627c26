"""The figures, a family a file: `FIGURES` has what draws each of collected results, and what its caption says.

Success is in per cent and never smoothed. Colours are those of methods.yaml.
"""

import importlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure

from trqam.config.errors import UserError
from trqam.config.load import Config
from trqam.report.collected import Collected, mixed_note
from trqam.report.drawing import save
from trqam.report.selection import figure_module, figure_names


class Drawing(NamedTuple):
    """Two functions of collected results, and of what follows `--` in the figure's name."""

    draw: Callable[..., Figure]
    caption: Callable[..., str]


def draw(name: str, collected: Collected, out_path: str | Path) -> None:
    """Writes the figure ``name`` to ``out_path`` (.pdf) and, beside it, as .png; equal input gives equal bytes."""
    drawing, arguments = find(name, collected.config)
    save(partial(drawing.draw, collected, *arguments), out_path)


def captions(collected: Collected) -> dict[str, str]:
    """What each figure of the scale shows, and what is mixed; the paper and the page print the same words."""
    found = {name: find(name, collected.config) for name in figure_names(collected.config)}
    note = mixed_note(collected)
    return {name: drawing.caption(collected, *arguments) + note for name, (drawing, arguments) in found.items()}


def find(name: str, config: Config) -> tuple[Drawing, list[str]]:
    """The figure, and what its name gives it: `curves--cube-double-play` a domain."""
    names = figure_names(config)
    if name not in names:
        raise UserError(f"render: figure {name!r}: unknown, or not of this scale; use one of {', '.join(names)}")
    family, *arguments = name.split("--")
    return importlib.import_module(figure_module(name)).FIGURES[family], arguments
