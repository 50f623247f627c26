"""Random streams depend on their name and on nothing else."""

import numpy as np

from trqam.maths.streams import episode_seed, stream


def test_streams_are_reproducible_and_distinct():
    names = [(0, "noise", 0, 0), (1, "noise", 0, 0), (0, "batches", 0, 0), (0, "noise", 1, 0), (0, "noise", 0, 1)]
    draws = [stream(*name).random(4) for name in names]
    again = [stream(*name).random(4) for name in names]
    np.testing.assert_array_equal(draws, again)
    assert len({tuple(draw) for draw in draws}) == len(names)


def test_steps_do_not_overlap():
    first = stream(0, "noise", 0).random(100_000)
    assert stream(0, "noise", 1).random() not in first


def test_episode_seeds_fit_every_generator():
    seeds = [episode_seed(3, "evaluation", step, episode) for step in range(30) for episode in range(30)]
    assert len(set(seeds)) == len(seeds)
    assert 0 <= min(seeds) <= max(seeds) < 2**32
