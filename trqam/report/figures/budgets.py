"""What KL budgets, temperatures and scales of rewards come to at the end of the offline stage: path KL and success.

TRQAM's budget is held against a KL penalty outside the process, and swept beside QAM's temperature. Rings are seeds.
"""

from functools import partial
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from trqam.config.sweeps import SWEEPS
from trqam.report import panels
from trqam.report.drawing import DASHED, INK, dashed, keys, log_axis, plain
from trqam.report.measures import final_success, realised_kl
from trqam.report.runs import Runs
from trqam.report.selection import sweeps


def means(axes: Axes, rows: pd.DataFrame, runs: Runs) -> None:
    """A row a method: a ring a seed, and a bar of the method's colour at their mean."""
    if rows.empty:
        return
    places: dict[str, Any] = {"x": "value", "y": "method", "order": runs.methods}
    panels.seeds(axes, rows, **places)
    colours = {method: runs.config.methods[method].colour for method in runs.methods}
    look = {"marker": "|", "markersize": 11, "markeredgewidth": 1.8, "linestyle": "none", "zorder": 3}
    sns.pointplot(rows, **places, hue="method", palette=colours, errorbar=None, ax=axes, legend=False, **look)
    axes.set(xlabel="", ylabel="")


def external(runs: Runs) -> Figure:
    """A row a task: the realised path KL over its budget, and the success, a ring a seed."""
    places = panels.groups(runs.config, runs.tasks)
    figure, grid = panels.grid(len(places), 2, 0.31 * len(runs.methods) * len(places) + 0.95, sharex="col", sharey=True)
    for pair, (title, tasks) in zip(grid, places.items(), strict=True):
        relative = partial(realised_kl, runs.collected, tasks, relative=True)
        measures = (relative, partial(final_success, runs.collected, tasks))
        for axes, measure in zip(pair, measures, strict=True):
            rows = runs.at_the_end(tasks, measure)
            rows.diverged &= axes is pair[1]
            means(axes, rows, runs)
            for place, method in enumerate(runs.methods):
                if method not in set(rows.method):
                    middle = {"xycoords": ("axes fraction", "data"), "va": "center", "fontsize": 7, "color": INK}
                    axes.annotate("no values", (0.5, place), **middle)
            axes.set_yticks(range(len(runs.methods)), runs.labels)
            axes.set_ylim(len(runs.methods) - 0.5, -0.5)
            axes.grid(axis="y", visible=False)
            axes.grid(axis="x", visible=True)
        pair[0].axvline(1, zorder=1, **DASHED)
        pair[0].set_title(title, loc="left", fontsize=8)
    log_axis(grid[-1, 0], "x", 0.5, 2)  # one in it, so that twice and half the budget are as far from it
    grid[-1, 0].set_xlabel("realised path KL over its budget (ratio)")
    grid[-1, 1].set(xlim=(-4, 104), xticks=(0, 25, 50, 75, 100), xlabel="success at the end of offline (%)")
    mean = Line2D([], [], label="mean", marker="|", markersize=9, mew=1.8, linestyle="", color=INK)
    keys(figure, [panels.one_seed(), mean, dashed("KL budget"), *panels.others(runs)])
    return figure


def sensitivity(runs: Runs) -> Figure:
    """A column a sweep; two rows a panel's tasks: success, and path KL."""
    config, swept, places = runs.config, sweeps(runs.config), panels.groups(runs.config, runs.tasks)
    height = 2.6 * len(places) + 0.5
    figure, grid = panels.grid(2 * len(places), len(swept), height, sharex="col", sharey="row")
    for number, (label, tasks) in enumerate(places.items()):
        for row, measure in ((2 * number, final_success), (2 * number + 1, realised_kl)):
            for axes, (key, sides) in zip(grid[row], swept.items(), strict=True):
                for method, sweep in sides.items():
                    varied = Runs(runs.collected, [*sweep.values()], tasks, ("offline",))
                    rows = varied.at_the_end(tasks, partial(measure, runs.collected, tasks))
                    rows["at"] = rows.method.map({name: value for value, name in sweep.items()}).astype(float)
                    _line(axes, rows, config.methods[method].colour, method)
                axes.set(xscale="log", xlabel="", ylabel="")
                ticks = sorted({value for sweep in sides.values() for value in sweep})
                axes.set_xticks(ticks, [plain(tick) for tick in ticks])
                axes.xaxis.minorticks_off()
                if measure is realised_kl and key == "budgets":
                    axes.plot(ticks, ticks, zorder=1, **DASHED)
        panels.success_axis(grid[2 * number, 0])
        log_axis(grid[2 * number + 1, 0])
        grid[2 * number, 0].set_ylabel(panels.SUCCESS if len(places) == 1 else f"{label}\n{panels.SUCCESS}")
        grid[2 * number + 1, 0].set_ylabel(panels.PATH_KL)
    for axes, key in zip(grid[-1], swept, strict=True):
        axes.set_xlabel(f"{SWEEPS[key].quantity} ({SWEEPS[key].unit})")
    figure.align_ylabels()
    shown = dict.fromkeys(method for sides in swept.values() for method in sides)
    lines = [
        Line2D([], [], label=config.methods[m].label, color=config.methods[m].colour, marker="o", ms=3.5) for m in shown
    ]
    own = Line2D([], [], label="the method's own setting", marker="o", mfc="white", mec=INK, ms=5, linestyle="")
    equal = [dashed("KL budget")] * ("budgets" in swept)
    keys(figure, [*lines, own, *equal, *panels.others(runs)])
    return figure


def _line(axes: Axes, rows: pd.DataFrame, colour: str, method: str) -> None:
    """The mean over seeds with its range, and a hollow mark at the method's own setting."""
    kept = rows.dropna(subset=["value"])
    if kept.empty:
        return
    look = {"color": colour, "marker": "o", "markersize": 3.5, "markeredgewidth": 0}
    sns.lineplot(kept, x="at", y="value", ax=axes, errorbar=("pi", 100), err_kws={"alpha": 0.2, "linewidth": 0}, **look)
    own = kept[kept.method == method]
    if len(own):
        mark: dict[str, Any] = {
            "marker": "o",
            "markersize": 5,
            "markerfacecolor": "white",
            "markeredgecolor": colour,
            "zorder": 5,
        }
        axes.plot([own["at"].iloc[0]], [own.value.mean()], linestyle="", **mark)


FIGURES = {"external_kl": external, "sensitivity": sensitivity}
