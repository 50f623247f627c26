"""Interpolants from noise to actions: the flow is one instance, a variance-preserving diffusion another.

    x_t = alpha x1 + beta x0,      x0 ~ N(0, I) noise at t = 0,   x1 the action at t = 1
    v   = E[dx_t/dt | x_t] = (W D + beta' x) / beta,     D = E[x1 | x_t] the denoiser,   W = alpha' beta - alpha beta'

    flow                  alpha = t               beta = 1 - t            W = 1
    variance preserving   alpha = sin(pi t / 2)   beta = cos(pi t / 2)    W = pi / 2

If alpha^2 + beta^2 = 1 and a network F gives D = alpha x + beta F, then v = W F: nothing divides by beta (F is -v of
Salimans & Ho, arXiv 2202.00512). The memoryless process (Adjoint Matching, arXiv 2409.08861) has the drift
2 v - kappa x and the squared diffusion g^2 = 2 eta, in continuous time and, finite at t = 0, on a grid of step h:

    kappa   = alpha' / alpha                 eta   = beta (kappa beta - beta') = W beta / alpha
    kappa_i = alpha'(t_i) / alpha(t_i + h)   eta_i = W beta(t_i - h) / alpha(t_i + h)

A step of the sampling ODE leaves D and the noise where they are: x + h v, or a turn (DDIM's, arXiv 2010.02502).
"""

import math
from abc import ABC, abstractmethod
from typing import TypeVar

from torch import Tensor

Time = TypeVar("Time", Tensor, float, Tensor | float)  # tensors broadcast to x [..., B, D]


class Interpolant(ABC):
    """alpha and beta, and what follows from them."""

    wronskian: float  # W, which is constant for both

    @abstractmethod
    def at(self, t: Time) -> tuple[Time, Time, Time | float, Time | float]:
        """Alpha, beta, alpha' and beta'."""

    def slope(self, x0: Tensor, x1: Tensor, t: Tensor) -> Tensor:
        """dx_t / dt."""
        *_, rise, fall = self.at(t)
        return rise * x1 + fall * x0

    def advance(self, x: Tensor, change: Tensor, h: float) -> Tensor:
        """x after a step of the sampling ODE, from ``change`` = h v."""
        return x + change

    def timescale(self, start: float, end: float) -> float:
        """1 / kappa of the step from ``start`` to ``end``, or of one moment."""
        return self.at(end)[0] / self.at(start)[2]

    def squared_diffusion(self, t: Time, h: float) -> Time:
        """g^2 of the step from t."""
        return 2 * self.wronskian * self.at(t - h)[1] / self.at(t + h)[0]

    def adjoint_time(self, end: Time, h: float) -> Time:
        """When the lean adjoint asks for dv/dx in the step that ends at ``end``."""
        return end

    def adjoint_step(self, adjoint: Tensor, pulled: Tensor, end: float, h: float) -> Tensor:
        """The adjoint before that step, from the one after it and ``pulled`` = (dv/dx)^T adjoint."""
        return (1 - h / self.timescale(end, end)) * adjoint + 2 * h * pulled


class Flow(Interpolant):
    """Straight lines; what is written out has the bits of the authors' code."""

    wronskian = 1.0

    def at(self, t: Time) -> tuple[Time, Time, float, float]:
        return t, 1 - t, 1.0, -1.0

    def slope(self, x0: Tensor, x1: Tensor, t: Tensor) -> Tensor:
        return x1 - x0

    def squared_diffusion(self, t: Time, h: float) -> Time:
        return 2 * (1 - t + h) / (t + h)


class VariancePreserving(Interpolant):
    """A quarter of a circle. The adjoint of its last step is that of the step which the roll-out takes there, to D."""

    wronskian = math.pi / 2

    def at(self, t: Time) -> tuple[Time, Time, Time, Time]:
        x = self.wronskian * t
        alpha, beta = (x.sin(), x.cos()) if isinstance(x, Tensor) else (math.sin(x), math.cos(x))
        return alpha, beta, self.wronskian * beta, -self.wronskian * alpha

    def advance(self, x: Tensor, change: Tensor, h: float) -> Tensor:
        angle = self.wronskian * h
        return math.cos(angle) * x + math.sin(angle) / angle * change

    def adjoint_time(self, end: Time, h: float) -> Time:
        return end.clamp(max=1 - h) if isinstance(end, Tensor) else min(end, 1 - h)

    def adjoint_step(self, adjoint: Tensor, pulled: Tensor, end: float, h: float) -> Tensor:
        return self.advance(adjoint, h * pulled, h) if end == 1 else super().adjoint_step(adjoint, pulled, end, h)


FLOW, VARIANCE_PRESERVING = Flow(), VariancePreserving()
