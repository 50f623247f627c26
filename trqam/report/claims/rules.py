"""The rules that decide the paper's claims; config/claims.yaml says each in words and holds its thresholds.

Here are those about the table and about single methods; `sweep_rules` has those that look along a sweep.

A rule is a function of `Evidence` and of its thresholds. It answers yes, no or cannot tell (None) for each part of the
claim, from an interval and never from a point: a claim is reproduced if every part is yes, not reproduced if any is no.
Success is in per cent. TRQAM is the first of ``evidence.methods``.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from trqam.config.load import domain_of
from trqam.config.wording import enumerated
from trqam.report.claims.evidence import (
    FALLING,
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
from trqam.report.claims.sweep_rules import follows, smooth, steadier
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
        where = "on no task before its last evaluation"
        raise NoResult(f"{evidence.label(method)} reaches {floor:g} % {where} and has nothing to lose")
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
        what = f"{evidence.label(method)}{evidence.on(task)}, {KL_COLUMNS[column]} over budget"
        return evidence.estimate(what, "share", evidence.kl_share(method, task, column))

    shares = {method: [share(method, task) for task in evidence.tasks] for method in evidence.methods}
    controlled = {method: [share(method, task, "kl_ema") for task in evidence.tasks] for method in evidence.methods}
    keeps, exceeds, notes = [], [], []
    for ratio, task in zip(shares[ours], evidence.tasks, strict=True):
        opening = ratio.most < 1 - shortfall and evidence.unsettled(ours, task, settled) == FALLING
        unknown = opening or evidence.diverged(ours, task)
        keeps.append(None if unknown else within(ratio, 1 - shortfall, 1 + tolerance))
        notes += [f"{evidence.label(ours)}, whose multiplier {FALLING}{evidence.on(task)}"] * opening
    for place, task in enumerate(evidence.tasks):
        unsettled = {method: evidence.unsettled(method, task, settled) for method in external}
        notes += [
            f"the multiplier of {evidence.label(m)} {why}{evidence.on(task)}" for m, why in unsettled.items() if why
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


def _agreed(answers: Iterable[bool | None]) -> bool | None:
    """What all ``answers`` are, and None where there is none or they differ."""
    distinct = set(answers)
    return distinct.pop() if len(distinct) == 1 else None


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


def _mean(means: np.ndarray) -> np.ndarray:
    return means.mean(axis=-1)


RULES = {
    rule.__name__: rule
    for rule in (lead, best_or_tied, collapse, within_budget, smooth, pretraining, steadier, follows)
}
