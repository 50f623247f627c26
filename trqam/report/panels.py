"""What several figures share: axes, curves, bars, legends, and the columns of tasks that they are laid out in."""

from collections.abc import Iterable

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, NullFormatter

from trqam.config import Config, domain_of, expanded
from trqam.report import contrasted, task_label
from trqam.report.collected import Collected
from trqam.report.measures import is_pretraining, kl_budget
from trqam.report.statistics import mean_and_std

WIDTH = 6.1  # inches, the paper's text width, so that a font size here is the size in print
COLUMNS = 5  # panels side by side at most
ONLINE = "#fdebd7"
INK = "#333333"
PATH_KL, SUCCESS = "path KL (nats)", "success (%)"
# What captions say of every line, band and ground.
MEAN, BAND = "Line: mean over seeds", "band: from the lowest to the highest seed"
GROUND = "White ground: offline stage, in gradient steps; orange ground: online stage, in environment steps."


def groups(config: Config, tasks: list[str]) -> dict[str, list[str]]:
    """Columns of a figure: tasks, or domains where there are too many tasks."""
    if len(tasks) <= COLUMNS:
        return {task_label(config, task): [task] for task in tasks}
    domains = dict.fromkeys(map(domain_of, tasks))
    return {config.domains[d].label: [t for t in tasks if domain_of(t) == d] for d in domains}


def panel_of(config: Config, tasks: list[str]) -> str:
    """What one of the `groups` is, as captions say it."""
    return "task" if len(tasks) <= COLUMNS else "domain, over the runs of all its tasks"


def over_training(
    metrics: pd.DataFrame, config: Config, methods: list[str], tasks: list[str], rows: dict[str, str]
) -> Figure:
    """A column a task, a row a quantity (``rows``: column of the metrics to label), all but success logarithmic."""
    columns_of = groups(config, tasks)
    columns, many = min(len(columns_of), COLUMNS), len(rows)
    bands = -(-len(columns_of) // columns)  # of ``many`` rows each
    height = (1.25 if many > 2 else 1.6) if bands == 1 else 0.9
    figure, grid = plt.subplots(
        many * bands, columns, figsize=(WIDTH, many * bands * height + 0.6), sharex=True, sharey="row", squeeze=False
    )
    frame = metrics.assign(success=100 * metrics.success)
    for number, (label, own) in enumerate(columns_of.items()):
        for row, column in enumerate(rows):
            axes = grid[many * (number // columns) + row, number % columns]
            for method in methods:
                runs = frame[frame.task.isin(own) & (frame.method == method)]
                curve(axes, runs, column, config.methods[method].colour, logarithmic=column != "success")
            if column == "success":
                axes.set(ylim=(-4, 104), yticks=(0, 50, 100))
            elif axes.lines:
                log_axis(axes)
            else:
                axes.annotate("no values", (0.5, 0.5), xycoords="axes fraction", ha="center", fontsize=7, color=INK)
                axes.tick_params(left=False, labelleft=False)
            if column == "path_kl" and (budget := _budget(config, own[0], methods)):
                axes.axhline(budget, color=INK, linestyle="--", linewidth=0.9)
            stages(axes, metrics, config)
        grid[many * (number // columns), number % columns].set_title(label, fontsize=8 if columns < 4 else 7)
    for row in range(many * bands):
        grid[row, 0].set_ylabel(list(rows.values())[row % many])
    hide(grid, many, len(columns_of))
    figure.align_ylabels(grid[:, 0])
    budget_line = Line2D([], [], color=INK, linestyle="--", linewidth=0.9, label="KL budget")
    legend(figure, config, methods, metrics, [budget_line])
    return figure


def _budget(config: Config, task: str, methods: list[str]) -> float | None:
    """The KL budget that some method of the figure holds to."""
    held = [method for method in methods if "kl_budget" in config.run(task, method).parameters]
    return kl_budget(config, task, held[0]) if held else None


def bar(axes: Axes, position: float, success: Iterable[float], **fill) -> bool:
    """Mean as a bar, seeds as dots, sample std as error bar; nothing, and False, where there is no result."""
    mean, std = mean_and_std(success)
    if np.isnan(mean):
        return False
    axes.bar(position, mean, 0.36, zorder=2, **fill)
    if len(success) > 1:
        axes.errorbar(position + 0.1, mean, std, color=INK, capsize=2.5, linewidth=0.9, zorder=3)
    dots(axes, position + (np.linspace(-0.14, 0.04, len(success)) if len(success) > 1 else 0), success)
    return True


def dots(axes: Axes, positions, values) -> None:
    """One white dot a seed."""
    look = {"s": 11, "color": "white", "edgecolors": INK, "linewidths": 0.7, "zorder": 4, "clip_on": False}
    axes.scatter(np.broadcast_to(positions, len(values)), values, **look)


def full(colour: str) -> dict:
    """The fill of a bar that is the first of a pair."""
    return {"color": colour}


def hatched(colour: str) -> dict:
    """The fill of a bar that is the second of a pair."""
    return {"facecolor": "white", "edgecolor": colour, "hatch": "////"}


def bar_keys(first: str, second: str) -> list:
    """For a legend: what full, hatched and dots mean."""
    seed = Line2D([], [], label="one seed", marker="o", markersize=3.5, linestyle="", color="white", mec=INK)
    return [Patch(label=first, **full("#8c8c8c")), Patch(label=second, **hatched("#8c8c8c")), seed]


def seeds_present(metrics: pd.DataFrame) -> str:
    """`n = 3`, or `n = 2 to 3` where seeds are missing from some task, method or stage."""
    seeds = metrics.dropna(subset=["success"]).groupby(["task", "method", "stage"]).seed.nunique()
    low, high = (seeds.min(), seeds.max()) if len(seeds) else (0, 0)
    return f"n = {low}" if low == high else f"n = {low} to {high}"


def seeds_compared(collected: Collected) -> str:
    """`seeds_present` of the compared methods."""
    return seeds_present(collected.metrics[collected.metrics.method.isin(collected.config.compared)])


def ablated_stages(collected: Collected) -> pd.DataFrame:
    """The metrics of the stages that ablations go through, of all methods."""
    return collected.metrics[collected.metrics.stage.isin(collected.config.scale.ablation_stages)]


def seeds_ablated(collected: Collected) -> str:
    """`seeds_present` of the ablations and of what they are compared with."""
    config, shown = collected.config, ablated_stages(collected)
    tasks, methods = expanded(config.scale.ablation_tasks), [*contrasted(config), *config.ablated]
    return seeds_present(shown[shown.task.isin(tasks) & shown.method.isin(methods)])


def trained_once(config: Config) -> str:
    """The beginning of the sentence on behaviour cloning's one seed; nothing where it is not compared."""
    label = next((config.methods[m].label for m in config.compared if is_pretraining(config, m)), None)
    return f" {label} has one training seed, evaluated once with the streams of each seed; " if label else ""


def hide(grid: np.ndarray, height: int, used: int) -> None:
    """Empties the places that ``used`` panels, each ``height`` rows high, leave in the last band of the grid."""
    first = used - grid.shape[1] * (grid.shape[0] // height - 1)
    for axes in grid[-height:, first:].flat:
        axes.set_visible(False)
    for axes in grid[-height - 1, first:] if grid.shape[0] > height else ():
        axes.tick_params(labelbottom=True)  # now the lowest of its column


def log_axis(axes: Axes) -> None:
    """A logarithmic axis with plain numbers at 1, 2 and 5, or at the decades alone where it spans many."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 100 else (1,), numticks=6))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}" if 1e-3 <= value < 1e4 else f"{value:.0e}")
    axes.yaxis.set_minor_formatter(NullFormatter())


def curve(
    axes: Axes, runs: pd.DataFrame, column: str, colour: str, logarithmic: bool = False, band: bool = True
) -> None:
    """Mean and, with ``band``, range over seeds; the online stage goes on from where the offline one ended."""
    rows = runs.dropna(subset=[column])
    if logarithmic:
        rows = rows[rows[column] > 0]
    if rows.empty:
        return
    few = column == "success" and rows.total_step.nunique() < 16
    marker = {"marker": "o", "markersize": 2.2, "markeredgecolor": colour} if few else {}
    lowest_to_highest = ("pi", 100) if band else None
    seaborn.lineplot(rows, x="total_step", y=column, errorbar=lowest_to_highest, color=colour, ax=axes, **marker)
    axes.set(xlabel="", ylabel="")  # seaborn's are the columns' names


def level(axes: Axes, runs: pd.DataFrame, colour: str) -> None:
    """The success of behaviour cloning, which training does not change, as a level."""
    if not runs.empty:
        axes.axhline(runs.success.mean(), color=colour, linestyle=":", linewidth=1.3)


def stages(axes: Axes, metrics: pd.DataFrame, config: Config) -> None:
    """Limits and ground of the two stages; the axis counts in thousands or millions of steps."""
    offline, total = config.scale.offline_steps, config.scale.offline_steps + config.scale.online_steps
    online = (metrics.stage == "online").any()
    axes.set_xlim(0, total if online else offline)
    axes.xaxis.set_major_locator(plt.MaxNLocator(3, integer=total > 5e3, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(lambda step, _: f"{step / step_unit(config)[0]:g}")
    if online:
        axes.axvspan(offline, total, color=ONLINE, linewidth=0, zorder=-1)


def step_unit(config: Config) -> tuple[float, str]:
    """What the axis of steps counts in, as a number and in words."""
    millions = config.scale.offline_steps + config.scale.online_steps >= 1e6
    return (1e6, "millions") if millions else (1e3, "thousands")


def legend(figure: Figure, config: Config, methods: list[str], metrics: pd.DataFrame, more: list = ()) -> None:
    """One legend of all methods, and the axis label that the panels share."""
    figure.supxlabel(f"training step ({step_unit(config)[1]})", fontsize=8)
    labels = {method: config.methods[method].label for method in methods}
    handles = [
        Line2D([], [], color=config.methods[m].colour, ls=":" if is_pretraining(config, m) else "-", label=labels[m])
        for m in methods
    ]
    handles += [*more, *([Patch(color=ONLINE, label="online")] if (metrics.stage == "online").any() else [])]
    keys(figure, handles)


def keys(figure: Figure, handles: list) -> None:
    """A legend above the panels, in as many columns as its longest label leaves."""
    longest = max(len(handle.get_label()) for handle in handles)
    columns = int(WIDTH * 72 / (4.6 * longest + 36))  # points: letters of 8 pt, and the key with its space
    columns = max(1, min(len(handles), columns))
    figure.legend(handles=handles, loc="outside upper center", ncols=columns, handlelength=1.8)
