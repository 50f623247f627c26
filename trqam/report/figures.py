"""The figures, one function each: from the metrics of all runs to a vector PDF and a PNG beside it.

Success is in per cent and never smoothed; lines are means over seeds and bands run from the lowest to the highest
seed, because a standard deviation of three seeds says less than the three of them. Colours are those of methods.yaml.
"""

import io
from collections.abc import Callable
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, NullFormatter

from trqam.artefacts import write_atomically
from trqam.config import Config, domain_of
from trqam.errors import UserError
from trqam.report import PAPER, count, task_label
from trqam.report.statistics import STAGES, final_step, is_pretraining, mean_and_std, seed_success

WIDTH = 6.1  # inches, the paper's text width, so that a font size here is the size in print
COLUMNS = 5  # panels side by side at most
ONLINE = "#fdebd7"
INK = "#333333"


def draw(name: str, metrics: pd.DataFrame, config: Config, out_path: str | Path) -> None:
    """Writes the figure ``name`` to ``out_path`` (.pdf) and, beside it, as .png; equal input gives equal bytes."""
    if name not in FIGURES:
        raise UserError(f"render: unknown figure {name!r}; use one of {', '.join(NAMES)}")
    with plt.style.context(PAPER / "style.mplstyle", after_reset=True):
        figure = FIGURES[name](metrics, config)
        for suffix, metadata in ((".png", {"Software": None}), (".pdf", {"CreationDate": None})):
            buffer = io.BytesIO()
            figure.savefig(buffer, format=suffix[1:], metadata=metadata)
            write_atomically(Path(out_path).with_suffix(suffix), buffer.getvalue())
        plt.close(figure)


def overall_bars(metrics: pd.DataFrame, config: Config) -> Figure:
    """Success over all tasks of each method at the end of either stage: bar, seeds as dots, sample std as error bar."""
    methods = config.scale.methods
    figure, axes = plt.subplots(figsize=(WIDTH, 2.6))
    for position, method in enumerate(methods):
        colour = config.methods[method].colour
        found = 0
        for side, stage in zip((-0.2, 0.2), STAGES, strict=True):
            if is_pretraining(config, method):
                side = 0.0  # no online stage: one bar, in the middle
            success = seed_success(metrics, config.tasks, method, stage, final_step(config, method, stage))
            mean, std = mean_and_std(success)
            if np.isnan(mean):
                continue
            found += 1
            axes.bar(position + side, mean, 0.36, zorder=2, **_fill(stage, colour))
            if len(success) > 1:
                axes.errorbar(position + side + 0.1, mean, std, color=INK, capsize=2.5, linewidth=0.9, zorder=3)
            spread = np.linspace(-0.14, 0.04, len(success)) if len(success) > 1 else [0]
            dots = {"s": 11, "color": "white", "edgecolors": INK, "linewidths": 0.7, "zorder": 4, "clip_on": False}
            axes.scatter(position + side + np.array(spread), success, **dots)
        if not found:
            axes.text(position, 2, "no result", ha="center", va="bottom", color=INK, fontsize=7)
    slanted = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if len(methods) > 6 else {}
    axes.set_xticks(range(len(methods)), [config.methods[m].label for m in methods], **slanted)
    axes.set(xlim=(-0.6, len(methods) - 0.4), ylim=(0, 100), ylabel="success over all tasks (%)")
    axes.grid(axis="x", visible=False)
    axes.legend(
        handles=[
            Patch(label="end of offline", **_fill("offline", "#8c8c8c")),
            Patch(label="end of online", **_fill("online", "#8c8c8c")),
            Line2D([], [], label="one seed", marker="o", markersize=3.5, linestyle="", color="white", mec=INK),
        ],
        loc="lower left", bbox_to_anchor=(0, 1.01), ncols=3, borderaxespad=0,
    )  # fmt: skip
    return figure


def _fill(stage: str, colour: str) -> dict:
    """Full for the offline stage, hatched for the online one."""
    return {"color": colour} if stage == "offline" else {"facecolor": "white", "edgecolor": colour, "hatch": "////"}


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
        for method in config.scale.methods:
            runs = evaluated[(evaluated.task == task) & (evaluated.method == method)]
            if is_pretraining(config, method):
                _level(axes, runs, config.methods[method].colour)
            else:
                _curve(axes, runs, "success", config.methods[method].colour)
        axes.set_title(task_label(config, task) if columns < 4 else task_label(config, task).replace(" task", "\ntask"))
        axes.set(ylim=(-4, 104), yticks=(0, 50, 100))
        _stages(axes, metrics, config)
    _hide(grid, 1, len(tasks))
    if rows * height > 7.4:
        _tight_titles(figure, grid.flat[: len(tasks)])
    figure.supylabel("success (%)", fontsize=8)
    _legend(figure, config, config.scale.methods, metrics)
    return figure


def trust_region(metrics: pd.DataFrame, config: Config) -> Figure:
    """Path KL against its budget, multiplier, adjoint loss and success, for the methods that log a path KL."""
    methods = _with_path_kl(metrics, config)
    groups = _groups(config)
    columns = min(len(groups), COLUMNS)
    bands = -(-len(groups) // columns)  # of four rows each
    rows = {
        "path_kl": "path KL (nats)",
        "multiplier": "multiplier λ",
        "adjoint_loss": "adjoint loss",
        "success": "success (%)",
    }
    height = 1.25 if bands == 1 else 0.9
    figure, grid = plt.subplots(
        4 * bands, columns, figsize=(WIDTH, 4 * bands * height + 0.6), sharex=True, sharey="row", squeeze=False
    )
    frame = metrics.assign(success=100 * metrics.success)
    for number, (label, tasks) in enumerate(groups.items()):
        for row, column in enumerate(rows):
            axes = grid[4 * (number // columns) + row, number % columns]
            for method in methods:
                runs = frame[frame.task.isin(tasks) & (frame.method == method)]
                _curve(axes, runs, column, config.methods[method].colour, logarithmic=column != "success")
            if column == "success":
                axes.set(ylim=(-4, 104), yticks=(0, 50, 100))
            elif axes.lines:
                _logarithmic(axes)
            else:
                axes.annotate("no values", (0.5, 0.5), xycoords="axes fraction", ha="center", fontsize=7, color=INK)
                axes.tick_params(left=False, labelleft=False)
            if column == "path_kl" and (budget := _budget(config, tasks[0], methods)):
                axes.axhline(budget, color=INK, linestyle="--", linewidth=0.9)
            _stages(axes, metrics, config)
        grid[4 * (number // columns), number % columns].set_title(label, fontsize=8 if columns < 4 else 7)
    for row in range(4 * bands):
        grid[row, 0].set_ylabel(list(rows.values())[row % 4])
    _hide(grid, 4, len(groups))
    figure.align_ylabels(grid[:, 0])
    budget_line = Line2D([], [], color=INK, linestyle="--", linewidth=0.9, label="KL budget")
    _legend(figure, config, methods, metrics, [budget_line])
    return figure


def captions(config: Config, metrics: pd.DataFrame) -> dict[str, str]:
    """What each figure shows, how many seeds, and what its bands mean; the paper and the page print the same words."""
    reach = f"Line: mean over seeds; band: from the lowest to the highest seed ({_seeds_present(metrics)} a task)."
    ground = "White ground: offline stage, in gradient steps; orange ground: online stage, in environment steps."
    cloning = next((config.methods[m].label for m in config.scale.methods if is_pretraining(config, m)), None)
    once = f" {cloning} has one training seed, evaluated once with the streams of each seed; " if cloning else ""
    panel = "task" if len(config.tasks) <= COLUMNS else "domain, over the runs of all its tasks"
    names = ", ".join(config.methods[m].label for m in _with_path_kl(metrics, config)) or "no method logged it"
    return {
        "overall_bars": (
            f"Success over {count(len(config.tasks), 'task')}: compare each method's full bar (end of offline) with "
            "its hatched bar (end of online). Dots: per-seed means over all tasks; error bars: sample standard "
            f"deviation over seeds ({_seeds_present(metrics)})."
            + (once and f"{once}its dots and error bar show the spread of evaluation, not of training.")
        ),
        "offline_to_online": (
            "Success at each evaluation, unsmoothed, one panel a task: look for what changes where the ground does. "
            f"{reach} {ground}" + (once and f"{once}it is drawn as a dotted level.")
        ),
        "trust_region": (
            f"The trust region at work ({names}), one column a {panel}: look for whether the path KL settles at the "
            "dashed budget, and which way the multiplier moves meanwhile; the first three rows are logarithmic. "
            f"{reach} {ground}"
        ),
    }


def _seeds_present(metrics: pd.DataFrame) -> str:
    """`n = 3`, or `n = 2 to 3` where seeds are missing from some task, method or stage."""
    seeds = metrics.dropna(subset=["success"]).groupby(["task", "method", "stage"]).seed.nunique()
    low, high = (seeds.min(), seeds.max()) if len(seeds) else (0, 0)
    return f"n = {low}" if low == high else f"n = {low} to {high}"


def _hide(grid: np.ndarray, height: int, used: int) -> None:
    """Empties the places that ``used`` panels, each ``height`` rows high, leave in the last band of the grid."""
    first = used - grid.shape[1] * (grid.shape[0] // height - 1)
    for axes in grid[-height:, first:].flat:
        axes.set_visible(False)
    for axes in grid[-height - 1, first:] if grid.shape[0] > height else ():
        axes.tick_params(labelbottom=True)  # now the lowest of its column


def _logarithmic(axes: Axes) -> None:
    """A logarithmic axis with plain numbers at 1, 2 and 5, or at the decades alone where it spans many."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 100 else (1,), numticks=6))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}" if 1e-3 <= value < 1e4 else f"{value:.0e}")
    axes.yaxis.set_minor_formatter(NullFormatter())


def _curve(axes: Axes, runs: pd.DataFrame, column: str, colour: str, logarithmic: bool = False) -> None:
    """Mean and range over seeds, through both stages: the online one goes on from where the offline one ended."""
    rows = runs.dropna(subset=[column])
    if logarithmic:
        rows = rows[rows[column] > 0]
    if rows.empty:
        return
    few = column == "success" and rows.total_step.nunique() < 16
    marker = {"marker": "o", "markersize": 2.2, "markeredgecolor": colour} if few else {}
    lowest_to_highest = ("pi", 100)
    seaborn.lineplot(rows, x="total_step", y=column, errorbar=lowest_to_highest, color=colour, ax=axes, **marker)
    axes.set(xlabel="", ylabel="")  # seaborn's are the columns' names


def _level(axes: Axes, runs: pd.DataFrame, colour: str) -> None:
    """The success of behaviour cloning, which training does not change, as a level."""
    if not runs.empty:
        axes.axhline(runs.success.mean(), color=colour, linestyle=":", linewidth=1.3)


def _stages(axes: Axes, metrics: pd.DataFrame, config: Config) -> None:
    """Limits and ground of the two stages; the axis counts in thousands or millions of steps."""
    offline, total = config.scale.offline_steps, config.scale.offline_steps + config.scale.online_steps
    online = (metrics.stage == "online").any()
    axes.set_xlim(0, total if online else offline)
    axes.xaxis.set_major_locator(plt.MaxNLocator(3, integer=total > 5e3, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(lambda step, _: f"{step / _step_unit(config)[0]:g}")
    if online:
        axes.axvspan(offline, total, color=ONLINE, linewidth=0, zorder=-1)


def _step_unit(config: Config) -> tuple[float, str]:
    millions = config.scale.offline_steps + config.scale.online_steps >= 1e6
    return (1e6, "millions") if millions else (1e3, "thousands")


def _legend(figure: Figure, config: Config, methods: list[str], metrics: pd.DataFrame, more: list = ()) -> None:
    """One legend below the panels, with the axis label that they share."""
    figure.supxlabel(f"training step ({_step_unit(config)[1]})", fontsize=8)
    labels = {method: config.methods[method].label for method in methods}
    handles = [
        Line2D([], [], color=config.methods[m].colour, ls=":" if is_pretraining(config, m) else "-", label=labels[m])
        for m in methods
    ]
    handles += [*more, *([Patch(color=ONLINE, label="online")] if (metrics.stage == "online").any() else [])]
    longest = max(len(handle.get_label()) for handle in handles)
    columns = int(WIDTH * 72 / (4.6 * longest + 36))  # points: letters of 8 pt, and the key with its space
    figure.legend(
        handles=handles, loc="outside upper center", ncols=max(1, min(len(handles), columns)), handlelength=1.8
    )


def _tight_titles(figure: Figure, panels) -> None:
    """Many rows: titles in one line, which may run over the neighbour's empty half, and less air between rows."""
    previous = None
    for axes in panels:
        domain, _, task = axes.get_title().partition("\n")
        text = f"{domain} {task}" if domain != previous else task
        axes.set_title("")
        axes.set_title(text, fontsize=7, loc="left" if domain != previous else "right", pad=2).set_in_layout(False)
        previous = domain
    figure.get_layout_engine().set(hspace=0, h_pad=0.05)  # inches


def _groups(config: Config) -> dict[str, list[str]]:
    """Columns of the trust-region figure: tasks, or domains where there are too many tasks."""
    if len(config.tasks) <= COLUMNS:
        return {task_label(config, task): [task] for task in config.tasks}
    return {config.domains[d].label: [t for t in config.tasks if domain_of(t) == d] for d in config.task_domains}


def _with_path_kl(metrics: pd.DataFrame, config: Config) -> list[str]:
    logged = set(metrics.loc[metrics.path_kl.notna(), "method"])
    return [method for method in config.scale.methods if method in logged]


def _budget(config: Config, task: str, methods: list[str]) -> float | None:
    """The KL budget that some method of the figure holds to."""
    budgets = [config.run(task, method).parameters.get("kl_budget") for method in methods]
    return next((budget for budget in budgets if budget), None)


FIGURES: dict[str, Callable[[pd.DataFrame, Config], Figure]] = {
    "overall_bars": overall_bars,
    "offline_to_online": offline_to_online,
    "trust_region": trust_region,
}
NAMES = tuple(FIGURES)
