"""Episodes of fewer steps than a task has: so that evaluation takes a share of a test's time, and not most of it."""

from unittest import mock

import gymnasium

from trqam.environments import environment

STEPS = 50
_make = environment.make


def shortened(steps: int = STEPS) -> mock._patch:
    """In which this process and its forks make environments whose episodes have so many steps at most."""
    return mock.patch.object(environment, "make", lambda task: gymnasium.wrappers.TimeLimit(_make(task), steps))


def full_episodes() -> None:
    """In a fork: as in a fresh process."""
    environment.make = _make
