"""The figures: from the metrics of all runs to a vector PDF and a PNG beside it.

Success is in per cent and never smoothed; lines are means over seeds and bands run from the lowest to the highest
seed, because a standard deviation of three seeds says less than the three of them. Colours are those of methods.yaml.
"""

import io
from collections.abc import Callable
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from trqam.artefacts import write_atomically
from trqam.config import Config
from trqam.errors import UserError
from trqam.report import PAPER, ablation_figures, compared, count, panels, task_label, tasks_label, tasks_run
from trqam.report import figure_names as names
from trqam.report.panels import COLUMNS, INK, PATH_KL, SUCCESS, WIDTH
from trqam.report.statistics import STAGES, final_step, is_pretraining, seed_success


def draw(name: str, metrics: pd.DataFrame, config: Config, out_path: str | Path) -> None:
    """Writes the figure ``name`` to ``out_path`` (.pdf) and, beside it, as .png; equal input gives equal bytes."""
    if name not in names(config):
        why = "this scale lacks the methods of" if name in FIGURES else "unknown"
        raise UserError(f"render: {why} figure {name!r}; use one of {', '.join(names(config))}")
    with plt.style.context(PAPER / "style.mplstyle", after_reset=True):
        figure = FIGURES[name](metrics, config)
        for suffix, metadata in ((".png", {"Software": None}), (".pdf", {"CreationDate": None})):
            buffer = io.BytesIO()
            figure.savefig(buffer, format=suffix[1:], metadata=metadata)
            write_atomically(Path(out_path).with_suffix(suffix), buffer.getvalue())
        plt.close(figure)


def overall_bars(metrics: pd.DataFrame, config: Config) -> Figure:
    """Success over the tasks that all compared methods run on, at the end of either stage."""
    methods, tasks = compared(config), tasks_run(config, *config.compared)
    figure, axes = plt.subplots(figsize=(WIDTH, 2.6))
    for position, method in enumerate(methods):
        found = False
        for side, stage, fill in zip((-0.2, 0.2), STAGES, (panels.full, panels.hatched), strict=True):
            if is_pretraining(config, method):
                side = 0.0  # no online stage: one bar, in the middle
            success = seed_success(metrics, tasks, method, stage, final_step(config, method, stage))
            found |= panels.bar(axes, position + side, success, **fill(config.methods[method].colour))
        if not found:
            axes.text(position, 2, "no result", ha="center", va="bottom", color=INK, fontsize=7)
    slanted = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if len(methods) > 6 else {}
    axes.set_xticks(range(len(methods)), [config.methods[m].label for m in methods], **slanted)
    scope = "all tasks" if tasks == config.tasks else count(len(tasks), "task")
    axes.set(xlim=(-0.6, len(methods) - 0.4), ylim=(0, 100), ylabel=f"success over {scope} (%)")
    axes.grid(axis="x", visible=False)
    keys = panels.bar_keys("end of offline", "end of online")
    axes.legend(handles=keys, loc="lower left", bbox_to_anchor=(0, 1.01), ncols=3, borderaxespad=0)
    return figure


def offline_to_online(metrics: pd.DataFrame, config: Config) -> Figure:
    """Success against training step, a panel a task; the online stage stands on orange ground."""
    tasks = config.tasks
    columns = min(len(tasks), COLUMNS)
    rows = -(-len(tasks) // columns)
    height = {1: 2.6, 2: 2.3, 3: 1.9}.get(columns, 1.5)
    figure, grid = plt.subplots(
        rows, columns, figsize=(WIDTH, min(rows * height + 0.5, 7.4)), sharex=True, sharey=True, squeeze=False
    )
    evaluated = metrics.dropna(subset=["success"]).assign(success=lambda frame: 100 * frame.success)
    for axes, task in zip(grid.flat, tasks, strict=False):
        for method in compared(config):
            runs = evaluated[(evaluated.task == task) & (evaluated.method == method)]
            if is_pretraining(config, method):
                panels.level(axes, runs, config.methods[method].colour)
            else:
                panels.curve(axes, runs, "success", config.methods[method].colour, band=_few(config))
        axes.set_title(task_label(config, task) if columns < 4 else task_label(config, task).replace(" task", "\ntask"))
        axes.set(ylim=(-4, 104), yticks=(0, 50, 100))
        panels.stages(axes, metrics, config)
    panels.hide(grid, 1, len(tasks))
    if rows * height > 7.4:
        _tight_titles(figure, grid.flat[: len(tasks)])
    figure.supylabel("success (%)", fontsize=8)
    panels.legend(figure, config, compared(config), metrics)
    return figure


def _few(config: Config) -> bool:
    """Whether the bands of all compared methods can be told apart."""
    return len(config.compared) < 6


def trust_region(metrics: pd.DataFrame, config: Config) -> Figure:
    """Path KL against its budget, multiplier, adjoint loss and success, for the methods that log a path KL."""
    rows = {"path_kl": PATH_KL, "multiplier": "multiplier λ", "adjoint_loss": "adjoint loss", "success": SUCCESS}
    return panels.over_training(metrics, config, _with_path_kl(metrics, config), config.tasks, rows)


def _with_path_kl(metrics: pd.DataFrame, config: Config) -> list[str]:
    logged = set(metrics.loc[metrics.path_kl.notna(), "method"])
    return [method for method in config.scale.methods if method in logged]


def captions(config: Config, metrics: pd.DataFrame) -> dict[str, str]:
    """What each figure shows, how many seeds, and what its bands mean; the paper and the page print the same words."""
    seeds = panels.seeds_present(metrics[metrics.method.isin(config.compared)])
    mean, band = "Line: mean over seeds", "band: from the lowest to the highest seed"
    ground = "White ground: offline stage, in gradient steps; orange ground: online stage, in environment steps."
    cloning = next((config.methods[m].label for m in config.compared if is_pretraining(config, m)), None)
    once = f" {cloning} has one training seed, evaluated once with the streams of each seed; " if cloning else ""
    logging = ", ".join(config.methods[m].label for m in _with_path_kl(metrics, config)) or "no method logged it"
    panel = panels.panel_of(config, config.tasks)
    shared = tasks_run(config, *config.compared)
    scope, absent = f"Success over {count(len(shared), 'task')}", ""
    if shared != config.tasks:
        listed = f" ({tasks_label(config, shared)})" if shared else ""
        scope += f"{listed}, the part of this scale that all compared methods run on"
        absent = " A method without a curve did not run there."
    texts = {
        "overall_bars": (
            f"{scope}: compare each method's full bar (end of offline) with its hatched bar (end of online). "
            f"Dots: per-seed means over these tasks; error bars: sample standard deviation over seeds ({seeds})."
            + (once and f"{once}its dots and error bar show the spread of evaluation, not of training.")
        ),
        "offline_to_online": (
            "Success at each evaluation, unsmoothed, one panel a task: look for what changes where the ground does. "
            f"{mean}{f'; {band}' if _few(config) else ''} ({seeds} a task).{absent} {ground}"
            + (once and f"{once}it is drawn as a dotted level.")
        ),
        "trust_region": (
            f"The trust region at work ({logging}), one column a {panel}: look for whether the path KL settles at the "
            "dashed budget, and which way the multiplier moves meanwhile; the first three rows are logarithmic. "
            f"{mean}; {band} ({seeds} a task). {ground}"
        ),
    }
    texts |= ablation_figures.captions(config, metrics)
    return {name: texts[name] for name in names(config)}


def _tight_titles(figure: Figure, grid) -> None:
    """Many rows: titles in one line, which may run over the neighbour's empty half, and less air between rows."""
    previous = None
    for axes in grid:
        domain, _, task = axes.get_title().partition("\n")
        text = f"{domain} {task}" if domain != previous else task
        axes.set_title("")
        axes.set_title(text, fontsize=7, loc="left" if domain != previous else "right", pad=2).set_in_layout(False)
        previous = domain
    figure.get_layout_engine().set(hspace=0, h_pad=0.05)  # inches


FIGURES: dict[str, Callable[[pd.DataFrame, Config], Figure]] = {
    "overall_bars": overall_bars,
    "offline_to_online": offline_to_online,
    "trust_region": trust_region,
    "ablation": ablation_figures.ablation,
    "pretraining": ablation_figures.pretraining,
    "budget_sweep": ablation_figures.budget_sweep,
}
NAMES = tuple(FIGURES)
