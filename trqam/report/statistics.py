"""The paper's cell: mean and sample standard deviation over seeds of the per-seed mean over a domain's tasks.

Success is in per cent throughout, read at the last evaluation of a stage as it was measured: no smoothing, no best
checkpoint (protocol of arXiv 2605.27079). A diverged seed counts with the zeros that `trqam collect` wrote for it.
"""

from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal

import numpy as np
import pandas as pd

from trqam.config import Config

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


def round_half_up(value: float, digits: int = 0) -> str:
    """``value`` as printed in the paper: 0.5 becomes 1, and -0.5 becomes -1; the nine decimals absorb float noise."""
    exact = Decimal(repr(round(float(value), 9)))
    rounded = exact.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP)
    return f"{abs(rounded) if rounded == 0 else rounded:f}"


def mean_and_std(values) -> tuple[float, float]:
    """Mean and sample standard deviation (ddof 1) without the nans; (nan, nan) for none, (mean, nan) for one."""
    values = np.asarray(values, float)
    values = values[~np.isnan(values)]
    mean = float(values.mean()) if values.size else float("nan")
    return mean, float(values.std(ddof=1)) if values.size > 1 else float("nan")


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
    rows = metrics[(metrics.method == method) & (metrics.stage == stage) & (metrics.step == step)]
    table = rows.pivot_table(index="seed", columns="task", values="success", aggfunc="last").reindex(columns=tasks)
    return 100 * table.dropna().mean(axis=1)


def cell(metrics: pd.DataFrame, tasks: list[str], method: str, stage: str, step: int) -> Cell | None:
    """The table's cell, or None where no seed has all of ``tasks``."""
    success = seed_success(metrics, tasks, method, stage, step)
    if success.empty:
        return None
    mean, std = mean_and_std(success)
    own = metrics[(metrics.method == method) & (metrics.stage == stage) & metrics.task.isin(tasks)]
    diverged = own[(own.status == "DIVERGED") & own.seed.isin(success.index)].seed.nunique()
    return Cell(mean, std, len(success), diverged, float(success.min()), float(success.max()))


def final_cell(metrics: pd.DataFrame, config: Config, tasks: list[str], method: str, stage: str) -> Cell | None:
    """`cell` at the last evaluation that the configuration asks for; an unfinished run is missing, not early."""
    return cell(metrics, tasks, method, stage, final_step(config, method, stage))


def verdicts(metrics: pd.DataFrame, config: Config, stage: str) -> list[str]:
    """Sentences on the success over all tasks after ``stage``, true whatever the numbers are.

    The first gives each method's cell; the others compare TRQAM's printed mean with each other's, and say whether the
    ranges over seeds overlap. With a handful of seeds nothing stronger can be said.
    """
    cells = {m: final_cell(metrics, config, config.tasks, m, stage) for m in config.scale.methods}
    cells = {method: found for method, found in cells.items() if found}
    if not cells:
        return [f"There is no {stage} result that covers all tasks."]
    label = {method: config.methods[method].label for method in cells}
    sentences = [f"After the {stage} stage: {'; '.join(f'{label[m]} {with_spread(c)}' for m, c in cells.items())}."]
    ours = next((method for method in cells if config.methods[method].agent == "trqam"), None)
    for other in (m for m in cells if ours and m != ours):
        left, right = cells[ours], cells[other]
        gap = int(round_half_up(left.mean)) - int(round_half_up(right.mean))
        points = f"{abs(gap)} point{'' if abs(gap) == 1 else 's'}"
        place = f"{points} {'above' if gap > 0 else 'below'}" if gap else "level with"
        overlap = "overlap" if left.low <= right.high and right.low <= left.high else "do not overlap"
        ranges = f"; their ranges over seeds, {_range(left)} and {_range(right)}, {overlap}"
        sentences.append(f"{label[ours]} is {place} {label[other]}{ranges if min(left.n, right.n) > 1 else ''}.")
    return sentences


def with_spread(cell: Cell) -> str:
    """`45 ± 12 % (n = 3, 1 diverged)`; without the ± for one seed."""
    std = "" if cell.n == 1 else f" ± {round_half_up(cell.std)}"
    return f"{round_half_up(cell.mean)}{std} % (n = {cell.n}{f', {cell.diverged} diverged' if cell.diverged else ''})"


def _range(cell: Cell) -> str:
    return f"{round_half_up(cell.low)} to {round_half_up(cell.high)} %"
