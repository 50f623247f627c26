"""The figures, a family a file, whose `FIGURES` has by name the function that draws what `runs_of` gives.

Success is in per cent and never smoothed. Colours are those of methods.yaml.
"""

import importlib
from pathlib import Path

from matplotlib.figure import Figure

from trqam.config.errors import UserError
from trqam.report.collected import Collected
from trqam.report.drawing import save
from trqam.report.runs import Runs
from trqam.report.selection import figure, figure_cells, figure_module, figure_names


def names(collected: Collected) -> tuple[str, ...]:
    """The figures of the scale, and that of imported curves if there are any."""
    return figure_names(collected.config, not collected.imported.empty)


def runs_of(name: str, collected: Collected) -> Runs:
    """What the figure ``name`` shows, `curves--cube-double-play` a domain; a UserError if it is none of the scale."""
    if name not in names(collected):
        known = ", ".join(names(collected))
        raise UserError(f"render: figure {name!r}: unknown, or not of this scale; use one of {known}")
    methods, tasks, stages = figure_cells(collected.config, name)
    if column := figure(name).logged:
        logged = set(collected.metrics.loc[collected.metrics[column].notna(), "method"])
        methods = [method for method in methods if method in logged] or methods
    return Runs(collected, methods, tasks, stages)


def make(name: str, collected: Collected) -> Figure:
    """The figure ``name``."""
    runs = runs_of(name, collected)
    return importlib.import_module(figure_module(name)).FIGURES[name.partition("--")[0]](runs)


def draw(name: str, collected: Collected, out_path: str | Path) -> None:
    """Writes the figure ``name`` to ``out_path`` (.pdf) and, beside it, as .png; equal input gives equal bytes."""
    save(lambda: make(name, collected), out_path)
