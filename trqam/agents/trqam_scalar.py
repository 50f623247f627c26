"""TRQAM as it is, with the path KL of single states in the log: what a multiplier for each state is compared with.

    kl_p05, kl_median, kl_p95: quantiles over the batch of D_hat(s), the path KL on the one path from each state

Every number that TRQAM computes is the same: this file adds three metrics.
"""

import torch
from torch import Tensor

from trqam.agents.base import Tensors
from trqam.agents.qam import AdjointSamples
from trqam.agents.trqam import TRQAM
from trqam.maths.adjoint import path_kl_by_state
from trqam.networks.replicas import State

LEVELS = {"p05": 0.05, "median": 0.5, "p95": 0.95}


class TRQAMScalar(TRQAM):
    """One multiplier for all states, and what that does to each."""

    def measured(self, state: State, s: Tensor, samples: AdjointSamples, noise: Tensors) -> Tensors:
        """The quantiles."""
        return over_states("kl", path_kl_by_state(samples.difference(), samples.g2, self.chunk))


def over_states(name: str, values: Tensor) -> Tensors:
    """Quantiles [R] of ``values`` [R, B] over the batch, between the two nearest; by a sort, which a CUDA graph may
    hold."""
    ordered, found = values.detach().sort(-1).values, {}
    for label, level in LEVELS.items():
        place = level * (ordered.shape[-1] - 1)
        low, high = int(place), min(int(place) + 1, ordered.shape[-1] - 1)
        found[f"{name}_{label}"] = torch.lerp(ordered[:, low], ordered[:, high], place - low)
    return found


AGENT = TRQAMScalar
