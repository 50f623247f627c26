"""Behaviour cloning by flow matching: the pretraining stage, and the policy it leaves."""

import torch
from torch import Tensor

from trqam.agents.base import Agent, Tensors
from trqam.flow import euler, flow_matching_loss
from trqam.networks import MLP
from trqam.replicas import State


class BehaviourCloning(Agent):
    """L_BC alone; no averaging, no critic, no dual step."""

    def build_networks(self) -> dict[str, MLP]:
        """The velocity field."""
        return {"base": self.field_network()}

    def noise_shapes(self, batch: int) -> dict[str, tuple[int, ...]]:
        """Noise and time of the interpolant."""
        return {"bc_x0": (batch, self.chunk_size), "bc_t": (batch, 1)}

    def losses(self, state: State, batch: Tensors, noise: Tensors) -> tuple[Tensor, Tensors]:
        """The flow-matching loss."""
        field = self.field(state.online["base"])
        loss = flow_matching_loss(
            field, batch["observations"], batch["actions"], noise["bc_x0"], noise["bc_t"], batch["valid"]
        )
        return loss, {"flow_loss": loss.detach()}

    @torch.no_grad()
    def act(self, state: State, observations: Tensor, noise: Tensor) -> Tensor:
        """The end point of the flow, clipped to the action box."""
        return euler(self.field(state.online["base"]), observations, noise, self.run.flow_steps).clamp(-1, 1)


AGENT = BehaviourCloning
