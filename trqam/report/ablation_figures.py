"""The figures of what was taken away or varied: the multiplier, the pretraining, the budget."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from trqam.config import Config, expanded
from trqam.report import contrasted, enumerated, panels, scratch_pairs, tasks_label
from trqam.report.panels import COLUMNS, INK, ONLINE, PATH_KL, SUCCESS, WIDTH
from trqam.report.statistics import final_step, realised_kl, seed_success


def ablation(metrics: pd.DataFrame, config: Config) -> Figure:
    """Path KL against its budget, and success, for an adaptive, a constant and an external multiplier."""
    tasks = expanded(config.scale.ablation_tasks)
    rows = {"path_kl": PATH_KL, "success": SUCCESS}
    return panels.over_training(_ablated_stages(metrics, config), config, contrasted(config), tasks, rows)


def _ablated_stages(metrics: pd.DataFrame, config: Config) -> pd.DataFrame:
    """The stages that ablations go through, of all methods."""
    return metrics[metrics.stage.isin(config.scale.ablation_stages)]


def pretraining(metrics: pd.DataFrame, config: Config) -> Figure:
    """Success at the end of the offline stage with and without behaviour cloning first, a panel a task."""
    pairs, columns_of = scratch_pairs(config), panels.groups(config, expanded(config.scale.ablation_tasks))
    columns = min(len(columns_of), COLUMNS)
    rows = -(-len(columns_of) // columns)
    size = (WIDTH, min(2.1 * rows + 0.5, 7.4))
    figure, grid = plt.subplots(rows, columns, figsize=size, sharey=True, squeeze=False)
    for axes, (label, tasks) in zip(grid.flat, columns_of.items(), strict=False):
        for position, pair in enumerate(pairs.items()):
            for side, method, fill in zip((-0.2, 0.2), pair, (panels.full, panels.hatched), strict=True):
                success = _final(metrics, config, tasks, method)
                if not panels.bar(axes, position + side, success, **fill(config.methods[pair[0]].colour)):
                    axes.text(position + side, 2, MISSING, ha="center", va="bottom", color=INK, fontsize=7)
        axes.set_xticks(range(len(pairs)), [config.methods[method].label for method in pairs])
        axes.set(xlim=(-0.6, len(pairs) - 0.4), ylim=(0, 100))
        axes.set_title(label, fontsize=8 if columns < 4 else 7)
        axes.grid(axis="x", visible=False)
    for axes in grid.flat[len(columns_of) :]:
        axes.set_visible(False)
    for axes in grid[:, 0]:
        axes.set_ylabel(SUCCESS)
    panels.keys(figure, panels.bar_keys("after behaviour cloning", "from scratch"))
    return figure


MISSING = "--"


def _final(metrics: pd.DataFrame, config: Config, tasks: list[str], method: str) -> pd.Series:
    """Per-seed success at the end of the offline stage, where ``method`` runs on all of ``tasks``."""
    return seed_success(metrics, tasks, method, "offline", final_step(config, method, "offline"))


def budget_sweep(metrics: pd.DataFrame, config: Config) -> Figure:
    """A row a task: success over training, then final success and realised path KL against the budget."""
    sweep, rows_of = config.budget_sweep, panels.groups(config, expanded(config.scale.ablation_tasks))
    few = len(sweep) < 5  # budgets that a logarithmic axis can name one by one
    size = (WIDTH, min(1.75 * len(rows_of) + 0.75, 7.6))
    figure, grid = plt.subplots(
        len(rows_of), 3, figsize=size, squeeze=False, sharex="col", gridspec_kw={"width_ratios": (1.5, 1, 1)}
    )
    shown = _ablated_stages(metrics, config).assign(success=lambda frame: 100 * frame.success)
    for (over, final, realised), (label, tasks) in zip(grid, rows_of.items(), strict=True):
        for budget, method in sweep.items():
            runs, colour = shown[shown.task.isin(tasks) & (shown.method == method)], config.methods[method].colour
            panels.curve(over, runs, "success", colour, band=False)
            _seeds(final, budget, _final(metrics, config, tasks, method), colour)
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


def captions(config: Config, metrics: pd.DataFrame) -> dict[str, str]:
    """The captions of these figures; those that the scale lacks the methods for are not to be printed."""
    tasks = expanded(config.scale.ablation_tasks)
    if not tasks:
        return {}
    shown = _ablated_stages(metrics, config)
    shown = shown[shown.task.isin(tasks) & shown.method.isin([*contrasted(config), *config.ablated])]
    seeds, label = panels.seeds_present(shown), tasks_label(config, tasks)
    reach = f"Line: mean over seeds; band: from the lowest to the highest seed ({seeds} a task)."
    panel = panels.panel_of(config, tasks)
    texts = {}
    if methods := contrasted(config):
        ran = "; ".join(config.methods[method].label for method in methods)
        texts["ablation"] = (
            f"The multiplier adapted, held constant, and outside the process ({ran}), one column a {panel}: look for "
            "whose path KL stays at the dashed budget (logarithmic), and for what that does to the success. "
            f"{reach}"
        )
    if pairs := scratch_pairs(config):
        ran = enumerated([config.methods[method].label for method in pairs])
        texts["pretraining"] = (
            f"Success at the end of the offline stage with and without behaviour cloning first ({ran}), one panel a "
            f"{panel}: look for pairs whose dots do not mix. Dots: seeds ({seeds}); error bars: sample standard "
            "deviation over them; --: no result."
        )
    if config.budget_sweep:
        texts["budget_sweep"] = (
            f"TRQAM with other KL budgets, on {label}. Left: success at each evaluation. Middle: success at the end "
            "of the offline stage. Right: path KL over the last fifth of the offline stage against the budget: look "
            f"for bars on the dashed line, where they are equal. Lines and bars: means over seeds ({seeds} a task); "
            "circles: seeds."
        )
    return texts
