"""Noise drawn on a device: independent of steps, seeds, purposes and neighbours, and distributed as it should be."""

import numpy as np
import pytest
import torch
from scipy import stats

from trqam.training.batches import Draws

CPU = torch.device("cpu")
SHAPES = {"x0": (64, 10), "bc_t": (64, 1), "eps": (3, 64, 10)}


def draw(seeds=(3, 1, 2), purpose="update/offline", step=7, size=1000):
    return Draws(list(seeds), purpose, 64, SHAPES, CPU)(torch.tensor(step), torch.tensor(size))


def test_a_seed_draws_the_same_whatever_its_neighbours():
    indices, noise = draw()
    for position, seed in enumerate([3, 1, 2]):
        alone, own = draw(seeds=[seed])
        assert torch.equal(alone[0], indices[position])
        for name, shape in SHAPES.items():
            assert own[name].shape == (1, *shape)
            assert torch.equal(own[name][0], noise[name][position]), name


@pytest.mark.parametrize("other", [{"step": 8}, {"purpose": "update/online"}, {"seeds": [2**32 + 3, 0, 4]}])
def test_every_part_of_the_key_and_the_step_counts(other):
    (before, noise), (after, others) = draw(), draw(**other)
    assert (before == after).float().mean() < 0.02
    for name in SHAPES:
        assert not (noise[name] == others[name]).any(), name


def test_numbers_of_an_update_are_all_different():
    noise = draw()[1]
    numbers = torch.cat([noise[name].flatten() for name in ("x0", "eps")])
    assert len(numbers.unique()) > 0.999 * len(numbers)


def test_distributions():
    draws = Draws([0], "update/offline", 20_000, {"x": (200_000,), "u_t": (200_000,)}, CPU)
    indices, noise = draws(torch.tensor(1), torch.tensor(10))
    normal, uniform = noise["x"][0].numpy(), noise["u_t"][0].numpy()
    assert stats.kstest(normal, "norm").pvalue > 1e-3
    assert stats.kstest(uniform, "uniform").pvalue > 1e-3
    assert 0 <= uniform.min() < uniform.max() < 1
    assert np.isfinite(normal).all()
    assert abs(np.corrcoef(normal[::2], normal[1::2])[0, 1]) < 0.01
    assert stats.chisquare(np.bincount(indices[0], minlength=10)).pvalue > 1e-3
