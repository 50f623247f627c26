"""Random streams that are functions, not state.

Every random number of the project is drawn from a counter-based Philox generator whose key is
(seed, purpose) and whose counter is (step, episode). Nothing is shared between replicas, purposes or
processes, and nothing needs to be saved: a run resumed at step n draws what the uninterrupted run drew.
"""

import zlib

import numpy as np


def stream(seed: int, purpose: str, step: int = 0, episode: int = 0) -> np.random.Generator:
    """The generator of ``purpose`` (such as "noise", "batches" or "evaluation") for one seed.

    Two streams overlap only if all four arguments agree: the key holds the first two, the two high words of
    the 256-bit counter the last two, and the low words leave 2^129 draws to each.
    """
    key = np.array([seed, zlib.crc32(purpose.encode())], dtype=np.uint64)
    counter = np.array([0, 0, episode, step], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


def episode_seed(seed: int, purpose: str, step: int = 0, episode: int = 0) -> int:
    """A 32-bit seed for an environment's reset, from the stream of the same name."""
    return int(stream(seed, f"{purpose}/reset", step, episode).integers(2**32, dtype=np.uint64))
