"""Which runs a figure shows, and their values: by seed over training, and by seed at the end of a stage.

A seed's value is its mean over the panel's tasks, unsmoothed, and it counts where it has one on each of them. A
diverged seed has success 0 at each evaluation that it did not live to see.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import cache, cached_property

import pandas as pd

from trqam.config.load import Config
from trqam.config.wording import count
from trqam.report.collected import Collected
from trqam.report.selection import STAGES


class Runs:
    """The rows of ``methods`` on ``tasks`` in ``stages``, success in per cent."""

    def __init__(
        self, collected: Collected, methods: list[str], tasks: list[str], stages: Sequence[str] = STAGES
    ) -> None:
        self.collected, self.methods, self.tasks, self.stages = collected, methods, tasks, stages
        self.config = collected.config
        self.labels = [self.config.methods[method].label for method in methods]
        self.of = cache(self._of)

    def through(self, *stages: str) -> "Runs":
        """The same runs, in these stages."""
        return Runs(self.collected, self.methods, self.tasks, stages)

    def _of(self, tasks: tuple[str, ...], method: str) -> pd.DataFrame:
        """The rows of one method on some of the tasks; empty where it ran on none."""
        cells = self.collected.cells
        parts = [cells[task, method] for task in tasks if (task, method) in cells]
        rows = pd.concat(parts) if parts else self.collected.metrics.iloc[:0]
        rows = rows[rows.stage.isin(self.stages)]
        return rows.assign(success=100 * rows.success.mask(_between_evaluations(rows, self.config, method)))

    def methods_on(self, tasks: list[str]) -> list[str]:
        """Those of the methods that the scale runs on every one of ``tasks``."""
        cells = set(self.config.cells)
        return [method for method in self.methods if all((task, method) in cells for task in tasks)]

    @cached_property
    def online(self) -> bool:
        """Whether there is any row of the online stage."""
        return any((self.of(tuple(self.tasks), method).stage == "online").any() for method in self.methods)

    @cached_property
    def diverged(self) -> pd.Series:
        """The first step, counted through both stages, at which a (task, method, seed) was found diverged."""
        return pd.concat([divergences(self.of(tuple(self.tasks), method)) for method in self.methods])

    def diverged_seeds(self, tasks: list[str], method: str) -> set[int]:
        """The seeds of which some run on ``tasks`` diverged."""
        rows = self.of(tuple(tasks), method)
        return set(rows[rows.status == "DIVERGED"].seed)

    def at_the_end(self, tasks: list[str], measure: Callable[[str], pd.Series]) -> pd.DataFrame:
        """`method`, `value` and `diverged`, a row a seed; ``measure`` gives a method's values by seed."""
        parts = []
        for method in self.methods:
            values = measure(method)
            ended = values.index.isin(self.diverged_seeds(tasks, method))
            parts.append(pd.DataFrame({"method": method, "value": values, "diverged": ended}))
        return pd.concat(parts, ignore_index=True).astype({"diverged": bool})

    def seeds(self, per: str = "") -> str:
        """`n = 3`, or `n = 2 to 3` where seeds are missing from some task, method or stage; and how many diverged.

        ``per`` is what each n is of, such as ` a task`.
        """
        pairs = [(task, method) for task, method in self.config.cells if task in self.tasks and method in self.methods]
        asked = [(*pair, stage) for pair in pairs for stage in self.config.stages(pair[1]) if stage in self.stages]
        evaluated = [self.of(tuple(self.tasks), method).dropna(subset=["success"]) for method in self.methods]
        per_cell = pd.concat(evaluated).groupby(["task", "method", "stage"]).seed.nunique().to_dict()
        lost = f"; {count(len(self.diverged), 'run')} DIVERGED, crossed" if len(self.diverged) else ""
        return f"n = {between(per_cell.get(cell, 0) for cell in asked)}{per}{lost}"


def between(numbers: Iterable[int]) -> str:
    """`2 to 3`, or `3` where all are alike; `0` for none."""
    known = sorted(set(numbers)) or [0]
    return f"{known[0]} to {known[-1]}" if len(known) > 1 else f"{known[0]}"


def divergences(rows: pd.DataFrame) -> pd.Series:
    """The first diverged step of each (task, method, seed) that diverged."""
    return rows[rows.status == "DIVERGED"].groupby(["task", "method", "seed"]).total_step.min()


def _between_evaluations(rows: pd.DataFrame, config: Config, method: str) -> pd.Series:
    """Where a row is no evaluation, but the success of 0 at the very step at which a seed was found diverged."""
    scale = config.scale
    interval = scale.ablation_eval_interval if method in config.ablated else scale.eval_interval
    begins = (rows.stage == "online") & (rows.step == 0)
    return (rows.status == "DIVERGED") & (begins | (rows.step % interval != 0))


def by_seed(rows: pd.DataFrame, column: str, tasks: int) -> pd.DataFrame:
    """`total_step`, `seed` and ``column``, a seed's mean over all of so many ``tasks``."""
    values = rows.dropna(subset=[column])
    if column != "success":  # its axis is logarithmic, and at step 0 the path KL is exactly zero
        values = values[values[column] > 0]
    each = values.groupby(["total_step", "seed"])[column].agg(["mean", "size"])
    return each.loc[each["size"] == tasks, "mean"].rename(column).reset_index()
