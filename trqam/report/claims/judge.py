"""A verdict on each claim of the paper: what it says, what was measured, the rule, and whether they agree.

config/claims.yaml states the claims (`statements`), `rules` decides them. The verdict is exactly one of reproduced, not
reproduced, inconclusive and not run at this scale; no claim is tuned, dropped or added after results of the paper's.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd

from trqam.config.load import domain_of, expanded
from trqam.config.sweeps import SWEEPS
from trqam.config.wording import NAMED, count, enumerated, first, method_label, task_label, tasks_label, words
from trqam.experiment.files import write_json
from trqam.maths.streams import stream
from trqam.report import protocol
from trqam.report.claims import statements
from trqam.report.claims.evidence import INCONCLUSIVE, NOT_REPRODUCED, REPRODUCED, Estimate, Evidence, NoResult
from trqam.report.claims.rules import RULES
from trqam.report.claims.statements import Claim, Claims, Published, Threshold, filled, paper_scale
from trqam.report.collected import Collected
from trqam.report.measures import final
from trqam.report.selection import CLAIMS, tasks_run

NOT_RUN = "not run at this scale"
VERDICTS = (REPRODUCED, NOT_REPRODUCED, INCONCLUSIVE, NOT_RUN)


@dataclass(frozen=True)
class Verdict:
    """A claim and what came of it; every text is plain.

    ``claim`` is the statement with its numbers, and ``ours`` whether it is none of the paper's in these words;
    ``printed`` are those numbers alone ("" where it prints none) and ``published`` the same as data. ``measures`` says
    what is measured, ``rule`` how that decides, with ``thresholds``; ``measured`` is what came out, empty if nothing
    did, and ``n`` the smallest number of seeds behind it. ``verdict`` is one of `VERDICTS`, ``reason`` says why in one
    line. ``shown_on`` is where the paper shows it, and ``shown_here`` whether this run's tasks include that.
    ``elsewhere``: tasks or settings of the verdict are not the paper's.
    """

    name: str
    title: str
    ours: bool
    claim: str
    source: str
    shown_on: str
    shown_here: bool
    printed: str
    published: Published
    measures: str
    rule: str
    thresholds: dict[str, Threshold]
    measured: tuple[Estimate, ...]
    n: int | None
    verdict: str
    reason: str
    elsewhere: bool

    @property
    def chosen(self) -> str:
        """The thresholds that the paper does not give, each by its name: `distance from the budget: 10 %`."""
        ours = {name: threshold for name, threshold in self.thresholds.items() if threshold.ours}
        return "; ".join(f"{statements.NAMES[name]}: {threshold.text}" for name, threshold in ours.items())


@lru_cache(maxsize=1)  # four parts of the report print them, and a grid of fifty tasks takes seconds
def claims(collected: Collected) -> tuple[Verdict, ...]:
    """The verdict on every claim, in the order of the file."""
    stated = statements.load(collected.claims)
    return tuple(judge(name, stated, collected, f"{collected.claims}: claims: {name}") for name in stated.claims)


def summary(verdicts: Sequence[Verdict]) -> str:
    """How many claims came out which way."""
    given = [verdict.verdict for verdict in verdicts]
    counts = [f"{given.count(kind)} {kind}" for kind in VERDICTS if kind in given]
    elsewhere = [verdict for verdict in verdicts if verdict.elsewhere]
    note = f" Not in the paper's own setting: {enumerated([v.title for v in elsewhere])}." if elsewhere else ""
    return f"Of {counted(verdicts)}: {enumerated(counts)}.{note}"


def counted(verdicts: Sequence[Verdict]) -> str:
    """`9 claims, 2 of them ours`: which the paper does not make in these words."""
    ours = sum(verdict.ours for verdict in verdicts)
    return count(len(verdicts), "claim") + (f", {ours} of them ours" if ours else "")


def write(collected: Collected, path: str | Path) -> None:
    """claims.json: the verdicts and how they were reached."""
    stated, verdicts = statements.load(collected.claims), claims(collected)
    interval = msgspec.to_builtins(stated.interval)
    interval["widened_to_the_range_below_seeds"] = interval.pop("narrow_below")
    content = {"paper": stated.paper, "scale": collected.config.scale.scale, "summary": summary(verdicts)}
    write_json(path, {**content, "interval": interval, "claims": [_record(verdict) for verdict in verdicts]})


def _record(verdict: Verdict) -> dict[str, Any]:
    measured = [
        {k: round(v, 6) if isinstance(v, float) else v for k, v in asdict(estimate).items()} | {"text": estimate.text}
        for estimate in verdict.measured
    ]
    return {**vars(verdict), "measured": measured, "thresholds": msgspec.to_builtins(verdict.thresholds)}


def judge(name: str, stated: Claims, collected: Collected, where: str = str(CLAIMS)) -> Verdict:
    """The verdict on the claim ``name``; ``where`` begins the message if its text cannot be filled in."""
    claim = stated.claims[name]
    numbers = statements.published(name, stated, collected.reported, collected.config)

    def text(key: str) -> str:
        return filled(getattr(claim, key), numbers, claim.thresholds, f"{where}: {key}")

    says, printed, measures, decides = map(text, ("says", "printed", "measures", "decides"))
    evidence = _evidence(name, claim, stated, collected, numbers)
    shown = _named(claim.shown_tasks, collected)
    verdict, reason, measured, elsewhere = _outcome(claim, stated, evidence, collected)
    return Verdict(
        name=name,
        title=claim.title,
        ours=claim.ours,
        claim=says,
        source=f"{stated.paper}, {claim.source}",
        shown_on=claim.shown_on,
        shown_here=bool(shown) and set(shown) <= set(collected.config.tasks),
        printed=printed if numbers else "",
        published=numbers,
        measures=measures,
        rule=decides,
        thresholds=claim.thresholds,
        measured=measured,
        n=min((estimate.n for estimate in measured), default=None),
        verdict=verdict,
        reason=reason,
        elsewhere=elsewhere,
    )


def _evidence(name: str, claim: Claim, stated: Claims, collected: Collected, numbers: Published) -> Evidence:
    """What the rule may look at; its tasks are those that all methods of the claim run on."""
    config, interval = collected.config, stated.interval
    sweeps = tuple(config.swept(key, method) for key in claim.needs.sweeps for method in SWEEPS[key].methods)
    methods = list(dict.fromkeys([*claim.needs.methods, *(name for sweep in sweeps for name in sweep.values())]))
    tasks, wanted = tasks_run(config, *methods) if methods else [], _named(claim.needs.tasks, collected)
    if (shown := set(_named(claim.shown_tasks, collected))) and shown <= set(tasks):
        wanted = [*shown]
    if claim.needs.scope == "paper" or set(wanted) <= set(tasks):
        tasks = [task for task in tasks if task in wanted]
    ends = final(collected, claim.needs.stages[-1])
    rows, ends = (of[of.method.isin(methods) & of.task.isin(tasks)] for of in (collected.metrics, ends))
    return Evidence(
        config=config,
        metrics=rows,
        final=ends.pivot(index=["method", "seed"], columns="task", values="success"),
        tasks=tuple(tasks),
        methods=tuple(methods),
        sweeps=sweeps,
        stage=claim.needs.stages[-1],
        published=numbers,
        paper=paper_scale(collected.claims.parents[1]),
        rng=stream(0, f"claims/{name}"),  # its own, so that no claim's interval depends on another claim
        level=interval.level,
        resamples=interval.resamples,
        narrow_below=int(interval.narrow_below.value),
        settled=statements.settled(stated),
    )


def _named(tasks: str | list[str], collected: Collected) -> list[str]:
    """The tasks of the grid that a claim names, one by one or as those of the published table; none if unknown."""
    if isinstance(tasks, list):
        return tasks
    whole = [domain for domain in dict.fromkeys(collected.reported.domain) if domain != "all"]
    return [] if tasks == "unknown" else expanded(whole)


def _outcome(
    claim: Claim, stated: Claims, evidence: Evidence, collected: Collected
) -> tuple[str, str, tuple[Estimate, ...], bool]:
    """Verdict, reason, what was measured, and whether elsewhere than in the paper."""
    wanted, departures = _named(claim.needs.tasks, collected), _departures(claim, stated, evidence, collected)
    if obstacle := _obstacle(claim, evidence, wanted, departures):
        if departures and claim.needs.scope == "paper" and "paper's scale" not in obstacle:
            obstacle += f". Not the paper's scale: {enumerated(_few(departures))}"
        return NOT_RUN, f"{obstacle}.", (), False
    try:
        finding = RULES[claim.rule](evidence, **{key: threshold.value for key, threshold in claim.thresholds.items()})
    except NoResult as lacking:
        return INCONCLUSIVE, f"{lacking}, so that nothing can be said.", (), False
    n = min(estimate.n for estimate in finding.measured)
    sentences = [finding.reason]
    known, shown = claim.shown_tasks != "unknown", _named(claim.shown_tasks, collected)
    if elsewhere := (known and set(evidence.tasks) - set(shown)) or departures:
        where = [tasks_label(evidence.config, list(evidence.tasks)), *departures]
        sentences = [f"Not in the paper's setting, {claim.shown_on} (here {enumerated(_few(where))})", finding.reason]
    elif not known:
        sentences.append("Whether these are the paper's tasks is not known")
    if n < claim.needs.seeds:
        sentences.append(f"The claim needs at least {count(claim.needs.seeds, 'seed')}, and has {n}")
    elif n < evidence.narrow_below:
        sentences.append(f"{count(n, 'seed')}: the interval is too narrow, so the range over seeds decides too")
    assumed = [] if departures else _assumed(evidence)
    reason = ". ".join([*sentences, *assumed, *_incomplete(evidence)]) + "."
    return (finding.verdict if n >= claim.needs.seeds else INCONCLUSIVE), reason, finding.measured, bool(elsewhere)


def _departures(claim: Claim, stated: Claims, evidence: Evidence, collected: Collected) -> list[str]:
    """Where the settings of what is judged are not those of the paper's scale, or not of one run."""
    beside = stated.paper_scale.beside + (stated.paper_scale.online if "online" not in claim.needs.stages else [])
    judged = [cell for cell in evidence.config.cells if cell[1] in evidence.methods]
    judged = [cell for cell in judged if cell[0] in evidence.tasks] or judged
    mixed = [f"mixed runs ({collected.mixed[cell]})" for cell in judged if cell in collected.mixed]
    return [*mixed[:1], *protocol.departures(evidence.config, judged, evidence.paper, beside)]


def _few(settings: list[str]) -> list[str]:
    """Some of them, uncounted: the notice counts all of the run's, a claim has part of these."""
    return settings if len(settings) <= NAMED else [*settings[:NAMED], "other settings"]


def _assumed(evidence: Evidence) -> list[str]:
    """How many of the KL budgets that the verdict rests on are not published."""
    config = evidence.config
    inherit = [method for method in evidence.methods if "kl_budget" not in config.methods[method].parameters]
    cells = [(task, method) for task in evidence.tasks for method in inherit]
    held = {domain_of(task) for task, method in cells if "kl_budget" in config.run(task, method).parameters}
    assumed = [name for name in held if "kl_budget" in config.domains[name].assumed]
    return [f"Assumed, not published: {len(assumed)} of {count(len(held), 'KL budget')}"] if assumed else []


def _obstacle(claim: Claim, evidence: Evidence, wanted: list[str], departures: list[str]) -> str:
    """Why the claim is not run at this scale, if it is not."""
    config, needs = evidence.config, claim.needs
    for key, least in needs.sweeps.items():
        values = min(len(config.swept(key, method)) for method in SWEEPS[key].methods)
        if values < least:
            return f"Needs {count(least, words(key)[:-1])}, and the sweep has {values or 'none'}"
    trained = {method for _, method in config.cells}
    absent = [method for method in evidence.methods if method not in trained]
    absent += [m for m in evidence.methods if m in trained and not set(needs.stages) <= set(config.stages(m))]
    if absent:
        labels = [method_label(config, method) for method in absent]
        return f"{enumerated(labels)} did not run through the {' and '.join(needs.stages)} stage"
    if needs.scope == "any":
        return "" if evidence.tasks else "No task ran with all methods of the claim"
    ran = f"{len(evidence.tasks) or 'none'} of its {len(wanted)} tasks ran with all methods"
    enough = evidence.tasks if needs.tasks == "some" else set(wanted) == set(evidence.tasks)
    parts = [*([] if enough else [ran]), *_few(departures)]
    return f"Not the paper's scale: {enumerated(parts)}" if parts else ""


def _incomplete(evidence: Evidence) -> list[str]:
    """The seeds that are missing and those that diverged, by name."""
    rows, labels = evidence.metrics, {task: task_label(evidence.config, task) for task in evidence.tasks}
    diverged = rows[(rows.status == "DIVERGED") & (rows.stage == evidence.stage)]
    diverged = diverged[["task", "method", "seed"]].drop_duplicates().to_numpy().tolist()
    seeds = range(evidence.config.scale.seeds)
    wanted = pd.MultiIndex.from_product([evidence.methods, seeds])
    lacking = evidence.final.reindex(index=wanted, columns=list(evidence.tasks)).isna()
    missing = [(task, *cell) for task in evidence.tasks for cell in lacking.index[lacking[task]]]

    def named(runs) -> str:
        return enumerated(first([f"seed {s} of {evidence.label(m)} on {labels[t]}" for t, m, s in runs]))

    sentences = [f"Missing: {named(missing)}"] if missing else []
    return sentences + ([f"Diverged, which leaves success 0 and no path KL: {named(diverged)}"] if diverged else [])
