"""Behaviour cloning by denoising: a variance-preserving diffusion in the place of the flow.

The network gives the denoiser D = alpha x + beta F, and L_BC is the denoising loss (`trqam.maths.flow`). A network
that gives D itself would have to learn that D is x near t = 1: cloned so, it lost the width of a mode.
"""

from trqam.agents.behaviour_cloning import BehaviourCloning


class DiffusionCloning(BehaviourCloning):
    """The denoising loss alone, by the ``policy`` of its parameters' class."""


AGENT = DiffusionCloning
