"""The crash campaign, shortened; docs/reliability.md has the whole."""

from collections import Counter

import pytest

from tests.chaos.campaign import campaign
from tests.chaos.events import into, read, table
from tests.chaos.soak import Measured, growth, soak
from tests.chaos.world import ROOT


def bad(events):
    return [f"{event.kind}: {event.details}: {event.why}" for event in events if not event.good]


CAMPAIGNS = {  # events of each kind, how many there are at least, and of some kinds exactly
    "kills": ({"kills": 14, "fresh": 1}, 14, {}),
    "damage": ({"truncations": 5, "flips": 5, "lost": 2}, 12, {}),
    "writes": ({"writes": 7}, 14, {"file size limit": 7, "no permission": 7}),
    "poison": ({"poison": 3}, 12, {}),
}


@pytest.mark.campaign
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("only", "least", "kinds"), CAMPAIGNS.values(), ids=CAMPAIGNS)
def test_failures_at_random_instants_and_places_lose_nothing(only, least, kinds, tmp_path):
    events = campaign(tmp_path, seed=1, only=only)
    assert bad(events) == []
    assert len(events) >= least
    assert kinds.items() <= Counter(event.kind for event in events).items()


def test_the_document_holds_the_recorded_table():
    text = (ROOT / "docs/reliability.md").read_text()
    events = read(ROOT / "docs/campaign.jsonl")
    assert "\n".join(table(events)) in text
    assert all(event.good for event in events)
    assert sum(event.kind.startswith("SIGKILL") for event in events) >= 200
    counts = Counter(event.kind for event in events)
    assert counts["a checkpoint's file truncated"] == counts["a checkpoint's file with a bit flipped"] == 100


@pytest.mark.campaign
def test_the_soak_measures_memory_and_checkpoints(tmp_path):
    measured = soak(tmp_path, 400, "offline")
    assert [at.step for at in measured[:20]] == list(range(20, 401, 20))
    assert max(at.checkpoints for at in measured) == 2
    assert growth(measured) < 0.01


def test_growth_is_that_after_the_warm_up():
    flat = [Measured(step, 1000, 2, 1.0) for step in range(1, 10)]
    assert growth([Measured(0, 1, 1, 1.0), *flat]) == 0
    assert growth([*flat, Measured(10, 1010, 2, 1.0)]) == pytest.approx(0.01)


def test_a_table_is_put_between_its_comments(tmp_path):
    document = tmp_path / "document.md"
    document.write_text("a\n<!-- begin: it -->\nold\n<!-- end: it -->\nb\n")
    for _ in range(2):
        into(document, "it", ["new", "lines"])
        assert document.read_text() == "a\n<!-- begin: it -->\nnew\nlines\n<!-- end: it -->\nb\n"
    with pytest.raises(SystemExit, match="lacks the lines"):
        into(document, "another", [])
