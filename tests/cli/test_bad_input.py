"""The corpus of tests/bad: one line that names file, key and fix, exit code 2, nothing run and nothing changed."""

import shutil

import pytest

from tests.bad import corpus

CASES = corpus.cases()


@pytest.mark.parametrize("case", CASES[::8], ids=lambda case: case.id)
def test_bad_input_is_one_line(case, users_folder, tmp_path):
    """A sample: `make campaigns` has all."""
    outcome, faults = corpus.judge(case, users_folder, tmp_path)
    assert not faults, outcome.stderr


@pytest.mark.campaign
@pytest.mark.parametrize("group", sorted({case.group for case in CASES}))
def test_every_bad_input_is_one_line(group, users_folder, tmp_path):
    wrong = {}
    for number, case in enumerate(case for case in CASES if case.group == group):
        outcome, faults = corpus.judge(case, users_folder, tmp_path / str(number))
        if faults:
            wrong[case.name] = (faults, outcome.stderr)
        shutil.rmtree(tmp_path / str(number))
    assert wrong == {}


def test_the_corpus_is_large_and_names_no_case_twice():
    assert len(CASES) >= 160
    assert len({case.id for case in CASES}) == len(CASES)


def test_a_command_that_says_nothing_changes_something_or_fails_otherwise_is_found():
    """The judge itself: each fault that it looks for."""
    case = corpus.Case("", "", [], ["batch_size"], {})
    good = corpus.Outcome(2, "", "trqam: error: scale.yaml: batch_size: found 0; write 1\n", 0.0)
    assert corpus.faults(case, good, {"a": "1"}, {"a": "1"}) == []
    worse = [
        corpus.Outcome(1, "", good.stderr, 0.0),
        corpus.Outcome(2, "said", good.stderr, 0.0),
        corpus.Outcome(2, "", "", 0.0),
        corpus.Outcome(2, "", good.stderr * 2, 0.0),
        corpus.Outcome(2, "", "trqam: error: scale.yaml: batch_size\n", 0.0),
        corpus.Outcome(2, "", good.stderr.replace("batch_size", "seeds"), 0.0),
        corpus.Outcome(2, "", good.stderr.replace("found 0", "expected `int`"), 0.0),
        corpus.Outcome(2, "", good.stderr.replace("found 0", "found \x1b[2J"), 0.0),
    ]
    for outcome in worse:
        assert corpus.faults(case, outcome, {}, {}), outcome
    for after in ({"a": "2"}, {}, {"a": "1", "canary": ""}):
        assert corpus.faults(case, good, {"a": "1"}, after)[0].startswith("changed: ")
