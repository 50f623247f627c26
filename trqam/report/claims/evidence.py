"""What a rule that decides a claim may look at, and the intervals that it decides by.

An interval is a stratified bootstrap over seeds (seeds resampled within each task). With few seeds that is too narrow,
so below `Evidence.narrow_below` a rule sees it widened to the range over seeds: three lucky seeds reproduce nothing.
That of a share of runs is Wilson's, which does not vanish where no run or every run counts.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from trqam.config.load import Config
from trqam.config.wording import task_label
from trqam.report.measures import late, realised_kl
from trqam.report.protocol import Protocol
from trqam.report.statistics import round_half_up, stratified_bootstrap

REPRODUCED, NOT_REPRODUCED, INCONCLUSIVE = "reproduced", "not reproduced", "inconclusive"
RISING, FALLING = "was still rising", "was still falling"

Scores = Sequence[np.ndarray]  # one array of per-seed values a task
Statistic = Callable[[np.ndarray], np.ndarray]  # of the tasks' means over seeds: (..., tasks) to (...)


class NoResult(Exception):
    """A result that the configuration asks for is not there; the message says which."""


@dataclass(frozen=True)
class Estimate:
    """A measured ``value`` and its interval ``low`` to ``high``, over at least ``n`` seeds a task.

    ``least`` and ``most`` are what a rule decides by: the interval, widened to the range over seeds if n is small.
    ``unit`` is points, domains, times, % or share, which is printed in per cent.
    """

    what: str
    unit: str
    value: float
    low: float
    high: float
    least: float
    most: float
    n: int

    @property
    def text(self) -> str:
        """`21 points [18, 24]`, or `21 points [18, 24], seeds 15 to 30` where the range over seeds is wider."""
        factor, unit = (100, "%") if self.unit == "share" else (1, self.unit)
        numbers = self.value, self.low, self.high, self.least, self.most
        value, low, high, least, most = (round_half_up(factor * number) for number in numbers)
        seeds = f", seeds {least} to {most}" if (low, high) != (least, most) else ""
        return f"{value} {unit} [{low}, {high}]{seeds}"


@dataclass(frozen=True)
class Finding:
    """What a rule found; ``reason`` is a sentence without its full stop."""

    verdict: str
    reason: str
    measured: tuple[Estimate, ...]


@dataclass(frozen=True)
class Evidence:
    """What a rule may look at: results, where to look in them, and how intervals are made.

    ``metrics`` are the rows of the claim's methods and tasks; ``final`` is the success at the end of ``stage``, indexed
    by method and seed, a column a task, nan where a run has not finished.
    ``methods`` are in the claim's order, ``sweeps`` are those of the claim, value to method, ``stage`` is the one whose
    end counts, ``published`` what the paper prints for this claim, ``paper`` the paper's own scale; below
    ``narrow_below`` seeds intervals are widened. ``settled`` is the share that a settled multiplier may change by, None
    where no claim says it.
    """

    config: Config
    metrics: pd.DataFrame
    final: pd.DataFrame
    tasks: tuple[str, ...]
    methods: tuple[str, ...]
    stage: str
    published: dict[str, Any]
    paper: Protocol
    rng: np.random.Generator
    level: float
    resamples: int
    narrow_below: int
    sweeps: tuple[dict[float, str], ...] = ()
    settled: float | None = None

    def label(self, method: str) -> str:
        """The method as printed."""
        return self.config.methods[method].label

    def on(self, task: str) -> str:
        """Which task, where there are several."""
        return f" on {task_label(self.config, task)}" if len(self.tasks) > 1 else ""

    def success(self, method: str, tasks: Sequence[str] | None = None) -> Scores:
        """Per-seed final success, an array a task; NoResult where a task has none."""
        known = self.final.loc[[method]] if method in self.final.index else self.final.iloc[:0]
        table = known.reindex(columns=list(self.tasks if tasks is None else tasks))
        values, what = table.to_numpy(float), f"final {self.stage}"
        finished = ~np.isnan(values)
        return [
            self._found(values[finished[:, place], place], what, method, task)
            for place, task in enumerate(table.columns)
        ]

    def seeds(self, method: str, task: str) -> list[int]:
        """The seeds that have finished."""
        return list(self.final.loc[method][task].dropna().index) if method in self.final.index else []

    def diverged(self, method: str, task: str) -> bool:
        """Whether a seed did, which leaves no path KL."""
        rows = self.metrics[(self.metrics.method == method) & (self.metrics.task == task)]
        return "DIVERGED" in rows.status.to_numpy()

    def late(self, method: str, task: str, column: str) -> pd.DataFrame:
        """``column`` in the last fifth of the offline stage, a row a seed and a column a logged step."""
        rows = late(self)
        rows = rows[(rows.method == method) & (rows.task == task) & rows[column].notna()]
        return rows.pivot(index="seed", columns="step", values=column)

    def unsettled(self, method: str, task: str, settled: float) -> str:
        """What keeps a multiplier from having settled below its bound in the last fifth, in any seed; "" if it has."""
        values = self.late(method, task, "multiplier")
        values = values.reindex(values.index.union(self.seeds(method, task)))
        half = values.shape[1] // 2
        first, second = (part.mean(axis=1) for part in (values.iloc[:, :half], values.iloc[:, half:]))
        if not half or pd.concat([first, second]).isna().any():
            return "was logged too rarely in the last fifth"
        bound = float(self.config.run(task, method).parameters["multiplier_max"])
        if values.max(axis=None) >= (1 - settled) * bound:
            return f"lay at its bound of {bound:g}"
        change = second / first - 1
        largest = change[change.abs().idxmax()]
        return "" if abs(largest) <= settled else RISING if largest > 0 else FALLING

    def kl_share(self, method: str, task: str, column: str = "path_kl") -> Scores:
        """Per-seed path KL over the budget in the last fifth: realised, or the ``column`` kl_ema; NoResult without."""
        shares = realised_kl(self, [task], method, relative=True, column=column)
        return [self._found(shares.to_numpy(float), "path-KL", method, task)]

    def _found(self, values: np.ndarray, what: str, method: str, task: str) -> np.ndarray:
        if not values.size:
            raise NoResult(f"{self.label(method)} has no {what} result on {task_label(self.config, task)}")
        return values

    def estimate(
        self, what: str, unit: str, plus: Scores, minus: Scores = (), statistic: Statistic | None = None
    ) -> Estimate:
        """``statistic`` of the task means of [*plus, *minus]; by default the mean of ``plus`` minus that of ``minus``.

        A statistic must not fall in ``plus`` nor rise in ``minus``, so that its range over seeds is that between the
        worst seeds of the one against the best of the other and the reverse.
        """
        scores, measure = [*plus, *minus], statistic or partial(contrast, len(plus))
        n = min(map(len, scores))

        def resampled(strata: Scores) -> np.ndarray:
            return measure(task_means(strata))

        ends = stratified_bootstrap(scores, resampled, self.rng, resamples=self.resamples, level=self.level)
        low, high = least, most = float(ends[0]), float(ends[1])
        if n < self.narrow_below:
            worst = [seeds.min() for seeds in plus] + [seeds.max() for seeds in minus]
            best = [seeds.max() for seeds in plus] + [seeds.min() for seeds in minus]
            least, most = min(low, float(measure(np.array(worst)))), max(high, float(measure(np.array(best))))
        return Estimate(what, unit, float(resampled(scores)), low, high, least, most, n)

    def share(self, what: str, runs: Scores) -> Estimate:
        """The share of ones among all ``runs``, an array of zeros and ones a task, with Wilson's interval."""
        from scipy.stats import binomtest  # a second, which commands that judge nothing need not wait

        ones, number = round(sum(float(seeds.sum()) for seeds in runs)), sum(map(len, runs))
        share = binomtest(ones, number)
        low, high = map(float, share.proportion_ci(self.level, "wilson"))
        return Estimate(what, "share", float(share.statistic), low, high, low, high, min(map(len, runs)))


def task_means(strata: Scores) -> np.ndarray:
    """The means over seeds of arrays (..., n) a task: (..., tasks). In one go where n is the same."""
    if len({seeds.shape for seeds in strata}) == 1:
        return np.moveaxis(np.asarray(strata).mean(axis=-1), 0, -1)
    return np.stack([seeds.mean(axis=-1) for seeds in strata], axis=-1)


def contrast(split: int, means: np.ndarray) -> np.ndarray:
    """The mean over the first ``split`` tasks minus that over the others, if any, of ``means`` (..., tasks)."""
    ours, others = means[..., :split], means[..., split:]
    return ours.mean(axis=-1) - (others.mean(axis=-1) if others.shape[-1] else 0.0)


def decided(parts: Iterable[bool | None]) -> str:
    """The verdict of a claim's parts."""
    parts = list(parts)
    return NOT_REPRODUCED if False in parts else INCONCLUSIVE if None in parts else REPRODUCED


def above(estimate: Estimate, bound: float) -> bool | None:
    """Whether the interval lies above ``bound`` (True), below it (False) or contains it (None)."""
    return True if estimate.least > bound else False if estimate.most < bound else None


def within(estimate: Estimate, low: float, high: float) -> bool | None:
    """Whether the interval lies inside [low, high] (True), wholly outside (False) or across an end (None)."""
    if low <= estimate.least and estimate.most <= high:
        return True
    return False if estimate.most < low or estimate.least > high else None
