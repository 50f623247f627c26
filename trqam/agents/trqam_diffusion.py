"""TRQAM on a variance-preserving diffusion in the place of the flow.

Nothing of TRQAM changes but the interpolant: its memoryless process, adjoint and path KL are those of
`trqam.maths.interpolants`, and its base is cloned by denoising (`trqam.agents.diffusion_cloning`).
"""

from trqam.agents.trqam import TRQAM


class TRQAMDiffusion(TRQAM):
    """TRQAM whose policy is a diffusion, by the ``policy`` of its parameters' class."""


AGENT = TRQAMDiffusion
