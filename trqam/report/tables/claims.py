"""The verdict on each claim of the paper, and beneath it the rules."""

from dataclasses import dataclass

from trqam.report.claims import judge, statements
from trqam.report.claims.judge import Verdict
from trqam.report.collected import Collected, mixed_note
from trqam.report.selection import data_note
from trqam.report.tables import said


@dataclass(frozen=True)
class ClaimsTable:
    """A row a claim, in the order of config/claims.yaml."""

    caption: str
    rows: tuple[Verdict, ...]


def table(collected: Collected) -> ClaimsTable:
    """The verdicts, with how the numbers in brackets came about."""
    stated, verdicts = statements.load(collected.claims), judge.claims(collected)
    caption = f"The claims of {stated.paper} against this run. "
    caption += said("intervals", stated.interval) + data_note(collected.config) + mixed_note(collected)
    return ClaimsTable(caption, verdicts)
