"""Statistics on plain arrays; what they are computed from is in `trqam.report.measures`.

Beside the paper's mean and standard deviation: the interquartile mean, performance profiles and the probability of
improvement, with percentile intervals of a bootstrap that resamples seeds within tasks (Agarwal et al., Deep
Reinforcement Learning at the Edge of the Statistical Precipice, arXiv 2108.13264). The tests compare them with SciPy,
which is not used here: to import scipy.stats takes each of forty `render` commands a second of CPU, and its
`bootstrap` takes 28 ms for 50 tasks of 8 seeds (this one 15 ms), refuses a task of one seed, and draws other samples.
"""

from collections.abc import Callable, Iterable, Sequence
from decimal import ROUND_HALF_UP, Decimal

import numpy as np

BLOCK = 2**14  # scores drawn at a time, which fit a cache and bound the memory


def round_half_up(value: float, digits: int = 0) -> str:
    """``value`` as printed in the paper: 0.5 becomes 1, and -0.5 becomes -1; the nine decimals absorb float noise."""
    exact = Decimal(repr(round(float(value), 9)))
    rounded = exact.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP)
    return f"{abs(rounded) if rounded == 0 else rounded:f}"


def ratio(value: float) -> str:
    """With two decimals; below 0.005 with one digit that is not 0: `1.01`, `0.003`."""
    return f"{value:.2f}" if value >= 0.005 else f"{value:.1g}"


def mean_and_std(values: Iterable[float]) -> tuple[float, float]:
    """Mean and sample standard deviation (ddof 1) without the nans; (nan, nan) for none, (mean, nan) for one."""
    known = np.asarray(values, float)
    known = known[~np.isnan(known)]
    mean = float(known.mean()) if known.size else float("nan")
    return mean, float(known.std(ddof=1)) if known.size > 1 else float("nan")


def interquartile_mean(scores: np.ndarray) -> np.ndarray:
    """Mean of the middle half of ``scores`` (..., N), the 25 % trimmed mean (Agarwal et al., arXiv 2108.13264).

    N // 4 scores are cut from either end: where a quarter of N is no whole number, the fraction is kept rather than
    cut, as `scipy.stats.trim_mean` and rliable do. Below four scores it is therefore the mean.
    """
    ordered = np.sort(np.asarray(scores, float), axis=-1)
    cut = ordered.shape[-1] // 4
    return ordered[..., cut : ordered.shape[-1] - cut].mean(axis=-1)


def performance_profile(scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Share of ``scores`` (..., N) strictly above each of the ``thresholds`` (K): shape (..., K), from 0 to 1."""
    return (np.asarray(scores)[..., None, :] > np.asarray(thresholds)[:, None]).mean(axis=-1)


def probability_of_improvement(x: Sequence[np.ndarray], y: Sequence[np.ndarray]) -> np.ndarray:
    """P(a run of ``x`` scores above one of ``y``), ties counting one half, the mean over tasks.

    ``x`` and ``y`` hold an array (..., n) and (..., m) a task; the result has the leading shape. Of a task it is the
    Mann-Whitney U of its seeds over n m.
    """
    if len({(ours.shape, theirs.shape) for ours, theirs in zip(x, y, strict=True)}) == 1:
        return _exceedance(np.stack(x), np.stack(y)).mean(axis=0)  # all tasks at once, which is faster
    return np.mean([_exceedance(ours, theirs) for ours, theirs in zip(x, y, strict=True)], axis=0)


def _exceedance(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """U / (n m) of ``x`` (..., n) against ``y`` (..., m)."""
    return (np.sign(x[..., :, None] - y[..., None, :]).mean(axis=(-2, -1)) + 1) / 2


def stratified_bootstrap(
    scores: Sequence[np.ndarray],
    statistic: Callable[[list[np.ndarray]], np.ndarray],
    rng: np.random.Generator,
    resamples: int = 2000,
    level: float = 0.95,
) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper end of the percentile interval of ``statistic`` at ``level``.

    ``scores`` holds the seeds of each stratum, such as a task, or a task of one of two methods: arrays (n,) whose n
    may differ. Seeds are drawn with replacement within their stratum. ``statistic`` is given many samples at once, an
    array (samples, n) a stratum, and returns (samples, ...); of statistics of all scores together, see `pooled`.
    Raises ValueError for a stratum without a score.
    """
    strata = [np.asarray(stratum) for stratum in scores]
    if not all(stratum.size for stratum in strata):
        raise ValueError("a stratum has no scores to resample; leave it out")
    step = max(1, BLOCK // sum(stratum.size for stratum in strata))
    sizes = [min(step, resamples - start) for start in range(0, resamples, step)]
    values = np.concatenate([statistic(_resampled(strata, rng, size)) for size in sizes])
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high


def pooled(statistic: Callable[..., np.ndarray], *arguments: np.ndarray) -> Callable[[list[np.ndarray]], np.ndarray]:
    """``statistic``, of arrays (samples, N) and ``arguments``, as one of strata, all their scores taken together."""
    return lambda strata: statistic(np.concatenate(strata, axis=-1), *arguments)


def _resampled(strata: list[np.ndarray], rng: np.random.Generator, size: int) -> list[np.ndarray]:
    """``size`` samples with replacement of each stratum; strata of equal size are drawn in one go."""
    if len({stratum.size for stratum in strata}) > 1:
        return [_resampled([stratum], rng, size)[0] for stratum in strata]
    count, n = len(strata), strata[0].size
    seeds = rng.integers(n, size=(count, size, n), dtype=np.uint16)  # the narrow type halves the time
    return list(np.concatenate(strata)[seeds + n * np.arange(count)[:, None, None]])
