"""Robomimic's tasks: an episode is that of its seed, rewards are -1 and 0, and success ends it."""

import gymnasium
import numpy as np
import pytest

from tests.helpers.robomimic import NEEDED
from trqam.config.errors import UserError
from trqam.data import lift
from trqam.environments import environment, pool, robomimic_tasks

SIZES = {"lift-mh": 19, "can-mh": 23, "square-mh": 23}


@NEEDED
@pytest.mark.parametrize("task", SIZES)
def test_an_episode_is_that_of_its_seed(task):
    actions = np.random.default_rng(0).uniform(-1, 1, (6, 7)).astype(np.float32)
    env, other = environment.make(task), environment.make(task)
    assert env.observation_space.shape == (SIZES[task],)
    first = environment.reset(env, 7)
    walked = [environment.step(env, action) for action in actions]
    environment.reset(other, 8)
    environment.step(other, actions[0])
    np.testing.assert_array_equal(environment.restore(other, 7, actions), walked[-1].observation)
    np.testing.assert_array_equal(environment.reset(env, 7), first)
    assert not np.array_equal(environment.reset(env, 8), first)
    assert {(step.reward, step.success, step.done) for step in walked} == {(-1.0, 0.0, False)}
    assert environment.max_episode_steps(env) == robomimic_tasks.LONGEST[task]


@NEEDED
def test_lifting_is_success_and_ends_the_episode(monkeypatch):
    env = environment.make("lift-mh")
    script = lift.Script(np.random.default_rng(1))
    observation, steps = environment.reset(env, 1), []
    while not (steps and steps[-1].done):
        steps.append(environment.step(env, script.action(observation)))
        observation = steps[-1].observation
    assert (steps[-1].reward, steps[-1].success, steps[-1].terminated, steps[-1].truncated) == (0.0, 1.0, True, False)
    assert {step.reward for step in steps[:-1]} == {-1.0}
    monkeypatch.setitem(robomimic_tasks.LONGEST, "lift-mh", 3)
    env = environment.make("lift-mh")
    environment.reset(env, 1)
    ends = [environment.step(env, np.zeros(7)) for _ in range(3)]
    assert [(step.terminated, step.truncated) for step in ends] == [(False, False), (False, False), (False, True)]


def test_a_missing_package_is_one_line(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"package robosuite: missing.*pip install --no-deps -r requirements-robomimic"):
        environment.make("lift-mh")


def test_a_wrong_name_is_one_line():
    with pytest.raises(UserError, match="not the name of a task of Robomimic; write one of lift-mh, can-mh, square-mh"):
        robomimic_tasks.make("lift-ph")
    with pytest.raises(UserError, match="not the name of an OGBench task"):
        pool.Fleet("lift-ph", [0], 0)


@NEEDED
def test_a_task_is_its_dataset():
    assert (environment.dataset_of("can-mh"), environment.task_number("can-mh")) == ("can-mh", 1)
    assert environment.packages("can-mh")[0] == "robosuite"
    assert environment.packages("cube-single-play")[0] == "ogbench"
    assert isinstance(environment.make("lift-mh"), gymnasium.Env)
