"""Stopping before the end: when, at any step or inside an evaluation, and going on to the same bytes."""

import os
import signal
import sys

import pytest

from tests.training.test_training import POINT, assert_same
from trqam.__main__ import main
from trqam.config.errors import Stopped, UserError
from trqam.environments.pool import Fleet
from trqam.experiment import checkpoint
from trqam.experiment.run import cell_of
from trqam.training import stop as stopping
from trqam.training.blocks import pretrain, train
from trqam.training.stop import Stop, listening, seconds_left

pytestmark = pytest.mark.usefixtures("short_episodes")


class At(Stop):
    """A stop that is due at the ``look``-th look at a step; while there is an evaluation, the first ones are in it."""

    def __init__(self, step, look=1):
        super().__init__()
        self.step, self.look, self.trainer = step, look, None

    def begin(self):
        self.trainer = sys._getframe(1).f_locals["self"]  # who calls
        super().begin()

    def due(self):
        if self.trainer is not None and self.trainer.step == self.step:
            self.look -= 1
            if self.look == 0:
                self.ask("enough")
        return super().due()


PIECES = {
    "pretrain": [(1,), (2,), (5,), (8,), (10,), (19,)],
    "offline": [(0, 1), (0, 7), (3,), (10, 4), (10, 9), (15,), (20, 2), (20, 1)],
    "online": [(1,), (4,), (5,), (6,), (7,), (10, 2), (13,), (18,), (20, 3)],
}


def test_a_run_stopped_at_any_step_ends_in_the_same_bytes(load):
    undisturbed, stopped = (load(scale=scale, tasks=[POINT]) for scale in ("undisturbed", "stopped"))
    for config in (undisturbed, stopped):
        works = {"pretrain": lambda stop, c=config: pretrain(c, c.run(POINT, "trqam").domain, stop)}
        for stage in ("offline", "online"):
            works[stage] = lambda stop, c=config, s=stage: train(c, POINT, "trqam", s, [0, 1], stop)
        for stage, work in works.items():
            for step, *look in PIECES[stage] if config is stopped else ():
                where = "in an evaluation " * bool(look)
                seeds = "" if stage == "pretrain" else r" seeds \[0, 1\]"
                with pytest.raises(Stopped, match=f"^{stage} .*{seeds}: stopped {where}at step {step} of 20.*enough"):
                    work(At(step, *look))
            work(None)
    assert_same(undisturbed, stopped, POINT)
    assert checkpoint.recorded(cell_of(config, POINT, "trqam", 0).directory("offline")) == [20]


def test_saves_cut_short_leave_the_seeds_together(load, monkeypatch):
    """Killed thrice when one seed of two had saved: after an evaluation that a stop had interrupted before, at a stop,
    and at a checkpoint. They go on stacked, from what is the same for both."""
    results, save = {}, checkpoint.save

    def cut_short(directory, step, *rest, **options):
        if step == end and "seed1" in str(directory):
            raise KeyboardInterrupt
        save(directory, step, *rest, **options)

    for scale in ("undisturbed", "disturbed"):
        config = load(scale=scale, tasks=[POINT])
        pretrain(config, config.run(POINT, "trqam").domain)
        directories = [cell_of(config, POINT, "trqam", seed).directory("offline") for seed in (0, 1)]
        if scale == "disturbed":
            with pytest.raises(Stopped):
                train(config, POINT, "trqam", "offline", [0, 1], At(10))
            for end, before in ((10, 5), (13, 10), (15, 10)):
                monkeypatch.setattr(checkpoint, "save", cut_short)
                with pytest.raises(KeyboardInterrupt):
                    train(config, POINT, "trqam", "offline", [0, 1], At(13 if end == 13 else None))
                monkeypatch.setattr(checkpoint, "save", save)
                assert [checkpoint.recorded(d) for d in directories] == [[end, before], [10, 5]]
        train(config, POINT, "trqam", "offline", [0, 1])
        results[scale] = [(cell_of(config, POINT, "trqam", s).path / "offline.csv").read_bytes() for s in (0, 1)]
    assert results["undisturbed"] == results["disturbed"]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("30m", 1800), ("2h", 7200), ("1h30m", 5400), ("1d", 86400), ("none", None)],
)
def test_time_limits(text, seconds):
    assert seconds_left(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "soon",
        "-5",
        "2 h",
        "30m2h",
        "1.5h",
        "٣",
        "9" * 400,
        f"{'9' * 400}d",
        "1e400",
        "inf",
        "nan",
        f"1{'0' * 18}",
    ],
)
def test_what_is_no_time_limit(text, capsys, monkeypatch):
    monkeypatch.setattr(
        "sys.argv",
        ["trqam", "--config", "tests/tiny.yaml", "train", POINT, "trqam", "--stage", "offline", f"--time-limit={text}"],
    )
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert "--time-limit" in (line := capsys.readouterr().err)
    assert line.count("\n") == 1
    assert len(line) < 300


def test_slurm_says_when_it_ends(monkeypatch, tmp_path):
    for name in ("SLURM_JOB_ID", "SLURM_JOB_END_TIME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(stopping.time, "time", lambda: 1000.0)
    assert seconds_left("auto") is None
    with pytest.raises(UserError, match="--time-limit slurm: no SLURM job"):
        seconds_left("slurm")
    monkeypatch.setenv("SLURM_JOB_END_TIME", "4600")
    assert seconds_left("auto") == seconds_left("slurm") == 3600
    monkeypatch.setenv("SLURM_JOB_END_TIME", "1" + "0" * 14)
    assert seconds_left("auto") == stopping.LONGEST
    monkeypatch.delenv("SLURM_JOB_END_TIME")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    squeue = tmp_path / "squeue"
    for answer, seconds in (("1-02:03:04", 93784), ("29:05", 1745), ("UNLIMITED", None), ("", None)):
        squeue.write_text(f"#!/bin/sh\necho {answer}\n")
        squeue.chmod(0o755)
        assert seconds_left("auto") == seconds


def test_the_end_of_a_job_that_is_over_is_no_limit(monkeypatch, capsys):
    """A shell that was begun in a job of yesterday still has its variables."""
    monkeypatch.setenv("SLURM_JOB_END_TIME", "1000")
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    assert seconds_left("auto") is None
    line = "trqam: notice: SLURM_JOB_END_TIME=1000: a time in the past, so there is no time limit; unset it, or give"
    assert capsys.readouterr().err == f"{line} --time-limit\n"
    assert seconds_left("none") is None
    with pytest.raises(UserError, match="--time-limit slurm: no SLURM job"):
        seconds_left("slurm")


@pytest.mark.parametrize("end", ["", "soon", "-5", "1e9", "nan", "٣", "9" * 400])
@pytest.mark.parametrize("job", ["", "-1", "all", "7;rm -rf x", "9" * 400])
def test_what_slurm_never_says_is_no_limit(monkeypatch, end, job):
    monkeypatch.setattr(stopping.subprocess, "run", lambda *_, **__: pytest.fail("squeue was asked"))
    monkeypatch.setenv("SLURM_JOB_END_TIME", end)
    monkeypatch.setenv("SLURM_JOB_ID", job)
    assert seconds_left("auto") is None


def test_a_limit_says_whose_it_is(monkeypatch):
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(stopping.time.time()) + 5))
    for limit, said in (("auto", r"SLURM's: --time-limit none ignores it"), ("1s", "--time-limit 1s")):
        with listening(limit) as stop:
            stop._began -= 60
            assert stop.due()
            assert stop.reason == f"the time limit is near, {said}"


def test_the_margin_comes_from_what_was_measured():
    now = [0.0]
    stop = Stop(1000.0, lambda: now[0])
    now[0] += 100  # imports, reading the data
    stop.due()
    stop.begin()
    assert stop.margin == 3 * stopping.FIRST_SAVE
    stop.begin_saving()
    now[0] += 50
    stop.end_saving()
    assert stop.margin == 150
    now[0] += 30  # an update of half a minute
    assert not stop.due()
    assert stop.margin == 210
    while now[0] < 789:
        now[0] += 1
        assert not stop.due()
    now[0] = 790
    assert stop.due()
    assert "time limit" in stop.reason
    assert Stop(8.0).margin == 4
    assert not Stop().due()


def test_a_signal_saves_and_exits_with_its_code(load, monkeypatch, capsys):
    config = load(tasks=[POINT], env_workers=1)
    pretrain(config, config.run(POINT, "trqam").domain)
    train(config, POINT, "trqam", "offline", [0, 1])
    original, pids = Fleet.run, []

    def run(self, chunks):
        pids[:] = self.pids
        if checkpoint.recorded(cell_of(config, POINT, "trqam", 0).directory("online")) == [10, 5]:
            for pid in (*pids, os.getpid()):  # as a group gets it
                os.kill(pid, signal.SIGTERM)
        return original(self, chunks)

    monkeypatch.setattr(Fleet, "run", run)
    options = ["--config", "tests/tiny.yaml", "--set", f"data_dir={config.scale.data_dir}", "--set", "env_workers=1"]
    monkeypatch.setattr("sys.argv", ["trqam", *options, "train", POINT, "trqam", "--stage", "online"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 85
    lines = capsys.readouterr().err.splitlines()
    assert "stopped at step 11 of 20 (SIGTERM); run the same" in lines[-1]
    assert not any("replaced" in line for line in lines)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    train(config, POINT, "trqam", "online", [0, 1])


def test_nothing_is_begun_when_it_is_late(load):
    config = load(tasks=[POINT])
    with listening() as stop:
        os.kill(os.getpid(), signal.SIGUSR1)
        with pytest.raises(Stopped, match=r"not begun \(SIGUSR1\)"):
            pretrain(config, config.run(POINT, "trqam").domain, stop)
