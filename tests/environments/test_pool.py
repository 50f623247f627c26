"""Environments in processes: replaced when lost, an error when that does not help, and nobody left behind."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from trqam.config.errors import UserError
from trqam.environments import environment, pool
from trqam.environments.pool import Fleet, Position
from trqam.environments.processes import Process

TASK = "pointmaze-medium-navigate-singletask-task2-v0"
PLACES = ["a", "b", "c"]


def chunks(number, following=5, places=PLACES):
    rng = np.random.default_rng(number)
    return {place: (rng.uniform(-1, 1, (3, 2)).astype(np.float32), following) for place in places}


def history(made, rounds=6):
    """All observations of some rounds at all places."""
    made.begin({place: Position(seed, []) for seed, place in enumerate(PLACES)})
    replies = [made.run(chunks(number)) for number in range(rounds)]
    return np.array([[reply[place].observation for place in PLACES] for reply in replies])


def is_gone(pid, seconds=10):
    """Whether a process ends within ``seconds``; a zombie has ended."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            with open(f"/proc/{pid}/stat") as file:
                if file.read().rpartition(")")[2].split()[0] == "Z":
                    return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


def test_an_episode_that_ends_gives_way_to_the_next():
    with Fleet(TASK, ["a"], 0, max_steps=5) as made:
        first = made.begin({"a": Position(1, [])})["a"]
        reply = made.run(chunks(0, 7, ["a"]))["a"]
        assert len(reply.steps) == 3
        np.testing.assert_array_equal(reply.observation, reply.steps[-1].observation)
        assert [len(a) for a in made.position("a")[1:]] == [3]
        taken = list(made.position("a").actions)
        reply = made.run(chunks(1, 7, ["a"]))["a"]
        assert [step.done for step in reply.steps] == [False, True]  # cut: three actions were ordered
        assert made.position("a") == Position(7, [])
        np.testing.assert_array_equal(reply.observation, made.begin({"a": Position(7, [])})["a"])
        assert not np.array_equal(first, reply.observation)
        standing = made.begin({"a": Position(1, taken)})["a"]
        made.run(chunks(1, None, ["a"]))
        with pytest.raises(KeyError):
            made.position("a")
    with Fleet(TASK, ["a"], 0) as other:
        other.begin({"a": Position(1, [])})
        np.testing.assert_array_equal(standing, other.run(chunks(0, 7, ["a"]))["a"].observation)


def test_a_hanging_worker_is_replaced(monkeypatch, capfd):
    with Fleet(TASK, PLACES, 0) as here:
        expected = history(here)
    with Fleet(TASK, PLACES, 2) as remote:
        made = history(remote, rounds=4)
        monkeypatch.setattr(pool, "PATIENCE", 3.0)
        os.kill(remote.pids[1], signal.SIGSTOP)
        rest = [remote.run(chunks(number)) for number in (4, 5)]
    np.testing.assert_array_equal(made, expected[:4])
    np.testing.assert_array_equal([[reply[place].observation for place in PLACES] for reply in rest], expected[4:])
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("environment worker 1 gave no answer within 3 s, so it hangs (killed); replaced")


@pytest.mark.parametrize("method", ["begin", "run"])
def test_the_third_loss_is_an_error_that_leaves_nobody(monkeypatch, capfd, method):
    pids, send, receive = set(), Process.send, Process.receive

    def stopped(process, message):  # or it might answer before it is killed
        pids.add(process.pid)
        os.kill(process.pid, signal.SIGSTOP)
        send(process, message)

    def killed(process, limit):
        os.kill(process.pid, signal.SIGKILL)
        return receive(process, limit)

    remote = Fleet(TASK, PLACES, 1)
    work = lambda: remote.begin({place: Position(0, []) for place in PLACES})  # noqa: E731
    if method == "run":
        work()
        work = lambda: remote.run(chunks(0))  # noqa: E731
    monkeypatch.setattr(Process, "send", stopped)
    monkeypatch.setattr(Process, "receive", killed)
    with pytest.raises(UserError, match=r"environment worker 0 was killed by SIGKILL: .*memory; 3 losses.*env_workers"):
        work()
    assert len(pids) == 3
    assert all(is_gone(pid) for pid in pids)
    assert len(capfd.readouterr().err.splitlines()) == 2
    with pytest.raises(RuntimeError, match="closed"):
        work()


def test_a_failing_environment_says_why_and_is_not_tried_again():
    remote = Fleet(TASK, PLACES, 1)
    remote.begin({"a": Position(0, [])})
    with pytest.raises(RuntimeError, match=r"environment worker 0 failed:\sTraceback") as caught:
        remote.run({"a": (np.zeros((1, 7), np.float32), None)})
    assert "closed" not in str(caught.value)
    assert remote.pids == []


def test_dropped_environments_are_closed_and_the_others_go_on(monkeypatch):
    with Fleet(TASK, PLACES, 0) as here:
        expected = history(here)
    closed = []
    original = environment.make

    def make(task):
        env = original(task)
        env.close = lambda: closed.append(env)
        return env

    monkeypatch.setattr(environment, "make", make)
    for workers in (0, 2):
        with Fleet(TASK, PLACES, workers) as made:
            history(made, rounds=5)
            made.drop({"b", "c"})
            assert len(closed) == (2 if workers == 0 else 0)
            reply = made.run({"a": chunks(5)["a"]})["a"]
            np.testing.assert_array_equal(reply.observation, expected[5][0])
        closed.clear()


def test_closing_ends_the_workers_whatever_they_do():
    remote = Fleet(TASK, PLACES, 2)
    pids = remote.pids
    os.kill(pids[0], signal.SIGSTOP)
    remote.close()
    remote.close()
    assert all(is_gone(pid) for pid in pids)


@pytest.mark.parametrize("state", ["waiting", "working"])
def test_workers_do_not_outlive_a_killed_parent(state):
    program = f"""
import sys, time
from trqam.environments import environment as envs
from trqam.environments.processes import Process
if __name__ == "__main__":
    workers = [Process(time.sleep, f"sleeper {{number}}") for number in range(2)]
    for worker in workers:
        worker.send(0)
        worker.receive(60)
        if {state == "working"}:
            worker.send(3600)
    print(*(worker.pid for worker in workers), flush=True)
    time.sleep(3600)
"""

    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(pids) == 2
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert all(is_gone(pid) for pid in pids)


def test_an_unknown_task_is_a_user_error():
    with pytest.raises(UserError):
        Fleet("pointmaze-task1", PLACES, 2)
