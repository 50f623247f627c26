"""The corpus of tests/bad: one line that names file, key and fix, exit code 2, nothing run and nothing changed."""

import os
from pathlib import Path

import pytest

from tests.bad import corpus, world

CASES = corpus.cases()


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """The user's folder, made once and copied for every case."""
    folder, before = tmp_path_factory.mktemp("world"), Path.cwd()
    os.chdir(folder)
    try:
        world.build(folder)
    finally:
        os.chdir(before)
    return folder


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_bad_input_is_one_line(case, model, tmp_path):
    outcome, faults = corpus.judge(case, model, tmp_path)
    assert not faults, outcome.stderr


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
