"""What `trqam status` says, of files made as the trainer makes them and beside a real training."""

import os
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest
import torch

from tests.conftest import ROOT
from tests.helpers.fake_results import full_config, paper_config
from trqam.config import load as config
from trqam.experiment import checkpoint, published, survey
from trqam.experiment import run as runs
from trqam.experiment.files import write_json
from trqam.experiment.lock import Owner
from trqam.experiment.run import cell_of, pretraining_cell
from trqam.experiment.survey import DIVERGED, DONE, RUNNING, WAITING
from trqam.operations import status as screen
from trqam.operations.status import status
from trqam.report.record import asked_for

POINT = "pointmaze-medium-navigate-singletask-task2-v0"
HOLD = """
import sys
from pathlib import Path
from trqam.experiment.lock import held
with held([Path(path) for path in sys.argv[1:]]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A function that loads the tiny scale's one maze in a folder of its own."""
    for name in ("config", "tests"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    return lambda **changes: config.load("tests/tiny.yaml", {"tasks": [POINT], **changes})


def save(cell, run, stage, step, total, block, success=0.5, seconds=100.0):
    """A checkpoint at ``step``, published if the stage has ended; 2 seconds a step of the whole block."""
    rows = [{"step": at, "status": "OK", "success": success} for at in range(10, step + 1, 10)]
    timing = [{"step": step, "seconds": seconds, "evaluation_seconds": 1.0, "updates_per_second": 1.0}]
    if stage == "offline" and step != total:  # the untrained policy's evaluation is no part of the speed
        timing = [{**timing[0], "step": 0, "seconds": 500.0}, {**timing[0], "seconds": 500.0 + seconds}]
    record = runs.new_record(run, stage, cell.seed, block) | {"rows": rows, "timing": timing}
    checkpoint.save(cell.directory(stage), step, {"step": torch.zeros(1)}, record)
    if step == total:
        published.publish(cell, run, stage, record)
    return record


def diverge(cell, run, stage, step, block):
    record = save(cell, run, stage, step, None, block)
    record["rows"].append({"step": step, "status": "DIVERGED"})
    write_json(cell.diverged, record)
    return record


@contextmanager
def held(*cells):
    """Another process that trains ``cells``, as far as locks tell; its id."""
    paths = [str(cell.lock) for cell in cells]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = subprocess.Popen([sys.executable, "-c", HOLD, *paths], text=True, **pipes)
    try:
        assert process.stdout.readline() == "held\n"
        yield process.pid
    finally:
        process.communicate("")


def text(what):
    """All lines, or those of a scale's status, in one."""
    return " ".join(" ".join(what if isinstance(what, list) else status(what)).split())


def row(lines, label, after=""):
    """The numbers of a row of the table, the first after the line ``after``."""
    start = lines.index(after) if after else 0
    return next(line[28:].split() for line in lines[start:] if line[:28].strip() == label)


def test_every_state_is_seen(tiny):
    loaded = tiny(seeds=4, offline_steps=100, seeds_per_job=4)
    run, cells = loaded.run(POINT, "trqam"), [cell_of(loaded, POINT, "trqam", seed) for seed in range(4)]
    save(cells[0], run, "offline", 100, 100, [0, 1], success=1.0, seconds=40.0)
    save(cells[1], run, "offline", 50, 100, [1, 2], success=0.5, seconds=30.0)
    record = diverge(cells[2], run, "offline", 50, [1, 2])
    with held(cells[1]) as pid:
        found = {(s.stage, s.cell.seed): s for s in survey.survey(loaded) if s.run.method == "trqam"}
        assert [found["offline", seed].state for seed in range(4)] == [DONE, RUNNING, DIVERGED, WAITING]
        assert [found["online", seed].state for seed in range(4)] == [WAITING, WAITING, DIVERGED, WAITING]
        running = found["offline", 1]
        assert (running.step, running.left, running.holder.pid, running.success) == (50, 50, pid, 0.5)
        assert running.holder.since <= time.time()
        assert running.pace == pytest.approx(30 / (50 * 2))
        assert found["offline", 0].pace == pytest.approx(40 / (100 * 2))
        lines = status(loaded)
    assert lines[0].endswith("1 of 21 done, 1 running, 17 waiting, 2 diverged")
    assert row(lines, "TRQAM", "Offline") == ["1", "1", "1", "1", "4", "50", "%"]  # the diverged one counts as 0
    assert row(lines, "Pretraining") == ["·", "·", "1", "·", "·", "·"]
    said = text(lines)
    assert "trqam pointmaze-medium task 2, seed 1, offline: 50 %, step 50/100, saved " in said
    assert f"process {pid} on " in said
    assert f"trqam clean {POINT} trqam --seed 2" in said
    assert "next wait; 1 run running" in said
    published.publish(cells[2], run, "offline", record)
    assert {(s.stage, s.cell.seed): s.state for s in survey.survey(loaded)}["offline", 2] == DIVERGED
    assert row(status(loaded), "TRQAM", "Offline") == ["1", "·", "2", "1", "4", "50", "%"]  # let go of: interrupted


def test_what_is_left_takes_as_long_as_what_was_timed(tiny):
    loaded = tiny(seeds=2, offline_steps=100, online_steps=100, pretrain_steps=20, methods=["trqam"])
    run, cells = loaded.run(POINT, "trqam"), [cell_of(loaded, POINT, "trqam", seed) for seed in range(2)]
    cloning = pretraining_cell(loaded, "pointmaze-medium-navigate")
    save(cloning, loaded.pretraining(cloning.path.name), "pretrain", 20, 20, [0], seconds=200.0)
    assert "3 min of training so far; `trqam plan` measures what all of it will take" in text(loaded)
    save(cells[0], run, "offline", 100, 100, [0, 1], seconds=7200.0)
    left = (100 + 200) * 36  # offline of seed 1, online of both, by the only method's pace
    assert survey_left(loaded) == left == 3 * 3600
    assert "63 min of training so far, 3.0 h left for one job at a time" in text(loaded)


def test_two_jobs_take_half_as_long(tiny, monkeypatch):
    loaded = tiny(seeds=2, offline_steps=100, methods=["trqam"])
    run, cells = loaded.run(POINT, "trqam"), [cell_of(loaded, POINT, "trqam", seed) for seed in range(2)]
    cloning = pretraining_cell(loaded, run.domain)
    save(cloning, loaded.pretraining(run.domain), "pretrain", 20, 20, [0], seconds=20.0)
    for cell in cells:
        save(cell, run, "offline", 50, 100, [cell.seed], seconds=50 * 3600.0)
    monkeypatch.setattr(survey, "holder_of", lambda cell: Owner("host", "", cell.seed, None, 0.0))
    found, now = list(survey.survey(loaded)), 1.8e9
    left = 3600 * 2 * (100 - 50 + 20)  # offline and online
    assert survey_left(loaded) == left
    text = screen._time(found, screen.Paces(found), now)
    assert text.endswith(f"; with 2 jobs at a time, as now, until {screen.clock(now + left / 2, now)}")


def survey_left(loaded):
    found = list(survey.survey(loaded))
    return pytest.approx(screen.Paces(found).left(found))


def test_what_to_do_next(tiny):
    loaded = tiny(seeds=1, methods=["trqam"])
    command = "snakemake --cores all paper --configfile tests/tiny.yaml"
    assert status(loaded)[-1] == f"next      {command}"
    assert status(loaded, ["seeds=1", "tasks=[a b]"], 120)[-1].endswith(" --config seeds=1 'tasks=[a b]'")
    run, cell = loaded.run(POINT, "trqam"), cell_of(loaded, POINT, "trqam", 0)
    save(cell, run, "offline", 10, 20, [0])
    assert "what was interrupted goes on" in text(loaded)
    save(cell, run, "offline", 20, 20, [0])
    save(cell, run, "online", 20, 20, [0])
    cloning = pretraining_cell(loaded, run.domain)
    save(cloning, loaded.pretraining(run.domain), "pretrain", 20, 20, [0])
    assert "the paper is to be made" in text(loaded)
    paper = loaded.results / "paper/paper.pdf"
    drawn = [paper.parent / name for name in ("collected.json", "figures/curves.pdf", "tables/success.tex")]
    for path in [*drawn, paper]:
        path.parent.mkdir(exist_ok=True, parents=True)
        path.touch()
    made = {"made_from": "", "files": {}}
    write_json(drawn[0], made | {"asked_for": asked_for(tiny(seeds=1, methods=["trqam"], chosen="other words"))})
    paper.touch()
    assert "the paper is to be made" in text(loaded)
    write_json(drawn[0], made | {"asked_for": asked_for(loaded)})
    for path in [*drawn[1:], paper]:
        path.touch()
    assert status(loaded)[-1].startswith(f"next      all is done: read {paper}")
    for path in drawn:  # copied without its time: Snakemake would draw what is older than what it is made from
        os.utime(path, (1e9, 1e9))
        assert "the paper is to be made" in text(loaded)
        path.touch()
        paper.touch()
        for later in drawn[drawn.index(path) :]:
            later.touch()
        paper.touch()


def test_what_the_paper_refuses_is_said_as_it_says_it(tiny):
    loaded, run = tiny(seeds=2, methods=["qam"]), tiny().run(POINT, "qam")
    cells = [cell_of(loaded, POINT, "qam", seed) for seed in range(2)]
    for cell in cells:
        for stage in ("offline", "online"):
            save(cell, run, stage, 20, 20, [0, 1])
    assert "problem" not in text(loaded)
    rate = text(status(tiny(seeds=2, methods=["qam"], learning_rate=0.01), width=1000))
    assert "problem 4 runs trained with another configuration than today's" in rate
    assert "--set learning_rate=0.01 " in rate
    assert "clean --outdated" in rate
    assert "next see the first problem" in rate
    assert "problem" not in text(tiny(seeds=2, methods=["qam"], learning_rate=0.01, mixed=True))
    (cells[1].path / "online.csv").write_text("step\n")
    damaged = text(status(loaded, width=1000))
    assert "qam/seed1/online.csv: not what was published with online.json" in damaged
    assert "next see the first problem" in damaged


@pytest.mark.parametrize(("make", "widths"), [(full_config, (80, 100, 120)), (paper_config, (80,))])
def test_lines_are_as_wide_as_the_screen(make, widths, tmp_path, monkeypatch):
    loaded = make()
    monkeypatch.chdir(tmp_path)
    first = {method: task for task, method in reversed(loaded.cells)}
    for method, task in first.items():  # every method has begun
        cell_of(loaded, task, method, 0).directory("offline").mkdir(parents=True)
        record = '{"record": {"block": [0], "timing": [], "rows": []}}'
        (cell_of(loaded, task, method, 0).directory("offline") / "step000000200.json").write_text(record)
    holder = Owner("a-host-of-a-cluster-with-a-long-name.example.org", "", 1234567, None, 0.0)
    monkeypatch.setattr(survey, "holder_of", lambda cell: holder if cell.seed == 0 else None)
    for width in widths:
        lines = status(loaded, width=width)
        assert max(map(len, lines)) <= width
        assert len(lines) <= 61
        for method in [*loaded.compared[1:], *loaded.scale.ablations]:
            assert len(row(lines, loaded.methods[method].label)) == 6


def test_a_checkpoint_that_is_replaced_meanwhile_is_looked_for_again(tiny, monkeypatch):
    loaded = tiny()
    cell, run = cell_of(loaded, POINT, "qam", 0), loaded.run(POINT, "qam")
    save(cell, run, "offline", 10, 20, [0])
    answers = [[5], [10]]
    monkeypatch.setattr(checkpoint, "recorded", lambda directory: answers.pop(0))
    found = survey.RunFolder(cell, run, "offline").newest
    assert (found.step, found.record.block, found.problem) == (10, [0], None)


def test_beside_a_training(load, tmp_path):
    loaded = load(tasks=[POINT], pretrain_steps=200)
    command = [sys.executable, "-m", "trqam", "--config", "tests/tiny.yaml", "--set", "pretrain_steps=200"]
    command += ["--set", f"data_dir={loaded.scale.data_dir}", "--set", f"tasks=[{POINT}]", "pretrain"]
    process = subprocess.Popen([*command, "pointmaze-medium-navigate"], stderr=subprocess.DEVNULL)
    seen = []
    while not seen or seen[-1].state != DONE:
        ended = process.poll() is not None
        seen.append(next(survey.survey(loaded)))
        assert seen[-1].state == DONE or not ended
        time.sleep(0.02)
    steps = [standing.step for standing in seen]
    assert process.wait() == 0
    assert steps == sorted(steps)
    assert steps[-1] == 200
    running = [standing for standing in seen if standing.state == RUNNING]
    assert {standing.holder.pid for standing in running} == {process.pid}
    assert any(standing.pace and 0 < standing.step < 200 for standing in running)


def test_it_is_read_without_torch(tiny):
    code = (
        "import sys; from trqam.__main__ import main; main(); assert not {'torch', 'pandas', 'numpy'} & {*sys.modules}"
    )
    command = [sys.executable, "-c", code, "--config", "tests/tiny.yaml", "status"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("results/tiny (tests/tiny.yaml), ")
    assert not [line for line in done.stdout.splitlines() if line.startswith(" " * 10)]  # in a pipe a line an item
