"""The verdict on each claim of the paper, and beneath it the rules."""

from dataclasses import dataclass

from trqam.report.claims import judge, statements
from trqam.report.claims.judge import Verdict
from trqam.report.claims.statements import Interval
from trqam.report.collected import Collected, mixed_note
from trqam.report.selection import data_note


@dataclass(frozen=True)
class ClaimsTable:
    """``rules`` are (title, how it is measured and decided)."""

    caption: str
    rows: tuple[Verdict, ...]
    rules: tuple[tuple[str, str], ...]


def table(collected: Collected) -> ClaimsTable:
    """A row a claim, in the order of config/claims.yaml."""
    stated, verdicts = statements.load(collected.claims), judge.claims(collected)
    caption = f"The claims of {stated.paper} against this run. {judge.summary(verdicts)} {intervals(stated.interval)}"
    caption += data_note(collected.config) + mixed_note(collected)
    return ClaimsTable(caption, verdicts, tuple((v.title, rule(v)) for v in verdicts))


def intervals(interval: Interval) -> str:
    """How the numbers in brackets came about."""
    return (
        f"Brackets: {100 * interval.level:g} % intervals of a bootstrap over seeds, stratified by task; of a share of "
        f"runs, Wilson's. With fewer than {interval.narrow_below.text} (our choice) the bootstrap's are too narrow: "
        "the range over seeds, printed after them where it is wider, decides as well. What starts from cloning "
        "starts in every seed from the one cloned policy of its domain: intervals are conditional on that policy, and "
        "what another cloning would change is in none of them."
    )


def rule(verdict: Verdict) -> str:
    """What is measured, what that decides, which thresholds are ours, and where the claim stands."""
    ours = statements.chosen(verdict.thresholds)
    chosen = f" Of our choosing: {ours}." if ours else ""
    if verdict.ours:
        whose = "This claim is ours and not the paper's, which does not make it in these words; it goes back to"
        return f"{verdict.measures} {verdict.rule}{chosen} {whose} {verdict.source}."
    here = "" if verdict.shown_here else ", not among the tasks of this run"
    return f"{verdict.measures} {verdict.rule}{chosen} Claimed in {verdict.source}; shown on {verdict.shown_on}{here}."
