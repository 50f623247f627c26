"""What the paper claims, as config/claims.yaml states it, with the numbers that paper/reported.csv prints."""

from inspect import signature
from pathlib import Path
from string import Formatter
from typing import Annotated, Any, Literal

import msgspec
import pandas as pd

from trqam.config.errors import UserError
from trqam.config.load import Config
from trqam.config.reading import read_yaml
from trqam.config.schema import Count, Name, Run
from trqam.config.strict import Strict, convert, shown
from trqam.config.sweeps import SWEEPS
from trqam.config.wording import enumerated
from trqam.report import protocol
from trqam.report.claims.rules import RULES, pooled_std
from trqam.report.collected import REPORTED
from trqam.report.protocol import Protocol
from trqam.report.selection import CLAIMS
from trqam.report.statistics import round_half_up

Published = dict[str, Any]

NAMES = {  # of thresholds, as readers meet them
    "tie": "pooled standard deviations within which methods tie",
    "fall": "fall from the best earlier evaluation",
    "floor": "least success that counts",
    "growth": "factor by which the adjoint loss has grown",
    "rare": "greatest share of TRQAM's runs",
    "least": "least share of the others' runs",
    "shortfall": "greatest distance below the budget",
    "tolerance": "greatest distance above the budget",
    "settled": "change of a multiplier that has settled",
    "jump": "difference between neighbouring budgets",
    "fitted": "least sweep to which a line is fitted",
    "margin": "difference that counts as none",
    "span": "factor that a sweep spans",
}


class Threshold(Strict):
    """A number of a rule; ``ours`` if the paper does not give it."""

    value: float
    unit: Literal["share", "points", "%", "factor", "seeds", "budgets"]
    ours: bool

    @property
    def text(self) -> str:
        """`10 %` for a share of 0.1, `20 points`, `2` for a factor."""
        number = f"{100 * self.value if self.unit == 'share' else self.value:g}"
        return number if self.unit == "factor" else f"{number} {'%' if self.unit == 'share' else self.unit}"


class Needs(Strict):
    """What must have run before a claim can be judged."""

    scope: Literal["paper", "any"]
    tasks: Literal["all", "some"] | list[Name]
    methods: list[Name]
    stages: Annotated[list[Literal["offline", "online"]], msgspec.Meta(min_length=1)]
    seeds: Count
    sweeps: dict[Literal[tuple(SWEEPS)], Count] = msgspec.field(default_factory=dict)  # type: ignore[valid-type]


class Claim(Strict):
    """One claim; config/claims.yaml explains each key."""

    title: str
    says: str
    printed: str
    source: str
    shown_on: str
    shown_tasks: Literal["all", "unknown"] | list[Name]
    measures: str
    rule: str
    decides: str
    thresholds: dict[str, Threshold]
    needs: Needs
    ours: bool = False


class PaperScale(Strict):
    """Which of the paper's settings a run need not share: never, or unless it is judged online."""

    beside: list[str]
    online: list[str]


class Interval(Strict):
    """How intervals are made."""

    level: Annotated[float, msgspec.Meta(gt=0, lt=1)]
    resamples: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
    narrow_below: Threshold


class Claims(Strict):
    """All of config/claims.yaml."""

    paper: str
    method: str
    paper_scale: PaperScale
    interval: Interval
    claims: Annotated[dict[Name, Claim], msgspec.Meta(min_length=1)]


def load(path: str | Path = CLAIMS) -> Claims:
    """Reads and checks the claims; a mistake is one line that names file, claim, key and fix."""
    claims = convert(read_yaml(path), Claims, str(path))
    keys = [*claims.paper_scale.beside, *claims.paper_scale.online]
    if unknown := [key for key in keys if key not in Run.__struct_fields__]:
        raise UserError(f"{path}: paper_scale: {unknown[0]}: no setting of a run; see Run in trqam/config/schema.py")
    for name, claim in claims.claims.items():
        where = f"{path}: claims: {name}"
        if claim.rule not in RULES:
            raise UserError(f"{where}: rule: there is no {claim.rule!r}; use one of {', '.join(RULES)}")
        _, *wanted = signature(RULES[claim.rule]).parameters
        if sorted(wanted) != sorted(claim.thresholds):
            takes = ", ".join(wanted) or "none"
            raise UserError(f"{where}: thresholds: {claim.rule} takes {takes}; give exactly these")
    return claims


def settled(claims: Claims) -> float | None:
    """The threshold of that name, which other rules than its own say something by; None where no claim has it."""
    given = (claim.thresholds.get("settled") for claim in claims.claims.values())
    return next((threshold.value for threshold in given if threshold), None)


def paper_scale(root: Path = CLAIMS.parents[1]) -> Protocol:
    """The record of the paper's settings below ``root``."""
    return protocol.read(root / "paper" / "protocol.json")


def published(name: str, claims: Claims, reported: pd.DataFrame, config: Config) -> Published:
    """The numbers that the paper prints for the claim ``name``; empty where it prints none.

    They are those of the rows of paper/reported.csv that have the paper as their source, whose other methods are the
    baselines; a later paper's are left out.
    """
    claim = claims.claims[name]
    rows = reported[reported.source.str.startswith(claims.paper) & (reported.phase == claim.needs.stages[-1])]
    if claim.rule not in ("lead", "best_or_tied") or (rows.empty and claim.rule == "lead"):
        return {}  # nothing is printed for the online stage
    if claims.method not in set(rows.method):
        raise UserError(f"{REPORTED}: method: no row of {claims.method} from {claims.paper}; restore the file from git")
    overall, single = rows[rows.domain == "all"], rows[rows.domain != "all"]
    if claim.rule == "best_or_tied":
        return _published_count(single, claims.method, claim.thresholds["tie"].value, config)
    means = overall.set_index("method")["mean"]
    ours, others = float(means[claims.method]), means.drop(claims.method)
    best, rival = float(others.max()), str(others.idxmax())
    return {"ours": ours, "best": best, "lead": ours - best, "rival": rival, "domains": single.domain.nunique()}


def _published_count(rows: pd.DataFrame, ours: str, tie: float, config: Config) -> Published:
    """The rule `best_or_tied` on the printed means; ``deviations`` are what its ties are measured in, by domain."""
    behind, deviations = [], {}
    for name, group in rows.groupby("domain", sort=False):
        domain, cells = str(name), group.set_index("method")
        own, best = cells.loc[ours], cells.drop(ours).sort_values("mean", kind="stable").iloc[-1]
        deviations[domain] = pooled_std(own["std"], best["std"])
        if own["mean"] < best["mean"] - tie * deviations[domain]:
            behind.append(config.domains[domain].label if domain in config.domains else domain)
    numbers = {"count": len(deviations) - len(behind), "domains": len(deviations), "deviations": deviations}
    return {**numbers, "behind": enumerated(behind) if behind else "none"}


UNITS = {"ours": " %", "best": " %", "lead": " points"}


def filled(text: str, numbers: Published, thresholds: dict[str, Threshold], where: str) -> str:
    """``text`` with its {names} replaced by published numbers and thresholds; in braces a name alone is read."""
    plain = {key: number for key, number in numbers.items() if not isinstance(number, dict)}
    values = {k: v if isinstance(v, str) else round_half_up(v) + UNITS.get(k, "") for k, v in plain.items()}
    values |= {key: threshold.text for key, threshold in thresholds.items()}
    known = ", ".join(f"{{{key}}}" for key in values) or "none"
    try:
        parts = list(Formatter().parse(text))
    except ValueError as error:
        raise UserError(f"{where}: cannot fill in ({error}); names that can be filled in: {known}") from None
    for _, name, form, conversion in parts:
        if name is not None and (name not in values or form or conversion):
            raise UserError(f"{where}: cannot fill in {{{shown(name)}}}; names that can be filled in: {known}")
    return "".join(before + (values[name] if name is not None else "") for before, name, _, _ in parts)
