"""Interpolants from noise to actions: the flow is one instance, a variance-preserving diffusion another.

    x_t = alpha_t x1 + beta_t x0,      x0 ~ N(0, I) noise at t = 0,   x1 the action at t = 1
    v   = E[alpha' x1 + beta' x0 | x_t] = (W D + beta' x) / beta,     D = E[x1 | x_t],   W = alpha' beta - alpha beta'

    flow                  alpha = t               beta = 1 - t            W = 1
    variance preserving   alpha = sin(pi t / 2)   beta = cos(pi t / 2)    W = pi / 2

D is a diffusion's denoiser (Salimans & Ho, arXiv 2202.00512). The memoryless process (Adjoint Matching, arXiv
2409.08861) has the drift 2 v - kappa x and the squared diffusion g^2 = 2 eta, which are infinite at t = 0:

    kappa = alpha' / alpha                   eta = beta (kappa beta - beta') = W beta / alpha
    kappa_i = alpha'(t_i) / alpha(t_i + h)   eta_i = W beta(t_i - h) / alpha(t_i + h)              on a grid of step h

A step of the sampling ODE holds D and the noise where they are: x + h v on a straight line, a turn on the circle of
alpha and beta, which is DDIM's (Song et al., arXiv 2010.02502). The last one, to t = 1, ends at D.
"""

import math
from abc import ABC, abstractmethod
from typing import TypeVar

from torch import Tensor

Time = TypeVar("Time", Tensor, float, Tensor | float)


class Interpolant(ABC):
    """alpha and beta, and what follows from them; times are numbers or tensors that broadcast to x [..., B, D]."""

    wronskian: float  # W, which is constant for both

    @abstractmethod
    def at(self, t: Time) -> tuple[Time, Time, Time | float, Time | float]:
        """Alpha, beta, alpha' and beta'."""

    @abstractmethod
    def advance(self, x: Tensor, change: Tensor, h: float) -> Tensor:
        """x after a step of the ODE, from ``change`` = h v."""

    def velocity(self, clean: Tensor, x: Tensor, t: Time) -> Tensor:
        """v at x for D = ``clean``; not at t = 1, where beta is zero."""
        _, beta, _, fall = self.at(t)
        return (self.wronskian * clean + fall * x) / beta

    def timescale(self, start: float, end: float) -> float:
        """1 / kappa of the step from ``start`` to ``end``; of a moment if they are equal."""
        return self.at(end)[0] / self.at(start)[2]

    def squared_diffusion(self, t: Time, h: float) -> Time:
        """g^2 of the step from t."""
        return 2 * self.wronskian * self.at(t - h)[1] / self.at(t + h)[0]

    def adjoint_time(self, end: Time, h: float) -> Time:
        """When the lean adjoint asks for the field in the step that ends at ``end``."""
        return end

    def adjoint_step(self, adjoint: Tensor, pulled: Tensor, end: float, h: float) -> Tensor:
        """The adjoint before the step that ends at ``end``, from that after it and ``pulled`` = (dv/dx)^T adjoint."""
        return (1 - h / self.timescale(end, end)) * adjoint + 2 * h * pulled


class Flow(Interpolant):
    """Straight lines."""

    wronskian = 1.0

    def at(self, t: Time) -> tuple[Time, Time, float, float]:
        """t, 1 - t and their slopes."""
        return t, 1 - t, 1.0, -1.0

    def advance(self, x: Tensor, change: Tensor, h: float) -> Tensor:
        """Euler's step."""
        return x + change

    def squared_diffusion(self, t: Time, h: float) -> Time:
        """The same in the order of the authors' code, for the last bit."""
        return 2 * (1 - t + h) / (t + h)


class VariancePreserving(Interpolant):
    """A quarter of a circle. A denoiser has no velocity at t = 1: the last step's adjoint is that of the step taken."""

    wronskian = math.pi / 2

    def at(self, t: Time) -> tuple[Time, Time, Time, Time]:
        """Sine, cosine and their slopes."""
        x = self.wronskian * t
        alpha, beta = (x.sin(), x.cos()) if isinstance(x, Tensor) else (math.sin(x), math.cos(x))
        return alpha, beta, self.wronskian * beta, -self.wronskian * alpha

    def advance(self, x: Tensor, change: Tensor, h: float) -> Tensor:
        """A turn by pi h / 2."""
        angle = self.wronskian * h
        return math.cos(angle) * x + math.sin(angle) / angle * change

    def adjoint_time(self, end: Time, h: float) -> Time:
        """``end``, or the start of the last step."""
        return end.clamp(max=1 - h) if isinstance(end, Tensor) else min(end, 1 - h)

    def adjoint_step(self, adjoint: Tensor, pulled: Tensor, end: float, h: float) -> Tensor:
        """The last step is the ODE's and ends at D: (dD/dx)^T adjoint."""
        return self.advance(adjoint, h * pulled, h) if end == 1 else super().adjoint_step(adjoint, pulled, end, h)


FLOW, VARIANCE_PRESERVING = Flow(), VariancePreserving()
