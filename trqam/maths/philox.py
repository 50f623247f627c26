"""Random numbers where the arithmetic is: Philox4x32-10 in torch's integer operations.

The counter-based generator of Random123 (Salmon et al., SC 2011): a bijection of 128-bit counters under a 64-bit key.
In a round, with c = (c0, c1, c2, c3) and k = (k0, k1),

    c <- (hi(M1 c2) ^ c1 ^ k0, lo(M1 c2), hi(M0 c0) ^ c3 ^ k1, lo(M0 c0)),   k <- k + W  (mod 2^32)

The words are the same on every device, and so are uniform numbers and indices; normal ones agree to the last digits of
a device's logarithm and cosine. On the CPU training draws from NumPy instead (`trqam.maths.streams`), which is several
times faster there.
"""

import math

import torch
from torch import Tensor

ROUNDS = 10
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
MASK = 0xFFFFFFFF


class Philox:
    """The bijection under one key a replica; what it needs lies ready where the key does."""

    def __init__(self, key: Tensor):
        """``key`` [2, ...]: two words in int64."""
        assert key.shape[0] == 2
        weyl, multipliers = (key.new_tensor(pair).view(2, *[1] * (key.ndim - 1)) for pair in (WEYL, MULTIPLIERS))
        self._keys = [(key + number * weyl) & MASK for number in range(ROUNDS)]
        self._multipliers = multipliers

    def __call__(self, even: Tensor, odd: Tensor) -> tuple[Tensor, Tensor]:
        """The words (0, 2) and (1, 3) [2, ...] for the counter's words ``even`` (0, 2) and ``odd`` (1, 3), in int64.

        Products of two words wrap around in int64, which leaves their 64 bits right. What stands above the low 32 bits
        of ``odd`` is ignored until the end, where it is cut off.
        """
        assert even.shape[0] == odd.shape[0] == 2
        for key in self._keys:
            product = (even * self._multipliers).flip(0)
            even, odd = ((product >> 32) ^ odd ^ key) & MASK, product
        return even, odd & MASK


def normal(even: Tensor, odd: Tensor) -> Tensor:
    """Standard normal numbers [2, 2, ...] of words [2, ...] by Box and Muller, float32; |z| < 6.7."""
    assert even.shape == odd.shape
    radius = (((even + 1).float() * 2.0**-32).log() * -2).sqrt()  # of a number in (0, 1]
    angle = odd.float() * (2 * math.pi * 2.0**-32)
    return torch.stack([radius * angle.cos(), radius * angle.sin()])


def uniform(words: Tensor) -> Tensor:
    """Multiples of 2^-24 in [0, 1), float32."""
    return (words >> 8).float() * 2.0**-24


def index(high: Tensor, low: Tensor, size: Tensor) -> Tensor:
    """Integers in [0, size) from 64 bits each, for ``size`` below 2^31."""
    return (high * size + ((low * size) >> 32)) >> 32
