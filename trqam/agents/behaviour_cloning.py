"""Behaviour cloning by flow matching: the pretraining stage, and the policy it leaves."""

import torch
from torch import Tensor

from trqam.agents.base import Agent, Network, Tensors
from trqam.networks.replicas import State


class BehaviourCloning(Agent):
    """L_BC alone; no averaging, no critic, no dual step."""

    acts_with = ("online/base",)

    def build_networks(self) -> dict[str, Network]:
        """The velocity field."""
        return {"base": self.field_network()}

    def losses(self, state: State, batch: Tensors, noise: Tensors) -> tuple[Tensor, Tensors]:
        """The flow-matching loss."""
        loss = self.flow_loss(state, batch, noise)
        return loss, {"flow_loss": loss}

    @torch.no_grad()
    def act(self, state: State, observations: Tensor, noise: Tensor) -> Tensor:
        """The end point of the cloned flow."""
        return self.flow_action(self.field(state.online["base"]), observations, noise)


AGENT = BehaviourCloning
