"""What figures of results share: panels a task, a method's line, its seeds at the end, the ground of the two stages.

A line is the mean over seeds and its band runs from the lowest to the highest seed, because a standard deviation of
three seeds says less than the three of them; a cross on the axis is where a seed diverged.
"""

import re
from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from trqam.config.load import Config, domain_of
from trqam.config.wording import task_label
from trqam.report.drawing import INK, WIDTH, keys
from trqam.report.measures import is_pretraining
from trqam.report.runs import Runs, by_seed, divergences

COLUMNS = 5  # panels side by side at most
ONLINE = "#fdebd7"
PATH_KL, SUCCESS = "path KL (nats)", "success (%)"
MARKERS = "s^vDXPop*<>hd8"  # in the order of methods.yaml: colours are not the only difference between methods
SIZES = {"p": 3.4, "P": 3.4, "*": 4.2, "h": 3.4, "X": 3.4, "D": 2.4, "d": 3.2}  # points, so that all seem equal
SIZE = 2.8
MARKED = 6  # markers on a line with more points than MARKED_BELOW
MARKED_BELOW = 16
FEW_RINGS = 5  # seeds; the rings of more are smaller, to stand on their bar
CROSS: dict[str, Any] = {"marker": "x", "linestyle": "", "markersize": 5, "markeredgewidth": 1.4}


def groups(config: Config, tasks: list[str]) -> dict[str, list[str]]:
    """Panels of a figure: tasks, or domains where there are too many tasks."""
    if len(tasks) <= COLUMNS:
        return {task_label(config, task): [task] for task in tasks}
    domains = dict.fromkeys(map(domain_of, tasks))
    return {config.domains[d].label: [t for t in tasks if domain_of(t) == d] for d in domains}


def title(axes: Axes, text: str, columns: int) -> None:
    """A panel's title; over one of many ``columns`` smaller, and in two lines if the longest domain's name is in it."""
    if columns > 3:
        text = text.replace(" task", "\ntask") if " task" in text else re.sub(r"-(?=\w+$)", "-\n", text)
    axes.set_title(text, fontsize=7 if columns > 3 else 8)


def look(config: Config, method: str) -> dict[str, Any]:
    """Colour, from methods.yaml, and marker, from the method's place there; a dotted level of what does not train."""
    colour = config.methods[method].colour
    if is_pretraining(config, method):
        return {"color": colour, "linestyle": ":"}
    marker = MARKERS[(list(config.methods).index(method) - 1) % len(MARKERS)]
    return {"color": colour, "marker": marker, "markersize": SIZES.get(marker, SIZE), "markeredgewidth": 0}


def curve(axes: Axes, runs: Runs, tasks: list[str], method: str, column: str = "success", band: float = 0.2) -> None:
    """One method's line, its band of opacity ``band``, and crosses where seeds diverged."""
    rows, style = runs.of(tuple(tasks), method), look(runs.config, method)
    if column not in rows:  # a metric of methods of which none has run yet
        return
    if is_pretraining(runs.config, method):
        if len(rows):
            axes.axhline(rows.success.mean(), linewidth=1.3, **style)
        return
    values = by_seed(rows, column, len(tasks))
    if len(values):
        style["markevery"] = _marked(runs.config, method, values.total_step.nunique())
        whole = {"errorbar": ("pi", 100) if band else None, "err_kws": {"alpha": band, "linewidth": 0}}
        sns.lineplot(values, x="total_step", y=column, ax=axes, legend=False, **whole, **style)
        axes.set(xlabel="", ylabel="")
    ends = divergences(rows) if rows[column].notna().any() else []
    if len(ends):
        at_the_foot: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "clip_on": False, "zorder": 5}
        axes.plot(ends, np.zeros(len(ends)), color=style["color"], **at_the_foot, **CROSS)


def _marked(config: Config, method: str, points: int) -> tuple[int, int] | None:
    """First point with a marker and the interval: all where there are few; lines begin at different ones."""
    if points < MARKED_BELOW:
        return None
    every = points // MARKED
    return (list(config.methods).index(method) * every // 5) % every, every


def seeds(axes: Axes, rows: pd.DataFrame, **places: Any) -> None:
    """A ring a seed, and a cross where it diverged; ``places`` are seaborn's x, y, hue and so on.

    Rings that would hide one another stand side by side.
    """
    given: dict[str, Any] = {**places, "ax": axes, "legend": False, "clip_on": False, "dodge": "hue" in places}
    alive, ended = rows[~rows.diverged], rows[rows.diverged]
    within = [places[axis] for axis in ("x", "y", "hue") if places.get(axis, "value") != "value"]
    size = 2.4 if len(rows) and rows.groupby(within).size().max() > FEW_RINGS else 3.4
    ring = {"edgecolor": INK, "linewidth": 0.7, "size": size, "zorder": 4}
    if len(alive):
        sns.swarmplot(alive, **given, **ring, **_coloured("white", places))
    cross = {"marker": "x", "linewidth": 1.4, "size": 5, "zorder": 5, "jitter": False}
    if len(ended):
        sns.stripplot(ended, **given, **cross, **_coloured(INK, places))


def _coloured(colour: str, places: dict[str, Any]) -> dict[str, Any]:
    """One colour, whatever the hue that sets bars side by side."""
    return {"palette": [colour] * len(places["hue_order"])} if "hue" in places else {"color": colour}


def success_axis(axes: Axes) -> None:
    """0 to 100 per cent, with room for a line on either."""
    axes.set(ylim=(-4, 104), yticks=(0, 50, 100))


def no_values(axes: Axes) -> None:
    """A panel that says so."""
    axes.annotate("no values", (0.5, 0.5), xycoords="axes fraction", ha="center", fontsize=7, color=INK)


def stages(axes: Axes, runs: Runs) -> None:
    """Limits and ground of the two stages; the axis counts in thousands or millions of steps."""
    scale = runs.config.scale
    offline, total = scale.offline_steps, scale.offline_steps + scale.online_steps
    ground(axes, offline, total if runs.online else offline, step_unit(runs.config)[0], integer=total > 5e3)


def ground(axes: Axes, offline: int, end: int, unit: float, integer: bool = True) -> None:
    """Limits, ticks in ``unit`` steps, and orange ground from the step ``offline`` to the ``end``."""
    axes.set_xlim(0, end)
    axes.xaxis.set_major_locator(plt.MaxNLocator(4, integer=integer, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(lambda step, _: f"{step / unit:g}")
    if end > offline:
        axes.axvspan(offline, end, color=ONLINE, linewidth=0, zorder=-1)


def step_unit(config: Config) -> tuple[float, str]:
    """What the axis of steps counts in, as a number and in words."""
    millions = config.scale.offline_steps + config.scale.online_steps >= 1e6
    return (1e6, "millions") if millions else (1e3, "thousands")


def step_label(config: Config) -> str:
    """The label of the axis of steps."""
    return f"training step ({step_unit(config)[1]})"


def handles(runs: Runs) -> list[Line2D]:
    """For a legend: the line of each method."""
    named = zip(runs.methods, runs.labels, strict=True)
    return [Line2D([], [], label=label, **look(runs.config, method)) for method, label in named]


def others(runs: Runs) -> list[Artist]:
    """For a legend: what a cross and orange ground mean, where there are any."""
    cross = [Line2D([], [], color=INK, label="a seed diverged", **CROSS)] if len(runs.diverged) else []
    return [*cross, *([Patch(color=ONLINE, label="online")] if runs.online else [])]


def one_seed() -> Line2D:
    """For a legend: what a ring means."""
    return Line2D([], [], label="one seed", marker="o", markersize=3.5, linestyle="", color="white", mec=INK)


def legend(figure: Figure, runs: Runs, more: Sequence[Artist] = ()) -> None:
    """One legend of all methods, and the axis label that the panels share."""
    figure.supxlabel(step_label(runs.config), fontsize=8)
    keys(figure, [*handles(runs), *more, *others(runs)])


def grid(
    rows: int, columns: int, height: float, used: int | None = None, each: int = 1, **share: Any
) -> tuple[Figure, Any]:
    """A figure of the text's width and its grid of axes, for ``used`` panels (all) that are ``each`` so many rows high.

    The places that they leave in the last band of rows are empty, and what stands above those has labelled ticks.
    """
    figure, places = plt.subplots(rows, columns, figsize=(WIDTH, height), squeeze=False, **share)
    first = columns if used is None else used - columns * (rows // each - 1)
    for axes in places[-each:, first:].flat:
        axes.set_visible(False)
    for axes in places[-each - 1, first:] if rows > each else ():
        axes.tick_params(labelbottom=True)
    return figure, places
