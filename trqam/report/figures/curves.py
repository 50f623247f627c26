"""What changes over training: success, the trust region, the adjoint loss."""

from functools import partial

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from trqam.config.load import number_of
from trqam.config.wording import count
from trqam.report import panels
from trqam.report.drawing import DASHED, dashed, keys, log_axis
from trqam.report.measures import kl_budget
from trqam.report.panels import COLUMNS, PATH_KL, SUCCESS, groups
from trqam.report.runs import Runs, by_seed

QUANTILES = ("p05", "median", "p95")  # over states, in the names of the columns that are logged of them
STRONG_BANDS = 5  # methods; the bands of more are paler, or they would bury the lines
HEIGHT = 1.25  # inches, of a row of a domain's curves: with their captions, two domains fit on a page
QUANTITIES = {
    "success": SUCCESS,
    "path_kl": PATH_KL,
    "kl_budget": "KL budget (nats)",
    "kl_ema": "what is held (nats)",
    "effective_paths": "effective paths (number)",
    "multiplier": "multiplier λ (no unit)",
    "adjoint_loss": "adjoint loss (no unit)",
}


def over_training(runs: Runs, quantities: tuple[str, ...]) -> Figure:
    """A column a task, a row a quantity, all but success logarithmic; of one task alone they stand side by side."""
    places, many = groups(runs.config, runs.tasks), len(quantities)
    columns, alone = min(len(places), COLUMNS), len(places) == 1
    bands = -(-len(places) // columns)  # of ``many`` rows each
    height = 2.1 if alone else many * bands * (1.3 if bands == 1 else 0.8) + 0.6
    shape = (1, many) if alone else (many * bands, columns)
    used = many if alone else len(places)
    each, share = (1, "none") if alone else (many, "row")
    figure, grid = panels.grid(*shape, height, used, each, sharex=True, sharey=share)
    grid = grid.T if alone else grid
    for number, (title, tasks) in enumerate(places.items()):
        top, column = many * (number // columns), number % columns
        for axes, quantity in zip(grid[top : top + many, column], quantities, strict=True):
            for method in runs.methods_on(tasks):
                panels.curve(axes, runs, tasks, method, quantity)
            if quantity in ("path_kl", "kl_budget", "kl_ema"):
                budget_line(axes, runs, tasks[0])
            panels.stages(axes, runs)
        panels.title(grid[top, column], title, columns)
    for row, axes in enumerate(grid):
        quantity = quantities[row % many]
        for one in axes:  # after all curves, whose means are not to be taken of logarithms
            if quantity == "success":
                panels.success_axis(one)
            elif one.lines:
                log_axis(one)
            elif one.get_visible():
                panels.no_values(one)
                one.tick_params(left=False, labelleft=False)
        label = QUANTITIES[quantity]
        axes[0].set_ylabel(label if bands == 1 else label.replace(" (", "\n("))
    figure.align_ylabels(grid[:, 0])
    panels.legend(figure, runs, [dashed("KL budget")] if "path_kl" in quantities else [])
    return figure


def budget_line(axes: Axes, runs: Runs, task: str) -> None:
    """The KL budget that some method of the figure holds to, of either stage."""
    config = runs.config
    held = [m for m in runs.methods_on([task]) if "kl_budget" in config.run(task, m).parameters]
    if held:
        offline = kl_budget(config, task, held[0])
        online = config.run(task, held[0]).kl_budget_online or offline
        ends = [0, config.scale.offline_steps, config.scale.offline_steps + config.scale.online_steps]
        axes.plot(ends, [offline, offline, online], drawstyle="steps-pre", zorder=1.9, **DASHED)


def success_panels(runs: Runs, places: dict[str, list[str]], columns: int, height: float) -> Figure:
    """Success over training, a panel a place (its title to its tasks), each ``height`` inches high."""
    rows, weak = -(-len(places) // columns), len(runs.methods) > STRONG_BANDS
    figure, grid = panels.grid(rows, columns, rows * height + 0.7, len(places), sharex=True, sharey=True)
    for axes, (title, tasks) in zip(grid.flat, places.items(), strict=False):
        for method in runs.methods_on(tasks):
            panels.curve(axes, runs, tasks, method, band=0.1 if weak else 0.2)
        panels.success_axis(axes)
        panels.stages(axes, runs)
        panels.title(axes, title, columns)
    for axes in grid[:, 0]:
        axes.set_ylabel(SUCCESS)
    panels.legend(figure, runs)
    return figure


def in_the_text(runs: Runs) -> Figure:
    """A panel a task or a domain; the online stage stands on orange ground."""
    places = groups(runs.config, runs.tasks)
    columns = min(len(places), COLUMNS)
    return success_panels(runs, places, columns, {1: 2.2, 2: 2.0, 3: 1.7}.get(columns, 1.3))


def of_a_domain(runs: Runs) -> Figure:
    """The mean over the domain's tasks, where it has more than one here, and every task."""
    places = {f"mean of {count(len(runs.tasks), 'task')}": runs.tasks} if len(runs.tasks) > 1 else {}
    places |= {f"task {number_of(task)}": [task] for task in runs.tasks}
    columns = min(len(places), 3)
    return success_panels(runs, places, columns, HEIGHT if len(places) > 3 else {1: 2.2, 2: 2.0, 3: 1.7}[columns])


def budget_sweep(runs: Runs) -> Figure:
    """A row a task: success over training."""
    places = groups(runs.config, runs.tasks)
    figure, grid = panels.grid(len(places), 1, min(1.45 * len(places) + 0.7, 7.0), sharex="col")
    for axes, (label, tasks) in zip(grid[:, 0], places.items(), strict=True):
        for method in runs.methods:
            panels.curve(axes, runs, tasks, method, band=0)
        panels.stages(axes, runs)
        panels.success_axis(axes)
        axes.set_ylabel(f"{label}\n{SUCCESS}")
    grid[-1, 0].set_xlabel(panels.step_label(runs.config))
    figure.align_ylabels()
    named = panels.handles(runs)
    for handle, budget in zip(named, runs.config.swept("budgets", "trqam"), strict=True):
        handle.set_label(f"{budget:g}")
    named[0].set_label(f"budget {named[0].get_label()}")
    keys(figure, [*named, *panels.others(runs)])
    return figure


def per_state(runs: Runs) -> Figure:
    """A row a task: path KL over states, multiplier over states, success.

    Unlike elsewhere a band is no spread of seeds: it runs over states, from 5 to 95 % of a batch.
    """
    places = groups(runs.config, runs.tasks)
    figure, grid = panels.grid(len(places), 3, min(1.5 * len(places) + 0.7, 7.5), sharex=True)
    for row, (title, tasks) in zip(grid, places.items(), strict=True):
        for method in runs.methods_on(tasks):
            _over_states(row[0], runs, tasks, method, "kl")
            _over_states(row[1], runs, tasks, method, "multiplier")
            panels.curve(row[2], runs, tasks, method)
        budget_line(row[0], runs, tasks[0])
        for axes, label in zip(row, (PATH_KL, QUANTITIES["multiplier"], SUCCESS), strict=True):
            axes.set(xlabel="", ylabel=label)
            panels.stages(axes, runs)
        for axes, lines in ((row[0], 2), (row[1], 1)):  # the budget is one
            (log_axis if len(axes.lines) >= lines else panels.no_values)(axes)
        panels.success_axis(row[2])
        row[0].set_title(title, loc="left", fontsize=8)
    figure.align_ylabels()
    panels.legend(figure, runs, [dashed("KL budget")])
    return figure


def _over_states(axes: Axes, runs: Runs, tasks: list[str], method: str, name: str) -> None:
    """The median over states, and a band from 5 to 95 %, each a mean over seeds; or one number for all states."""
    rows = runs.of(tuple(tasks), method)
    columns = [f"{name}_{quantile}" for quantile in QUANTILES]
    logged = [column for column in columns if column in rows and rows[column].notna().any()]
    if logged != columns:
        columns = [name] * 3 if name in rows else []
    lines = [by_seed(rows, column, len(tasks)).groupby("total_step")[column].mean() for column in columns]
    if lines and len(lines[1]):
        low, _, high = lines
        colour = runs.config.methods[method].colour
        axes.plot(lines[1].index, lines[1], color=colour)
        band = pd.concat([low, high], axis=1).dropna()
        axes.fill_between(band.index, band.iloc[:, 0], band.iloc[:, 1], color=colour, alpha=0.2, linewidth=0)


FIGURES = {
    "offline_to_online": in_the_text,
    "curves": of_a_domain,
    "collapse": partial(over_training, quantities=("success", "adjoint_loss")),
    "trust_region": partial(over_training, quantities=("path_kl", "multiplier")),
    "schedules": partial(over_training, quantities=("kl_budget", "path_kl", "success")),
    "divergences": partial(over_training, quantities=("kl_ema", "path_kl", "effective_paths", "success")),
    "diffusion": partial(over_training, quantities=("path_kl", "success")),
    "budget_sweep": budget_sweep,
    "per_state": per_state,
    "adaptive_constant": partial(over_training, quantities=("path_kl", "success")),
}
