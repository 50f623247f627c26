"""Final success as bars: of every method after either stage, and with and without behaviour cloning first.

Bars are means, error bars sample standard deviations over seeds, and rings the seeds themselves.
"""

from collections.abc import Sequence
from functools import partial

import pandas as pd
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke

from trqam.config.load import Config
from trqam.config.wording import count
from trqam.report import panels
from trqam.report.drawing import INK, keys
from trqam.report.measures import final_success
from trqam.report.runs import Runs
from trqam.report.selection import STAGES

MISSING = "--"
GREY = "#8c8c8c"
HATCH = "////"
HALO = [withStroke(linewidth=2.4, foreground="white")]  # error bars are seen on dark bars


def pairs(axes: Axes, rows: pd.DataFrame, config: Config, methods: list[str], sides: Sequence[str]) -> None:
    """A full and a hatched bar for each of ``methods``, from rows with `bar` (one of them), `side`, `value`."""
    places = {"x": "bar", "y": "value", "hue": "side", "order": methods, "hue_order": sides}
    if len(rows):
        error = {"color": INK, "linewidth": 0.9, "path_effects": HALO}
        sns.barplot(rows, **places, ax=axes, errorbar="sd", capsize=0.06, err_kws=error, legend=False, gap=0.1)
        for bars, hatched in zip(axes.containers, (False, True), strict=False):
            for bar in bars:
                colour = config.methods[methods[round(bar.get_center()[0])]].colour
                bar.set(facecolor="white" if hatched else colour, edgecolor=colour, hatch=HATCH if hatched else None)
        panels.seeds(axes, rows, **places)
    axes.set(xlim=(-0.6, len(methods) - 0.4), ylim=(0, 100), xlabel="", ylabel="")
    axes.set_xticks(range(len(methods)), [config.methods[method].label for method in methods])
    axes.grid(axis="x", visible=False)
    for place, method in enumerate(methods):
        for shift, side in zip((-0.2, 0.2), sides, strict=True):
            asked = side in config.stages(method) or side not in STAGES
            if asked and not ((rows.bar == method) & (rows.side == side)).any():
                axes.text(place + shift, 2, MISSING, ha="center", va="bottom", color=INK, fontsize=7)


def bar_keys(first: str, second: str, runs: Runs) -> list[Artist]:
    """For a legend: what full, hatched, rings and crosses mean."""
    fills = [Patch(label=first, color=GREY), Patch(label=second, facecolor="white", edgecolor=GREY, hatch=HATCH)]
    return [*fills, panels.one_seed(), *panels.others(runs)[: bool(len(runs.diverged))]]


def overall(runs: Runs) -> Figure:
    """Success over the tasks that all compared methods run on, at the end of either stage."""
    config, parts = runs.config, []
    for stage in STAGES:
        success = partial(final_success, runs.collected, runs.tasks, stage=stage)
        parts.append(runs.through(stage).at_the_end(runs.tasks, success).assign(side=stage))
    figure, ((axes,),) = panels.grid(1, 1, 2.2)
    pairs(axes, pd.concat(parts).rename(columns={"method": "bar"}), config, runs.methods, STAGES)
    if len(runs.methods) > 6:
        axes.tick_params(axis="x", rotation=30)
        for label in axes.get_xticklabels():
            label.set(ha="right", rotation_mode="anchor")
    scope = "all tasks" if runs.tasks == config.tasks else count(len(runs.tasks), "task")
    axes.set_ylabel(f"success over {scope} (%)")
    keys(figure, bar_keys("end of offline", "end of online", runs))
    return figure


def pretraining(runs: Runs) -> Figure:
    """Success at the end of the offline stage with and without behaviour cloning first, a panel a task."""
    config, bars, sides = runs.config, runs.methods[::2], ("after behaviour cloning", "from scratch")
    bar_and_side = pd.DataFrame([(bar, side) for bar in bars for side in sides], runs.methods, ["bar", "side"])
    places = panels.groups(config, runs.tasks)
    columns = min(len(places), panels.COLUMNS)
    bands = -(-len(places) // columns)
    figure, grid = panels.grid(bands, columns, min(1.6 * bands + 0.5, 7.0), len(places), sharey=True)
    for axes, (title, tasks) in zip(grid.flat, places.items(), strict=False):
        rows = runs.at_the_end(tasks, partial(final_success, runs.collected, tasks))
        pairs(axes, rows.join(bar_and_side, on="method"), config, bars, sides)
        panels.title(axes, title, columns)
    for axes in grid[:, 0]:
        axes.set_ylabel(panels.SUCCESS)
    keys(figure, bar_keys(*sides, runs))
    return figure


FIGURES = {"overall_bars": overall, "pretraining": pretraining}
