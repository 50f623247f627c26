"""Tests of Robomimic's tasks: skipped without the optional packages; and a small file of demonstrations."""

from importlib.util import find_spec

import numpy as np
import pytest

from trqam.environments.robomimic_tasks import OPTIONAL

NEEDED = pytest.mark.skipif(
    any(find_spec(name) is None for name in OPTIONAL), reason="needs the packages of requirements-robomimic.txt"
)


def demos(seed=0, lengths=(6, 4), successes=(2, 0)):
    """Demonstrations of noise, as `trqam.data.demonstrations.save` takes them; the last steps are successes."""
    rng, made = np.random.default_rng(seed), []
    for length, solved in zip(lengths, successes, strict=True):
        observations = rng.normal(size=(length + 1, 19))
        success = (np.arange(length) >= length - solved).astype(float)
        arrays = {"obs": observations[:-1], "next_obs": observations[1:], "rewards": success, "dones": success}
        made.append({"actions": rng.uniform(-1, 1, (length, 7)), **arrays})
    return made
