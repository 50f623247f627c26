"""What is measured of the results: the paper's cell, interquartile means, profiles and probabilities of improvement.

The paper's cell is the mean and sample standard deviation over seeds of the per-seed mean over a domain's tasks. The
rest is of runs, one seed on one task each, over the tasks that every compared method runs on, and has an interval; each
number has a random stream of its own, so that it is the same wherever it is printed.

Success is in per cent throughout, read at the last evaluation of a stage as it was measured: no smoothing, no best
checkpoint (protocol of arXiv 2605.27079). A diverged run counts with the zeros that `trqam collect` wrote for it; a
missing one reduces n and is counted, and a task without any run is left out.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from trqam.config.load import Config
from trqam.config.wording import count, enumerated, tasks_label
from trqam.maths.streams import stream
from trqam.report.collected import Collected
from trqam.report.selection import BEYOND, compared, tasks_run
from trqam.report.statistics import (
    interquartile_mean,
    mean_and_std,
    performance_profile,
    pooled,
    probability_of_improvement,
    round_half_up,
    stratified_bootstrap,
)

STAGES = ("offline", "online")
RESAMPLES = 2000
FEW = 5  # seeds, below which a caption warns


@dataclass(frozen=True)
class Success:
    """Success in per cent over ``n`` seeds; ``std`` is nan for one seed, ``diverged`` counts seeds."""

    mean: float
    std: float
    n: int
    diverged: int
    low: float
    high: float


def is_pretraining(config: Config, method: str) -> bool:
    """Whether ``method`` is behaviour cloning itself, trained with one seed and evaluated with the streams of each."""
    return config.methods[method].stages == ["pretrain"]


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


def cell(metrics: pd.DataFrame, tasks: list[str], method: str, stage: str, step: int) -> Success | None:
    """The table's cell, or None where no seed has all of ``tasks``."""
    success = seed_success(metrics, tasks, method, stage, step)
    if success.empty:
        return None
    mean, std = mean_and_std(success)
    own = _at(metrics, method, stage, step)  # a seed that diverged before has such a row here: `trqam collect` adds it
    diverged = own[(own.status == "DIVERGED") & own.task.isin(tasks) & own.seed.isin(success.index)].seed.nunique()
    return Success(mean, std, len(success), diverged, float(success.min()), float(success.max()))


def final_cell(metrics: pd.DataFrame, config: Config, tasks: list[str], method: str, stage: str) -> Success | None:
    """`cell` at the last evaluation that the configuration asks for; an unfinished run is missing, not early."""
    return cell(metrics, tasks, method, stage, final_step(config, method, stage))


def final_success(metrics: pd.DataFrame, config: Config, tasks: list[str], method: str) -> pd.Series:
    """Per-seed success at the end of the offline stage, where ``method`` runs on all of ``tasks``."""
    return seed_success(metrics, tasks, method, "offline", final_step(config, method, "offline"))


def late(metrics: pd.DataFrame, config: Config) -> pd.DataFrame:
    """The rows of the last fifth of the offline stage."""
    return metrics[(metrics.stage == "offline") & (metrics.step > 0.8 * config.scale.offline_steps)]


def realised_kl(
    metrics: pd.DataFrame,
    config: Config,
    tasks: list[str],
    method: str,
    relative: bool = False,
    column: str = "path_kl",
) -> pd.Series:
    """Per-seed path KL over the last fifth of the offline stage, the mean over its logged values and over ``tasks``:
    realised, or another ``column``.

    ``relative`` divides by the budget of each task first, or by what a method has logged of one that moves. A seed
    without every task is left out.
    """
    rows = late(metrics, config)
    rows = rows[(rows.method == method) & rows[column].notna()]
    if not tasks:
        return pd.Series(dtype=float)
    moves = relative and "kl_budget" in rows and rows.kl_budget.notna().any()
    if moves:
        rows = rows.assign(**{column: rows[column] / rows.kl_budget})
    table = rows.pivot_table(index="seed", columns="task", values=column).reindex(columns=tasks).dropna()
    if relative and not moves:
        table = table / [kl_budget(config, task, method) for task in tasks]
    return table.mean(axis=1)


def kl_budget(config: Config, task: str, method: str) -> float:
    """The budget that ``method`` is held to, or where it is held to none, the domain's."""
    own = config.run(task, method).parameters.get("kl_budget")
    return float(own or config.domains[config.run(task, method).domain].kl_budget)


@dataclass(frozen=True)
class FinalRuns:
    """Final success in per cent, an array of seeds a task that has any; how many runs were asked for, and diverged."""

    scores: dict[str, np.ndarray]
    asked: int
    diverged: int

    @property
    def number(self) -> int:
        """How many runs there are."""
        return sum(map(len, self.scores.values()))


@dataclass(frozen=True)
class Bracketed:
    """A value in per cent and the ends of its 95 % interval, nan where no task has two seeds to resample."""

    value: float
    low: float
    high: float

    def __str__(self):
        value, low, high = (round_half_up(v, 1) if np.isfinite(v) else "" for v in (self.value, self.low, self.high))
        return f"{value} [{low}, {high}]" if low else value


def shared_tasks(config: Config) -> list[str]:
    """The tasks that every compared method runs on."""
    return tasks_run(config, *config.compared)


def ours(config: Config) -> str | None:
    """The compared method that is TRQAM."""
    return next((m for m in compared(config) if config.methods[m].agent == "trqam"), None)


def final_runs(collected: Collected, method: str, stage: str) -> FinalRuns:
    """The runs of ``method`` that reached the last evaluation of ``stage``."""
    config, metrics, tasks = collected.config, collected.metrics, shared_tasks(collected.config)
    rows = metrics[(metrics.step == final_step(config, method, stage)) & metrics.success.notna()]
    rows = rows[(rows.method == method) & (rows.stage == stage)]
    rows = rows.drop_duplicates(["task", "seed"], keep="last").sort_values("seed")
    by_task = {task: 100 * part.to_numpy(float) for task, part in rows.groupby("task").success}
    scores = {task: by_task[task].round(9) for task in tasks if task in by_task}  # 9: equal successes are equal numbers
    asked = len(tasks) * config.scale.seeds if stage in config.stages(method) else 0
    diverged = (rows.status == "DIVERGED") & rows.task.isin(tasks)
    return FinalRuns(scores, asked, int(diverged.sum()))


def interquartile(collected: Collected, method: str, stage: str) -> Bracketed | None:
    """Interquartile mean over all runs; None where there is no run."""
    scores = [*final_runs(collected, method, stage).scores.values()]
    return _estimate(scores, pooled(interquartile_mean), f"interquartile mean/{method}/{stage}")


def profile(
    collected: Collected, method: str, stage: str, thresholds: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Share of runs above each of the ``thresholds``, and its 95 % band (nan for none), all (K,) and in per cent."""
    scores = [*final_runs(collected, method, stage).scores.values()]
    if not scores:
        return None
    shares = pooled(performance_profile, thresholds)
    low, high = interval(scores, shares, f"profile/{method}/{stage}")
    return 100 * shares(scores), 100 * low, 100 * high


def improvement(collected: Collected, method: str, other: str, stage: str) -> Bracketed | None:
    """Probability that a run of ``method`` succeeds more than one of ``other``, over the tasks where both have runs."""
    left, right = (final_runs(collected, name, stage).scores for name in (method, other))
    tasks = [task for task in left if task in right]

    def above(strata: Sequence[np.ndarray]) -> np.ndarray:
        return 100 * probability_of_improvement(strata[: len(tasks)], strata[len(tasks) :])

    scores = [side[task] for side in (left, right) for task in tasks]
    return _estimate(scores, above, f"improvement/{method}/{other}/{stage}")


def _estimate(scores: list[np.ndarray], statistic: Callable, purpose: str) -> Bracketed | None:
    if not scores:
        return None
    low, high = interval(scores, statistic, purpose)
    return Bracketed(float(statistic(scores)), float(low), float(high))


def interval(scores: list[np.ndarray], statistic: Callable, purpose: str) -> tuple[np.ndarray, np.ndarray]:
    """Its 95 % interval over ``scores``, an array of seeds a stratum; nan where no stratum has two."""
    if max(map(len, scores)) < 2:
        nothing = np.full_like(statistic(scores), np.nan)
        return nothing, nothing
    return stratified_bootstrap(scores, statistic, stream(0, f"report/{purpose}"), RESAMPLES)


def scope(config: Config) -> str:
    """`1 task (task 2 of pointmaze-medium), the part of this scale that all compared methods run on`."""
    tasks = shared_tasks(config)
    if tasks == config.tasks:
        return f"all {count(len(tasks), 'task')}" if len(tasks) > 1 else "the one task"
    where = f"{count(len(tasks), 'task')} ({tasks_label(config, tasks)})" if tasks else "no task"
    return f"{where}, the part of this scale that all compared methods run on"


def trust(config: Config) -> str:
    """How far the intervals of this scale can be trusted, as captions say it."""
    if config.scale.seeds == 1:
        return " One seed leaves nothing to resample: there is no interval."
    few = f" Below {FEW} seeds the interval is too narrow: it holds the truth less often than in 95 % of cases."
    return few if config.scale.seeds < FEW and shared_tasks(config) else ""


def width_note(rows: Iterable[Sequence[str]]) -> str:
    """What a table's caption says if one of its printed intervals begins where it ends."""
    alike = any(re.search(r"\[([\d.]+), \1\]", text) for row in rows for text in row)
    return " An interval without width says that every resample came out the same; it proves nothing." if alike else ""


def marked(config: Config, method: str) -> str:
    """The method's label, with a mark where `mark_notes` has a note on it."""
    cloned, beyond = is_pretraining(config, method), config.methods[method].group == BEYOND
    return config.methods[method].label + "‡" * cloned + "§" * beyond


def mark_notes(config: Config) -> str:
    """What the marks of `marked` mean, as far as there are any."""
    labels = [marked(config, method) for method in compared(config)]
    cloned, beyond = ([text[:-1] for text in labels if text.endswith(mark)] for mark in "‡§")
    notes = [f" ‡ {text} has one training seed: its n counts evaluations, its spread is theirs." for text in cloned]
    return "".join(notes) + (f" § {enumerated(beyond)}: beyond the paper." if beyond else "")
