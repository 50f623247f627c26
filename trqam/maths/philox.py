"""Random numbers where the arithmetic is: Philox4x32-10 in torch's integer operations.

The counter-based generator of Random123 (Salmon et al., SC 2011): a bijection of 128-bit counters under a 64-bit key.
In a round, with c = (c0, c1, c2, c3) and k = (k0, k1),

    c <- (hi(M1 c2) ^ c1 ^ k0, lo(M1 c2), hi(M0 c0) ^ c3 ^ k1, lo(M0 c0)),   k <- k + W  (mod 2^32)

Here the key is (seed, CRC-32 of the purpose) and the counter (position, 0, step, high half of the seed). The step is a
tensor, so that a captured CUDA graph draws other numbers at every replay; a resumed run draws what the uninterrupted
one drew; and no replica's numbers depend on its neighbours. The words are the same on every device, and so are
uniform numbers and indices; normal ones agree to the last digits of a device's logarithm and cosine.

On the CPU training draws from NumPy instead (`trqam.maths.streams`), which is several times faster there.
"""

import math
import zlib

import torch
from torch import Tensor

ROUNDS = 10
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
MASK = 0xFFFFFFFF


class Philox:
    """The bijection under one key a replica; what it needs lies ready on the device."""

    def __init__(self, key: Tensor, device: torch.device):
        """``key`` [2, ...]: two words in int64, on the CPU."""
        lead = (2, *[1] * (key.dim() - 1))
        weyl = torch.tensor(WEYL).view(lead)
        self._keys = [((key + number * weyl) & MASK).to(device) for number in range(ROUNDS)]
        self._multipliers = torch.tensor(MULTIPLIERS).view(lead).to(device)

    def __call__(self, even: Tensor, odd: Tensor) -> tuple[Tensor, Tensor]:
        """The words (0, 2) and (1, 3) [2, ...] for the counter's words ``even`` (0, 2) and ``odd`` (1, 3), in int64.

        Products of two words wrap around in int64, which leaves their 64 bits right. What stands above the low 32 bits
        of ``odd`` is ignored until the end, where it is cut off.
        """
        for key in self._keys:
            product = (even * self._multipliers).flip(0)
            even, odd = ((product >> 32) ^ odd ^ key) & MASK, product
        return even, odd & MASK


def normal(even: Tensor, odd: Tensor) -> Tensor:
    """Standard normal numbers [2, 2, ...] of words [2, ...] by Box and Muller, float32; |z| < 6.7."""
    radius = (((even + 1).float() * 2.0**-32).log() * -2).sqrt()  # of a number in (0, 1]
    angle = odd.float() * (2 * math.pi * 2.0**-32)
    return torch.stack([radius * angle.cos(), radius * angle.sin()])


def uniform(words: Tensor) -> Tensor:
    """Multiples of 2^-24 in [0, 1), float32."""
    return (words >> 8).float() * 2.0**-24


def index(high: Tensor, low: Tensor, size: Tensor) -> Tensor:
    """Integers in [0, size) from 64 bits each, for ``size`` below 2^31."""
    return (high * size + ((low * size) >> 32)) >> 32


class Draws:
    """All random numbers of an update in one call: first transitions of chunks, and the noise that an agent names."""

    def __init__(
        self, seeds: list[int], purpose: str, batch: int, shapes: dict[str, tuple[int, ...]], device: torch.device
    ):
        """``shapes``: of the noise of one replica; names ending in "_t" are uniform, others normal."""
        self._replicas, self._batch, self._shapes = len(seeds), batch, shapes
        sizes = {name: math.prod(shape) for name, shape in shapes.items()}
        self._uniform = {name: size for name, size in sizes.items() if name.endswith("_t")}
        self._normal = {name: size for name, size in sizes.items() if name not in self._uniform}
        numbers = (2 * batch, sum(self._uniform.values()), sum(self._normal.values()))
        self._blocks = [-(-number // 4) for number in numbers]  # an index takes two words, another number one
        word = torch.tensor([[seed & MASK for seed in seeds], [zlib.crc32(purpose.encode())] * len(seeds)])
        self._philox = Philox(word[:, :, None], device)
        self._odd = torch.tensor([[0] * len(seeds), [seed >> 32 for seed in seeds]])[:, :, None].to(device)
        positions = torch.arange(sum(self._blocks))
        self._even = torch.stack([positions, torch.zeros_like(positions)])[:, None].to(device)
        self._clock = torch.tensor([0, 1]).view(2, 1, 1).to(device)  # the counter's word 2 is the step

    def __call__(self, step: Tensor, size: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Integers [R, B] in [0, size) and the noise [R, ...] of ``step``; both are scalars in int64."""
        even, odd = self._philox(self._even + self._clock * step, self._odd)
        (first, second, third), (fourth, fifth, sixth) = (w.split(self._blocks, -1) for w in (even, odd))
        indices = self._rows(index(first, fourth, size))[:, : self._batch]
        noise = self._named(uniform(torch.stack([second, fifth])), self._uniform)
        noise |= self._named(normal(third, sixth), self._normal)
        return indices, {name: noise[name] for name in self._shapes}

    def _rows(self, numbers: Tensor) -> Tensor:
        """[..., R, N] to [R, all of a replica]."""
        return numbers.movedim(-2, 0).reshape(self._replicas, -1)

    def _named(self, numbers: Tensor, sizes: dict[str, int]) -> dict[str, Tensor]:
        rows = self._rows(numbers)
        parts = rows[:, : sum(sizes.values())].split(list(sizes.values()), 1)
        return {name: part.view(-1, *self._shapes[name]) for name, part in zip(sizes, parts, strict=True)}
