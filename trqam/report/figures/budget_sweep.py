"""TRQAM with other KL budgets."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from trqam.config.load import Config, expanded
from trqam.config.wording import tasks_label
from trqam.report import curves, panels
from trqam.report.collected import Collected
from trqam.report.curves import INK, Runs
from trqam.report.measures import final_success, realised_kl
from trqam.report.panels import ONLINE, PATH_KL, SUCCESS, WIDTH


def draw(collected: Collected) -> Figure:
    """A row a task: success over training, then final success and realised path KL against the budget."""
    metrics, config, runs = collected.metrics, collected.config, _runs(collected)
    rows_of = panels.groups(config, runs.tasks)
    size = (WIDTH, min(1.75 * len(rows_of) + 0.75, 7.6))
    figure, grid = plt.subplots(
        len(rows_of), 3, figsize=size, squeeze=False, sharex="col", gridspec_kw={"width_ratios": (1.5, 1, 1)}
    )
    for (over, final, realised), (label, tasks) in zip(grid, rows_of.items(), strict=True):
        for budget, method in config.budget_sweep.items():
            rows, colour = runs.of(tuple(tasks), method), config.methods[method].colour
            curves.curve(over, rows, "success", config, method, len(tasks), band=0)
            ended = Runs(collected, [method], tasks, ("offline",)).diverged_seeds(tasks, method)
            _seeds(final, budget, final_success(metrics, config, tasks, method), ended, colour)
            _seeds(realised, budget, realised_kl(metrics, config, tasks, method), ended, colour)
        panels.success_axis(over)
        over.set_ylabel(f"{label}\n{SUCCESS}")
        panels.stages(over, runs)
        panels.success_axis(final)
        final.set_ylabel(f"final {SUCCESS}")
        _budgets(final, realised, config)
    grid[-1, 0].set_xlabel(panels.step_label(config))
    for axes in grid[-1, 1:]:
        axes.set_xlabel("KL budget (nats)")
    figure.align_ylabels()
    panels.keys(figure, _handles(runs))
    return figure


def _runs(collected: Collected) -> Runs:
    config, scale = collected.config, collected.config.scale
    return Runs(collected, [*config.budget_sweep.values()], expanded(scale.ablation_tasks), scale.ablation_stages)


def _seeds(axes: Axes, budget: float, values: pd.Series, diverged: set[int], colour: str) -> None:
    """The mean over seeds as a bar, the seeds as small dots or, if they diverged, crosses."""
    if len(values):
        ended = values.index.isin(diverged)
        places = np.full(len(values), budget)
        look = {"marker": "o", "linestyle": "", "markersize": 3, "mew": 0.7, "zorder": 3}
        axes.plot(places[~ended], values[~ended], color="white", mec=colour, **look)
        curves.crosses(axes, places[ended], values[ended], colour)
        axes.plot(budget, values.mean(), "_", color=colour, markersize=11, mew=1.6, zorder=4)


def _budgets(final: Axes, realised: Axes, config: Config) -> None:
    """The axes against the budget, logarithmic if that can name its budgets one by one, and the line of equality."""
    sweep = [*config.budget_sweep]
    few, low, high = len(sweep) < 5, min(sweep), max(sweep)
    line = (low / 1.6, high * 1.6) if few else (low / 2, high + low / 2)
    realised.plot(line, line, color=INK, linestyle="--", linewidth=0.9, zorder=1)
    realised.set_ylabel(f"realised {PATH_KL}")
    if few:
        panels.log_axis(realised)
    for axes in (final, realised):
        axes.set_xlim(line[0], line[-1])
        if few:
            axes.set_xscale("log")
            axes.set_xticks(sweep, [f"{budget:g}" for budget in sweep])
            axes.xaxis.minorticks_off()


def _handles(runs: Runs) -> list:
    config = runs.config
    handles = curves.handles(config, runs.methods)
    for handle, budget in zip(handles, config.budget_sweep, strict=True):
        handle.set_label(f"{budget:g}")
    handles[0].set_label(f"budget {handles[0].get_label()}")
    handles.append(Line2D([], [], color=INK, linestyle="--", linewidth=0.9, label="equality"))
    handles += [curves.diverged_handle()] if len(runs.diverged) else []
    return handles + ([Patch(color=ONLINE, label="online")] if runs.online else [])


def caption(collected: Collected) -> str:
    """What it shows, of how many seeds."""
    runs = _runs(collected)
    ground = f" {panels.GROUND}" if runs.online else ""
    return (
        f"TRQAM with other KL budgets (nats), on {tasks_label(runs.config, runs.tasks)}. Left: success at each "
        "evaluation, unsmoothed: look for curves in the order of their budgets. Middle: success at the end of the "
        "offline stage. Right: path KL over the last fifth of that stage against the budget: look for bars on the "
        "dashed line, where they are equal. Lines and bars: means over seeds, without a band "
        f"({runs.seeds(' a task')}); circles: seeds.{ground}"
    )
