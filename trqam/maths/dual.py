"""Projected dual descent on the trust-region multiplier (TRQAM, arXiv 2605.27079, section 4).

    D_c = min(D_hat, D_max)                                                   D_max = kl_clip eps_KL
    D_ema <- (1 - rho) D_ema + rho D_c
    lambda <- clip(lambda + eta (D_ema - eps_KL), lambda_min, lambda_max)

KL above the budget raises lambda, which tightens the region.

Beyond the paper, a multiplier for each state: a network's f(s), at first zero, gives lambda(s), which is regressed to
the point y(s) where the same step would move it from the state's own KL (y and the divisor are held):

    lambda(s) = lambda_min^(1 - p) lambda_max^p,   p = sigmoid(f(s) + f_0),   lambda = lambda_0 where f = 0
    y(s) = clip(lambda(s) + eta (min(D_hat(s), D_max) - eps_KL), lambda_min, lambda_max)
    L_lambda = mean_B (lambda(s) - y(s))^2 / (2 eta lambda(s))

Inside the bounds dL_lambda(s) / dlog lambda(s) = eps_KL - min(D_hat(s), D_max): bounded, and alike for small
and large multipliers. There is no D_ema, since a regression averages over updates by itself.
"""

import math
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


def bounded_multiplier(f: Tensor, initial: float, bounds: tuple[float, float]) -> Tensor:
    """lambda(s) for the outputs ``f`` of a network, of any shape; ``initial`` lies between the ``bounds``."""
    assert 0 < bounds[0] < initial < bounds[1]
    low, high, start = (math.log(value) for value in (*bounds, initial))
    shift = math.log((start - low) / (high - start))
    return (low + (high - low) * torch.sigmoid(f + shift)).exp()


def projected_point(
    multiplier: Tensor, kl: Tensor, budget: float, rate: float, largest: float, bounds: tuple[float, float]
) -> Tensor:
    """y(s) [R, B] from lambda(s) and the KL of each state, [R, B] both."""
    assert multiplier.ndim == kl.ndim == 2
    return (multiplier + rate * (kl.clamp(max=largest) - budget)).clamp(*bounds)


def multiplier_loss(multiplier: Tensor, point: Tensor, rate: float) -> Tensor:
    """L_lambda [R], with gradient to ``multiplier`` [R, B] alone."""
    assert multiplier.ndim == point.ndim == 2
    scale = 2 * rate * multiplier.detach()
    return ((multiplier - point.detach()).square() / scale).mean(-1)
