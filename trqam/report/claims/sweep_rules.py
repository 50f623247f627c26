"""The rules about sweeps: whether success is smooth in the KL budget, and how much it depends on what is swept.

``evidence.sweeps`` are those of the claim, value to method in rising order; the first is of TRQAM.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from trqam.config.wording import count, enumerated
from trqam.report.claims.evidence import (
    INCONCLUSIVE,
    NOT_REPRODUCED,
    REPRODUCED,
    Estimate,
    Evidence,
    Finding,
    NoResult,
    Scores,
    above,
    decided,
    within,
)


def smooth(evidence: Evidence, *, jump: float, floor: float, fitted: float) -> Finding:
    """How much neighbouring budgets of the sweep differ, of a long one beyond the step of a straight line."""
    (sweep,) = evidence.sweeps
    budgets = [*sweep]
    weights, beyond = np.diff(np.eye(len(budgets)), axis=0), ""
    if len(budgets) >= fitted:
        weights, beyond = weights - _slope(len(budgets)), " beyond a steady step"
    changes, answers = [], []
    for task in evidence.tasks:
        scores = [evidence.success(sweep[budget], [task])[0] for budget in budgets]
        for own, (low, high) in zip(weights, pairwise(budgets), strict=True):
            what = f"largest change{beyond}, budget {low:g} to {high:g}{evidence.on(task)}"
            changes.append(_weighted(evidence, what, scores, own))
            answers.append(within(changes[-1], -jump, jump))
            if answers[-1] is False and high / low > _widest_step(evidence) + 1e-9:
                answers[-1] = None  # it may still be smooth in between
    largest = max(changes, key=lambda change: abs(change.value))
    if max(np.mean([seeds.mean() for seeds in evidence.success(method)]) for method in sweep.values()) < floor:
        return Finding(INCONCLUSIVE, f"No budget reaches {floor:g} % success, and a line at zero is smooth", (largest,))
    verdict = decided(answers)
    spans, whole = budgets[-1] / budgets[0], max(evidence.paper.budgets) / min(evidence.paper.budgets)
    if verdict == REPRODUCED and spans < whole - 1e-9:
        reason = f"Its {count(len(budgets), 'budget')} span a factor of {spans:.3g}, and the paper's {whole:.3g}"
        return Finding(INCONCLUSIVE, reason, (largest,))
    differ = f"differ by more than {jump:g} points{beyond}"
    reason = {
        REPRODUCED: f"no two neighbouring budgets {differ}",
        NOT_REPRODUCED: f"two neighbouring budgets {differ}",
        INCONCLUSIVE: f"the intervals do not say whether two neighbouring budgets {differ}",
    }[verdict]
    if any(within(change, -jump, jump) is False for change in changes) and verdict == INCONCLUSIVE:
        reason = f"budgets {differ}, but lie further apart than the paper's"
    return Finding(verdict, f"Of {count(len(budgets), 'budget')}, {reason}", (largest,))


def _slope(number: int) -> np.ndarray:
    """Weights (number,) of values in order, equally far apart, in the slope of the line that is fitted to them."""
    places = np.arange(number) - (number - 1) / 2
    return places / (places @ places)


def _weighted(evidence: Evidence, what: str, scores: Scores, weights: np.ndarray) -> Estimate:
    """The sum of ``weights`` times the means of ``scores``, in points."""
    plus = [seeds for seeds, weight in zip(scores, weights, strict=True) if weight > 0]
    minus = [seeds for seeds, weight in zip(scores, weights, strict=True) if weight <= 0]
    ordered = np.concatenate([weights[weights > 0], weights[weights <= 0]])
    return evidence.estimate(what, "points", plus, minus, lambda means: means @ ordered)


def _widest_step(evidence: Evidence) -> float:
    """The largest factor between neighbouring budgets of the paper's own sweep."""
    budgets = sorted(evidence.paper.budgets)
    return max(high / low for low, high in pairwise(budgets))


def steadier(evidence: Evidence, *, margin: float, span: float, floor: float) -> Finding:
    """How much less TRQAM's success varies over its sweep than the other method's over its own, noise of seeds apart.

    The best of noisy means less the worst would grow with the noise, which is another's for each method. So each sweep
    has the variance over its settings less what its seeds explain (`_variance`), with a jackknife's interval.
    """
    from scipy import stats  # a second, which commands that judge nothing need not wait

    label = [_varied_label(evidence, sweep) for sweep in evidence.sweeps]
    sides = [[evidence.success(method) for method in sweep.values()] for sweep in evidence.sweeps]
    windows = [_windows([*sweep], span) for sweep in evidence.sweeps]
    if lacking := [name for name, own in zip(label, windows, strict=True) if not own]:
        raise NoResult(f"The sweep of {enumerated(lacking)} has no part that spans a factor of {span:g}")
    n = min(len(seeds) for side in sides for value in side for seeds in value)
    if n < 2:
        raise NoResult("A setting has fewer than 2 seeds")
    parts = [_jackknife(side, own) for side, own in zip(sides, windows, strict=True)]
    quantile = float(stats.t.ppf((1 + evidence.level) / 2, n - 1))

    def estimate(what: str, unit: str, value: float, error: float) -> Estimate:
        ends = value, value - quantile * error, value + quantile * error
        value, low, high = ends if unit == SQUARED else (max(end, 0) ** 0.5 for end in ends)
        return Estimate(what, unit, value, low, high, low, high, n)

    (ours, our_error), (theirs, their_error) = parts
    less = estimate("the other's squared less TRQAM's", SQUARED, theirs - ours, np.hypot(our_error, their_error))
    each = [estimate(f"{name} over its settings", "points", *part) for name, part in zip(label, parts, strict=True)]
    best = [max(np.mean([seeds.mean() for seeds in value]) for value in side) for side in sides]
    if poor := [name for name, success in zip(label, best, strict=True) if success < floor]:
        return Finding(INCONCLUSIVE, f"{enumerated(poor)} nowhere reaches {floor:g} % success", (*each, less))
    answer = above(less, margin**2)
    words = {True: "varies less", False: "does not vary much less", None: "may or may not vary less"}
    reason = f"{label[0]}'s success {words[answer]} over its sweep than {label[1]}'s over its own"
    return Finding(decided([answer]), reason + _moving(evidence), (*each, less))


SQUARED = "points squared"


def _varied_label(evidence: Evidence, sweep: dict[float, str]) -> str:
    """The method that a sweep varies, as printed."""
    sweeps = evidence.config.sweeps
    return evidence.label(next(sweeps[name].method for name in sweep.values() if name in sweeps))


def _windows(values: Sequence[float], span: float) -> list[slice]:
    """The shortest runs of ``values``, which rise, that span the factor ``span``, and no more than twice that."""
    ends = [next((j for j, b in enumerate(values) if b >= a * span * (1 - 1e-9)), None) for a in values]
    runs = [(first, last) for first, last in enumerate(ends) if last is not None]
    return [slice(a, b + 1) for a, b in runs if values[b] <= 2 * span * values[a] * (1 + 1e-9)]


def _variance(side: Sequence[Scores], windows: Sequence[slice]) -> float:
    """The variance of success over settings less the noise of their means, a mean over windows and tasks (points^2).

    ``side`` has an array of seeds for each setting and task. Without noise this is the sample variance of the settings'
    true means, and it is unbiased for that whatever the noise: E var(means) = var(truths) + mean(std^2 / n).
    """
    means = np.array([[seeds.mean() for seeds in value] for value in side])
    noise = np.array([[seeds.var(ddof=1) / len(seeds) for seeds in value] for value in side])
    return float(np.mean([means[own].var(axis=0, ddof=1) - noise[own].mean(axis=0) for own in windows]))


def _jackknife(side: Sequence[Scores], windows: Sequence[slice]) -> tuple[float, float]:
    """`_variance` and its standard error: seeds left out one by one, within each setting and task."""
    squared = 0.0
    for v, value in enumerate(side):
        for t, seeds in enumerate(value):
            rest = [
                [*value[:t], np.delete(seeds, s), *value[t + 1 :]] for s in range(len(seeds) if len(seeds) > 2 else 0)
            ]
            left = np.array([_variance([*side[:v], other, *side[v + 1 :]], windows) for other in rest])
            squared += (len(seeds) - 1) / len(seeds) * ((left - left.mean()) ** 2).sum() if len(left) else np.inf
    return _variance(side, windows), float(np.sqrt(squared))


def _moving(evidence: Evidence) -> str:
    """Which of TRQAM's settings had a multiplier that still moved, so that its success may be of another KL."""
    sweep, limit = evidence.sweeps[0], evidence.settled
    if limit is None:
        return ""
    cells = [(value, method, task) for value, method in sweep.items() for task in evidence.tasks]
    moving = [f"{value:g}" for value, method, task in cells if evidence.unsettled(method, task, limit)]
    return f". The multiplier had not settled at {enumerated(moving)}" if moving else ""


def follows(evidence: Evidence, *, margin: float, span: float, floor: float) -> Finding:
    """`steadier`, and how many times TRQAM's multiplier grows over its sweep, which is printed and not judged."""
    finding, sweep = steadier(evidence, margin=margin, span=span, floor=floor), evidence.sweeps[0]
    cells = [(sweep[end], task) for end in (max(sweep), min(sweep)) for task in evidence.tasks]
    ends = [evidence.late(*cell, "multiplier").mean(axis=1).to_numpy(float) for cell in cells]
    if not all(map(len, ends)):
        return finding
    half, what = len(evidence.tasks), f"TRQAM's multiplier at {max(sweep):g} over that at {min(sweep):g}"
    ratio = evidence.estimate(
        what, "times", ends[:half], ends[half:], lambda m: (m[..., :half] / m[..., half:]).mean(-1)
    )
    return replace(finding, measured=(*finding.measured, replace(ratio, n=finding.measured[0].n)))
