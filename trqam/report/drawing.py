"""How every figure looks: the paper's style, sizes, logarithmic axes and legends. Nothing here knows of results."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.textpath import TextPath
from matplotlib.ticker import LogLocator, NullFormatter

from trqam.experiment.files import write_atomically
from trqam.report.selection import PAPER

WIDTH = 6.1  # inches, the paper's text width, so that a font size here is the size in print
INK = "#333333"
DASHED: dict[str, Any] = {
    "color": INK,
    "linestyle": "--",
    "linewidth": 0.9,
}  # what values are held against, such as a budget


def save(make: Callable[[], Figure], out_path: str | Path) -> None:
    """Makes a figure in the paper's style and writes it as .pdf and .png, without a date."""
    with plt.style.context(PAPER / "style.mplstyle", after_reset=True):
        figure = make()
        for suffix, metadata in ((".png", {"Software": None}), (".pdf", {"CreationDate": None})):
            buffer = io.BytesIO()
            figure.savefig(buffer, format=suffix[1:], metadata=metadata)
            write_atomically(Path(out_path).with_suffix(suffix), buffer.getvalue())
        plt.close(figure)


def log_axis(axes: Axes, which: str = "y", *inside: float) -> None:
    """A logarithmic axis that holds ``inside``; numbers at 1, 2 and 5, or at the decades alone where it spans many."""
    axes.set(**{f"{which}scale": "log"})
    axis = {"x": axes.xaxis, "y": axes.yaxis}[which]
    low, high = axis.get_view_interval()
    low, high = min(low, *inside, high), max(high, *inside, low)
    axes.set(**{f"{which}lim": (low, high)})
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 100 else (1,), numticks=6))
    axis.set_major_formatter(plain)
    axis.set_minor_formatter(NullFormatter())


def plain(value: float, _: float | None = None) -> str:
    """A tick of a logarithmic axis without a power of ten, where that is short."""
    short = f"{value:g}" if 1e-3 <= value < 1e4 else f"{value:.0e}"
    return short.replace("e+0", "e").replace("e-0", "e-")


def dashed(label: str) -> Line2D:
    """For a legend: what the dashed line is."""
    return Line2D([], [], label=label, **DASHED)


def keys(figure: Figure, handles: Sequence[Artist]) -> None:
    """A legend above the panels, in as many columns as its longest label leaves."""
    number = len(handles)
    rows = next((rows for rows in range(1, number) if _width(handles, -(-number // rows)) < WIDTH), number)
    spacing = {"handlelength": 1.8, "columnspacing": 1.4, "labelspacing": 0.3}
    figure.legend(handles=handles, loc="outside upper center", ncols=-(-number // rows), **spacing)


def _width(handles: Sequence[Artist], columns: int) -> float:
    """The width of a legend, in inches: letters of 8 points, and beside each label its key and space."""
    labels = [TextPath((0, 0), str(handle.get_label()) or " ", size=8) for handle in handles]
    parts = np.array_split([label.get_extents().width if len(label.vertices) else 0 for label in labels], columns)
    return sum(part.max() + 33 for part in parts) / 72
