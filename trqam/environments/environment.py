"""The one door to environments: tasks of OGBench and of Robomimic, made, begun, stepped and restored in the same way.

Which of the two a task is, its name says (`trqam.config.names.is_robomimic`). What each draws random numbers from, and
how that is made reproducible, stands in its module. Whoever steps an environment need not know which it is.
"""

import contextlib
from collections.abc import Iterable
from types import ModuleType
from typing import NamedTuple

import gymnasium
import numpy as np

from trqam.config.load import is_robomimic
from trqam.environments import ogbench_tasks, robomimic_tasks


class Step(NamedTuple):
    """What one step returned; ``success`` counts at the last step of the episode."""

    observation: np.ndarray  # [O] float32
    reward: float
    success: float
    terminated: bool
    truncated: bool

    @property
    def done(self) -> bool:
        return self.terminated or self.truncated


def dataset_of(task: str) -> str:
    """``cube-single-play`` of ``cube-single-play-singletask-task2-v0``; UserError for a name that is no task's."""
    return _family(task).dataset_of(task)


def task_number(task: str) -> int:
    """1 to 5; 1 where the dataset has one task."""
    return _family(task).task_number(task)


def packages(dataset: str) -> tuple[str, ...]:
    """The packages on whose versions the episodes of ``dataset`` depend."""
    return _family(dataset).PACKAGES


def make(task: str) -> gymnasium.Env:
    """The environment of ``task``, headless."""
    return _family(task).make(task)


def sizes(task: str) -> tuple[int, int]:
    """Numbers in an observation and in an action of ``task``."""
    with contextlib.closing(make(task)) as env:
        (observation,), (action,) = env.observation_space.shape or (), env.action_space.shape or ()
    return observation, action


def max_episode_steps(env: gymnasium.Env) -> int:
    """Steps after which an episode is truncated."""
    limit = env.spec and env.spec.max_episode_steps
    assert limit  # all tasks have one
    return limit


def reset(env: gymnasium.Env, seed: int) -> np.ndarray:
    """Start the episode of ``seed``, whatever happened before; the observation [O], float32."""
    return reset_with_details(env, seed)[0].astype(np.float32)


def reset_with_details(env: gymnasium.Env, seed: int, options: dict | None = None) -> tuple[np.ndarray, dict]:
    """``reset`` with the environment's options, returning its float64 observation and its info."""
    np.random.seed(seed)  # noqa: NPY002 (it is what the mazes draw from)
    env.unwrapped.action_space.seed(seed)
    return env.reset(seed=seed, options=options)


def step(env: gymnasium.Env, action: np.ndarray) -> Step:
    """Take one step with ``action`` [A], clipped to [-1, 1] (the point mass would obey a longer one)."""
    observation, reward, terminated, truncated, details = env.step(np.clip(action, -1.0, 1.0))
    return Step(
        observation.astype(np.float32), float(reward), float(details["success"]), bool(terminated), bool(truncated)
    )


def restore(env: gymnasium.Env, seed: int, actions: Iterable[np.ndarray]) -> np.ndarray:
    """Bring ``env`` to where the episode of ``seed`` stood after ``actions``; the observation [O] there.

    Replaying is exact where copying positions and velocities is not: contacts, warm starts and time limits too.
    """
    observation = reset(env, seed)
    for action in actions:
        observation = step(env, action).observation
    return observation


def _family(name: str) -> ModuleType:
    return robomimic_tasks if is_robomimic(name) else ogbench_tasks
