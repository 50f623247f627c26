"""What several figures share: the columns of tasks that they are laid out in, axes, ground, bars and legends."""

from collections.abc import Collection

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, NullFormatter

from trqam.config.load import Config, domain_of
from trqam.config.wording import task_label
from trqam.report import curves, overlay
from trqam.report.curves import INK, Runs
from trqam.report.measures import is_pretraining, kl_budget
from trqam.report.statistics import mean_and_std

WIDTH = 6.1  # inches, the paper's text width, so that a font size here is the size in print
COLUMNS = 5  # panels side by side at most
STRONG_BANDS = 5  # methods; the bands of more are paler, or they would bury the lines
ONLINE = "#fdebd7"
PATH_KL, SUCCESS = "path KL (nats)", "success (%)"
MULTIPLIER, ADJOINT_LOSS = "multiplier λ (no unit)", "adjoint loss (no unit)"
GROUND = "White ground: offline stage, in gradient steps; orange ground: online stage, in environment steps."


def groups(config: Config, tasks: list[str]) -> dict[str, list[str]]:
    """Panels of a figure: tasks, or domains where there are too many tasks."""
    if len(tasks) <= COLUMNS:
        return {task_label(config, task): [task] for task in tasks}
    domains = dict.fromkeys(map(domain_of, tasks))
    return {config.domains[d].label: [t for t in tasks if domain_of(t) == d] for d in domains}


def panel_of(tasks: list[str]) -> str:
    """What one of the `groups` is, as captions say it."""
    return "task" if len(tasks) <= COLUMNS else "domain (a seed's value is its mean over the domain's tasks)"


def over_training(runs: Runs, rows: dict[str, str], budget: bool = False) -> Figure:
    """A column a task, a row a quantity (``rows``: column of the metrics to label), all but success logarithmic."""
    config, columns_of = runs.config, groups(runs.config, runs.tasks)
    columns, many = min(len(columns_of), COLUMNS), len(rows)
    bands = -(-len(columns_of) // columns)  # of ``many`` rows each
    alone = len(columns_of) == 1  # then the rows stand side by side
    size = (WIDTH, 2.6 if alone else many * bands * (1.6 if bands == 1 else 1.0) + 0.6)
    shape = (1, many) if alone else (many * bands, columns)
    share = "none" if alone else "row"
    figure, grid = plt.subplots(*shape, figsize=size, sharex=True, sharey=share, squeeze=False)
    grid = grid.T if alone else grid
    for number, (label, tasks) in enumerate(columns_of.items()):
        top, column = many * (number // columns), number % columns
        for axes, quantity in zip(grid[top : top + many, column], rows, strict=True):
            for method in runs.methods_on(tasks):
                curves.curve(axes, runs.of(tuple(tasks), method), quantity, config, method, len(tasks))
            _quantity_axis(axes, quantity)
            if quantity == "path_kl":
                _budget_line(axes, runs, tasks[0])
            stages(axes, runs)
        grid[top, column].set_title(label, fontsize=title_size(columns))
    for row in range(many * bands):
        label = list(rows.values())[row % many]
        grid[row, 0].set_ylabel(label if bands == 1 else label.replace(" (", "\n("))
    hide(grid, many, len(columns_of))
    figure.align_ylabels(grid[:, 0])
    budget_line = Line2D([], [], color=INK, linestyle="--", linewidth=0.9, label="KL budget")
    legend(figure, runs, [budget_line] if "path_kl" in rows else [])
    return figure


def success_panels(runs: Runs, places: dict[str, list[str]], columns: int, height: float) -> Figure:
    """Success over training, a panel a place (its title to its tasks), each ``height`` inches high."""
    rows, weak = -(-len(places) // columns), len(runs.methods) > STRONG_BANDS
    size = (WIDTH, rows * height + 0.7)
    figure, grid = plt.subplots(rows, columns, figsize=size, sharex=True, sharey=True, squeeze=False)
    published = overlay.drawn(runs)
    for axes, (title, tasks) in zip(grid.flat, places.items(), strict=False):
        for method in runs.methods_on(tasks):
            own = runs.of(tuple(tasks), method)
            curves.curve(axes, own, "success", runs.config, method, len(tasks), band=0.1 if weak else 0.2)
        overlay.draw(axes, published, runs.config, tasks)
        success_axis(axes)
        stages(axes, runs)
        title = title if columns < 4 else title.replace(" task", "\ntask")
        axes.set_title(title, fontsize=title_size(columns))
    for axes in grid[:, 0]:
        axes.set_ylabel(SUCCESS)
    hide(grid, 1, len(places))
    legend(figure, runs, overlay.handles(published))
    return figure


def success_caption(runs: Runs) -> str:
    """What captions say of `success_panels`: lines, bands, seeds, absent and imported curves, ground and cloning."""
    absent = ""
    if any(len(runs.methods_on([task])) < len(runs.methods) for task in runs.tasks):
        absent = " A method without a curve did not run there."
    once = [runs.config.methods[m].label for m in runs.methods if is_pretraining(runs.config, m)]
    level = f" Dotted: {once[0]}, one training seed." if once else ""
    return f"{curves.MEAN}; {curves.BAND} ({runs.seeds(' a task')}).{absent}{overlay.note(runs)} {GROUND}{level}"


def _quantity_axis(axes: Axes, quantity: str) -> None:
    """Per cent from 0 to 100 for success, logarithmic for the rest."""
    if quantity == "success":
        success_axis(axes)
    elif axes.lines:
        log_axis(axes)
    else:
        axes.annotate("no values", (0.5, 0.5), xycoords="axes fraction", ha="center", fontsize=7, color=INK)
        axes.tick_params(left=False, labelleft=False)


def success_axis(axes: Axes) -> None:
    """0 to 100 per cent, with room for a line on either."""
    axes.set(ylim=(-4, 104), yticks=(0, 50, 100))


def _budget_line(axes: Axes, runs: Runs, task: str) -> None:
    """The KL budget that some method of the figure holds to, of either stage."""
    config = runs.config
    held = [m for m in runs.methods_on([task]) if "kl_budget" in config.run(task, m).parameters]
    if held:
        offline = kl_budget(config, task, held[0])
        online = config.run(task, held[0]).kl_budget_online or offline
        ends = [0, config.scale.offline_steps, config.scale.offline_steps + config.scale.online_steps]
        look = {"color": INK, "linestyle": "--", "linewidth": 0.9, "zorder": 1.9}
        axes.plot(ends, [offline, offline, online], drawstyle="steps-pre", **look)


def bar(axes: Axes, position: float, success: pd.Series, diverged: Collection[int] = (), **fill) -> bool:
    """Mean as a bar, seeds as dots, sample std as error bar; nothing, and False, where there is no result.

    ``success`` has a value a seed; ``diverged`` are the seeds that are crossed.
    """
    mean, std = mean_and_std(success)
    if np.isnan(mean):
        return False
    axes.bar(position, mean, 0.36, zorder=2, **fill)
    if len(success) > 1:
        axes.errorbar(position + 0.1, mean, std, color=INK, capsize=2.5, linewidth=0.9, zorder=3)
    places = position + (np.linspace(-0.14, 0.04, len(success)) if len(success) > 1 else np.zeros(1))
    ended = success.index.isin(diverged)
    dots(axes, places[~ended], success[~ended])
    curves.crosses(axes, places[ended], success[ended], INK)
    return True


def dots(axes: Axes, xs, ys, colour: str = INK) -> None:
    """One white dot a seed."""
    look = {"s": 11, "color": "white", "edgecolors": colour, "linewidths": 0.7, "zorder": 4, "clip_on": False}
    if len(xs):
        axes.scatter(xs, ys, **look)


def full(colour: str) -> dict:
    """The fill of a bar that is the first of a pair."""
    return {"color": colour}


def hatched(colour: str) -> dict:
    """The fill of a bar that is the second of a pair."""
    return {"facecolor": "white", "edgecolor": colour, "hatch": "////"}


def bar_keys(first: str, second: str, runs: Runs) -> list:
    """For a legend: what full, hatched, dots and crosses mean."""
    seed = Line2D([], [], label="one seed", marker="o", markersize=3.5, linestyle="", color="white", mec=INK)
    fills = [Patch(label=first, **full("#8c8c8c")), Patch(label=second, **hatched("#8c8c8c"))]
    return [*fills, seed, *([curves.diverged_handle()] if len(runs.diverged) else [])]


def trained_once(config: Config) -> str:
    """The beginning of the sentence on behaviour cloning's one seed; nothing where it is not compared."""
    label = next((config.methods[m].label for m in config.compared if is_pretraining(config, m)), None)
    return f" {label} has one training seed, evaluated once with the streams of each seed; " if label else ""


def title_size(columns: int) -> float:
    """The font size of panel titles: the longest domain's name fits over a panel."""
    return {4: 7, 5: 6.5}.get(columns, 8)


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
    axes.yaxis.set_major_formatter(plain)
    axes.yaxis.set_minor_formatter(NullFormatter())


def plain(value: float, _=None) -> str:
    """A tick of a logarithmic axis without a power of ten, where that is short."""
    short = f"{value:g}" if 1e-3 <= value < 1e4 else f"{value:.0e}"
    return short.replace("e+0", "e").replace("e-0", "e-")


def stages(axes: Axes, runs: Runs) -> None:
    """Limits and ground of the two stages; the axis counts in thousands or millions of steps."""
    scale, unit = runs.config.scale, step_unit(runs.config)[0]
    offline, total = scale.offline_steps, scale.offline_steps + scale.online_steps
    axes.set_xlim(0, total if runs.online else offline)
    axes.xaxis.set_major_locator(plt.MaxNLocator(4, integer=total > 5e3, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(lambda step, _: f"{step / unit:g}")
    if runs.online:
        axes.axvspan(offline, total, color=ONLINE, linewidth=0, zorder=-1)


def step_unit(config: Config) -> tuple[float, str]:
    """What the axis of steps counts in, as a number and in words."""
    millions = config.scale.offline_steps + config.scale.online_steps >= 1e6
    return (1e6, "millions") if millions else (1e3, "thousands")


def step_label(config: Config) -> str:
    """The label of the axis of steps."""
    return f"training step ({step_unit(config)[1]})"


def legend(figure: Figure, runs: Runs, more: list = ()) -> None:
    """One legend of all methods, and the axis label that the panels share."""
    figure.supxlabel(step_label(runs.config), fontsize=8)
    online = [Patch(color=ONLINE, label="online")] if runs.online else []
    crosses = [curves.diverged_handle()] if len(runs.diverged) else []
    keys(figure, [*curves.handles(runs.config, runs.methods), *more, *crosses, *online])


def keys(figure: Figure, handles: list) -> None:
    """A legend above the panels, in as many columns as its longest label leaves."""
    number = len(handles)
    rows = next((rows for rows in range(1, number) if _width(handles, -(-number // rows)) < WIDTH), number)
    columns = -(-number // rows)
    spacing = {"handlelength": 1.8, "columnspacing": 1.4, "labelspacing": 0.3}
    figure.legend(handles=handles, loc="outside upper center", ncols=columns, **spacing)


def _width(handles: list, columns: int) -> float:
    """About the width of a legend, in inches: letters of 8 points, and beside each label its key and space."""
    parts = np.array_split([len(handle.get_label()) for handle in handles], columns)
    return sum(4.3 * part.max() + 33 for part in parts) / 72
