"""An episode's outcome depends on its seed, step, number and policy, and on nothing else."""

import functools
import os
import signal

import numpy as np
import pytest

from trqam.environments import environment
from trqam.environments.evaluator import Evaluator
from trqam.environments.processes import Process

TASK = "pointmaze-medium-navigate-singletask-task3-v0"  # the shortest route: 24 units, 0.2 a step
HORIZON, ACTIONS, OBSERVATIONS, EPISODES, SLOTS, STEPS = 4, 2, 2, 5, 2, 170
SEEDS = [11, 12, 13]


@functools.cache
def waypoint(x, y):
    """The centre of the next cell on the way to the goal."""
    maze = guide().unwrapped
    return maze.get_oracle_subgoal((x, y), maze.task_infos[2]["goal_xy"])[0]


@functools.cache
def guide():
    return environment.make(TASK)


def policies(replicas):
    """Policies that know the way, with little, too much and middling noise."""
    scale = np.array([0.1, 9.0, 1.0], np.float32)[replicas]

    def act(observations, noise):
        assert observations.shape == (len(replicas), noise.shape[1], OBSERVATIONS)
        assert noise.shape[2] == HORIZON * ACTIONS
        assert observations.dtype == noise.dtype == np.float32
        cells = np.round(observations / 4) * 4
        targets = np.array([[waypoint(*cell) for cell in row] for row in cells.tolist()])
        direction = (targets - observations) / np.linalg.norm(targets - observations, axis=-1, keepdims=True)
        chunk = np.tile(direction, HORIZON) + scale[:, None, None] * noise
        return np.clip(chunk, -1, 1).astype(np.float32)

    return act


def evaluator(workers=0, slots=SLOTS, seeds=SEEDS, max_steps=STEPS, episodes=EPISODES):
    return Evaluator(TASK, seeds, episodes, slots, workers, HORIZON, ACTIONS, max_steps=max_steps)


def assert_equal(outcomes, expected):
    assert len(outcomes) == len(expected)
    for one, other in zip(outcomes, expected, strict=True):
        for field, values in one._asdict().items():
            np.testing.assert_array_equal(values, getattr(other, field), err_msg=field)


@pytest.fixture(scope="module")
def expected():
    """Outcomes at step 0 and at step 10, in this process."""
    with evaluator() as local:
        return [local.evaluate(policies([0, 1, 2]), step) for step in (0, 10)]


def test_outcomes_make_sense(expected):
    outcomes = expected[0]
    assert [outcome.success.shape for outcome in outcomes] == [(EPISODES,)] * 3
    lengths, successes, returns = (
        np.stack([getattr(o, f) for o in outcomes]) for f in ("length", "success", "return_")
    )
    assert set(np.unique(successes)) <= {0.0, 1.0}
    np.testing.assert_array_equal(lengths[successes == 0], STEPS)
    np.testing.assert_array_equal(returns, -lengths + successes)  # -1 a step, 0 at success
    assert 0 < successes.sum() < successes.size
    assert len(np.unique(lengths)) > 3
    assert not np.array_equal(outcomes[0].length, expected[1][0].length)  # other episodes at another step


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_do_not_change_outcomes(expected, workers):
    with evaluator(workers) as remote:
        assert_equal(remote.evaluate(policies([0, 1, 2]), 0), expected[0])
        assert_equal(remote.evaluate(policies([0, 1, 2]), 10), expected[1])  # reusing the environments
        remote.keep([0, 2])
        assert_equal(remote.evaluate(policies([0, 2]), 0), [expected[0][0], expected[0][2]])


def test_evaluations_are_independent_of_those_before(expected):
    with evaluator() as local:
        assert_equal(local.evaluate(policies([0, 1, 2]), 10), expected[1])


def test_dropping_replicas_does_not_change_the_others(expected):
    with evaluator() as local:
        local.keep([1, 2])
        assert_equal(local.evaluate(policies([1, 2]), 0), expected[0][1:])
        local.keep([1])  # of those kept: the third
        assert_equal(local.evaluate(policies([2]), 0), expected[0][2:])
        local.keep([])
        assert local.evaluate(policies([]), 0) == []


def test_the_number_of_slots_and_episodes_does_not_change_outcomes(expected):
    """Nor do finished slots: with five episodes in two slots one of them idles at the end, with two none does."""
    with evaluator(episodes=2) as two:
        outcomes = two.evaluate(policies([0, 1, 2]), 0)
    first = [type(outcome)(*(values[:2] for values in outcome)) for outcome in expected[0]]
    assert_equal(outcomes, first)
    with Evaluator(TASK, SEEDS, EPISODES, 50, 0, HORIZON, ACTIONS, max_steps=STEPS) as wide:
        observed = []

        def act(observations, noise):
            observed.append((observations, noise))
            return policies([0, 1, 2])(observations, noise)

        assert_equal(wide.evaluate(act, 0), expected[0])
    assert {observations.shape for observations, _ in observed} == {(3, EPISODES, OBSERVATIONS)}  # also at the end
    lengths = expected[0][0].length
    ended = int(np.argmin(lengths))
    after = [(o[0, ended], n[0, ended]) for o, n in observed][int(np.ceil(lengths[ended] / HORIZON)) :]
    assert len(after) > 1
    assert all(np.array_equal(o, after[0][0]) and not n.any() for o, n in after)


def test_episodes_end_in_the_middle_of_a_chunk():
    with evaluator(max_steps=HORIZON + 1) as local:
        assert {float(length) for o in local.evaluate(policies([0, 1, 2]), 0) for length in o.length} == {HORIZON + 1.0}


@pytest.mark.parametrize("moment", ["waiting", "working"])
def test_killed_workers_are_reported_and_replaced(expected, capfd, monkeypatch, moment):
    """Three of them, one at a time, with episodes that end in between: each loses several episodes under way."""
    calls, kill_at = 0, {"waiting": [2, 40, 48], "working": [3]}[moment]

    def act(observations, noise):
        nonlocal calls
        calls += 1
        if calls in kill_at and moment == "waiting":
            os.kill(remote.fleet.pids[len(kill_at) % 2], signal.SIGKILL)
        return policies([0, 1, 2])(observations, noise)

    def receive(process, limit):
        if calls in kill_at and process.pid in remote.fleet.pids[1:]:
            os.kill(process.pid, signal.SIGKILL)  # it has its order
            kill_at.clear()
        return original(process, limit)

    original = Process.receive
    if moment == "working":
        monkeypatch.setattr(Process, "receive", receive)
    with evaluator(workers=2) as remote:
        assert_equal(remote.evaluate(act, 0), expected[0])
        assert_equal(remote.evaluate(policies([0, 1, 2]), 10), expected[1])
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == (3 if moment == "waiting" else 1)
    assert all(line.startswith("evaluation worker 1 was killed by SIGKILL: most likely") for line in lines)
