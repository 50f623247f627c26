"""Flow matching, and the sampler that acts.

    x_t = (1 - t) x0 + t x1,   x0 ~ N(0, I) noise at t = 0,   x1 the action at t = 1
    L_BC = mean_B [ valid * mean_D (v(s, x_t, t) - (x1 - x0))^2 ]                     (Lipman et al., arXiv 2210.02747)
    x_{i+1} = x_i + h v(s, x_i, i h),   h = 1/K

Other interpolants have their own x_t, slope (in the place of x1 - x0) and step (`trqam.maths.interpolants`). For a
diffusion's denoiser D this is the denoising loss at the weight W^2 / beta^2, the "SNR + 1" of Salimans & Ho (arXiv
2202.00512) but for a constant:

    L_BC = mean_B [ valid * mean_D (W / beta)^2 (D(s, x_t, t) - x1)^2 ]

Shapes: observations s [R, B, O], actions and noise [R, B, D], flow time [R, B, 1] or a number; R is the replica axis.
A `Field` maps (s, x, t) to velocities [R, B, D].
"""

from collections.abc import Callable

from torch import Tensor

from trqam.maths.interpolants import FLOW, Interpolant

Field = Callable[[Tensor, Tensor, Tensor | float], Tensor]


def interpolate(x0: Tensor, x1: Tensor, t: Tensor, interpolant: Interpolant = FLOW) -> Tensor:
    """The point at time ``t`` between ``x0`` and ``x1``."""
    assert x0.ndim == x1.ndim == t.ndim == 3
    alpha, beta, *_ = interpolant.at(t)
    return beta * x0 + alpha * x1


def flow_matching_loss(
    field: Field, s: Tensor, x1: Tensor, x0: Tensor, t: Tensor, valid: Tensor, interpolant: Interpolant = FLOW
) -> Tensor:
    """L_BC per replica, [R]; ``valid`` [R, B] is 0 for chunks that leave their trajectory."""
    assert (s.ndim, x1.ndim, x0.ndim, t.ndim, valid.ndim) == (3, 3, 3, 3, 2)
    error = field(s, interpolate(x0, x1, t, interpolant), t) - interpolant.slope(x0, x1, t)
    return (error.square().mean(-1) * valid).mean(-1)


def euler(field: Field, s: Tensor, x: Tensor, steps: int, interpolant: Interpolant = FLOW) -> Tensor:
    """The end point of the sampling ODE started at noise ``x``, not clipped."""
    assert s.ndim == x.ndim == 3
    for i in range(steps):
        x = interpolant.advance(x, field(s, x, i / steps) / steps, 1 / steps)
    return x
