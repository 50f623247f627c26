"""TRQAM that holds another divergence of the paths at the budget: the reverse path KL, or Renyi's of order 2.

`trqam.maths.divergences` has both, from the noise of the roll-out that TRQAM makes anyway. The dual step is TRQAM's and
takes the estimate in the place of the path KL, which stays in the log; kl_ema is then the average of the estimate.

    divergence        the estimate, in nats per environment step
    effective_paths   how many paths of the batch it rests on; where they are few it says little of what was not sampled
"""

from torch import Tensor

from trqam.agents.base import Tensors
from trqam.agents.qam import AdjointSamples
from trqam.agents.trqam import TRQAM
from trqam.maths.divergences import renyi, reverse_kl
from trqam.networks.replicas import State

DIVERGENCES = {"reverse": reverse_kl, "renyi": renyi}


class DivergenceTRQAM(TRQAM):
    """TRQAM with another estimate in its dual step."""

    def measured(self, state: State, s: Tensor, samples: AdjointSamples, noise: Tensors) -> Tensors:
        """The estimate."""
        estimate = DIVERGENCES[self.parameters.divergence]
        found = estimate(samples.difference(), noise["adj_eps"].transpose(0, 1), samples.g2, self.chunk)
        return dict(zip(("divergence", "effective_paths"), found, strict=True))

    def dual_step(self, state: State, metrics: Tensors) -> Tensors:
        """TRQAM's, from the estimate."""
        return super().dual_step(state, {**metrics, "path_kl": metrics["divergence"]})


AGENT = DivergenceTRQAM
