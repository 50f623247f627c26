"""Flow Q-learning (FQL; Park et al., arXiv 2502.02538).

A one-step policy mu(s, z) is distilled from the cloned flow and climbs the critic:

    alpha mean (mu(s, z) - clip(ODE_base(s, z)))^2 - mean_{k,B} Q_k(s, clip(mu(s, z)))
"""

import torch
from torch import Tensor

from trqam.agents.base import ActorCritic, Network, Tensors
from trqam.networks.mlp import MLP, frozen
from trqam.networks.replicas import State


class FQL(ActorCritic):
    """L_Q + L_BC + distillation - Q."""

    clip_gradient = False
    proposes_with = ("online/one_step",)

    def build_networks(self) -> dict[str, Network]:
        """Critic ensemble, base field and one-step policy."""
        sizes = (self.observation_size + self.chunk_size, *self.actor_hidden, self.chunk_size)
        return {**super().build_networks(), "one_step": MLP(sizes, self.run.actor_layer_norm)}

    def noise_shapes(self, batch: int) -> dict[str, tuple[int, ...]]:
        """The noise from which flow and one-step policy both start."""
        return {**super().noise_shapes(batch), "distill_noise": (batch, self.chunk_size)}

    def policy_loss(self, state: State, batch: Tensors, noise: Tensors) -> tuple[Tensor, Tensors]:
        """Distillation and the critic's value, both with gradient through the one-step policy alone."""
        s, z = batch["observations"], noise["distill_noise"]
        with torch.no_grad():
            flow = self.flow_action(self.field(state.online["base"]), s, z)
        actions = self.propose(state, s, z)
        distill = (actions - flow).square().mean((1, 2))
        q = self.critic(frozen(state.online["critic"]))(s, actions.clamp(-1, 1)).mean((1, 2))
        loss = self.parameters.distillation * distill - q
        return loss, {"actor_loss": loss, "distill_loss": distill}

    def propose(self, state: State, s: Tensor, noise: Tensor) -> Tensor:
        """mu(s, z), not clipped."""
        return self.networks["one_step"](state.online["one_step"], torch.cat([s, noise], -1))


AGENT = FQL
