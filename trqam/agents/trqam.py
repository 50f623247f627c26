"""Trust Region Q Adjoint Matching (TRQAM; Dong et al., arXiv 2605.27079).

It reads as QAM with a 1/sqrt(lambda) scale and a dual step.

The tilt is pi ~ pi_base exp(Q / lambda_eff), and projected dual descent moves lambda so that the KL between the
sampling paths of the fine-tuned and the base policy stays at the budget.
"""

from torch import Tensor

from trqam.agents.base import Tensors
from trqam.agents.qam import QAM
from trqam.config.load import Run
from trqam.maths.dual import dual_descent
from trqam.networks.replicas import State


class TrustRegion(QAM):
    """Adjoint matching with a multiplier that holds the path KL at the budget; how it acts is the subclass's."""

    def __init__(self, run: Run, observation_size: int, action_size: int, **switches):
        super().__init__(run, observation_size, action_size, **switches)
        self.initial_multiplier = self.parameters.initial_multiplier

    def budget(self, metrics: Tensors) -> tuple[Tensor | float, Tensor | float]:
        """eps_KL, what the path KL is held to, and D_max, the most that one estimate of it counts for."""
        p = self.parameters
        return p.kl_budget, p.kl_clip * p.kl_budget

    def dual_step(self, state: State, metrics: Tensors) -> Tensors:
        """lambda after this update's path KL; written into the state's tensors, which a captured step reads again."""
        p, kl = self.parameters, metrics["path_kl"]
        (budget, largest), bounds = self.budget(metrics), (p.multiplier_min, p.multiplier_max)
        moved = dual_descent(state.dual, kl, budget, p.dual_rate, p.kl_ema_rate, largest, bounds)
        for old, new in zip(state.dual, moved, strict=True):
            old.copy_(new)
        return moved._asdict()


class TRQAM(TrustRegion):
    """QAM inside a trust region."""

    def inverse_temperature(self) -> float:
        """One: the multiplier is the temperature."""
        return 1.0

    def effective_multiplier(self, state: State) -> Tensor:
        """That of the one lambda [R]."""
        return self.scaled(state.dual.multiplier)

    def scaled(self, multiplier: Tensor) -> Tensor:
        """lambda_eff = multiplier_scale * lambda, of any shape, floored so that sigma stays finite."""
        return (self.parameters.multiplier_scale * multiplier).clamp(min=1e-8)


AGENT = TRQAM
