"""The crash campaign, shortened; docs/reliability.md has the whole."""

from collections import Counter

import pytest

from tests.chaos.campaign import campaign
from tests.chaos.events import table


def bad(events):
    return [f"{event.kind}: {event.details}: {event.why}" for event in events if not event.good]


def test_kills_at_random_instants_lose_nothing(tmp_path):
    events = campaign(tmp_path, seed=1, only={"kills": 14, "fresh": 1})
    assert bad(events) == []
    assert len(events) >= 14
    assert table(events)[-1].startswith(
        f"| **all** | **{len(events)}** | **{len(events)}** | **0** | **{len(events)}**"
    )


def test_damaged_checkpoints_cost_one_generation_and_all_damaged_is_refused(tmp_path):
    events = campaign(tmp_path, seed=1, only={"truncations": 5, "flips": 5, "lost": 2})
    assert bad(events) == []
    assert len(events) == 12


def test_refused_writes_are_one_line_and_keep_what_was_saved(tmp_path):
    events = campaign(tmp_path, seed=1, only={"writes": 7})
    assert bad(events) == []
    kinds = Counter(event.kind for event in events)
    assert {"file size limit": 7, "no permission": 7}.items() <= kinds.items()


@pytest.mark.filterwarnings("ignore")
def test_numbers_that_are_not_finite_are_noticed_and_never_saved(tmp_path):
    events = campaign(tmp_path, seed=1, only={"poison": 3})
    assert bad(events) == []
    assert len(events) == 12
