"""The controlled SDE whose paths adjoint matching learns from.

The memoryless schedule of Adjoint Matching (arXiv 2409.08861), on the grid t_i = i h with h = 1/K, is for the flow

    g_i^2 = 2 (1 - t_i + h) / (t_i + h),   kappa_i = 1 / (t_i + h)

which adds h to numerator and denominator alike, to be finite at t = 0 (it is not g^2(t_i + h)). For other interpolants
see `trqam.maths.interpolants`. Roll-out:

    X_{i+1} = X_i + h (2 v_ft(s, X_i, t_i) - kappa_i X_i) + sqrt(h) g_i eps_i            i = 0 .. K-2
    X_K     = X_{K-1} + h v_base(s, X_{K-1}, t_{K-1})                                    no noise, base field

The last is a step of the sampling ODE. TRQAM's trust region writes the total diffusion g as sqrt(lambda) sigma; the
paths do not depend on lambda.
"""

import torch
from torch import Tensor

from trqam.maths.flow import Field
from trqam.maths.interpolants import FLOW, Interpolant


def time_grid(steps: int, like: Tensor, first: int = 0) -> Tensor:
    """K = ``steps`` times i / K from i = ``first`` on, [K], with the dtype and device of ``like``."""
    return torch.arange(first, first + steps, dtype=like.dtype, device=like.device) / steps


def memoryless_schedule(steps: int, like: Tensor, interpolant: Interpolant = FLOW) -> tuple[Tensor, Tensor]:
    """Times t [K] and squared diffusions g^2 [K], with the dtype and device of ``like``."""
    t = time_grid(steps, like)
    return t, interpolant.squared_diffusion(t, 1 / steps)


def sample_trajectory(
    finetuned: Field, base: Field, s: Tensor, x0: Tensor, noise: Tensor, interpolant: Interpolant = FLOW
) -> tuple[Tensor, Tensor]:
    """States X_0 .. X_K, [K+1, R, B, D], from x0 [R, B, D] and noise [K, R, B, D] (its last entry is not used), and the
    velocity v_base [R, B, D] of the last step.

    Call it without gradient: adjoint matching does not differentiate through the path.
    """
    assert (s.ndim, x0.ndim, noise.ndim) == (3, 3, 4)
    steps = noise.shape[0]
    h = 1 / steps
    path = [x0]
    for i in range(steps - 1):
        t, x = i / steps, path[-1]
        g = interpolant.squared_diffusion(t, h) ** 0.5
        drift = 2 * finetuned(s, x, t) - x / interpolant.timescale(t, t + h)
        path.append(x + h * drift + h**0.5 * g * noise[i])
    velocity = base(s, path[-1], (steps - 1) / steps)
    path.append(interpolant.advance(path[-1], h * velocity, h))
    return torch.stack(path), velocity
