"""What is measured of the results: the paper's cell, interquartile means, profiles and probabilities of improvement.

The paper's cell is the mean and sample standard deviation over seeds of the per-seed mean over a domain's tasks. The
rest is of runs, one seed on one task each, over the tasks that every compared method runs on, and has an interval; each
number has a random stream of its own, so that it is the same wherever it is printed.

Success is in per cent throughout, read at the last evaluation of a stage as it was measured: no smoothing, no best
checkpoint (protocol of arXiv 2605.27079). A diverged run counts with the zeros that `trqam collect` wrote for it; a
missing one reduces n and is counted, and a task without any run is left out.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

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

RESAMPLES = 2000
FEW = 5  # seeds, below which a caption warns


class Results(Protocol):
    """Tidy metrics and the configuration that they belong to."""

    @property
    def config(self) -> Config:
        """What was asked for."""

    @property
    def metrics(self) -> pd.DataFrame:
        """A row a logged step of a run."""


@dataclass(frozen=True)
class Success:
    """Success in per cent over ``n`` seeds; ``std`` is nan for one seed, ``diverged`` counts seeds."""

    mean: float
    std: float
    n: int
    diverged: int

    def __str__(self) -> str:
        """`45 ± 12`, or `45` of one seed."""
        return round_half_up(self.mean) + (f" ± {round_half_up(self.std)}" if self.n > 1 else "")


def is_pretraining(config: Config, method: str) -> bool:
    """Whether ``method`` is behaviour cloning itself, trained with one seed and evaluated with the streams of each."""
    return config.methods[method].stages == ["pretrain"]


def final_step(config: Config, method: str, stage: str) -> int:
    """The step, within the stage, of its last evaluation; behaviour cloning is evaluated at offline step 0 only."""
    if is_pretraining(config, method):
        return 0
    return config.scale.offline_steps if stage == "offline" else config.scale.online_steps


@lru_cache(maxsize=4)  # every cell of a table looks at it
def final(collected: Collected, stage: str) -> pd.DataFrame:
    """The runs at the last evaluation that the configuration asks for: method, task, seed, success (per cent) and
    status. An unfinished run is missing, not early."""
    metrics = collected.metrics
    steps = {method: final_step(collected.config, method, stage) for method in collected.config.methods}
    rows = metrics[(metrics.stage == stage) & (metrics.step == metrics.method.map(steps)) & metrics.success.notna()]
    rows = rows[["method", "task", "seed", "success", "status"]]
    return rows.drop_duplicates(["method", "task", "seed"], keep="last").assign(success=100 * rows.success)


def final_success(collected: Collected, tasks: list[str], method: str, stage: str = "offline") -> pd.Series:
    """Per-seed final success in per cent, the mean over ``tasks``; a seed without every task is left out."""
    ends = final(collected, stage)
    table = ends[ends.method == method].pivot(index="seed", columns="task", values="success")
    return table.reindex(columns=tasks).dropna().mean(axis=1) if tasks else pd.Series(dtype=float)


def final_cell(collected: Collected, tasks: list[str], method: str, stage: str) -> Success | None:
    """The paper's cell, or None where no seed has all of ``tasks``."""
    success, ends = final_success(collected, tasks, method, stage), final(collected, stage)
    if success.empty:
        return None
    lost = ends[(ends.method == method) & (ends.status == "DIVERGED") & ends.task.isin(tasks)].seed
    diverged = lost[lost.isin(success.index)].nunique()
    return Success(*mean_and_std(success), len(success), diverged)


def late(results: Results) -> pd.DataFrame:
    """The rows of the last fifth of the offline stage."""
    metrics = results.metrics
    return metrics[(metrics.stage == "offline") & (metrics.step > 0.8 * results.config.scale.offline_steps)]


def realised_kl(
    results: Results, tasks: list[str], method: str, relative: bool = False, column: str = "path_kl"
) -> pd.Series:
    """Per-seed path KL over the last fifth of the offline stage, the mean over its logged values and over ``tasks``:
    realised, or another ``column``, of which there may be none.

    ``relative`` divides by the budget of each task first, or by what a method has logged of one that moves. A seed
    without every task is left out.
    """
    if not tasks or column not in results.metrics:
        return pd.Series(dtype=float)
    rows = late(results)
    rows = rows[(rows.method == method) & rows[column].notna()]
    moves = relative and "kl_budget" in rows and rows.kl_budget.notna().any()
    if moves:
        rows = rows.assign(**{column: rows[column] / rows.kl_budget})
    table = rows.pivot_table(index="seed", columns="task", values=column).reindex(columns=tasks).dropna()
    if relative and not moves:
        table = table / [kl_budget(results.config, task, method) for task in tasks]
    return table.mean(axis=1)


def kl_budget(config: Config, task: str, method: str) -> float:
    """The budget that ``method`` is held to, or where it is held to none, the domain's."""
    own = config.run(task, method).parameters.get("kl_budget")
    return float(own or config.domains[config.run(task, method).domain].kl_budget)


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


def final_scores(collected: Collected, method: str, stage: str) -> dict[str, np.ndarray]:
    """Success in per cent of the runs that reached the last evaluation, an array of seeds a shared task with any."""
    ends = final(collected, stage)
    own = ends[ends.method == method].sort_values("seed").groupby("task").success
    by_task = {task: part.to_numpy(float).round(9) for task, part in own}  # so that equal successes are equal numbers
    return {task: by_task[task] for task in shared_tasks(collected.config) if task in by_task}


def interquartile(collected: Collected, method: str, stage: str) -> Bracketed | None:
    """Interquartile mean over all runs; None where there is no run."""
    scores = [*final_scores(collected, method, stage).values()]
    return _estimate(scores, pooled(interquartile_mean), f"interquartile mean/{method}/{stage}")


def profile(
    collected: Collected, method: str, stage: str, thresholds: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Share of runs above each of the ``thresholds``, and its 95 % band (nan for none), all (K,) and in per cent."""
    scores = [*final_scores(collected, method, stage).values()]
    if not scores:
        return None
    shares = pooled(performance_profile, thresholds)
    low, high = interval(scores, shares, f"profile/{method}/{stage}")
    return 100 * shares(scores), 100 * low, 100 * high


def improvement(collected: Collected, method: str, other: str, stage: str) -> Bracketed | None:
    """Probability that a run of ``method`` succeeds more than one of ``other``, over the tasks where both have runs."""
    left, right = (final_scores(collected, name, stage) for name in (method, other))
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
