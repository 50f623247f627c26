"""Performance profiles and interquartile means: how much of what every method does succeeds, and how sure that is."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from trqam.config.wording import count, thousands
from trqam.report.collected import Collected
from trqam.report.drawing import INK, WIDTH
from trqam.report.figures import Drawing
from trqam.report.measures import (
    FEW,
    RESAMPLES,
    STAGES,
    Bracketed,
    final_runs,
    interquartile,
    is_pretraining,
    mark_notes,
    marked,
    ours,
    profile,
    scope,
)
from trqam.report.selection import compared
from trqam.report.statistics import round_half_up

MOST_BANDS = 5  # methods; of more, TRQAM alone keeps its band
FEW_RUNS, APART = 20, 0.9  # of fewer runs the curves, in coarse steps, are drawn so many points apart


def draw(collected: Collected) -> Figure:
    """Left, the share of offline runs above each threshold of success; right, interquartile means of either stage."""
    methods = compared(collected.config)
    height = max(2.2, 0.2 * len(methods) + 0.7)
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, height), width_ratios=(1.15, 1))
    _profiles(left, collected, methods)
    _means(right, collected, methods)
    return figure


def _profiles(axes: Axes, collected: Collected, methods: list[str]) -> None:
    """A step function a method: it falls where a run's own success lies, and nowhere else."""
    config = collected.config
    scores = [final_runs(collected, method, "offline").scores.values() for method in methods]
    thresholds = np.unique(np.concatenate([[0.0, 100.0], *(values for tasks in scores for values in tasks)]))
    for shift, method in zip(_shifts(collected), methods, strict=True):
        if (curve := profile(collected, method, "offline", thresholds)) is None:
            continue
        shares, low, high = curve
        colour, above = config.methods[method].colour, 1 if method == ours(config) else 0
        line = ":" if is_pretraining(config, method) else "-"
        along, across, lowest, highest = (np.clip(v + shift, 0, 100) for v in (thresholds, shares, low, high))
        look: dict[str, Any] = {"color": colour, "linestyle": line, "zorder": 3 + above, "clip_on": False}
        axes.step(along, across, where="post", **look)
        if method in _banded(collected):
            axes.fill_between(along, lowest, highest, step="post", color=colour, alpha=0.18, linewidth=0)
    axes.set(xlabel="success threshold (%)", ylabel="share of runs above it (%)", xlim=(0, 100), ylim=(0, 100))


def _shifts(collected: Collected) -> np.ndarray:
    """By how many points each method's curve is moved, along both axes, so that few runs do not hide one another."""
    methods = compared(collected.config)
    few = max(final_runs(collected, method, "offline").number for method in methods) < FEW_RUNS
    return APART * few * (np.arange(len(methods)) - (len(methods) - 1) / 2)


def _banded(collected: Collected) -> list[str]:
    """The methods whose bands can be told apart."""
    methods, own = compared(collected.config), ours(collected.config)
    return methods if len(methods) <= MOST_BANDS else [own] if own else []


def _means(axes: Axes, collected: Collected, methods: list[str]) -> None:
    """A row a method: a full marker after the offline stage, an open one after the online stage beneath it."""
    config = collected.config
    for row, method in enumerate(methods):
        estimates = {stage: interquartile(collected, method, stage) for stage in STAGES}
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


def caption(collected: Collected) -> str:
    """What both panels show, over what, of how many seeds, and which bands are drawn."""
    config = collected.config
    largest = max(_shifts(collected))
    moved = f" Curves are moved, within 0 to 100 %, by up to {round_half_up(largest, 1)} points to be told apart."
    return (
        f"How success is spread over runs, on {scope(config)}; a run is one seed on one task ({_present(collected)}). "
        "Left: performance profiles at the end of the offline stage, the share of runs whose success lies above a "
        "threshold, in the colours on the right: a curve that is nowhere below another is better whatever the "
        f"threshold.{moved if largest else ''} Right: interquartile mean, the mean of the middle half of all runs."
        f"{_intervals(collected)}{mark_notes(config)}"
    )


def _intervals(collected: Collected) -> str:
    """What bands and bars are, whose bands are drawn, and whether to trust them."""
    config, methods, banded = collected.config, compared(collected.config), _banded(collected)
    if config.scale.seeds == 1:
        return ""
    whose = "Bands and bars"
    if banded != methods:
        one = f"Band (of {config.methods[banded[0]].label} alone, as more would overlap) and bars" if banded else ""
        whose = one or "Bars"
    text = f" {whose}: 95 % bootstrap intervals, {thousands(RESAMPLES)} resamples of seeds within tasks; a bar that is "
    text += "not seen is narrower than its marker."
    narrow = f" Below {FEW} seeds they are too narrow."
    return text + (narrow if config.scale.seeds < FEW else "")


def _present(collected: Collected) -> str:
    """`n = 3 seeds`, `n = 2 to 3 seeds` where a task of some method lacks one."""
    config = collected.config
    runs_of_all = [final_runs(collected, m, stage) for m in compared(config) for stage in config.stages(m)]
    sizes = {len(values) for runs in runs_of_all for values in runs.scores.values()}
    low, high = (min(sizes), max(sizes)) if sizes else (0, 0)
    return f"n = {count(high, 'seed')}" if low == high else f"n = {low} to {count(high, 'seed')}"


FIGURES = {"profiles": Drawing(lambda collected: collected, draw, caption)}
