"""Curves over training: which runs a figure shows, how they become a line and a band, and how a method looks.

A line is the mean over seeds of a seed's mean over the panel's tasks, unsmoothed, and its band runs from the lowest to
the highest seed. A seed counts where it has a value on every task of the panel; a diverged one has success 0 at each
evaluation that it did not live to see, and a cross on the axis where it ended.
"""

from functools import cache, cached_property

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from trqam.config.load import Config
from trqam.config.wording import count
from trqam.report.collected import Collected
from trqam.report.measures import STAGES, is_pretraining

INK = "#333333"
MARKERS = "s^vDXPop*<>hd8"  # in the order of methods.yaml: colours are not the only difference between methods
SIZES = {"p": 3.4, "P": 3.4, "*": 4.2, "h": 3.4, "X": 3.4, "D": 2.4, "d": 3.2}  # points, so that all seem equal
SIZE = 2.8
MARKED = 6  # markers on a line with more points than MARKED_BELOW
MARKED_BELOW = 16
CROSS = {"marker": "x", "linestyle": "", "markersize": 5, "markeredgewidth": 1.4}
# What captions say of every line and band.
MEAN, BAND = "Line: mean over seeds", "band: from the lowest to the highest seed"


class Runs:
    """The rows of ``methods`` on ``tasks`` in ``stages``, success in per cent."""

    def __init__(self, collected: Collected, methods: list[str], tasks: list[str], stages=STAGES):
        self.collected, self.methods, self.tasks, self.stages = collected, methods, tasks, stages
        self.config = collected.config
        self.of = cache(self._of)

    def _of(self, tasks: tuple[str, ...], method: str) -> pd.DataFrame:
        """The rows of one method on some of the tasks; empty where it ran on none."""
        cells = self.collected.cells
        found = [cells[task, method] for task in tasks if (task, method) in cells]
        rows = pd.concat(found) if found else self.collected.metrics.iloc[:0]
        rows = rows[rows.stage.isin(self.stages)]
        return rows.assign(success=100 * rows.success.mask(_between_evaluations(rows, self.config, method)))

    def methods_on(self, tasks: list[str]) -> list[str]:
        """Those of the methods that the scale runs on every one of ``tasks``."""
        cells = set(self.config.cells)
        return [method for method in self.methods if all((task, method) in cells for task in tasks)]

    @cached_property
    def online(self) -> bool:
        """Whether there is any row of the online stage."""
        return any((self.of(tuple(self.tasks), method).stage == "online").any() for method in self.methods)

    @cached_property
    def diverged(self) -> pd.Series:
        """The first step, counted through both stages, at which a (task, method, seed) was found diverged."""
        return pd.concat([divergences(self.of(tuple(self.tasks), method)) for method in self.methods])

    def diverged_seeds(self, tasks: list[str], method: str) -> set[int]:
        """The seeds of which some run on ``tasks`` diverged."""
        rows = self.of(tuple(tasks), method)
        return set(rows[rows.status == "DIVERGED"].seed)

    def seeds(self, per: str = "") -> str:
        """`n = 3`, or `n = 2 to 3` where seeds are missing from some task, method or stage; and how many diverged.

        ``per`` is what each n is of, such as ` a task`.
        """
        pairs = [(task, method) for task, method in self.config.cells if task in self.tasks and method in self.methods]
        asked = [(*pair, stage) for pair in pairs for stage in self.config.stages(pair[1]) if stage in self.stages]
        evaluated = [self.of(tuple(self.tasks), method).dropna(subset=["success"]) for method in self.methods]
        found = pd.concat(evaluated).groupby(["task", "method", "stage"]).seed.nunique().to_dict()
        numbers = [found.get(cell, 0) for cell in asked] or [0]
        low, high = min(numbers), max(numbers)
        lost = f"; {count(len(self.diverged), 'run')} DIVERGED, crossed" if len(self.diverged) else ""
        return f"n = {low}{f' to {high}' if high > low else ''}{per}{lost}"


def divergences(rows: pd.DataFrame) -> pd.Series:
    """The first diverged step of each (task, method, seed) that diverged."""
    return rows[rows.status == "DIVERGED"].groupby(["task", "method", "seed"]).total_step.min()


def _between_evaluations(rows: pd.DataFrame, config: Config, method: str) -> pd.Series:
    """Where a row is no evaluation, but the success of 0 at the very step at which a seed was found diverged."""
    scale = config.scale
    interval = scale.ablation_eval_interval if method in config.ablated else scale.eval_interval
    begins = (rows.stage == "online") & (rows.step == 0)
    return (rows.status == "DIVERGED") & (begins | (rows.step % interval != 0))


def over_seeds(rows: pd.DataFrame, column: str, tasks: int, positive: bool = False) -> pd.DataFrame:
    """``mean``, ``min`` and ``max`` over seeds at each step, of a seed's mean over all of so many ``tasks``."""
    values = rows.dropna(subset=[column])
    if positive:  # for a logarithmic axis: at step 0 the path KL is exactly zero
        values = values[values[column] > 0]
    each = values.groupby(["total_step", "seed"])[column].agg(["mean", "size"])
    return each.loc[each["size"] == tasks, "mean"].groupby("total_step").agg(["mean", "min", "max"])


def look(config: Config, method: str) -> dict:
    """Colour, from methods.yaml, and marker, from the method's place there."""
    place = list(config.methods).index(method)
    marker = MARKERS[(place - 1) % len(MARKERS)]
    size = SIZES.get(marker, SIZE)
    return {"color": config.methods[method].colour, "marker": marker, "markersize": size, "markeredgewidth": 0}


def curve(
    axes: Axes, rows: pd.DataFrame, column: str, config: Config, method: str, tasks: int, band: float = 0.2
) -> None:
    """One method's line, its band of opacity ``band``, and crosses where seeds diverged."""
    colour = config.methods[method].colour
    if is_pretraining(config, method):  # training does not change it: a level
        if len(rows):
            axes.axhline(rows.success.mean(), color=colour, linestyle=":", linewidth=1.3)
        return
    line = over_seeds(rows, column, tasks, positive=column != "success")
    if len(line):
        axes.plot(line.index, line["mean"], **look(config, method), markevery=_marked(config, method, len(line)))
        if band and (line["max"] > line["min"]).any():
            axes.fill_between(line.index, line["min"], line["max"], color=colour, alpha=band, linewidth=0)
    ends = divergences(rows) if rows[column].notna().any() else []
    crosses(axes, ends, np.zeros(len(ends)), colour, transform=axes.get_xaxis_transform())


def crosses(axes: Axes, xs, ys, colour: str, **place) -> None:
    """One cross a diverged seed; nothing at all where there is none, since an empty line would upset the layout."""
    if len(xs):
        axes.plot(xs, ys, color=colour, clip_on=False, zorder=5, **CROSS, **place)


def _marked(config: Config, method: str, points: int) -> tuple[int, int] | None:
    """First point with a marker and the interval: all where there are few; lines begin at different ones."""
    if points < MARKED_BELOW:
        return None
    every = points // MARKED
    return (list(config.methods).index(method) * every // 5) % every, every


def handles(config: Config, methods: list[str]) -> list[Line2D]:
    """For a legend: the line of each method."""
    labels = {method: config.methods[method].label for method in methods}
    dotted = {method: {"color": config.methods[method].colour, "linestyle": ":"} for method in methods}
    return [
        Line2D([], [], label=labels[m], **(dotted[m] if is_pretraining(config, m) else look(config, m)))
        for m in methods
    ]


def diverged_handle() -> Line2D:
    """For a legend: what a cross means."""
    return Line2D([], [], color=INK, label="a seed diverged", **CROSS)
