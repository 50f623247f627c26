"""The rules that decide the paper's claims; config/claims.yaml says each in words and holds its thresholds.

A rule is a function of `Evidence` and of its thresholds. It answers yes, no or cannot tell (None) for each part of the
claim, from an interval and never from a point: a claim is reproduced if every part is yes, not reproduced if any is no.
Success is in per cent. TRQAM is the first of ``evidence.methods``.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import scipy.stats

from trqam.config.load import domain_of
from trqam.config.wording import count, enumerated, task_label
from trqam.report.claims.evidence import (
    INCONCLUSIVE,
    NOT_REPRODUCED,
    REPRODUCED,
    Estimate,
    Evidence,
    Finding,
    NoResult,
    Scores,
    Statistic,
    above,
    decided,
    within,
)
from trqam.report.statistics import round_half_up


def lead(evidence: Evidence) -> Finding:
    """TRQAM's overall success against that of the best other method."""
    domains = np.array([domain_of(task) for task in evidence.tasks])
    members = np.stack([(domains == name) / (domains == name).sum() for name in dict.fromkeys(domains)], axis=-1)

    def overall(means: np.ndarray) -> np.ndarray:
        """Table 1's `all`: the mean of printed domain means, as printed."""
        return _as_printed(_as_printed(means @ members).mean(axis=-1))

    ahead, rival = _against_best(evidence, evidence.tasks, overall)
    methods = (evidence.methods[0], rival)
    totals = [
        evidence.estimate(f"{evidence.label(m)} overall", "%", evidence.success(m), statistic=overall) for m in methods
    ]
    answer = above(ahead, 0)
    place = {True: "is ahead of", False: "is behind", None: "cannot be told from"}[answer]
    reason = f"{evidence.label(methods[0])} {place} the best other method, {evidence.label(rival)}"
    if (printed := evidence.published.get("lead")) is not None:
        inside = "inside" if ahead.low <= printed <= ahead.high else "outside"
        reason += f"; the published lead of {round_half_up(printed)} points lies {inside} our interval"
    return Finding(decided([answer]), reason, (*totals, ahead))


def _as_printed(values: np.ndarray) -> np.ndarray:
    """`round_half_up` of arrays."""
    return np.floor(np.round(values, 9) + 0.5)


def _against_best(evidence: Evidence, tasks: Sequence[str], summary: Statistic) -> tuple[Estimate, str]:
    """``summary`` over ``tasks`` of TRQAM minus that of the best other method, and which method that is."""
    methods, size = evidence.methods, len(tasks)
    scores = [seeds for method in methods for seeds in evidence.success(method, tasks)]

    def each(means: np.ndarray) -> np.ndarray:
        """(..., methods) of (..., methods x tasks)."""
        return summary(means.reshape(*means.shape[:-1], len(methods), size))

    def ahead(means: np.ndarray) -> np.ndarray:
        success = each(means)
        return success[..., 0] - success[..., 1:].max(axis=-1)

    what = f"{evidence.label(methods[0])} minus the best other method"
    rival = methods[1 + int(np.argmax(each(np.array([seeds.mean() for seeds in scores]))[1:]))]
    return evidence.estimate(what, "points", scores[:size], scores[size:], ahead), rival


def best_or_tied(evidence: Evidence, *, tie: float) -> Finding:
    """On how many domains TRQAM is not behind the best other method by more than a tie, as printed."""
    tasks: dict[str, list[str]] = {}
    for task in evidence.tasks:
        tasks.setdefault(domain_of(task), []).append(task)
    answers, points, seeds = {}, 0, []
    for domain, members in tasks.items():
        ahead, _ = _against_best(evidence, members, lambda means: _as_printed(_mean(means)))
        margin = tie * evidence.published["deviations"][domain]
        answers[evidence.config.domains[domain].label] = _not_below(ahead, -margin)
        points += ahead.value >= -margin
        seeds.append(ahead.n)
    sure = sum(answer is True for answer in answers.values())
    possible = sum(answer is not False for answer in answers.values())
    needed = evidence.published["count"]
    verdict = REPRODUCED if sure >= needed else NOT_REPRODUCED if possible < needed else INCONCLUSIVE
    parts = [f"behind on {_listed(answers, False) or 'none'}"]
    parts += [f"undecided on {undecided}"] if (undecided := _listed(answers, None)) else []
    reason = f"{evidence.label(evidence.methods[0])} is {'; '.join(parts)}; "
    reason += f"by the same rule the published table is on {evidence.published['behind']}"
    counted = Estimate("best or tied", "domains", points, sure, possible, sure, possible, min(seeds))
    return Finding(verdict, reason, (counted,))


def _not_below(estimate: Estimate, bound: float) -> bool | None:
    """`above` that counts the bound itself."""
    return True if estimate.least >= bound else False if estimate.most < bound else None


def _listed(answers: dict[str, bool | None], answer: bool | None) -> str:
    names = [name for name, given in answers.items() if given is answer]
    return enumerated(names) if names else ""


def pooled_std(first: float, second: float) -> float:
    """Two standard deviations over equally many seeds as one."""
    return float(np.sqrt((first**2 + second**2) / 2))


def collapse(evidence: Evidence, *, fall: float, floor: float, growth: float, rare: float, least: float) -> Finding:
    """In which share of the runs that had something to lose success falls while the adjoint loss grows."""
    ours, *others = evidence.methods
    label = {method: evidence.label(method) for method in evidence.methods}
    runs = {m: _collapsed(evidence, m, fall, floor, growth) for m in label}
    shares = {m: evidence.share(f"{label[m]} runs collapsed", runs[m]) for m in label}
    parts = [within(shares[ours], 0, rare), *(above(shares[m], least) for m in others)]
    numbers = [f"{sum(map(np.sum, runs[m])):.0f} of {sum(map(len, runs[m]))} of {label[m]}" for m in label]
    reason = f"Of the runs on tasks where success had reached {floor:g} %, there collapsed {enumerated(numbers)}"
    return Finding(decided(parts), reason, tuple(shares.values()))


def _collapsed(evidence: Evidence, method: str, fall: float, floor: float, growth: float) -> Scores:
    """1 for each finished seed whose offline run collapsed, else 0, an array a task that had something to lose.

    That is a task on which the best evaluation before the last, as a mean over seeds, reaches ``floor``, or on which a
    seed diverged. Raises NoResult if a task has no finished run, or none had anything to lose.
    """
    evidence.success(method)
    final, rows = evidence.final.loc[method].to_dict(), evidence.metrics
    rows = rows[(rows.method == method) & (rows.stage == "offline")].sort_values("step")
    columns = {name: rows[name].to_numpy() for name in ("step", "success", "adjoint_loss", "status")}
    runs: dict[str, list[Logged]] = {task: [] for task in evidence.tasks}
    for (task, seed), places in rows.groupby(["task", "seed"]).indices.items():
        if not np.isnan(final[task].get(seed, np.nan)):
            runs[task].append({name: column[places] for name, column in columns.items()})
    collapsed = []
    for task, seeds in runs.items():
        if np.mean([_best_before_the_last(run) for run in seeds]) >= floor or any(map(_diverged, seeds)):
            interval = evidence.config.run(task, method).eval_interval
            collapsed.append(np.array([run_collapsed(run, interval, fall, floor, growth) for run in seeds], float))
    if not collapsed:
        raise NoResult(f"{evidence.label(method)} reaches {floor:g} % on no task and has nothing to lose")
    return collapsed


Logged = Mapping[str, np.ndarray]  # of one seed: step, success, adjoint_loss and status, by step


def _best_before_the_last(run: Logged) -> float:
    """The best of all evaluations but the last, in per cent; 0 if there is none."""
    success = run["success"][~np.isnan(run["success"])]
    return 100 * success[:-1].max(initial=0)


def _diverged(run: Logged) -> bool:
    return "DIVERGED" in run["status"]


def run_collapsed(run: Logged, interval: int, fall: float, floor: float, growth: float) -> bool:
    """Whether one seed's ``run`` collapsed, ``interval`` being the steps between evaluations.

    The adjoint losses compared are means over the logged steps of the interval that ends at an evaluation.
    """
    if _diverged(run):
        return True
    step, success, loss = run["step"], run["success"], run["adjoint_loss"]
    evaluated = np.flatnonzero(~np.isnan(success))
    earlier, final = evaluated[:-1], evaluated[-1]
    best = earlier[np.argmax(success[earlier])] if earlier.size else final
    if 100 * success[best] < floor or success[final] >= (1 - fall) * success[best]:
        return False

    def adjoint_loss(end: float) -> float:
        logged = loss[(step > end - interval) & (step <= end)]
        return float(np.nanmean(logged)) if not np.isnan(logged).all() else float("nan")

    return bool(adjoint_loss(step[final]) >= growth * adjoint_loss(max(step[best], interval)))


def within_budget(evidence: Evidence, *, shortfall: float, tolerance: float, settled: float) -> Finding:
    """Realised path KL over the budget: TRQAM's inside the tolerance, the external form's above it, on every task.

    The methods after TRQAM are settings of the external form. On each task those count whose multiplier has settled,
    and only if they agree. TRQAM's part is left undecided by a seed that diverged, which has no path KL, and by a
    multiplier that is still falling below the budget: the region is still opening.
    """
    ours, *external = evidence.methods

    def share(method: str, task: str, column: str = "path_kl") -> Estimate:
        what = f"{evidence.label(method)}{_on(evidence, task)}, {KL_COLUMNS[column]} over budget"
        return evidence.estimate(what, "share", evidence.kl_share(method, task, column))

    shares = {method: [share(method, task) for task in evidence.tasks] for method in evidence.methods}
    controlled = {method: [share(method, task, "kl_ema") for task in evidence.tasks] for method in evidence.methods}
    keeps, exceeds, notes = [], [], []
    for ratio, task in zip(shares[ours], evidence.tasks, strict=True):
        opening = ratio.most < 1 - shortfall and _unsettled(evidence, ours, task, settled) == FALLING
        unknown = opening or evidence.diverged(ours, task)
        keeps.append(None if unknown else within(ratio, 1 - shortfall, 1 + tolerance))
        notes += [f"{evidence.label(ours)}, whose multiplier {FALLING}{_on(evidence, task)}"] * opening
    for place, task in enumerate(evidence.tasks):
        unsettled = {method: _unsettled(evidence, method, task, settled) for method in external}
        notes += [
            f"the multiplier of {evidence.label(m)} {why}{_on(evidence, task)}" for m, why in unsettled.items() if why
        ]
        exceeds.append(_agreed(above(shares[m][place], 1 + tolerance) for m in external if not unsettled[m]))
    words = {REPRODUCED: "", NOT_REPRODUCED: "not ", INCONCLUSIVE: "not surely "}
    reason = f"{evidence.label(ours)} is {words[decided(keeps)]}within {100 * shortfall:g} % below and "
    reason += f"{100 * tolerance:g} % above the budget, and the external form is {words[decided(exceeds)]}"
    reason += f"more than {100 * tolerance:g} % above it"
    reason += f". Not judged, since it had not settled: {enumerated(notes)}" if notes else ""
    measured = [
        estimate for m in evidence.methods for pair in zip(shares[m], controlled[m], strict=True) for estimate in pair
    ]
    return Finding(decided([*keeps, *exceeds]), reason, tuple(measured))


KL_COLUMNS = {"path_kl": "KL", "kl_ema": "clipped average"}  # as measured, and what the dual step controls


RISING, FALLING = "was still rising", "was still falling"


def _unsettled(evidence: Evidence, method: str, task: str, settled: float) -> str:
    """What keeps a multiplier from having settled below its bound in the last fifth, in any seed; "" if it has."""
    values = evidence.late(method, task, "multiplier")
    values = values.reindex(values.index.union(evidence.seeds(method, task)))
    half = values.shape[1] // 2
    first, second = (part.mean(axis=1) for part in (values.iloc[:, :half], values.iloc[:, half:]))
    if not half or pd.concat([first, second]).isna().any():
        return "was logged too rarely in the last fifth"
    bound = float(evidence.config.run(task, method).parameters["multiplier_max"])
    if values.max(axis=None) >= (1 - settled) * bound:
        return f"lay at its bound of {bound:g}"
    change = second / first - 1
    largest = change[change.abs().idxmax()]
    return "" if abs(largest) <= settled else RISING if largest > 0 else FALLING


def _agreed(answers: Iterable[bool | None]) -> bool | None:
    """What all ``answers`` are, and None where there is none or they differ."""
    distinct = set(answers)
    return distinct.pop() if len(distinct) == 1 else None


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
            what = f"largest change{beyond}, budget {low:g} to {high:g}{_on(evidence, task)}"
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


def pretraining(evidence: Evidence, *, margin: float) -> Finding:
    """What each method gains from behaviour cloning first; ``evidence.methods`` are with and without, in turn."""
    pairs = zip(evidence.methods[::2], evidence.methods[1::2], strict=True)
    scores = {having: (evidence.success(having), evidence.success(lacking)) for having, lacking in pairs}
    label = {method: evidence.label(method) for method in scores}
    gains = {m: evidence.estimate(f"{label[m]}'s gain", "points", *scores[m]) for m in scores}
    ours, *others = scores
    more = [_more_gained(evidence, f"{label[ours]}'s minus {label[m]}'s", scores[ours], scores[m]) for m in others]
    without = {m: within(gains[m], -np.inf, margin) for m in others}  # to be shown, not the lack of a proof
    parts = [above(gains[ours], 0), *(above(difference, 0) for difference in more), *without.values()]
    words = {True: "gains", False: "loses", None: "shows neither gain nor loss"}
    said = [f"{label[ours]} {words[above(gains[ours], 0)]}"]
    words = {True: "gains no more than", False: "gains more than", None: "may gain more than"}
    said += [f"{label[m]} {words[answer]} {margin:g} points" for m, answer in without.items()]
    return Finding(decided(parts), enumerated(said), (*gains.values(), *more))


def _more_gained(evidence: Evidence, what: str, ours: tuple[Scores, Scores], other: tuple[Scores, Scores]) -> Estimate:
    """One method's (with, without) scores against another's: the difference of the two gains."""

    def difference(means: np.ndarray) -> np.ndarray:
        ours_with, other_without, ours_without, other_with = map(_mean, np.split(means, 4, axis=-1))
        return (ours_with - ours_without) - (other_with - other_without)

    return evidence.estimate(what, "points", [*ours[0], *other[1]], [*ours[1], *other[0]], difference)


def steadier(evidence: Evidence, *, margin: float, span: float, floor: float) -> Finding:
    """How much less TRQAM's success varies over its sweep than the other method's over its own, noise of seeds apart.

    The best of noisy means less the worst would grow with the noise, which is another's for each method. So each sweep
    has the variance over its settings less what its seeds explain (`_variance`), with a jackknife's interval.
    """
    label = [_varied_label(evidence, sweep) for sweep in evidence.sweeps]
    sides = [[evidence.success(method) for method in sweep.values()] for sweep in evidence.sweeps]
    windows = [_windows([*sweep], span) for sweep in evidence.sweeps]
    if lacking := [name for name, own in zip(label, windows, strict=True) if not own]:
        raise NoResult(f"The sweep of {enumerated(lacking)} has no part that spans a factor of {span:g}")
    n = min(len(seeds) for side in sides for value in side for seeds in value)
    if n < 2:
        raise NoResult("A setting has fewer than 2 seeds")
    parts = [_jackknife(side, own) for side, own in zip(sides, windows, strict=True)]
    quantile = float(scipy.stats.t.ppf((1 + evidence.level) / 2, n - 1))

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
    sweep = evidence.sweeps[0]
    cells = [(value, method, task) for value, method in sweep.items() for task in evidence.tasks]
    moving = [f"{value:g}" for value, method, task in cells if _unsettled(evidence, method, task, STILL)]
    return f". The multiplier had not settled at {enumerated(moving)}" if moving else ""


STILL = (
    0.05  # share that a multiplier changes by between the halves of the last fifth, as `settled` of the budget's claim
)


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


def _mean(means: np.ndarray) -> np.ndarray:
    return means.mean(axis=-1)


def _on(evidence: Evidence, task: str) -> str:
    """Which task, where there are several."""
    return f" on {task_label(evidence.config, task)}" if len(evidence.tasks) > 1 else ""


RULES = {
    rule.__name__: rule
    for rule in (lead, best_or_tied, collapse, within_budget, smooth, pretraining, steadier, follows)
}
