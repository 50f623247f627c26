"""The method where it can be solved by hand: a Gaussian base, a linear critic, and no network.

For data N(mu, S) the field is affine in x (regression of alpha' x1 + beta' x0 on x_t; `trqam.maths.interpolants`),

    v_base(x, t) = alpha' mu + (alpha alpha' S + beta beta' I) C_t^{-1} (x - alpha mu),    C_t = alpha^2 S + beta^2 I

and for the critic Q(a) = c.a the optimum is the tilt

    pi_base exp(Q / lambda) = N(mu + S c / lambda, S),            KL(tilt || base) = c'Sc / (2 lambda^2)
    adj(t) = -alpha C_t^{-1} S c,                                 lambda* = sqrt(c'Sc / (2 eps H))

Because the process is memoryless, its path KL equals this KL of the end points (TRQAM, arXiv 2605.27079, Theorem 1 and
Proposition 1; Adjoint Matching, arXiv 2409.08861). ``multiplier`` is what the SDE sees, lambda_eff. In float64.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from trqam.maths.interpolants import FLOW, Interpolant


class GaussianBase:
    """The exact velocity field of data N(``mean`` [D], ``covariance`` [D, D])."""

    def __init__(self, mean: Tensor, covariance: Tensor, interpolant: Interpolant = FLOW):
        self.mean, self.covariance, self.interpolant = mean, covariance, interpolant
        self.variances, self.axes = torch.linalg.eigh(covariance)

    def __call__(self, s: Tensor, x: Tensor, t: Tensor | float) -> Tensor:
        """Velocities [R, B, D] at x [R, B, D] and time t, [R, B, 1] or a number."""
        assert x.ndim == 3
        alpha, beta, rise, fall = self.interpolant.at(t)
        gain = (alpha * rise * self.variances + beta * fall) / (alpha**2 * self.variances + beta**2)
        return rise * self.mean + ((x - alpha * self.mean) @ self.axes * gain) @ self.axes.mT


class Problem(NamedTuple):
    """A Gaussian base and the slope c [D] of the critic Q(a) = c.a."""

    base: GaussianBase
    slope: Tensor

    def value(self, actions: Tensor) -> Tensor:
        """Q(a) = c.a, from actions [R, B, D] to [R, B]."""
        return actions @ self.slope

    @property
    def spread(self) -> float:
        """c'Sc, the variance of Q under the base."""
        return (self.slope @ self.base.covariance @ self.slope).item()


def tilted_mean(problem: Problem, multiplier: float) -> Tensor:
    """The mean mu + S c / lambda of the tilt; its covariance is S."""
    return problem.base.mean + problem.base.covariance @ problem.slope / multiplier


def optimal_kl(problem: Problem, multiplier: float) -> float:
    """KL(tilt || base) = c'Sc / (2 lambda^2), of the end points and of the paths."""
    return problem.spread / (2 * multiplier**2)


def optimal_multiplier(problem: Problem, budget: float, horizon: int = 1, scale: float = 1.0) -> float:
    """lambda* = sqrt(c'Sc / (2 eps H)) / scale, where the path KL per environment step meets the budget eps."""
    return (problem.spread / (2 * budget * horizon)) ** 0.5 / scale


def exact_adjoint(problem: Problem, t: Tensor) -> Tensor:
    """adj(t) = -d E[c.X_1 | X_t] / dX_t in continuous time, [K, D] at times t [K]."""
    assert t.ndim == 1
    base = problem.base
    alpha, beta, *_ = base.interpolant.at(t[:, None])
    gain = alpha * base.variances / (alpha**2 * base.variances + beta**2)
    return -(problem.slope @ base.axes * gain) @ base.axes.mT


def amplification_bound(exponent):
    """Lemma 1: (exp(2 beta eps) - 1) / 2 bounds the total variation, for ``exponent`` = beta eps."""
    return np.expm1(2 * np.asarray(exponent)) / 2


def attainable_variation(exponent):
    """tanh(beta eps / 2), the largest total variation that errors up to eps can cause.

    They change the odds of any set of actions by at most exp(2 beta eps), and p' - p is then largest at
    p = 1 / (1 + exp(beta eps)). It is at most half of Lemma 1's bound.
    """
    return np.tanh(np.asarray(exponent) / 2)


def gaussian_kl(p: tuple[Tensor, Tensor], q: tuple[Tensor, Tensor]) -> float:
    """KL(p || q) of two Gaussians (mean [D], covariance [D, D])."""
    precision, difference = torch.linalg.inv(q[1]), q[0] - p[0]
    trace_and_log = torch.trace(precision @ p[1]) - len(difference) - torch.logdet(precision @ p[1])
    return ((trace_and_log + difference @ precision @ difference) / 2).item()
