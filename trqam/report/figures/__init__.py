"""The figures, one file each: `draw` makes it of collected results, and `caption` says what it shows.

Success is in per cent and never smoothed; lines are means over seeds and bands run from the lowest to the highest
seed, because a standard deviation of three seeds says less than the three of them. Colours are those of methods.yaml.
"""

import importlib
import io
from collections.abc import Callable
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from trqam.config.errors import UserError
from trqam.config.load import Config
from trqam.experiment.files import write_atomically
from trqam.report.collected import Collected, mixed_note
from trqam.report.selection import PAPER, figure_module, figure_names


def draw(name: str, collected: Collected, out_path: str | Path) -> None:
    """Writes the figure ``name`` to ``out_path`` (.pdf) and, beside it, as .png; equal input gives equal bytes."""
    function, arguments = _part("draw", name, collected.config)
    save(lambda: function(collected, *arguments), out_path)


def save(make: Callable[[], Figure], out_path: str | Path) -> None:
    """Makes a figure in the paper's style and writes it as .pdf and .png, without a date."""
    with plt.style.context(PAPER / "style.mplstyle", after_reset=True):
        figure = make()
        for suffix, metadata in ((".png", {"Software": None}), (".pdf", {"CreationDate": None})):
            buffer = io.BytesIO()
            figure.savefig(buffer, format=suffix[1:], metadata=metadata)
            write_atomically(Path(out_path).with_suffix(suffix), buffer.getvalue())
        plt.close(figure)


def captions(collected: Collected) -> dict[str, str]:
    """What each figure of the scale shows, and what is mixed; the paper and the page print the same words."""
    texts, note = {}, mixed_note(collected)
    for name in figure_names(collected.config):
        function, arguments = _part("caption", name, collected.config)
        texts[name] = function(collected, *arguments) + note
    return texts


def _part(part: str, name: str, config: Config) -> tuple[Callable, list[str]]:
    """The function ``part`` of the figure's file, and what the name gives it: `curves--cube-double-play` a domain."""
    names = figure_names(config)
    if name not in names:
        raise UserError(f"render: figure {name!r}: unknown, or not of this scale; use one of {', '.join(names)}")
    return getattr(importlib.import_module(figure_module(name)), part), name.split("--")[1:]
