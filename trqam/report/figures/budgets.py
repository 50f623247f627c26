"""Whether KL budgets are kept, and what they cost: TRQAM's own, swept, and against a KL penalty outside the process.

Rings are seeds, bars their means; there are no bands.
"""

from functools import partial
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from trqam.config.load import expanded
from trqam.config.wording import enumerated, tasks_label
from trqam.report import panels
from trqam.report.collected import Collected
from trqam.report.drawing import DASHED, INK, dashed, keys, log_axis
from trqam.report.figures import Drawing
from trqam.report.measures import final_success, realised_kl
from trqam.report.runs import Runs
from trqam.report.selection import internal_external


def means(axes: Axes, rows: pd.DataFrame, colours: dict[Any, str], marker: str, **places: Any) -> None:
    """A bar of the method's colour at the mean of each category, over the seeds."""
    if rows.empty:
        return
    panels.seeds(axes, rows, **places)
    look = {"marker": marker, "markersize": 11, "markeredgewidth": 1.8, "linestyle": "none", "zorder": 3}
    order = {**places, "hue": places["y" if marker == "|" else "x"], "palette": colours, "errorbar": None}
    sns.pointplot(rows, **order, ax=axes, legend=False, **look)
    axes.set(xlabel="", ylabel="")


def _swept(collected: Collected) -> Runs:
    """TRQAM at each budget."""
    config, scale = collected.config, collected.config.scale
    sweep = [*config.swept("budgets", "trqam").values()]
    return Runs(collected, sweep, expanded(scale.ablation_tasks), scale.ablation_stages)


def _sweep(runs: Runs) -> Figure:
    """A row a task: success over training."""
    places, sweep = panels.groups(runs.config, runs.tasks), runs.config.swept("budgets", "trqam")
    figure, grid = panels.grid(len(places), 1, min(1.45 * len(places) + 0.7, 7.0), sharex="col")
    for axes, (label, tasks) in zip(grid[:, 0], places.items(), strict=True):
        for method in runs.methods:
            panels.curve(axes, runs, tasks, method, band=0)
        panels.stages(axes, runs)
        panels.success_axis(axes)
        axes.set_ylabel(f"{label}\n{panels.SUCCESS}")
    grid[-1, 0].set_xlabel(panels.step_label(runs.config))
    figure.align_ylabels()
    named = panels.handles(runs)
    for handle, budget in zip(named, sweep, strict=True):
        handle.set_label(f"{budget:g}")
    named[0].set_label(f"budget {named[0].get_label()}")
    keys(figure, [*named, *panels.others(runs)])
    return figure


def _caption_of_the_sweep(runs: Runs) -> str:
    ground = f" {panels.GROUND}" if runs.online else ""
    return (
        f"TRQAM with other KL budgets (nats), on {tasks_label(runs.config, runs.tasks)}: success at each evaluation, "
        "unsmoothed; look for curves in the order of their budgets. Lines: means over seeds, without a band "
        f"({runs.seeds(' a task')}).{ground}"
    )


def _inside_and_outside(collected: Collected) -> Runs:
    """TRQAM, and the settings of the external penalty."""
    config = collected.config
    return Runs(collected, internal_external(config), expanded(config.scale.ablation_tasks), ("offline",))


def _external(runs: Runs) -> Figure:
    """A row a task: the realised path KL over its budget, and the success, a ring a seed."""
    metrics, config = runs.collected.metrics, runs.config
    places = panels.groups(config, runs.tasks)
    colours = {method: config.methods[method].colour for method in runs.methods}
    figure, grid = panels.grid(len(places), 2, 0.31 * len(runs.methods) * len(places) + 0.95, sharex="col", sharey=True)
    for pair, (title, tasks) in zip(grid, places.items(), strict=True):
        relative = partial(realised_kl, metrics, config, tasks, relative=True)
        measures = (relative, partial(final_success, metrics, config, tasks))
        for axes, measure in zip(pair, measures, strict=True):
            rows = runs.at_the_end(tasks, measure)
            rows.diverged &= axes is pair[1]
            means(axes, rows, colours, "|", x="value", y="method", order=runs.methods)
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


def _caption_of_the_external(runs: Runs) -> str:
    return (
        f"Internal against external KL ({enumerated(runs.labels)}){panels.parted(runs.tasks, 'row')}. Left: path KL "
        "over the last fifth of the offline stage, divided by the budget (logarithmic): look for dots on the dashed "
        "line, where the budget is met. Right: success at the end of that stage. Dots: seeds; bars: means over them "
        f"({runs.seeds(' a task')}). There is no band.{panels.bounded(runs)}"
    )


FIGURES = {
    "budget_sweep": Drawing(_swept, _sweep, _caption_of_the_sweep),
    "external_kl": Drawing(_inside_and_outside, _external, _caption_of_the_external),
}
