"""The paper's cell: mean and sample standard deviation over seeds of the per-seed mean over a domain's tasks.

Success is in per cent throughout, read at the last evaluation of a stage as it was measured: no smoothing, no best
checkpoint (protocol of arXiv 2605.27079). A diverged seed counts with the zeros that `trqam collect` wrote for it.
"""

from dataclasses import dataclass

import pandas as pd

from trqam.config.load import Config
from trqam.config.wording import tasks_label
from trqam.report.selection import compared, tasks_run
from trqam.report.statistics import mean_and_std, round_half_up

STAGES = ("offline", "online")


@dataclass(frozen=True)
class Cell:
    """Success in per cent over ``n`` seeds; ``std`` is nan for one seed, ``diverged`` counts seeds."""

    mean: float
    std: float
    n: int
    diverged: int
    low: float
    high: float


def is_pretraining(config: Config, method: str) -> bool:
    """Whether ``method`` is behaviour cloning itself, trained with one seed and evaluated with the streams of each."""
    return config.methods[method].agent == "behaviour_cloning"


def final_step(config: Config, method: str, stage: str) -> int:
    """The step, within the stage, of its last evaluation; behaviour cloning is evaluated at offline step 0 only."""
    if is_pretraining(config, method):
        return 0
    return config.scale.offline_steps if stage == "offline" else config.scale.online_steps


def seed_success(metrics: pd.DataFrame, tasks: list[str], method: str, stage: str, step: int) -> pd.Series:
    """Per-seed success in per cent, the mean over ``tasks``; a seed without every task is left out."""
    rows = _at(metrics, method, stage, step)
    if not tasks:
        return pd.Series(dtype=float)
    table = rows.pivot_table(index="seed", columns="task", values="success", aggfunc="last").reindex(columns=tasks)
    return 100 * table.dropna().mean(axis=1)


def _at(metrics: pd.DataFrame, method: str, stage: str, step: int) -> pd.DataFrame:
    """The rows at ``step``; what drops most goes first, as a million rows are slow to compare with a name."""
    rows = metrics[metrics.step == step]
    return rows[(rows.method == method) & (rows.stage == stage)]


def cell(metrics: pd.DataFrame, tasks: list[str], method: str, stage: str, step: int) -> Cell | None:
    """The table's cell, or None where no seed has all of ``tasks``."""
    success = seed_success(metrics, tasks, method, stage, step)
    if success.empty:
        return None
    mean, std = mean_and_std(success)
    own = _at(metrics, method, stage, step)  # a seed that diverged before has such a row here: `trqam collect` adds it
    diverged = own[(own.status == "DIVERGED") & own.task.isin(tasks) & own.seed.isin(success.index)].seed.nunique()
    return Cell(mean, std, len(success), diverged, float(success.min()), float(success.max()))


def final_cell(metrics: pd.DataFrame, config: Config, tasks: list[str], method: str, stage: str) -> Cell | None:
    """`cell` at the last evaluation that the configuration asks for; an unfinished run is missing, not early."""
    return cell(metrics, tasks, method, stage, final_step(config, method, stage))


def final_success(metrics: pd.DataFrame, config: Config, tasks: list[str], method: str) -> pd.Series:
    """Per-seed success at the end of the offline stage, where ``method`` runs on all of ``tasks``."""
    return seed_success(metrics, tasks, method, "offline", final_step(config, method, "offline"))


def realised_kl(metrics: pd.DataFrame, config: Config, tasks: list[str], method: str, relative=False) -> pd.Series:
    """Per-seed path KL over the last fifth of the offline stage, the mean over its logged values and over ``tasks``.

    ``relative`` divides by the budget of each task first. A seed without every task is left out.
    """
    last = (metrics.stage == "offline") & (metrics.step > 0.8 * config.scale.offline_steps)
    rows = metrics[last & (metrics.method == method) & metrics.path_kl.notna()]
    if not tasks:
        return pd.Series(dtype=float)
    table = rows.pivot_table(index="seed", columns="task", values="path_kl").reindex(columns=tasks).dropna()
    if relative:
        table = table / [kl_budget(config, task, method) for task in tasks]
    return table.mean(axis=1)


def kl_budget(config: Config, task: str, method: str) -> float:
    """The budget that ``method`` is held to, or where it is held to none, the domain's."""
    own = config.run(task, method).parameters.get("kl_budget")
    return own or config.domains[config.run(task, method).domain].kl_budget


def verdicts(metrics: pd.DataFrame, config: Config, stage: str) -> list[str]:
    """Sentences on the success over all tasks after ``stage``, true whatever the numbers are.

    The first gives the cell of each method that runs on all tasks; the others compare TRQAM's printed mean with each
    other's, and say whether the ranges over seeds overlap. With a handful of seeds nothing stronger can be said. If
    some compared methods run on fewer tasks, the same follows for them, over the tasks that all methods run on.
    """
    everywhere = [method for method in compared(config) if tasks_run(config, method) == config.tasks]
    others = [method for method in compared(config) if method not in everywhere]
    sentences = _comparison(metrics, config, stage, config.tasks, everywhere, f"After the {stage} stage")
    sentences = sentences or [f"There is no {stage} result that covers all tasks."]
    if others:
        shared, ours = tasks_run(config, *config.compared), [m for m in everywhere if _is_ours(config, m)]
        where = tasks_label(config, shared) or "no task"
        lead = f"On {where}, where all compared methods ran, after the {stage} stage"
        sentences += _comparison(metrics, config, stage, shared, [*others, *ours], lead)
    return sentences


def _is_ours(config: Config, method: str) -> bool:
    return config.methods[method].agent == "trqam"


def _comparison(
    metrics: pd.DataFrame, config: Config, stage: str, tasks: list[str], methods: list[str], lead: str
) -> list[str]:
    """The cells of ``methods`` over ``tasks``, and TRQAM against each; nothing where there is no cell."""
    cells = {m: final_cell(metrics, config, tasks, m, stage) for m in methods}
    cells = {method: found for method, found in cells.items() if found}
    if not cells:
        return []
    label = {method: config.methods[method].label for method in cells}
    sentences = [f"{lead}: {'; '.join(f'{label[m]} {with_spread(c)}' for m, c in cells.items())}."]
    ours = next((method for method in cells if _is_ours(config, method)), None)
    others = [method for method in cells if ours and method != ours]
    if len(others) > 3:
        return [*sentences, _many(cells, label, ours, others)]
    for other in others:
        left, right = cells[ours], cells[other]
        ranges = f"; their ranges over seeds, {seed_range(left)} and {seed_range(right)}, {_overlap(left, right)}"
        end = ranges if min(left.n, right.n) > 1 else ""
        sentences.append(f"{label[ours]} is {_place(left, right)} {label[other]}{end}.")
    return sentences


def _many(cells: dict[str, Cell], label: dict[str, str], ours: str, others: list[str]) -> str:
    """TRQAM against each of many in one sentence."""
    parts = []
    for other in others:
        left, right = cells[ours], cells[other]
        end = f" ({seed_range(right)}: they {_overlap(left, right)})" if min(left.n, right.n) > 1 else ""
        parts.append(f"{_place(left, right)} {label[other]}{end}")
    own = f" (seeds {seed_range(cells[ours])})" if cells[ours].n > 1 else ""
    return f"{label[ours]}{own} is {'; '.join(parts)}."


def _place(left: Cell, right: Cell) -> str:
    gap = int(round_half_up(left.mean)) - int(round_half_up(right.mean))
    points = f"{abs(gap)} point{'' if abs(gap) == 1 else 's'}"
    return f"{points} {'above' if gap > 0 else 'below'}" if gap else "level with"


def _overlap(left: Cell, right: Cell) -> str:
    return "overlap" if left.low <= right.high and right.low <= left.high else "do not overlap"


def with_spread(cell: Cell) -> str:
    """`45 ± 12 % (n = 3, 1 diverged)`; without the ± for one seed."""
    std = "" if cell.n == 1 else f" ± {round_half_up(cell.std)}"
    return f"{round_half_up(cell.mean)}{std} % (n = {cell.n}{f', {cell.diverged} diverged' if cell.diverged else ''})"


def seed_range(cell: Cell) -> str:
    """`30 to 50 %`."""
    return f"{round_half_up(cell.low)} to {round_half_up(cell.high)} %"
