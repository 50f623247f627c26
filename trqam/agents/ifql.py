"""Implicit flow Q-learning (IFQL): implicit Q-learning (arXiv 2110.06169) with a cloned flow as the policy.

    V: mean |kappa - 1(u < 0)| u^2,  u = mean_k Q_bar_k(s, a) - rho std_k - V(s)        not masked by validity
    Q: towards R + gamma^H mask V(s')

Acts by the best of N samples of the flow under the smallest of the critics.
"""

import torch
from torch import Tensor

from trqam.agents.base import ActorCritic, Network, Tensors
from trqam.config.load import Run
from trqam.maths.td import expectile_loss, pessimistic_value
from trqam.networks.mlp import MLP
from trqam.networks.replicas import State


class IFQL(ActorCritic):
    """L_Q + L_BC + L_V."""

    clip_gradient = False
    proposes_with = ("online/base",)

    def __init__(self, run: Run, observation_size: int, action_size: int, **switches):
        super().__init__(run, observation_size, action_size, **switches)
        self.samples = self.parameters.samples

    def build_networks(self) -> dict[str, Network]:
        """Critic ensemble, base field and a single value network."""
        value = MLP((self.observation_size, *self.critic_hidden, 1), self.critic_layer_norm)
        return {**super().build_networks(), "value": value}

    def noise_shapes(self, batch: int) -> dict[str, tuple[int, ...]]:
        """The interpolant's alone: the critic's target asks for no action."""
        return {k: shape for k, shape in super().noise_shapes(batch).items() if k != "next_action_noise"}

    def value(self, state: State, s: Tensor) -> Tensor:
        """V(s), [R, B]."""
        return self.networks["value"](state.online["value"], s).squeeze(-1)

    def next_value(self, state: State, s: Tensor, noise: Tensors) -> Tensor:
        """V(s') instead of the policy's Q."""
        return self.value(state, s)

    def policy_loss(self, state: State, batch: Tensors, noise: Tensors) -> tuple[Tensor, Tensors]:
        """Expectile regression of V; the flow itself is only cloned."""
        with torch.no_grad():
            q = self.critic(state.target["critic"])(batch["observations"], batch["actions"])
            q = pessimistic_value(q, self.run.pessimism)
        loss = expectile_loss(q - self.value(state, batch["observations"]), self.parameters.expectile)
        return loss, {"value_loss": loss}

    def propose(self, state: State, s: Tensor, noise: Tensor) -> Tensor:
        """The end point of the cloned flow."""
        return self.flow_action(self.field(state.online["base"]), s, noise)

    def rank(self, q: Tensor) -> Tensor:
        """The smallest of the ensemble."""
        return q.amin(1)


AGENT = IFQL
