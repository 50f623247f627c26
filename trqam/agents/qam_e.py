"""QAM with an edit policy (QAM-E; Li & Levine, arXiv 2601.14234).

A tanh-Gaussian policy e on (s, flow action) corrects the fine-tuned flow: a = clip(flow action + edit_scale * e), with
loss -mean_k Q_k(s, a) + alpha_sg log pi(e) and alpha tuned to the target entropy. At edit_scale 0 it is QAM.
"""

import torch
from torch import Tensor

from trqam.agents.base import Network, Tensors, entropy_terms
from trqam.agents.qam import QAM
from trqam.config.load import Run
from trqam.networks.mlp import LogScalar, frozen
from trqam.networks.replicas import State


class QAMEdit(QAM):
    """L_Q + L_BC + L_AM + a soft actor's losses for the edit."""

    proposes_with = (*QAM.proposes_with, "online/edit")

    @property
    def noise_size(self) -> int:
        """Each proposal takes the flow's noise and the edit's."""
        return 2 * super().noise_size

    def build_networks(self) -> dict[str, Network]:
        """QAM's networks, the edit policy and its temperature."""
        edit = self.gaussian_network(self.observation_size + self.chunk_size)
        return {**super().build_networks(), "edit": edit, "temperature": LogScalar()}

    def noise_shapes(self, batch: int) -> dict[str, tuple[int, ...]]:
        """QAM's noise, and an edited action's."""
        chunk = (batch, self.chunk_size)
        return {**super().noise_shapes(batch), "edit_base_noise": chunk, "edit_eps": chunk}

    def policy_loss(self, state: State, batch: Tensors, noise: Tensors) -> tuple[Tensor, Tensors]:
        """L_AM, and the edit's loss with gradient through the edit policy alone."""
        s, online = batch["observations"], state.online
        loss, metrics = super().policy_loss(state, batch, noise)
        with torch.no_grad():
            flow = super().propose(state, s, noise["edit_base_noise"])
        edited, log_prob = self.edit(state, s, flow, noise["edit_eps"])
        q = self.critic(frozen(online["critic"]))(s, edited.clamp(-1, 1)).mean((1, 2))
        target = self.parameters.entropy_per_dimension * self.chunk_size
        bonus, temperature, entropy = entropy_terms(online["temperature"]["log"], log_prob, target)
        return loss + bonus - q + temperature, {**metrics, **entropy, "actor_loss": bonus - q}

    def edit(self, state: State, s: Tensor, flow: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """The edited action [R, B, D] and the log-density [R, B] of the edit."""
        sample, log_prob = self.networks["edit"].sample(state.online["edit"], torch.cat([s, flow], -1), noise)
        return flow + self.parameters.edit_scale * sample, log_prob

    def propose(self, state: State, s: Tensor, noise: Tensor) -> Tensor:
        """The end point of the fine-tuned flow, edited."""
        start, eps = noise.chunk(2, -1)
        return self.edit(state, s, super().propose(state, s, start), eps)[0]


def AGENT(run: Run, observation_size: int, action_size: int, **switches) -> QAM:
    """QAM-E, or QAM itself where the domain's edit scale is 0: an idle edit policy would share in gradient clipping."""
    agent = QAMEdit if float(run.parameters["edit_scale"]) > 0 else QAM
    return agent(run, observation_size, action_size, **switches)
