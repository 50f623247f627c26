"""Performance profiles and interquartile means: how much of what every method does succeeds, and how sure that is."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from trqam.report.drawing import INK, WIDTH
from trqam.report.measures import Bracketed, final_scores, interquartile, is_pretraining, marked, ours, profile
from trqam.report.runs import Runs
from trqam.report.selection import STAGES

MOST_BANDS = 5  # methods; of more, TRQAM alone keeps its band


def draw(runs: Runs) -> Figure:
    """Left, the share of offline runs above each threshold of success; right, interquartile means of either stage."""
    height = max(2.2, 0.2 * len(runs.methods) + 0.7)
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, height), width_ratios=(1.15, 1))
    _profiles(left, runs)
    _means(right, runs)
    return figure


def _profiles(axes: Axes, runs: Runs) -> None:
    """A step function a method: it falls where a run's own success lies, and nowhere else."""
    config, collected, banded_methods = runs.config, runs.collected, banded(runs)
    scores = [final_scores(collected, method, "offline").values() for method in runs.methods]
    thresholds = np.unique(np.concatenate([[0.0, 100.0], *(values for tasks in scores for values in tasks)]))
    for method in runs.methods:
        if (curve := profile(collected, method, "offline", thresholds)) is None:
            continue
        shares, low, high = curve
        colour, above = config.methods[method].colour, 1 if method == ours(config) else 0
        line = ":" if is_pretraining(config, method) else "-"
        look: dict[str, Any] = {"color": colour, "linestyle": line, "zorder": 3 + above, "clip_on": False}
        axes.step(thresholds, shares, where="post", **look)
        if method in banded_methods:
            axes.fill_between(thresholds, low, high, step="post", color=colour, alpha=0.18, linewidth=0)
    axes.set(xlabel="success threshold (%)", ylabel="share of runs above it (%)", xlim=(0, 100), ylim=(0, 100))


def banded(runs: Runs) -> list[str]:
    """The methods whose bands can be told apart."""
    own = ours(runs.config)
    return runs.methods if len(runs.methods) <= MOST_BANDS else [own] if own else []


def _means(axes: Axes, runs: Runs) -> None:
    """A row a method: a full marker after the offline stage, an open one after the online stage beneath it."""
    config, methods = runs.config, runs.methods
    for row, method in enumerate(methods):
        estimates = {stage: interquartile(runs.collected, method, stage) for stage in STAGES}
        for stage, estimate in estimates.items():
            if estimate:
                offset = {"offline": -0.14, "online": 0.14}[stage] if len(config.stages(method)) > 1 else 0
                _mean(axes, row + offset, estimate, config.methods[method].colour, stage)
        if not any(estimates.values()):
            axes.text(50, row, "no result", ha="center", va="center", color=INK, fontsize=7)
    axes.set_yticks(range(len(methods)), [marked(config, method) for method in methods])
    axes.set(xlabel="interquartile mean of success (%)", xlim=(-3, 103), ylim=(len(methods) - 0.5, -0.5))
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)
    stages = [Line2D([], [], label=f"end of {stage}", **_marker(INK, stage)) for stage in STAGES]
    look = {"ncols": 2, "borderaxespad": 0, "handletextpad": 0.3, "columnspacing": 1.2}
    axes.legend(handles=stages, loc="lower left", bbox_to_anchor=(0, 1.01), **look)


def _mean(axes: Axes, row: float, estimate: Bracketed, colour: str, stage: str) -> None:
    """One interval with its marker."""
    if np.isfinite(estimate.low):
        axes.plot([estimate.low, estimate.high], [row, row], color=colour, solid_capstyle="butt")
    axes.plot(estimate.value, row, zorder=3, clip_on=False, **_marker(colour, stage))


def _marker(colour: str, stage: str) -> dict:
    fill = colour if stage == "offline" else "white"
    return {"marker": "o", "markersize": 4, "linestyle": "", "color": colour, "markerfacecolor": fill}


FIGURES = {"profiles": draw}
