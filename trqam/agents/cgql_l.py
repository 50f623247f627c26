"""Classifier-guided Q-learning with a LinEx critic (CGQL-L; a baseline of QAM, arXiv 2601.14234).

The critic Q_k(s, x, t) also sees noised actions x_t and regresses there to its value of the clean action (t = 1) with
the LinEx loss of `trqam.maths.td`. Its gradient guides the cloned flow, from the second Euler step on:

    v + (guidance / t) ((1 - t) inverse_temperature grad_x mean_k Q_k(s, x, t) + x)
"""

from collections.abc import Callable

import torch
from torch import Tensor

from trqam.agents.base import ActorCritic, Network, Tensors
from trqam.maths.flow import interpolate
from trqam.maths.td import action_gradient, linex_loss
from trqam.networks.mlp import VelocityField, frozen
from trqam.networks.replicas import State


class CGQL(ActorCritic):
    """L_Q + L_BC + LinEx on noised actions; guidance takes the place of a trained policy."""

    targets = ("critic", "base")
    clip_gradient = False
    proposes_with = ("target/base", "online/critic")

    def build_networks(self) -> dict[str, Network]:
        """A critic that is told the flow time, and the base field."""
        return {**super().build_networks(), "critic": self.critic_network(inputs=1)}

    def noise_shapes(self, batch: int) -> dict[str, tuple[int, ...]]:
        """Next action, the noised actions' time and noise, and the interpolant's."""
        return {**super().noise_shapes(batch), "critic_t": (batch, 1), "critic_noise": (batch, self.chunk_size)}

    def critic(self, parameters: Tensors) -> Callable[..., Tensor]:
        """Q_k(s, x, t), [R, E, B]; without a time, of clean actions."""
        network = self.networks["critic"]
        return lambda s, x, t=1.0: network(parameters, VelocityField.inputs(s, x, t)).squeeze(-1)

    def policy_loss(self, state: State, batch: Tensors, noise: Tensors) -> tuple[Tensor, Tensors]:
        """The critic's loss on noised actions."""
        p, s, a, t = self.parameters, batch["observations"], batch["actions"], noise["critic_t"]
        with torch.no_grad():
            target = self.critic(state.target["critic"])(s, a)
        q = self.critic(state.online["critic"])(s, interpolate(noise["critic_noise"], a, t), t)
        loss = linex_loss(q, target, p.inverse_temperature, p.exponent_clip, batch["valid"])
        return p.noisy_weight * loss, {"distill_loss": loss}

    def propose(self, state: State, s: Tensor, noise: Tensor) -> Tensor:
        """The end point of the guided flow."""
        p, base, critic = self.parameters, self.reference_field(state), self.critic(frozen(state.online["critic"]))

        def guided(s: Tensor, x: Tensor, t: Tensor | float) -> Tensor:
            if t == 0:
                return base(s, x, t)
            score = action_gradient(lambda x: critic(s, x, t).mean(1), x)
            return base(s, x, t) + p.guidance / t * ((1 - t) * p.inverse_temperature * score + x)

        return self.flow_action(guided, s, noise)


AGENT = CGQL
