"""Statistics on plain arrays; what they are computed from is in `trqam.report.measures`.

Beside the paper's mean and standard deviation: the interquartile mean, performance profiles and the probability of
improvement, with percentile intervals of a bootstrap that resamples seeds within tasks (Agarwal et al., Deep
Reinforcement Learning at the Edge of the Statistical Precipice, arXiv 2108.13264), and a simulation of how often such
an interval covers the truth.
"""

import math
from collections.abc import Callable, Sequence
from decimal import ROUND_HALF_UP, Decimal

import numpy as np

BLOCK = 2**14  # scores drawn at a time, which fit a cache and bound the memory
CONCENTRATION = 10  # of a seed's success about its task's level: a standard deviation of 15 points at a level of 50 %


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


def pooled(statistic: Callable[..., np.ndarray], *arguments) -> Callable[[list[np.ndarray]], np.ndarray]:
    """``statistic``, of arrays (samples, N) and ``arguments``, as one of strata, all their scores taken together."""
    return lambda strata: statistic(np.concatenate(strata, axis=-1), *arguments)


def _resampled(strata: list[np.ndarray], rng: np.random.Generator, size: int) -> list[np.ndarray]:
    """``size`` samples with replacement of each stratum; strata of equal size are drawn in one go."""
    if len({stratum.size for stratum in strata}) > 1:
        return [_resampled([stratum], rng, size)[0] for stratum in strata]
    count, n = len(strata), strata[0].size
    seeds = rng.integers(n, size=(count, size, n), dtype=np.uint16)  # the narrow type halves the time
    return list(np.concatenate(strata)[seeds + n * np.arange(count)[:, None, None]])


def success_levels(tasks: int) -> np.ndarray:
    """Each task's own success probability in the simulated population: from hard to easy, 2/3 in the mean over many.

    The levels (T,) are the quantiles of a density 2 p, denser towards success as results on a benchmark that methods
    have been tuned on are.
    """
    return np.sqrt((np.arange(tasks) + 0.5) / tasks)


def simulated_scores(n: int, rng: np.random.Generator, tasks: int, episodes: int) -> np.ndarray:
    """Success rates (T, n): a seed's probability is Beta about its task's level, its episodes are binomial."""
    levels = success_levels(tasks)[:, None]
    chances = rng.beta(CONCENTRATION * levels, CONCENTRATION * (1 - levels), size=(tasks, n))
    return rng.binomial(episodes, chances) / episodes


def population_iqm(tasks: int, episodes: int) -> float:
    """The interquartile mean of infinitely many `simulated_scores`, exact: their law is a mixture of beta-binomials."""
    counts = np.arange(episodes + 1)
    shares = np.mean([_beta_binomial(counts, level, episodes) for level in success_levels(tasks)], axis=0)
    middle = np.diff(np.clip(np.concatenate([[0.0], np.cumsum(shares)]), 0.25, 0.75))  # of each count's probability
    return float(2 * middle @ counts / episodes)


def _beta_binomial(counts: np.ndarray, level: float, episodes: int) -> np.ndarray:
    """Probability of each of the ``counts`` of successes in ``episodes`` episodes."""
    a, b = CONCENTRATION * level, CONCENTRATION * (1 - level)
    ways = np.array([math.comb(episodes, k) for k in counts], float)
    return ways * np.exp([_log_beta(k + a, episodes - k + b) - _log_beta(a, b) for k in counts])


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def coverage(
    n: int, rng: np.random.Generator, tasks: int = 5, episodes: int = 50, simulations: int = 2000, resamples: int = 500
) -> tuple[float, float]:
    """How often the 95 % interval of the interquartile mean holds the true one, with the standard error of that share.

    Each of the ``simulations`` draws ``n`` seeds on ``tasks`` tasks from a known population (`simulated_scores`) and
    puts them through `stratified_bootstrap`, the very function that the results go through.
    """
    truth, hits = population_iqm(tasks, episodes), 0
    for _ in range(simulations):
        scores = simulated_scores(n, rng, tasks, episodes)
        low, high = stratified_bootstrap(list(scores), pooled(interquartile_mean), rng, resamples)
        hits += bool(low <= truth <= high)
    share = hits / simulations
    return share, math.sqrt(share * (1 - share) / simulations)
