"""Projected dual descent on the trust-region multiplier (TRQAM, arXiv 2605.27079, section 4).

    D_c = min(D_hat, D_max)                                                   D_max = kl_clip eps_KL
    D_ema <- (1 - rho) D_ema + rho D_c
    lambda <- clip(lambda + eta (D_ema - eps_KL), lambda_min, lambda_max)

KL above the budget raises lambda, which tightens the region.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class DualState(NamedTuple):
    """The multiplier lambda and the moving average of the path KL, each [R]."""

    multiplier: Tensor
    kl_ema: Tensor


def dual_descent(
    state: DualState,
    kl: Tensor,
    budget: Tensor | float,
    rate: float,
    ema_rate: float,
    largest: Tensor | float,
    bounds: tuple[float, float],
) -> DualState:
    """One dual step from the estimate ``kl`` [R], which counts for at most ``largest``, D_max."""
    assert kl.ndim == state.multiplier.ndim == state.kl_ema.ndim == 1
    kl_ema = (1 - ema_rate) * state.kl_ema + ema_rate * torch.clamp(kl, max=largest)
    return DualState((state.multiplier + rate * (kl_ema - budget)).clamp(*bounds), kl_ema)
