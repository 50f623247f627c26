"""One writer a run: whoever is alive keeps the lock, whoever is dead loses it, and of many that want it one gets it."""

import json
import multiprocessing
import os
import random
import signal
import threading
import time

import pytest

from trqam.config.errors import Busy
from trqam.experiment import lock
from trqam.experiment.lock import held, standing, verify

FORK = multiprocessing.get_context("fork")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run" / "lock"


@pytest.fixture
def quick(monkeypatch):
    """Hundredths of a second for what takes minutes between hosts."""
    for name, seconds in (("HEARTBEAT", 0.05), ("STALE", 0.3), ("PATIENCE", 0.02)):
        monkeypatch.setattr(lock, name, seconds)


class Child:
    """A fork that takes a lock when it is told to go, tells the outcome and holds it until it is told to end."""

    def __init__(self, path, prepare=lambda: None):
        self._pipe, theirs = FORK.Pipe()
        self.process = FORK.Process(target=self._take, args=(path, prepare, theirs), daemon=True)
        self.process.start()
        self.pid = self.process.pid

    @staticmethod
    def _take(path, prepare, pipe):
        prepare()
        pipe.recv()
        try:
            with held([path]):
                pipe.send("+")
                pipe.recv()
        except Busy:
            pipe.send("-")

    def go(self):
        self._pipe.send("")

    @property
    def outcome(self):
        """+ for the lock, - for Busy."""
        return self._pipe.recv()

    def end(self):
        self.go()
        self.process.join()


def left_by(path, **changes):
    """A lock that somebody else left there."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(json.loads(lock._signature()) | changes))


def test_two_on_this_host(path):
    child = Child(path)
    child.go()
    assert child.outcome == "+"
    pattern = rf"run/lock: another process is training this run, process {child.pid} on {os.uname().nodename} \(last"
    with pytest.raises(Busy, match=pattern) as caught, held([path]):
        pass
    assert caught.value.exit_code == 75
    assert standing(path)[0] == "held"
    child.end()
    assert standing(path)[0] == "free"
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("buried", [True, False])
def test_the_lock_of_a_killed_process_is_taken_over(buried, path, capsys):
    child = Child(path)
    child.go()
    assert child.outcome == "+"
    os.kill(child.pid, signal.SIGKILL)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    if buried:
        child.process.join()
    assert standing(path)[0] == "stale"
    with held([path]):
        assert standing(path)[0] == "held"
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{path}: process {child.pid} on")
    assert line.endswith("has ended; its lock is taken over")
    assert list(path.parent.iterdir()) == []


def test_another_process_of_the_same_number_is_not_the_holder(path):
    left_by(path, started=1)
    assert standing(path)[0] == "stale"
    with held([path]):
        pass


def test_a_holder_elsewhere_is_known_by_its_heartbeat(path, quick, capsys):
    left_by(path, host="elsewhere", machine="another", pid=1)
    ended = threading.Event()

    def beat():
        while not ended.wait(0.05):
            os.utime(path)

    heart = threading.Thread(target=beat)
    heart.start()
    with pytest.raises(Busy, match="process 1 on elsewhere"), held([path]):
        pass
    ended.set()
    heart.join()
    with held([path]):
        pass
    lines = capsys.readouterr().err.splitlines()
    assert [line.endswith("watching for its sign of life") for line in lines] == [True, True, False]
    assert "process 1 on elsewhere has given no sign of life for" in lines[2]


def test_an_old_heartbeat_elsewhere_is_watched_first(path, quick, monkeypatch):
    """The file server may have been away, for the holder as well."""
    monkeypatch.setattr(lock, "HEARTBEAT", 60.0)  # however slow this machine is
    left_by(path, host="elsewhere", machine="another", pid=1)
    os.utime(path, (0, 0))
    looks = []

    def look():
        looks.append(time.monotonic())
        if len(looks) == 2:
            os.utime(path)  # it lives

    with pytest.raises(Busy), held([path], look):
        pass
    assert len(looks) == 2


def test_waiting_can_be_given_up(path, quick):
    left_by(path, host="elsewhere", machine="another", pid=1)

    def look():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), held([path], look):
        pass
    assert [p.name for p in path.parent.iterdir()] == ["lock"]


def test_the_heart_beats(path, quick):
    with held([path]):
        os.utime(path, (0, 0))
        while path.stat().st_mtime == 0:
            time.sleep(0.01)


@pytest.mark.parametrize("content", ["", "nonsense", "[1]", '{"host": "a", "pid": "b"}'])
def test_an_unreadable_lock_is_taken_over_when_it_is_old(content, path, quick):
    path.parent.mkdir()
    path.write_text(content)
    os.utime(path, (0, 0))
    with held([path]):
        assert standing(path)[0] == "held"


@pytest.mark.parametrize("pause", [0.0, 0.02])
def test_of_many_that_take_over_exactly_one_wins(pause, path, monkeypatch):
    """``pause``: at most, between what each of them reads and does."""
    original = lock._verdict
    chance = random.Random(0)

    def verdict(*arguments):
        time.sleep(pause * chance.random())
        return original(*arguments)

    monkeypatch.setattr(lock, "_verdict", verdict)
    for _ in range(8):
        left_by(path, started=1)
        children = [Child(path, lambda: chance.seed(os.getpid())) for _ in range(6)]
        for child in children:
            child.go()
        outcomes = [child.outcome for child in children]
        assert sorted(outcomes) == ["+", "-", "-", "-", "-", "-"]
        for child, outcome in zip(children, outcomes, strict=True):
            child.end() if outcome == "+" else child.process.join()
        assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("step", ["_rename", "_sweep"])
def test_a_process_killed_while_it_takes_over_is_succeeded(step, path):
    left_by(path, started=1)
    for _ in range(3):
        child = Child(path, lambda: setattr(lock, step, lambda *_: os.kill(os.getpid(), signal.SIGKILL)))
        child.go()
        child.process.join()
        assert child.process.exitcode == -signal.SIGKILL
    with held([path]):
        rivals = [Child(path) for _ in range(2)]
        for rival in rivals:
            rival.go()
        assert [rival.outcome for rival in rivals] == ["-", "-"]
        for rival in rivals:
            rival.process.join()
    assert [name for name in os.listdir(path.parent) if not name.endswith(".tmp")] == []


def test_who_was_taken_for_dead_saves_nothing_more(path):
    with held([path]):
        verify(path)
        left_by(path, host="elsewhere", machine="another", pid=1)
        with pytest.raises(Busy, match="taken over by process 1 on elsewhere"):
            verify(path)
    assert json.loads(path.read_text())["host"] == "elsewhere"  # it is not this process's to delete


def test_who_is_being_succeeded_saves_nothing_more(path):
    with held([path]):
        left_by(path.with_name(lock._read(path).successor.name), host="elsewhere", machine="another", pid=1)
        with pytest.raises(Busy, match="taken over by process 1 on elsewhere"):
            verify(path)


def test_a_system_without_hard_links(path, monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    left_by(path, started=1)
    with held([path]), pytest.raises(Busy), held([path]):
        pass
    assert list(path.parent.iterdir()) == []


def test_what_a_dead_process_of_this_machine_left_goes_at_once(path):
    child = Child(path, prepare=lambda: setattr(lock, "_link", lambda *_: os.kill(os.getpid(), signal.SIGKILL)))
    child.go()
    child.process.join()
    assert [name[:6] for name in os.listdir(path.parent)] == [".lock."]
    with held([path]):
        assert os.listdir(path.parent) == ["lock"]
