"""Behaviour cloning by denoising: a variance-preserving diffusion in the place of the flow.

The network gives the clean action D(s, x, t), trained with weight one at all times (`trqam.maths.flow`). What samples
and what is fine-tuned ask for is its velocity (`trqam.maths.interpolants`), which divides by beta: it is never asked
for at t = 1. Sampling is as stable as D itself, for its last step ends at D.
"""

from torch import Tensor

from trqam.agents.base import Agent, Tensors
from trqam.agents.behaviour_cloning import BehaviourCloning
from trqam.maths.flow import denoising_loss
from trqam.maths.interpolants import VARIANCE_PRESERVING
from trqam.networks.mlp import Denoiser
from trqam.networks.replicas import State


class Diffusion(Agent):
    """What makes an agent's policy a diffusion; to be inherited from before the agent's own class."""

    interpolant = VARIANCE_PRESERVING

    def field(self, parameters: Tensors) -> Denoiser:
        """The velocity of a denoiser."""
        return Denoiser(self.networks["base"], parameters, self.interpolant)

    def flow_loss(self, state: State, batch: Tensors, noise: Tensors) -> Tensor:
        """The denoising loss [R] of the online base field."""
        s, a, valid = batch["observations"], batch["actions"], batch["valid"]
        denoiser = self.field(state.online["base"]).clean
        return denoising_loss(denoiser, s, a, noise["bc_x0"], noise["bc_t"], valid, self.interpolant)


class DiffusionCloning(Diffusion, BehaviourCloning):
    """The denoising loss alone."""


AGENT = DiffusionCloning
