"""The device's random numbers: Random123's own answers."""

import pytest
import torch

from trqam.maths.philox import Philox, index, normal, uniform

ONES = 0xFFFFFFFF


def words(counter, key):
    """The four words of one counter."""
    even, odd = torch.tensor(counter).view(2, 2).unbind(1)
    even, odd = Philox(torch.tensor(key))(even, odd)
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


def test_extreme_words_give_finite_numbers():
    even, odd = (torch.tensor([[a], [b]]) for a, b in ((0, ONES), (ONES, 0)))
    assert normal(even, odd).isfinite().all()
    assert uniform(torch.tensor([0, ONES])).tolist() == [0, 1 - 2.0**-24]


@pytest.mark.parametrize("size", [1, 7, 100_000_000, 2**31 - 1])
def test_an_index_is_64_bits_times_the_size(size):
    values = [0, 1, 2**32 - 1, 2**63, 2**64 - 1, 0x0123456789ABCDEF]
    high, low = (torch.tensor([word(v) for v in values]) for word in (lambda v: v >> 32, lambda v: v & ONES))
    assert index(high, low, torch.tensor(size)).tolist() == [value * size >> 64 for value in values]
