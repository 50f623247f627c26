"""The method where it can be solved by hand: a Gaussian base, a linear critic, and no network.

For data N(mu, S) the flow-matching field is affine in x (regression of x1 - x0 on x_t),

    v_base(x, t) = mu + (t S - (1 - t) I) C_t^{-1} (x - t mu),    C_t = t^2 S + (1 - t)^2 I

and for the critic Q(a) = c.a the lean adjoint is the same on every path, so that the minimum of L_AM is reached by a
field that differs from the base by a function of time alone, v_ft - v_base = -(sigma_i^2 / 2) adj_i. The optimum is the
tilt pi_base exp(Q / lambda) = N(mu + S c / lambda, S), and because the process is memoryless its path KL equals
the KL of the end points (TRQAM, arXiv 2605.27079, Theorem 1 and Proposition 1; Adjoint Matching, arXiv 2409.08861).

Everything runs through `sde`, `adjoint`, `dual` and `flow`, in float64. ``multiplier`` is here what the SDE sees,
lambda_eff; only the dual descent scales it.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from trqam.maths import adjoint, dual, flow, sde
from trqam.maths.streams import stream

MULTIPLIER_SCALE = 3.0  # lambda_eff = 3 lambda; these are the settings of TRQAM's dual descent
DUAL = {"rate": 0.01, "ema_rate": 0.1, "clip": 2.0, "bounds": (0.01, 100.0)}


class GaussianBase:
    """The exact velocity field of data N(``mean`` [D], ``covariance`` [D, D])."""

    def __init__(self, mean: Tensor, covariance: Tensor):
        self.mean, self.covariance = mean, covariance
        self.variances, self.axes = torch.linalg.eigh(covariance)

    def __call__(self, s: Tensor, x: Tensor, t: Tensor | float) -> Tensor:
        """Velocities [R, B, D] at x [R, B, D] and time t, [R, B, 1] or a number."""
        gain = (t * self.variances - (1 - t)) / (t**2 * self.variances + (1 - t) ** 2)
        return self.mean + ((x - t * self.mean) @ self.axes * gain) @ self.axes.mT


class Shifted:
    """``base`` plus a velocity for each replica and time of the grid, ``shift`` [K, R, D]."""

    def __init__(self, base: GaussianBase, shift: Tensor):
        self.base, self.shift = base, shift

    def __call__(self, s: Tensor, x: Tensor, t: Tensor | float) -> Tensor:
        """Velocities [R, B, D] at x [R, B, D] and a time t = i / K, [R, B, 1] or a number."""
        steps, replicas, _ = self.shift.shape
        i = torch.as_tensor(t).mul(steps).round().long().expand(*x.shape[:-1], 1)[..., 0]
        return self.base(s, x, t) + self.shift[i, torch.arange(replicas)[:, None]]


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


def isotropic_problem(variance: float) -> Problem:
    """One dimension, zero mean, and a slope such that c'Sc = 1."""
    variance = torch.tensor([[variance]], dtype=torch.float64)
    return Problem(GaussianBase(torch.zeros(1, dtype=torch.float64), variance), variance[0].rsqrt())


def random_problem(dimension: int, seed: int = 0) -> Problem:
    """A mean, turned axes with standard deviations between 1/2 and 2, and a slope with c'Sc = D."""
    draw = stream(seed, "theory/problem", dimension)
    axes, _ = np.linalg.qr(draw.standard_normal((dimension, dimension)))
    variances = 4.0 ** draw.uniform(-1, 1, dimension)
    mean, slope = torch.from_numpy(draw.standard_normal((2, dimension)))
    problem = Problem(GaussianBase(mean, torch.from_numpy((axes * variances) @ axes.T)), slope)
    return problem._replace(slope=slope * (dimension / problem.spread) ** 0.5)


# What theory says


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
    """adj(t) = -d E[c.X_1 | X_t] / dX_t = -t C_t^{-1} S c in continuous time, [K, D] at times t [K]."""
    base, t = problem.base, t[:, None]
    gain = t * base.variances / (t**2 * base.variances + (1 - t) ** 2)
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


# What the code does


class Iterate(NamedTuple):
    """A fine-tuned field and, along the paths it was fitted on, dv and adjoints [K, R, B, D] and g^2 [K]."""

    field: Shifted
    dv: Tensor
    adjoints: Tensor
    g2: Tensor


def fine_tune(problem: Problem, finetuned: flow.Field, x0: Tensor, noise: Tensor, multiplier: Tensor) -> Iterate:
    """Rolls out under ``finetuned`` from x0 [R, B, D], and minimises L_AM over all fields at ``multiplier`` [R]."""
    base, s = problem.base, x0[..., :0]
    path, _ = sde.sample_trajectory(finetuned, base, s, x0, noise)
    terminal = adjoint.terminal_adjoint(problem.value, path[-1], clip=False)
    adjoints = adjoint.lean_adjoint(base, s, path, terminal)
    t, g2 = sde.memoryless_schedule(len(noise), x0)
    field = Shifted(base, -(g2[:, None] / (2 * multiplier))[..., None] * adjoints.mean(2))  # the rows are equal
    dv = adjoint.along_path(field, s, path[:-1], t) - adjoint.along_path(base, s, path[:-1], t)
    return Iterate(field, dv, adjoints, g2)


def optimum(problem: Problem, steps: int, multiplier: float = 1.0, seed: int = 0) -> Iterate:
    """The minimum of L_AM on ``steps`` steps, from one path of the base."""
    x0, noise = _noise(seed, 0, steps, 1, 1, len(problem.slope))
    return fine_tune(problem, problem.base, x0, noise, torch.tensor([multiplier], dtype=x0.dtype))


def _noise(seed: int, step: int, steps: int, *shape: int) -> tuple[Tensor, Tensor]:
    """x0 of ``shape``, and the noise of ``steps`` steps."""
    draws = torch.from_numpy(stream(seed, "theory/noise", step).standard_normal((steps + 1, *shape)))
    return draws[0], draws[1:]


def sde_end_point(problem: Problem, field: flow.Field, steps: int) -> tuple[Tensor, Tensor]:
    """Mean [D] and covariance [D, D] of X_K as the roll-out under ``field`` makes it, for one replica."""
    size = len(problem.slope)

    def end_point(rows: Tensor) -> Tensor:
        x0, noise = rows[:, :size], rows[:, size:].view(len(rows), steps, size).transpose(0, 1)
        return sde.sample_trajectory(field, problem.base, x0[None, :, :0], x0[None], noise[:, None])[0][-1, 0]

    return _moments(end_point, (steps + 1) * size)


def ode_end_point(problem: Problem, field: flow.Field, steps: int) -> tuple[Tensor, Tensor]:
    """Mean [D] and covariance [D, D] of the action that the Euler sampler makes with ``field``, for one replica."""
    return _moments(lambda x0: flow.euler(field, x0[None, :, :0], x0[None], steps)[0], len(problem.slope))


def _moments(affine: Callable[[Tensor], Tensor], inputs: int) -> tuple[Tensor, Tensor]:
    """Exact mean and covariance of an affine map of N(0, I): its value at zero, and at each unit vector."""
    mean, *columns = affine(torch.cat([torch.zeros(1, inputs), torch.eye(inputs)]).double())
    spread = torch.stack(columns) - mean
    return mean, spread.mT @ spread


def gaussian_kl(p: tuple[Tensor, Tensor], q: tuple[Tensor, Tensor]) -> float:
    """KL(p || q) of two Gaussians (mean [D], covariance [D, D])."""
    precision, difference = torch.linalg.inv(q[1]), q[0] - p[0]
    trace_and_log = torch.trace(precision @ p[1]) - len(difference) - torch.logdet(precision @ p[1])
    return ((trace_and_log + difference @ precision @ difference) / 2).item()


def dual_descent_experiment(
    budgets: Sequence[float],
    dimensions: Sequence[int],
    flow_steps: int = 10,
    dual_steps: int = 1000,
    horizon: int = 1,
    batch: int = 2,
    seed: int = 0,
) -> pd.DataFrame:
    """Roll-out, adjoint, path KL and dual step in turn, from lambda = 1: a row a dimension, budget and dual step.

    The columns ``multiplier`` (lambda) and ``path_kl`` (nats) should approach ``analytic`` (lambda*) and ``budget``.
    """
    rows = []
    budget = torch.tensor(budgets, dtype=torch.float64)  # a replica each
    for dimension in dimensions:
        problem = random_problem(dimension, seed)
        field = problem.base
        state = dual.DualState(torch.ones_like(budget), torch.zeros_like(budget))
        analytic = [optimal_multiplier(problem, b, horizon, MULTIPLIER_SCALE) for b in budgets]
        for step in range(dual_steps):
            x0, noise = _noise(seed, step, flow_steps, len(budgets), batch, dimension)
            iterate = fine_tune(problem, field, x0, noise, MULTIPLIER_SCALE * state.multiplier)
            kl, field = adjoint.path_kl(iterate.dv, iterate.g2, horizon), iterate.field
            columns = zip(budgets, analytic, state.multiplier.tolist(), kl.tolist(), strict=True)
            rows += [(dimension, step, *values) for values in columns]
            state = dual.dual_descent(state, kl, budget, **DUAL)
    return pd.DataFrame(rows, columns=["dimension", "step", "budget", "analytic", "multiplier", "path_kl"])


def discretisation_experiment(steps: Sequence[int], variances: Sequence[float] = (1.0,)) -> pd.DataFrame:
    """KLs at the optimum for lambda = 1 and c'Sc = 1, each 1/2 in continuous time: a row a variance and K.

    ``path_kl`` is D_hat, ``last_term`` the share in it of i = K-1, which the roll-out never executes, ``sde_kl`` that
    of the roll-out's end points with and without fine-tuning, and ``ode_kl`` that of the sampler's.
    """
    rows = []
    for variance in variances:
        problem = isotropic_problem(variance)
        for k in steps:
            field, dv, _, g2 = optimum(problem, k)
            kl, last = adjoint.path_kl(dv, g2, 1).item(), adjoint.path_kl(dv[-1:], k * g2[-1:], 1).item()
            ends = [
                gaussian_kl(end(problem, field, k), end(problem, problem.base, k))
                for end in (sde_end_point, ode_end_point)
            ]
            rows.append((variance, k, kl, last / kl, *ends))
    return pd.DataFrame(rows, columns=["variance", "steps", "path_kl", "last_term", "sde_kl", "ode_kl"])


def fitted_order(steps: Sequence[float], errors: Sequence[float]) -> float:
    """The p of error ~ K^-p, by least squares on the logarithms."""
    return -np.polyfit(np.log(steps), np.log(np.abs(errors)), 1)[0]


def tilt(base: np.ndarray, value: np.ndarray, beta: float) -> np.ndarray:
    """pi ~ pi_base exp(beta Q) over discrete actions, the last axis of both."""
    weight = base * np.exp(beta * (value - value.max(-1, keepdims=True)))
    return weight / weight.sum(-1, keepdims=True)


def total_variation(base: np.ndarray, value: np.ndarray, error: np.ndarray, beta: float) -> np.ndarray:
    """TV between the tilt by a critic and by the same critic plus ``error``."""
    return np.abs(tilt(base, value + error, beta) - tilt(base, value, beta)).sum(-1) / 2


def worst_toy(exponent: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Base, critic and signs of the error, on two actions, that attain tanh(beta eps / 2)."""
    odds = np.exp(exponent)
    return np.array([1, odds]) / (1 + odds), np.zeros(2), np.array([1.0, -1.0])


def amplification_experiment(
    betas: Sequence[float], errors: Sequence[float], toys: int = 500, actions: int = 8, seed: int = 0
) -> pd.DataFrame:
    """The total variation that a critic's error causes, a row for each inverse temperature beta and error eps.

    ``typical`` and ``largest`` are the median and the maximum over ``toys`` random bases and critics with errors drawn
    uniformly (even toys) or of full size and random sign (odd ones); ``worst`` is that of the worst toy.
    """
    rows = []
    for number, (beta, error) in enumerate((beta, error) for beta in betas for error in errors):
        draw = stream(seed, "theory/toys", number)
        base, value = draw.dirichlet(np.ones(actions), toys), draw.standard_normal((toys, actions))
        signs = draw.uniform(-1, 1, (toys, actions))
        signs[1::2] = np.sign(signs[1::2])
        found = total_variation(base, value, error * signs, beta)
        base, value, signs = worst_toy(beta * error)
        worst = total_variation(base, value, error * signs, beta)
        rows.append((beta, error, np.median(found), found.max(), worst, amplification_bound(beta * error)))
    return pd.DataFrame(rows, columns=["beta", "error", "typical", "largest", "worst", "bound"])
