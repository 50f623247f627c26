"""The device's random numbers: Random123's own answers, and independence of steps, seeds, purposes and neighbours."""

import numpy as np
import pytest
import torch
from scipy import stats

from trqam.maths.philox import Draws, Philox, index

CPU = torch.device("cpu")
ONES = 0xFFFFFFFF
SHAPES = {"x0": (64, 10), "bc_t": (64, 1), "eps": (3, 64, 10)}


def words(counter, key):
    """The four words of one counter."""
    even, odd = torch.tensor(counter).view(2, 2).unbind(1)
    even, odd = Philox(torch.tensor(key), CPU)(even, odd)
    return torch.stack([even, odd], 1).flatten().tolist()


@pytest.mark.parametrize(
    ("counter", "key", "answer"),
    [  # kat_vectors of Random123, philox 4x32 10
        ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([ONES] * 4, [ONES] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_known_answers(counter, key, answer):
    assert words(counter, key) == answer


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


def test_extreme_words_give_finite_numbers():
    from trqam.maths.philox import normal, uniform

    even, odd = (torch.tensor([[a], [b]]) for a, b in ((0, ONES), (ONES, 0)))
    assert normal(even, odd).isfinite().all()
    assert uniform(torch.tensor([0, ONES])).tolist() == [0, 1 - 2.0**-24]


@pytest.mark.parametrize("size", [1, 7, 100_000_000, 2**31 - 1])
def test_an_index_is_64_bits_times_the_size(size):
    values = [0, 1, 2**32 - 1, 2**63, 2**64 - 1, 0x0123456789ABCDEF]
    high, low = (torch.tensor([word(v) for v in values]) for word in (lambda v: v >> 32, lambda v: v & ONES))
    assert index(high, low, torch.tensor(size)).tolist() == [value * size >> 64 for value in values]
