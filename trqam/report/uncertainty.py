"""How sure the results are: interquartile means, profiles and probabilities of improvement, each with its interval.

A run is one seed on one task. All of it is over the tasks that every compared method runs on, at the last evaluation
of a stage, in per cent. A diverged run counts with success 0; a missing one reduces n and is counted, and a task
without any run is left out. Each number has a random stream of its own, so that it is the same wherever it is printed.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from trqam.config.load import Config
from trqam.config.wording import count, enumerated, tasks_label
from trqam.maths.streams import stream
from trqam.report import statistics as stats
from trqam.report.collected import Collected
from trqam.report.measures import final_step, is_pretraining
from trqam.report.selection import BEYOND, compared, tasks_run
from trqam.report.statistics import round_half_up

RESAMPLES = 2000
FEW = 5  # seeds, below which a caption warns


@dataclass(frozen=True)
class Runs:
    """Final success in per cent, an array of seeds a task that has any; how many runs were asked for, and diverged."""

    scores: dict[str, np.ndarray]
    asked: int
    diverged: int

    @property
    def number(self) -> int:
        """How many runs there are."""
        return sum(map(len, self.scores.values()))


@dataclass(frozen=True)
class Estimate:
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


def final_runs(collected: Collected, method: str, stage: str) -> Runs:
    """The runs of ``method`` that reached the last evaluation of ``stage``."""
    config, metrics, tasks = collected.config, collected.metrics, shared_tasks(collected.config)
    rows = metrics[(metrics.step == final_step(config, method, stage)) & metrics.success.notna()]
    rows = rows[(rows.method == method) & (rows.stage == stage)]
    rows = rows.drop_duplicates(["task", "seed"], keep="last").sort_values("seed")
    found = {task: 100 * part.to_numpy(float) for task, part in rows.groupby("task").success}
    scores = {task: found[task].round(9) for task in tasks if task in found}  # 9: equal successes are equal numbers
    asked = len(tasks) * config.scale.seeds if stage in config.stages(method) else 0
    diverged = (rows.status == "DIVERGED") & rows.task.isin(tasks)
    return Runs(scores, asked, int(diverged.sum()))


def interquartile(collected: Collected, method: str, stage: str) -> Estimate | None:
    """Interquartile mean over all runs; None where there is no run."""
    scores = [*final_runs(collected, method, stage).scores.values()]
    return _estimate(scores, stats.pooled(stats.interquartile_mean), f"interquartile mean/{method}/{stage}")


def profile(
    collected: Collected, method: str, stage: str, thresholds: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Share of runs above each of the ``thresholds``, and its 95 % band (nan for none), all (K,) and in per cent."""
    scores = [*final_runs(collected, method, stage).scores.values()]
    if not scores:
        return None
    shares = stats.pooled(stats.performance_profile, thresholds)
    low, high = _interval(scores, shares, f"profile/{method}/{stage}")
    return 100 * shares(scores), 100 * low, 100 * high


def improvement(collected: Collected, method: str, other: str, stage: str) -> Estimate | None:
    """Probability that a run of ``method`` succeeds more than one of ``other``, over the tasks where both have runs."""
    left, right = (final_runs(collected, name, stage).scores for name in (method, other))
    tasks = [task for task in left if task in right]

    def above(strata: Sequence[np.ndarray]) -> np.ndarray:
        return 100 * stats.probability_of_improvement(strata[: len(tasks)], strata[len(tasks) :])

    scores = [side[task] for side in (left, right) for task in tasks]
    return _estimate(scores, above, f"improvement/{method}/{other}/{stage}")


def _estimate(scores: list[np.ndarray], statistic: Callable, purpose: str) -> Estimate | None:
    if not scores:
        return None
    low, high = _interval(scores, statistic, purpose)
    return Estimate(float(statistic(scores)), float(low), float(high))


def _interval(scores: list[np.ndarray], statistic: Callable, purpose: str) -> tuple[np.ndarray, np.ndarray]:
    if max(map(len, scores)) < 2:
        nothing = np.full_like(statistic(scores), np.nan)
        return nothing, nothing
    return stats.stratified_bootstrap(scores, statistic, stream(0, f"report/{purpose}"), RESAMPLES)


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
