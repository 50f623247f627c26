"""A KL budget inside the process against a KL penalty outside it: is it kept, and what does that cost?"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter

from trqam.config.load import expanded
from trqam.config.wording import enumerated
from trqam.report import curves, panels
from trqam.report.collected import Collected
from trqam.report.curves import INK, Runs
from trqam.report.measures import final_success, realised_kl
from trqam.report.panels import WIDTH
from trqam.report.selection import internal_external


def draw(collected: Collected) -> Figure:
    """A row a task: the realised path KL over its budget, and the success, a dot a seed."""
    config, runs = collected.config, _runs(collected)
    places = panels.groups(config, runs.tasks)
    size = (WIDTH, 0.62 * len(places) + 0.95)
    figure, grid = plt.subplots(len(places), 2, figsize=size, sharex="col", sharey=True, squeeze=False)
    for (ratio, success), (label, tasks) in zip(grid, places.items(), strict=True):
        for position, method in enumerate(runs.methods):
            colour = config.methods[method].colour
            kl = realised_kl(collected.metrics, config, tasks, method, relative=True)
            ended = runs.diverged_seeds(tasks, method)
            _strip(ratio, position, kl, (), colour)
            _strip(success, position, final_success(collected.metrics, config, tasks, method), ended, colour)
        ratio.axvline(1, color=INK, linestyle="--", linewidth=0.9, zorder=1)
        ratio.set_title(label, loc="left", fontsize=8)
        for axes in (ratio, success):
            axes.set_yticks(range(len(runs.methods)), [config.methods[m].label for m in runs.methods])
            axes.set_ylim(len(runs.methods) - 0.5, -0.5)
            axes.grid(axis="y", visible=False)
    _ratio_axis(grid[-1, 0])
    grid[-1, 1].set(xlim=(-4, 104), xticks=(0, 25, 50, 75, 100), xlabel="success at the end of offline (%)")
    crosses = [curves.diverged_handle()] if len(runs.diverged) else []
    seed = Line2D([], [], label="one seed", marker="o", markersize=3.5, linestyle="", color="white", mec=INK)
    mean = Line2D([], [], label="mean", marker="|", markersize=9, mew=1.8, linestyle="", color=INK)
    budget = Line2D([], [], label="KL budget", linestyle="--", linewidth=0.9, color=INK)
    panels.keys(figure, [seed, mean, budget, *crosses])
    return figure


def _runs(collected: Collected) -> Runs:
    config = collected.config
    return Runs(collected, internal_external(config), expanded(config.scale.ablation_tasks), ("offline",))


def _strip(axes: Axes, position: int, values: pd.Series, diverged, colour: str) -> None:
    """The seeds as dots, a little apart, and their mean as a bar."""
    if values.empty:
        middle = {"xycoords": ("axes fraction", "data"), "va": "center", "fontsize": 7, "color": INK}
        axes.annotate("no values", (0.5, position), **middle)
        return
    heights = position + np.linspace(-0.18, 0.18, len(values)) * (len(values) > 1)
    ended = values.index.isin(diverged)
    axes.plot([values.mean()] * 2, [position - 0.3, position + 0.3], color=colour, linewidth=2.2, zorder=3)
    panels.dots(axes, values[~ended], heights[~ended], colour)
    curves.crosses(axes, values[ended], heights[ended], colour)


def _ratio_axis(axes: Axes) -> None:
    """Logarithmic, with one in it, so that twice and half the budget are as far from it."""
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    axes.set_xlim(min(low, 0.5), max(high, 2))
    low, high = axes.get_xlim()
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 50 else (1,), numticks=6))
    axes.xaxis.set_major_formatter(panels.plain)
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("realised path KL over its budget (ratio)")


def caption(collected: Collected) -> str:
    """What it shows, of how many seeds."""
    config, runs = collected.config, _runs(collected)
    return (
        f"Internal against external KL ({enumerated([config.methods[m].label for m in runs.methods])}), one row a "
        f"{panels.panel_of(runs.tasks)}. Left: path KL over the last fifth of the offline stage, divided by the budget "
        "(logarithmic): look for dots on the dashed line, where the budget is met. Right: success at the end of that "
        f"stage. Dots: seeds; bars: means over them ({runs.seeds(' a task')}). There is no band."
    )
