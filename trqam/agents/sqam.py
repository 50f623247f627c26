"""Scalar-adjoint SQAM (arXiv 2610.10437): TRQAM without a product through the flow, and with a value penalty.

    a_hat = ODE end point of v_ft, not clipped          x_j = (1 - t_j) eps_j + t_j a_hat,   t_j = j/K,   j = 1..K
    adj_j = -t_j grad_a mean_k Q_bar_k(s, clip(a)) at a_hat
    L_Q  += c mean_B( mean_k Q_k(s, clip(a_hat)) - mean_k Q_k(s, a) )                   gradient to the critic only

L_AM, the path KL and the dual step are TRQAM's, at the times t_j and the states x_j of these bridges.
"""

import torch
from torch import Tensor

from trqam.agents.base import Tensors
from trqam.agents.qam import AdjointSamples
from trqam.agents.trqam import TRQAM
from trqam.maths.flow import euler
from trqam.maths.sde import time_grid
from trqam.networks.mlp import RecordedField, along_path
from trqam.networks.replicas import State


class SQAM(TRQAM):
    """TRQAM on bridges to its own actions."""

    def policy_loss(self, state: State, batch: Tensors, noise: Tensors) -> tuple[Tensor, Tensors]:
        """L_AM and the value penalty, neither masked by validity."""
        s, critic = batch["observations"], self.critic(state.online["critic"])
        samples = self.sample_adjoints(state, s, noise)
        loss, _, metrics = self.adjoint_matching(state, samples)
        own = samples.states[-1].clamp(-1, 1)  # the last bridge state is a_hat itself
        penalty = critic(s, own).mean((1, 2)) - critic(s, batch["actions"]).mean((1, 2))
        return loss + self.parameters.value_penalty * penalty, metrics

    @torch.no_grad()
    def sample_adjoints(self, state: State, s: Tensor, noise: Tensors) -> AdjointSamples:
        """Bridge states at t_1 .. t_K and the critic's one gradient, scaled by time."""
        steps = self.run.flow_steps
        t = time_grid(steps, s, first=1)
        action = euler(self.field(state.online["finetuned"]), s, noise["adj_x0"], steps)
        weight = t[:, None, None, None]
        states = (1 - weight) * noise["adj_eps"].transpose(0, 1) + weight * action
        terminal = self.terminal_adjoint(state, s, action)
        finetuned = RecordedField(self.field(state.online["finetuned"]))
        along_path(finetuned, s, states, t)
        v_base = along_path(self.reference_field(state), s, states, t)
        g2 = self.interpolant.squared_diffusion(t, 1 / steps)
        return AdjointSamples(states, weight * terminal, g2, action, terminal, v_base, finetuned)


AGENT = SQAM
