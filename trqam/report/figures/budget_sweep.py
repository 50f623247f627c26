"""TRQAM with other KL budgets."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from trqam.config import expanded
from trqam.report import panels, tasks_label
from trqam.report.collected import Collected
from trqam.report.measures import final_success, realised_kl
from trqam.report.panels import INK, ONLINE, PATH_KL, SUCCESS, WIDTH


def draw(collected: Collected) -> Figure:
    """A row a task: success over training, then final success and realised path KL against the budget."""
    metrics, config = collected.metrics, collected.config
    sweep, rows_of = config.budget_sweep, panels.groups(config, expanded(config.scale.ablation_tasks))
    few = len(sweep) < 5  # budgets that a logarithmic axis can name one by one
    size = (WIDTH, min(1.75 * len(rows_of) + 0.75, 7.6))
    figure, grid = plt.subplots(
        len(rows_of), 3, figsize=size, squeeze=False, sharex="col", gridspec_kw={"width_ratios": (1.5, 1, 1)}
    )
    shown = panels.ablated_stages(collected).assign(success=lambda frame: 100 * frame.success)
    for (over, final, realised), (label, tasks) in zip(grid, rows_of.items(), strict=True):
        for budget, method in sweep.items():
            runs, colour = shown[shown.task.isin(tasks) & (shown.method == method)], config.methods[method].colour
            panels.curve(over, runs, "success", colour, band=False)
            _seeds(final, budget, final_success(metrics, config, tasks, method), colour)
            _seeds(realised, budget, realised_kl(metrics, config, tasks, method), colour)
        over.set(ylim=(-4, 104), yticks=(0, 50, 100), ylabel=f"{label}\n{SUCCESS}")
        panels.stages(over, shown, config)
        final.set(ylim=(-4, 104), yticks=(0, 50, 100), ylabel=f"final {SUCCESS}")
        low, high = min(sweep), max(sweep)
        line = np.geomspace(low / 1.6, high * 1.6, 50) if few else np.linspace(low - low / 2, high + low / 2, 50)
        realised.plot(line, line, color=INK, linestyle="--", linewidth=0.9, zorder=1)
        realised.set_ylabel(f"realised {PATH_KL}")
        panels.log_axis(realised)
        for axes in (final, realised):
            axes.set_xlim(line[0], line[-1])
            if few:
                axes.set_xscale("log")
                axes.set_xticks([*sweep], [f"{budget:g}" for budget in sweep])
                axes.xaxis.minorticks_off()
    grid[-1, 0].set_xlabel(f"training step ({panels.step_unit(config)[1]})")
    for axes in grid[-1, 1:]:
        axes.set_xlabel("KL budget (nats)")
    figure.align_ylabels()
    handles = [Line2D([], [], color=config.methods[m].colour, label=f"budget {b:g}") for b, m in sweep.items()]
    handles.append(Line2D([], [], color=INK, linestyle="--", linewidth=0.9, label="equality"))
    handles += [Patch(color=ONLINE, label="online")] if (shown.stage == "online").any() else []
    panels.keys(figure, handles)
    return figure


def _seeds(axes, budget: float, values: pd.Series, colour: str) -> None:
    """The mean over seeds as a large dot, the seeds as small ones."""
    if len(values):
        axes.plot(np.full(len(values), budget), values, "o", color="white", mec=colour, markersize=3, mew=0.7, zorder=3)
        axes.plot(budget, values.mean(), "_", color=colour, markersize=11, mew=1.6, zorder=4)


def caption(collected: Collected) -> str:
    """What it shows, of how many seeds."""
    tasks = expanded(collected.config.scale.ablation_tasks)
    return (
        f"TRQAM with other KL budgets, on {tasks_label(collected.config, tasks)}. Left: success at each evaluation. "
        "Middle: success at the end of the offline stage. Right: path KL over the last fifth of the offline stage "
        "against the budget: look for bars on the dashed line, where they are equal. Lines and bars: means over seeds "
        f"({panels.seeds_ablated(collected)} a task); circles: seeds."
    )
