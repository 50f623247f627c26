"""The benchmark: that it measures what it says, that its arithmetic holds, and that no result is lost or replaced."""

import os
import sys
from pathlib import Path

import msgspec
import pytest
import torch

from trqam import __main__
from trqam.config import load
from trqam.config.errors import UserError
from trqam.environments.processes import Here, Process
from trqam.operations.bench import PEER, Options, cases, measure, record, tables
from trqam.operations.bench.cases import Case, Turn, Updates, sized
from trqam.operations.bench.record import Concurrent, Measurement, Peak, Record

SHORT = Options(
    device="cpu", sizes=("profile",), methods=("behaviour_cloning", "trqam"), replicas=(1, 2), repeats=2, seconds=1e-3
)  # fmt: skip


def tiny() -> load.Config:
    """The tiny scale."""
    return load.load("tests/tiny.yaml")


def size(**changes) -> cases.Size:
    """The tiny scale's TRQAM, on a small environment."""
    loaded = tiny()
    run = msgspec.structs.replace(loaded.run(loaded.tasks[0], "trqam"), **changes)
    return sized("profile", run, 4, 2)


@pytest.fixture
def here(monkeypatch):
    """Everything in this process, and small products."""
    monkeypatch.setattr(measure, "Process", lambda function, name: Here(function))
    monkeypatch.setattr(measure, "cores", lambda: 2)
    monkeypatch.setattr(cases, "SQUARES", {"cpu": (16, 32)})


def row(size="paper", replicas=1, seconds=(1.0,), group="g", **changes) -> Measurement:
    """A row whose turns took these processor seconds an update, and twice as long."""
    turns = [Turn(2, 4 * s, 2 * s) for s in seconds]
    values = {"method": "trqam", "mode": "eager", "device": "cpu"} | changes
    counts = {"flops": 60 * replicas, "multiplied": 50 * replicas, "operators": 7, "peak": 3_000_000}
    return Measurement(group=group, size=size, replicas=replicas, turns=turns, **values, **counts)


def recorded(rows, peaks=(), gpu=None, **changes) -> Record:
    """A record of ``rows``."""
    peak = Peak(group="g", device="cpu", turns=[Turn(flops, 9, 1) for flops in peaks])
    values = {
        "created": "2026-01-02T03:04:05+00:00", "git_commit": "0123456789abcdef", "git_changes": False,
        "versions": {"torch": "2", "python": "3"}, "load": [0.0, 0.5], "repeats": 1, "seconds": 0.5,
        "hardware": {"cpu": "a processor", "cores": 2, "memory": 8.0, "gpu": gpu},
        "sizes": dict.fromkeys(("small", "profile", "paper"), "described"), "packed": {"paper": 1},
        "peaks": [peak] if peaks else [],
        "rows": rows, "concurrent": [], "skipped": ["compiled: a reason"],
    }  # fmt: skip
    return Record(**values | changes)


def test_a_whole_benchmark_is_saved_and_read_back(here, tmp_path, capsys):
    saved: list[record.Record] = []
    found = measure.measure(tiny(), SHORT, saved.append)
    record.save(found, tmp_path / "bench.json")
    assert record.load(tmp_path / "bench.json") == found
    kinds = [(row.group, row.method, row.replicas) for row in found.rows]
    replicas, methods = "profile: replicas of trqam", "profile: methods"
    assert kinds == [(replicas, "trqam", 1), (replicas, "trqam", 2)] + [(methods, m, 1) for m in SHORT.methods]
    assert {peak.group for peak in found.peaks} == {replicas, methods}
    assert all(len(row.turns) == SHORT.repeats for row in (*found.rows, *found.peaks))
    assert [len(turns) for turns in found.concurrent[0].together] == [2, 2]
    assert {row.mode for row in found.rows} == {"captured"}  # as a long training of networks this small
    text = tables.described(found)
    assert "behaviour_cloning" in text
    assert [(len(part.rows), len(part.concurrent)) for part in saved] == [(2, 0), (4, 0), (4, 1), (4, 1)]
    assert [measure.UNFINISHED in part.skipped for part in saved] == [True] * 3 + [False]
    assert saved[-1] == found


@pytest.mark.parametrize("devices", [("cuda",), ("cpu",)])  # noise from NumPy, or drawn by the step itself
def test_updates_learn_and_count_their_work(monkeypatch, devices):
    monkeypatch.setattr(cases, "DEVICES", devices)
    updates = Updates(Case(size=size(), replicas=3))
    updates("prepare")
    state, before = updates._parts["state"], updates._parts["state"].step.item()
    noise = updates._parts["batches"]()[1]["adj_x0"].clone()
    turn = updates(1e-9)
    assert state.step.item() == before + turn.units == before + 1
    assert not torch.equal(noise, updates._parts["batches"]()[1]["adj_x0"])
    facts = updates("facts")
    assert 0.8 * facts["flops"] < facts["multiplied"] <= facts["flops"]


def test_updates_run_in_a_process_of_their_own():
    process = Process(Updates(Case(size=size(hidden_width=4))), "case")
    try:
        process.send("prepare")
        process.receive(60)
        process.send(0.01)
        assert process.receive(60).units >= 1
    finally:
        process.close()


def test_a_turn_drops_a_short_first_call_and_keeps_a_long_one(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(cases.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(cases.time, "process_time", lambda: clock[0] / 2)
    lengths = iter([1.0, 2.0, 2.0, 2.0, 50.0])

    def call() -> float:
        clock[0] += next(lengths)
        return 10.0

    assert cases.timed(call, 6.0, "cpu") == Turn(30.0, 6.0, 3.0)
    assert cases.timed(call, 6.0, "cpu") == Turn(10.0, 50.0, 25.0)


def test_what_cannot_run_is_skipped_and_said(here, monkeypatch):
    class Refusing(Updates):
        def _prepare(self):
            if self.case.replicas == 2:
                raise RuntimeError("a traceback\nTypeError: not here")
            super()._prepare()

    monkeypatch.setattr(measure, "Updates", Refusing)
    bench = measure._Bench(tiny(), SHORT)
    list(bench.updates())
    assert [row.replicas for row in bench.found["rows"]] == [1, 1, 1]
    assert "profile, trqam, R = 2, captured: TypeError: not here" in bench.skipped


def test_ratios_are_of_turns_that_followed_one_another():
    """Slow turns are slow for both: medians of ratios see no difference that ratios of medians would."""
    one, four = row(seconds=(1.0, 10.0, 2.0)), row(replicas=4, seconds=(2.0, 20.0, 40.0))
    found = recorded([one, four], peaks=(120, 12, 60))
    assert record.ratio(four, one) == pytest.approx(0.5)
    assert found.one(four) == one
    assert found.share(one) == pytest.approx(0.5)
    assert one.updates == pytest.approx(1 / 2)
    assert one.waiting == pytest.approx(2)


def test_the_share_of_products_is_judged():
    for seconds, met in ((0.72, True), (0.74, False)):
        (share,) = tables.verdicts(recorded([row(seconds=(seconds,))], peaks=(120,)))  # nothing else was measured
        assert (share.target, share.met) == (">= 69 %", met)


@pytest.mark.parametrize(("size", "replicas", "seconds", "met"), [
    ("small", 8, 5.5, True), ("small", 8, 5.7, False), ("profile", 8, 3.1, True), ("profile", 8, 3.3, False),
    ("paper", 4, 3.9, True), ("paper", 4, 4.1, False),  # met with a default of one, whatever it brings
])  # fmt: skip
def test_stacking_is_judged(size, replicas, seconds, met):
    found = recorded([row(size), row(size, replicas, (seconds,))], packed={"paper": 4})
    alone = tables.verdicts(msgspec.structs.replace(found, packed={"paper": 1}))
    assert all(v.met for v in alone if v.what.startswith("paper, R = 4:"))
    judged = [v for v in tables.verdicts(found) if v.what.startswith(f"{size}, R = {replicas}:")]
    assert [v.met for v in judged] == [met]


def test_two_processes_are_judged_by_wall_time():
    for wall, met in ((1.1, True), (1.12, False)):
        beside = Concurrent(size="paper", method="trqam", alone=[Turn(2, 1, 1)], together=[[Turn(2, wall, 1)] * 2])
        assert tables.verdicts(recorded([], concurrent=[beside]))[-1].met is met
        assert beside.throughput("cpu") == 2


def test_a_gpu_counts_the_clock_and_is_judged_elsewhere():
    measured = row("paper", 1, (1.0,), mode="captured", device="cuda")
    assert measured.seconds == [2.0]
    assert tables.verdicts(recorded([measured], gpu="a card")) == []


def call(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["trqam", "--config", "tests/tiny.yaml", "bench", *map(str, words)])
    __main__.main()


def test_a_result_is_never_replaced_in_silence(monkeypatch, tmp_path, capsys):
    out = tmp_path / "bench.json"
    record.save(recorded([row()]), out)

    def measured(*_, save):
        save(found := recorded([row(seconds=(3.0,))]))
        return found

    monkeypatch.setattr(measure, "measure", measured)
    with pytest.raises(SystemExit) as refused:
        call(monkeypatch, "--out", out)
    assert refused.value.code == 2
    assert "exists" in capsys.readouterr().err
    assert record.load(out) == recorded([row()])
    call(monkeypatch, "--out", out, "--force")
    assert record.load(out) == recorded([row(seconds=(3.0,))])


def test_a_damaged_record_is_one_line(tmp_path):
    path = tmp_path / "bench.json"
    path.write_text('{"created": 3}')
    with pytest.raises(UserError, match=r"bench\.json: git_commit: missing"):
        record.load(path)
    record.save(recorded([row(seconds=(1.0, 2.0))], peaks=(1,)), path)
    with pytest.raises(UserError, match=r"bench\.json: turns of unequal number"):
        record.load(path)


@pytest.mark.parametrize("command", ["trqam bench", "trqam bench --peer"])
def test_the_readme_holds_what_the_tool_prints(command):
    kept = [record.load(path) for path in sorted(record.FOLDER.glob("*.json"))]
    printed = [tables.described(one) for one in kept if bool(one.pairs) == ("--peer" in command)]
    begin, end = f"<!-- begin: {command} -->", f"<!-- end: {command} -->"
    shown = Path("benchmarks/README.md").read_text().split(begin)[1].split(end)[0].strip()
    assert shown in (printed or [""])


class StandIn(Updates):
    """In the peer's place, as if JAX had run the updates."""

    def __call__(self, message):
        answer = super().__call__(message)
        return answer | {"compiled": COMPILED} if message == "facts" else answer

    def _prepare(self):
        self.case = msgspec.structs.replace(self.case, mode="eager")
        super()._prepare()


COMPILED = {"version": "1.2", "way": "stacked", "seconds": 3.21}
BESIDE = PEER._replace(sizes=("profile",), methods=("trqam",), replicas=(2, 1), repeats=2, seconds=1e-3)


@pytest.fixture
def stand_in(here, monkeypatch):
    monkeypatch.setattr(measure.peer, "Peer", StandIn)
    monkeypatch.setattr(measure.peer.util, "find_spec", lambda name: True)


def test_the_peer_takes_turns_with_every_case(stand_in, tmp_path):
    before = os.sched_getaffinity(0)
    found = measure.measure(tiny(), BESIDE, lambda record: None)
    assert os.sched_getaffinity(0) == before
    record.save(found, tmp_path / "bench.json")
    assert record.load(tmp_path / "bench.json") == found
    assert [(ours.replicas, ours.mode, theirs.mode) for ours, theirs in found.pairs] == [
        (2, "captured", "jax"),
        (1, "captured", "jax"),
    ]
    assert not found.concurrent
    text = tables.described(found)
    assert "**profile: beside JAX 1.2**" in text
    assert [line.count("stacked") for line in text.splitlines() if line.startswith("| trqam")] == [1, 0]


@pytest.mark.parametrize(
    ("replicas", "seconds", "found"),
    [
        (2, 2.0, ["1000", "2500", "0.50", "--", "0.20", "stacked", "9.87", "3.21"]),
        (8, 2.0, ["250", "625", "0.50", "<= 0.60, met", "0.80", "stacked", "9.87", "3.21"]),
        (8, 6.4, ["800", "625", "0.80", "<= 0.60, NOT met", "0.80", "stacked", "9.87", "3.21"]),
    ],
)
def test_the_ratio_is_ours_by_the_peers_a_replica_beside_what_is_asked_for(replicas, seconds, found):
    compiled = msgspec.convert(COMPILED, record.Compiled)
    ours = row("paper", replicas, (1.0, 10.0, seconds), built=9.87)
    theirs = row("paper", replicas, (2.0, 5.0, 8.0), mode="jax", compiled=compiled)
    told = tables.described(recorded([ours, theirs], peaks=(100, 100, 1000))).splitlines()
    (line,) = [line for line in told if line.startswith("| trqam")]
    assert [cell.strip() for cell in line.split("|")[4:12]] == found


def test_one_core_is_for_what_starts_meanwhile():
    before = os.sched_getaffinity(0)
    with measure.peer.one_core():
        assert os.sched_getaffinity(0) == {max(before)}
    assert os.sched_getaffinity(0) == before


def test_the_longest_is_left_out_unless_asked_for(stand_in, monkeypatch):
    groups = []
    monkeypatch.setattr(measure._Bench, "group", lambda self, name, cases: groups.append(name))
    options = BESIDE._replace(sizes=("paper",), replicas=None)
    bench = measure._Bench(tiny(), options)
    list(bench.beside())
    assert groups == ["paper: trqam beside JAX, R = 1", "paper: trqam beside JAX, R = 3"]
    assert any(line.startswith("paper, R = 8: ") for line in bench.skipped)
    list(measure._Bench(tiny(), options._replace(replicas=(8,))).beside())
    assert groups[2:] == ["paper: trqam beside JAX, R = 8"]


@pytest.mark.parametrize(("words", "absent", "said"), [
    ((), "jax", "--peer: package jax: missing; pip install -e '.[peer]'"),
    ((), "benchmarks", "--peer: no benchmarks/peer_jax.py; run python -m trqam from the root of a checkout"),
    (("--methods", "behaviour_cloning"), "", "--peer: behaviour_cloning is not written in JAX; "
     "these agents are: trqam, qam, fql, ifql, dsrl"),
])  # fmt: skip
def test_what_the_peer_cannot_do_is_one_line(monkeypatch, capsys, tmp_path, words, absent, said):
    monkeypatch.setattr(measure.peer.util, "find_spec", lambda name: None if name == absent else True)
    with pytest.raises(SystemExit) as refused:
        call(monkeypatch, "--peer", "--out", tmp_path / "bench.json", *words)
    assert refused.value.code == 2
    assert capsys.readouterr().err == f"trqam: error: {said}\n"


def test_numbers_have_three_digits_and_no_exponent():
    assert [tables.number(value) for value in (0.01234, 1.0, 123.4, 98765.0)] == ["0.0123", "1", "123", "98800"]
