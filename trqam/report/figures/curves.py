"""What changes over training: success, the trust region, the adjoint loss."""

from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from trqam.config.load import domain_of, expanded, number_of
from trqam.config.wording import count, enumerated
from trqam.report import panels
from trqam.report.collected import Collected
from trqam.report.drawing import DASHED, INK, dashed, log_axis
from trqam.report.figures import Drawing
from trqam.report.measures import STAGES, final_success, is_pretraining, kl_budget, realised_kl
from trqam.report.panels import BAND, COLUMNS, GROUND, MEAN, PATH_KL, SUCCESS, groups, parted
from trqam.report.runs import Runs
from trqam.report.selection import collapsing, compared, contrasted, diffusion, tasks_run, varied
from trqam.report.statistics import mean_and_std, ratio, round_half_up

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
            _quantity_axis(one, quantity)
        label = QUANTITIES[quantity]
        axes[0].set_ylabel(label if bands == 1 else label.replace(" (", "\n("))
    figure.align_ylabels(grid[:, 0])
    panels.legend(figure, runs, [dashed("KL budget")] if "path_kl" in quantities else [])
    return figure


def _quantity_axis(axes: Axes, quantity: str) -> None:
    if quantity == "success":
        panels.success_axis(axes)
    elif axes.lines:
        log_axis(axes)
    elif axes.get_visible():
        axes.annotate("no values", (0.5, 0.5), xycoords="axes fraction", ha="center", fontsize=7, color=INK)
        axes.tick_params(left=False, labelleft=False)


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


def _in_the_text(runs: Runs) -> Figure:
    """A panel a task or a domain; the online stage stands on orange ground."""
    places = groups(runs.config, runs.tasks)
    columns = min(len(places), COLUMNS)
    return success_panels(runs, places, columns, {1: 2.2, 2: 2.0, 3: 1.7}.get(columns, 1.3))


def _of_a_domain(runs: Runs) -> Figure:
    """The mean over the domain's tasks, where it has more than one here, and every task."""
    places = {f"mean of {count(len(runs.tasks), 'task')}": runs.tasks} if len(runs.tasks) > 1 else {}
    places |= {f"task {number_of(task)}": [task] for task in runs.tasks}
    columns = min(len(places), 3)
    return success_panels(runs, places, columns, HEIGHT if len(places) > 3 else {1: 2.2, 2: 2.0, 3: 1.7}[columns])


def _compared(collected: Collected, domain: str = "") -> Runs:
    """All compared methods, on all tasks or those of a domain."""
    config = collected.config
    tasks = sorted(task for task in config.tasks if domain_of(task) == domain) if domain else config.tasks
    return Runs(collected, compared(config), tasks)


def _logging_path_kl(collected: Collected) -> Runs:
    config, metrics = collected.config, collected.metrics
    logged = set(metrics.loc[metrics.path_kl.notna(), "method"])
    return Runs(collected, [m for m in config.scale.methods if m in logged] or config.scale.methods, config.tasks)


def _adaptive_and_constant(collected: Collected) -> Runs:
    config, scale = collected.config, collected.config.scale
    return Runs(collected, contrasted(config), expanded(scale.ablation_tasks), scale.ablation_stages)


def _beside_trqam(collected: Collected, parameter: str) -> Runs:
    """TRQAM and the ablations that have ``parameter``, offline, where ablations run."""
    config = collected.config
    return Runs(collected, varied(config, parameter), expanded(config.scale.ablation_tasks), ("offline",))


def _lines(runs: Runs) -> str:
    """What every caption says of lines and bands."""
    return f"{MEAN}; {BAND} ({runs.seeds(' a task')})."


def _of_success(runs: Runs) -> str:
    """Lines, bands, absent curves, ground and cloning."""
    text = _lines(runs)
    if any(len(runs.methods_on([task])) < len(runs.methods) for task in runs.tasks):
        text += " A method without a curve did not run there."
    once = [runs.config.methods[m].label for m in runs.methods if is_pretraining(runs.config, m)]
    level = f" Dotted: {once[0]}, one training seed." if once else ""
    return f"{text} {GROUND}{level}"


def _caption_of_the_text(runs: Runs) -> str:
    return (
        f"Success at each evaluation, unsmoothed{parted(runs.tasks, 'panel')}: look for what changes "
        f"where the ground does. {_of_success(runs)}"
    )


def _caption_of_a_domain(runs: Runs) -> str:
    label, many = runs.config.domains[domain_of(runs.tasks[0])].label, len(runs.tasks) > 1
    mean = f"the mean over its {count(len(runs.tasks), 'task')}, then each task" if many else "its task"
    return f"Success on {label} at each evaluation: {mean}. {_of_success(runs)}"


def _caption_of_the_collapse(runs: Runs) -> str:
    config = runs.config
    fewer = [config.methods[m].label for m in runs.methods if tasks_run(config, m) != config.tasks]
    absent = f" {enumerated(fewer)} did not run on every task of this scale." if fewer else ""
    return (
        f"Collapse: success and adjoint loss over training of {enumerated(runs.labels)}"
        f"{parted(config.tasks, 'column')}: look for a success that falls again after its peak while the adjoint loss "
        f"(logarithmic) grows by orders of magnitude. {_lines(runs)}{absent} {GROUND}"
    )


def _caption_of_the_trust_region(runs: Runs) -> str:
    config = runs.config
    held = [config.methods[m].label for m in runs.methods if config.methods[m].agent == "trqam"]
    return (
        f"The trust region at work ({', '.join(runs.labels)})"
        f"{parted(config.tasks, 'column')}: look for whether the path KL settles at the dashed budget, and which way "
        f"the multiplier moves meanwhile, which {enumerated(held or ['no method here'])} alone adapts; both are "
        f"logarithmic. {_lines(runs)} {GROUND}"
    )


def _caption_of_the_ablation(runs: Runs) -> str:
    return (
        f"The multiplier adapted, held constant, and outside the process "
        f"({'; '.join(runs.labels)}){parted(runs.tasks, 'column')}: "
        "look for whose path KL stays at the dashed budget (logarithmic), and for what that does to the success. "
        f"{_lines(runs)}{panels.bounded(runs)}"
    )


def _at_the_end(runs: Runs, method: str) -> str:
    """`TRQAM 32 ± 36 %, path KL 1.01 times its budget`: success at the end, and the KL over the last fifth."""
    config, metrics = runs.config, runs.collected.metrics
    success = final_success(metrics, config, runs.tasks, method)
    share = realised_kl(metrics, config, runs.tasks, method, relative=True).mean()
    if success.empty:
        return f"{config.methods[method].label} has no result"
    mean, std = mean_and_std(success)
    spread = "" if np.isnan(std) else f" ± {round_half_up(std)}"
    kl = "" if np.isnan(share) else f", path KL {ratio(share)} times its budget"
    return f"{config.methods[method].label} {round_half_up(mean)}{spread} %{kl}"


def _caption_of_the_schedules(runs: Runs) -> str:
    found = "; ".join(_at_the_end(runs, method) for method in runs.methods)
    return (
        f"KL budgets that move ({', '.join(runs.labels)}){parted(runs.tasks, 'column')}: the budget, the path "
        "KL, for which look whether it follows, and the success. Dashed: the budget that does not move, which is "
        f"TRQAM's own. {_lines(runs)} At the end of the offline stage, and for the KL over its last fifth: {found}."
        f"{panels.bounded(runs)}"
    )


def _estimated(runs: Runs, method: str) -> str:
    """`, what it holds 0.99 times, on 31.2 effective paths`, over the last fifth."""
    late = partial(realised_kl, runs.collected.metrics, runs.config, runs.tasks, method)
    held = late(column="kl_ema", relative=True).mean()
    paths = late(column="effective_paths").mean() if "effective_paths" in runs.collected.metrics else np.nan
    text = "" if np.isnan(held) else f", what it holds {ratio(held)} times"
    return text if np.isnan(paths) else f"{text}, on {paths:.1f} effective paths"


def _caption_of_the_divergences(runs: Runs) -> str:
    found = "; ".join(_at_the_end(runs, method) + _estimated(runs, method) for method in runs.methods)
    return (
        f"Other divergences at the same budget ({', '.join(runs.labels)}){parted(runs.tasks, 'column')}: the "
        "moving average that the dual step holds, of each method's own divergence; the path KL that this comes to; how "
        f"many of the batch's {runs.config.scale.batch_size} paths the estimate rests on, which says how far to trust "
        f"it; and the success. Dashed: the budget. {_lines(runs)} At the end of the offline stage, and for the "
        f"divergences over its last fifth: {found}.{panels.bounded(runs)}"
    )


def _on_a_diffusion(collected: Collected) -> Runs:
    """Both, through the stages that both have: an ablation may end where TRQAM goes on."""
    config, methods = collected.config, diffusion(collected.config)
    stages = [stage for stage in STAGES if all(stage in config.stages(method) for method in methods)]
    return Runs(collected, methods, tasks_run(config, *methods), stages)


def _caption_of_the_diffusion(runs: Runs) -> str:
    found = "; ".join(_at_the_end(runs, method) for method in runs.methods)
    return (
        f"A flow and a diffusion under the same trust region ({', '.join(runs.labels)})"
        f"{parted(runs.tasks, 'column')}: look whether both path KLs settle at the dashed budget, and for the success. "
        f"{_lines(runs)}{f' {GROUND}' if runs.online else ''} At the end of the offline stage, and for the KL over its "
        f"last fifth: {found}."
        f"{panels.bounded(runs)}"
    )


FIGURES = {
    "offline_to_online": Drawing(_compared, _in_the_text, _caption_of_the_text),
    "curves": Drawing(_compared, _of_a_domain, _caption_of_a_domain),
    "collapse": Drawing(
        lambda collected: Runs(collected, collapsing(collected.config), collected.config.tasks),
        partial(over_training, quantities=("success", "adjoint_loss")),
        _caption_of_the_collapse,
    ),
    "trust_region": Drawing(
        _logging_path_kl, partial(over_training, quantities=("path_kl", "multiplier")), _caption_of_the_trust_region
    ),
    "schedules": Drawing(
        partial(_beside_trqam, parameter="schedule"),
        partial(over_training, quantities=("kl_budget", "path_kl", "success")),
        _caption_of_the_schedules,
    ),
    "divergences": Drawing(
        partial(_beside_trqam, parameter="divergence"),
        partial(over_training, quantities=("kl_ema", "path_kl", "effective_paths", "success")),
        _caption_of_the_divergences,
    ),
    "diffusion": Drawing(
        _on_a_diffusion, partial(over_training, quantities=("path_kl", "success")), _caption_of_the_diffusion
    ),
    "adaptive_constant": Drawing(
        _adaptive_and_constant, partial(over_training, quantities=("path_kl", "success")), _caption_of_the_ablation
    ),
}
