"""Behaviour cloning by denoising: a variance-preserving diffusion in the place of the flow.

The network gives the denoiser D = alpha x + beta F, and L_BC is the denoising loss (`trqam.maths.flow`). A network
that gives D itself would have to learn that D is x near t = 1: cloned so, it lost the width of a mode.
"""

from trqam.agents.base import Agent, Tensors
from trqam.agents.behaviour_cloning import BehaviourCloning
from trqam.maths.interpolants import VARIANCE_PRESERVING
from trqam.networks.mlp import Denoiser


class Diffusion(Agent):
    """What makes an agent's policy a diffusion; to be inherited from before the agent's own class."""

    interpolant = VARIANCE_PRESERVING

    def field(self, parameters: Tensors) -> Denoiser:
        """The velocity of a denoiser."""
        return Denoiser(self.networks["base"], parameters, self.interpolant)


class DiffusionCloning(Diffusion, BehaviourCloning):
    """The denoising loss alone."""


AGENT = DiffusionCloning
