"""Episodes are functions of their seed, and nothing is left behind."""

import os
import subprocess
import sys
import tempfile

import numpy as np
import pytest

from trqam.config.errors import UserError
from trqam.environments import environment, ogbench_tasks

MAZE = "pointmaze-medium-navigate-singletask-task2-v0"
CUBE = "cube-single-play-singletask-task1-v0"


@pytest.fixture(scope="module", params=[MAZE, CUBE])
def task(request):
    return request.param


def actions_for(env, count, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (count, env.action_space.shape[0])).astype(np.float32)


def run(env, actions):
    return [environment.step(env, action).observation for action in actions]


def test_names():
    assert environment.dataset_of(MAZE) == "pointmaze-medium-navigate"
    assert environment.task_number(MAZE) == 2
    assert ogbench_tasks.task_name("pointmaze-medium-navigate", 2) == MAZE
    assert environment.max_episode_steps(environment.make(MAZE)) == 1000


@pytest.mark.parametrize(
    "name",
    ["pointmaze-medium-navigate-v0", MAZE.replace("task2", "task6"), MAZE.replace("medium", "tiny"), "../x", ""],
)
def test_an_unknown_task_is_a_user_error_of_one_line(name):
    with pytest.raises(UserError) as error:
        environment.make(name)
    assert "task" in str(error.value)
    assert "\n" not in str(error.value)


def test_teleport_mazes_are_refused():
    with pytest.raises(UserError, match="teleport"):
        environment.make("pointmaze-teleport-navigate-singletask-task1-v0")


def test_an_episode_depends_on_its_seed_only(task):
    """A used environment, disturbed generators and a fresh environment give the same episode, bit for bit."""
    env = environment.make(task)
    actions = actions_for(env, 30)
    first = [environment.reset(env, 7), *run(env, actions)]
    environment.reset(env, 8)
    run(env, actions_for(env, 30, seed=1))
    np.random.seed(0)  # noqa: NPY002
    again = [environment.reset(env, 7), *run(env, actions)]
    fresh = environment.make(task)
    elsewhere = [environment.reset(fresh, 7), *run(fresh, actions)]
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first, elsewhere)
    assert not np.array_equal(first[0], environment.reset(env, 8))
    assert first[0].dtype == np.float32


def test_a_reset_leaves_no_trace_of_random_steps(task):
    """They rarely show in observations; the solver's warm start and the contact forces tell."""
    env = environment.make(task)
    traces = []
    for _ in range(2):
        environment.reset(env, 7)
        simulation = env.unwrapped.data
        traces.append([array.copy() for array in (simulation.qacc_warmstart, simulation.cfrc_ext, simulation.ctrl)])
    for one, other in zip(*traces, strict=True):
        np.testing.assert_array_equal(one, other)


def test_interleaved_environments_do_not_disturb_each_other(task):
    one, other = environment.make(task), environment.make(task)
    actions = actions_for(one, 20)
    alone = [environment.reset(one, 7), *run(one, actions)]
    together = [environment.reset(one, 7)]
    environment.reset(other, 9)
    for action in actions:
        together.append(environment.step(one, action).observation)
        environment.step(other, -action)
    np.testing.assert_array_equal(alone, together)


def test_restore_continues_bit_for_bit(task):
    env = environment.make(task)
    actions = actions_for(env, 40)
    environment.reset(env, 5)
    before = run(env, actions[:25])
    after = run(env, actions[25:])
    resumed = environment.make(task)
    np.testing.assert_array_equal(environment.restore(resumed, 5, actions[:25]), before[-1])
    np.testing.assert_array_equal(run(resumed, actions[25:]), after)


def test_steps_return_plain_numbers_and_end_in_time():
    env = environment.make(MAZE)
    start = environment.reset(env, 0)
    result = environment.step(env, np.array([100.0, 0.0], np.float32))
    assert (type(result.reward), type(result.success), type(result.terminated)) == (float, float, bool)
    assert result.reward == -1.0
    assert result.success == 0.0
    assert not result.done
    assert np.linalg.norm(result.observation - start) < 0.3  # the action was clipped to length 1, times 0.2
    for _ in range(environment.max_episode_steps(env) - 1):
        result = environment.step(env, np.zeros(2, np.float32))
    assert result.truncated
    assert not result.terminated
    assert result.done


def test_success_at_the_goal():
    env = environment.make(MAZE)
    environment.reset(env, 0)
    env.unwrapped.set_xy(np.array(env.unwrapped.cur_goal_xy))
    result = environment.step(env, np.zeros(2, np.float32))
    assert result.success == 1.0
    assert result.reward == 0.0
    assert result.terminated


def test_nothing_is_left_in_the_temporary_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    descriptors = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else None
    environment.make(MAZE)
    assert list(tmp_path.iterdir()) == []
    if descriptors is not None:
        assert len(os.listdir("/proc/self/fd")) == descriptors


def test_headless_and_silent():
    """In a process without display settings, every warning an error, both kinds of environment work."""
    program = "from trqam.environments import environment as envs\n"
    program += f"for task in ({MAZE!r}, {CUBE!r}): envs.reset(envs.make(task), 0)"
    environment = {key: value for key, value in os.environ.items() if key not in ("MUJOCO_GL", "DISPLAY")}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
