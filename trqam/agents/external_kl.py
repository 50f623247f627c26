"""QAM with the path KL as a penalty beside adjoint matching: the "external KL" of TRQAM's ablation.

L_AM + lambda D_hat with gradient through D_hat, QAM's SDE (lambda_eff = 1) and TRQAM's dual step on lambda. The paper
does not print its details. L_AM has no factor h and D_hat has one, so at the minimum
dv = -(g^2 / 2) adj / (1 + lambda h / 2H): halving dv takes lambda near 2 H K, and multiplier_max may bind.
"""

from torch import Tensor

from trqam.agents.base import Tensors
from trqam.agents.trqam import TrustRegion
from trqam.networks.replicas import State


class ExternalKL(TrustRegion):
    """The multiplier weighs a penalty and leaves the SDE alone."""

    def policy_loss(self, state: State, batch: Tensors, noise: Tensors) -> tuple[Tensor, Tensors]:
        """L_AM + lambda D_hat."""
        samples = self.sample_adjoints(state, batch["observations"], noise)
        loss, kl, metrics = self.adjoint_matching(state, samples)
        return loss + state.dual.multiplier * kl, metrics


AGENT = ExternalKL
