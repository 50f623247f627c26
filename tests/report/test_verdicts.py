"""What benchmarks/verdicts.py finds of the rules' errors, with few draws; docs/verdicts.md has the whole table."""

import pytest

from benchmarks import verdicts
from tests.conftest import ROOT
from tests.helpers.campaigns import sampled
from trqam.report.claims.evidence import NOT_REPRODUCED, REPRODUCED

CASES = {  # a truth in which the claim holds, one in which it visibly does not, and the null or what looks like success
    "headline": ("the published table", "TRQAM 5 points behind the best other", "all methods alike"),
    "domains": ("TRQAM 5 points better", "TRQAM 10 points worse", "all methods alike"),
    "collapse": ("0 %, 30 % and 30 % of runs collapse", "0 %, 3 % and 3 % of runs collapse",
                 "30 %, 30 % and 30 % of runs collapse"),
    "budget": ("TRQAM 1, external 2 and 2", "all at 1", "TRQAM 1, external 5 and 2, both rising"),
    "smooth": ("90 to 37 %, evenly by budget", "a cliff of 60 points in the middle",
               "a cliff of 40 points at the first step"),
    "online": ("TRQAM 20 points ahead", "TRQAM 10 points behind the best other", "all methods alike"),
    "pretraining": ("TRQAM gains 40, the others lose 10", "all three gain 40", "TRQAM gains 40, QAM-E 20"),
}  # fmt: skip
DRAWS = 5


@pytest.mark.parametrize(("claim", "words"), sampled([*CASES.items()]))
def test_a_rule_tells_what_holds_from_what_does_not(claim, words):
    known = {truth.words: truth for truth in verdicts.truths() if truth.claim == claim}
    holds, fails, null = (verdicts.verdicts(known[name], 8, DRAWS) for name in words)
    assert [known[name].holds for name in words] == [True, False, False]
    assert holds[REPRODUCED] >= 3
    assert holds[NOT_REPRODUCED] == fails[REPRODUCED] == null[REPRODUCED] == 0
    assert fails[NOT_REPRODUCED] >= 3


def test_draws_have_the_noise_that_is_said():
    draw = verdicts.success({"qam": [verdicts.usual(50), verdicts.usual(100)]}, ("a", "b"))
    final, _ = draw(verdicts.stream(0, "tests"), 4000)
    assert final["a"].std() == pytest.approx(verdicts.NOISE, rel=0.05)
    assert final["a"].mean() == pytest.approx(50, abs=1)
    assert (final["b"] == 100).all()


def test_the_printed_table_is_that_of_the_present_thresholds():
    text = (ROOT / "docs/verdicts.md").read_text()
    assert f"`{verdicts.digest()}`" in text, "run `python -m benchmarks.verdicts` and put what it prints there"
    assert all(f"| {truth.words} |" in text for truth in verdicts.truths())
