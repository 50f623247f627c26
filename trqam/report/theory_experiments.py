"""The code held against `trqam.maths.closed_forms`: what `sde`, `adjoint`, `dual` and `flow` do, in numbers.

With a Gaussian base and a linear critic the lean adjoint is the same on every path, so that the minimum of L_AM is
reached by a field that differs from the base by a function of time alone, v_ft - v_base = -(sigma_i^2 / 2) adj_i.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from trqam.maths import adjoint, dual, flow, schedules, sde
from trqam.maths.closed_forms import (
    GaussianBase,
    Problem,
    amplification_bound,
    gaussian_kl,
    optimal_multiplier,
)
from trqam.maths.interpolants import FLOW, VARIANCE_PRESERVING, Interpolant
from trqam.maths.streams import stream

MULTIPLIER_SCALE, KL_CLIP = 3.0, 2.0  # lambda_eff = 3 lambda; these are the settings of TRQAM's dual descent
INTERPOLANTS = {"flow": FLOW, "diffusion": VARIANCE_PRESERVING}
DUAL: dict[str, Any] = {"rate": 0.01, "ema_rate": 0.1, "bounds": (0.01, 100.0)}


def isotropic_problem(variance: float, interpolant: Interpolant = FLOW) -> Problem:
    """One dimension, zero mean, and a slope such that c'Sc = 1."""
    covariance = torch.tensor([[variance]], dtype=torch.float64)
    return Problem(GaussianBase(torch.zeros(1, dtype=torch.float64), covariance, interpolant), covariance[0].rsqrt())


def random_problem(dimension: int, seed: int = 0, interpolant: Interpolant = FLOW) -> Problem:
    """A mean, turned axes with standard deviations between 1/2 and 2, and a slope with c'Sc = D."""
    draw = stream(seed, "theory/problem", dimension)
    axes, _ = np.linalg.qr(draw.standard_normal((dimension, dimension)))
    variances = 4.0 ** draw.uniform(-1, 1, dimension)
    mean, slope = torch.from_numpy(draw.standard_normal((2, dimension)))
    problem = Problem(GaussianBase(mean, torch.from_numpy((axes * variances) @ axes.T), interpolant), slope)
    return problem._replace(slope=slope * (dimension / problem.spread) ** 0.5)


class Shifted:
    """``base`` plus a velocity for each replica and time of the grid, ``shift`` [K, R, D]."""

    def __init__(self, base: GaussianBase, shift: Tensor):
        self.base, self.shift = base, shift

    def __call__(self, s: Tensor, x: Tensor, t: Tensor | float) -> Tensor:
        """Velocities [R, B, D] at x [R, B, D] and a number t = i / K."""
        return self.base(s, x, t) + self.shift[round(float(t) * len(self.shift)), :, None]


class Iterate(NamedTuple):
    """A fine-tuned field and, along the paths it was fitted on, dv and adjoints [K, R, B, D] and g^2 [K]."""

    field: Shifted
    dv: Tensor
    adjoints: Tensor
    g2: Tensor


def fine_tune(problem: Problem, finetuned: flow.Field, x0: Tensor, noise: Tensor, multiplier: Tensor) -> Iterate:
    """Rolls out under ``finetuned`` from x0 [R, B, D], and minimises L_AM over all fields at ``multiplier`` [R]."""
    base, s, between = problem.base, x0[..., :0], problem.base.interpolant
    path, _ = sde.sample_trajectory(finetuned, base, s, x0, noise, between)
    terminal = adjoint.terminal_adjoint(problem.value, path[-1], clip=False)
    adjoints = adjoint.lean_adjoint(adjoint.pullback(base, s, path[:-1], between), terminal, len(noise), between)
    _, g2 = sde.memoryless_schedule(len(noise), x0, between)
    field = Shifted(base, -(g2[:, None] / (2 * multiplier))[..., None] * adjoints.mean(2))  # the rows are equal
    return Iterate(field, field.shift[:, :, None].expand_as(adjoints), adjoints, g2)


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
        given = (x0[None, :, :0], x0[None], noise[:, None], problem.base.interpolant)
        return sde.sample_trajectory(field, problem.base, *given)[0][-1, 0]

    return _moments(end_point, (steps + 1) * size)


def ode_end_point(problem: Problem, field: flow.Field, steps: int) -> tuple[Tensor, Tensor]:
    """Mean [D] and covariance [D, D] of the action that the sampler makes with ``field``, for one replica."""
    between = problem.base.interpolant
    return _moments(lambda x0: flow.euler(field, x0[None, :, :0], x0[None], steps, between)[0], len(problem.slope))


def _moments(affine: Callable[[Tensor], Tensor], inputs: int) -> tuple[Tensor, Tensor]:
    """Exact mean and covariance of an affine map of N(0, I): its value at zero, and at each unit vector."""
    mean, *columns = affine(torch.cat([torch.zeros(1, inputs), torch.eye(inputs)]).double())
    spread = torch.stack(columns) - mean
    return mean, spread.mT @ spread


def dual_descent_experiment(
    budgets: Sequence[float],
    dimensions: Sequence[int],
    flow_steps: int = 10,
    dual_steps: int = 1000,
    horizon: int = 1,
    batch: int = 2,
    seed: int = 0,
    interpolant: Interpolant = FLOW,
) -> pd.DataFrame:
    """Roll-out, adjoint, path KL and dual step in turn, from lambda = 1: a row a dimension, budget and dual step.

    The columns ``multiplier`` (lambda) and ``path_kl`` (nats) should approach ``analytic`` (lambda*) and ``budget``.
    """
    rows = []
    budget = torch.tensor(budgets, dtype=torch.float64)  # a replica each
    for dimension in dimensions:
        problem = random_problem(dimension, seed, interpolant)
        field: flow.Field = problem.base
        state = dual.DualState(torch.ones_like(budget), torch.zeros_like(budget))
        analytic = [optimal_multiplier(problem, b, horizon, MULTIPLIER_SCALE) for b in budgets]
        for step in range(dual_steps):
            x0, noise = _noise(seed, step, flow_steps, len(budgets), batch, dimension)
            iterate = fine_tune(problem, field, x0, noise, MULTIPLIER_SCALE * state.multiplier)
            kl, field = adjoint.path_kl(iterate.dv, iterate.g2, horizon), iterate.field
            columns = zip(budgets, analytic, state.multiplier.tolist(), kl.tolist(), strict=True)
            rows += [(dimension, step, *values) for values in columns]
            state = dual.dual_descent(state, kl, budget, largest=KL_CLIP * budget, **DUAL)
    return pd.DataFrame(rows, columns=["dimension", "step", "budget", "analytic", "multiplier", "path_kl"])


def moving_budget_experiment(
    budget: float, ends: tuple[float, float], dimension: int, dual_steps: int, batch: int = 64, seed: int = 0
) -> pd.DataFrame:
    """Dual descent towards budgets that move: a row a schedule and dual step, ``path_kl`` beside its ``budget``.

    By the step a budget goes from the one to the other of ``ends`` times ``budget``. By the critic it is ``budget``
    times the agreement, at the ends of the paths, of two critics (1 + d) c.a and (1 - d) c.a, whose error d goes from
    a third to zero.
    """
    names = ("linear", "cosine", "critic")  # a replica each
    problem, rows = random_problem(dimension, seed), []
    field: flow.Field = problem.base
    state = dual.DualState(*torch.tensor([[1.0], [0.0]], dtype=torch.float64).expand(2, len(names)))
    first, last = torch.tensor([[ends[0], ends[0], 0.0], [ends[1], ends[1], 1.0]], dtype=torch.float64)
    for step in range(dual_steps):
        progress = torch.tensor([step / dual_steps], dtype=torch.float64)
        x0, noise = _noise(seed, step, 10, len(names), batch, dimension)
        path, _ = sde.sample_trajectory(field, problem.base, x0[..., :0], x0, noise)
        value = problem.value(path[-1][-1:])
        error = (1 - progress) / 3
        agreed = schedules.agreement(torch.stack([(1 + error) * value, (1 - error) * value], 1))
        weight = torch.cat([schedules.linear(progress), schedules.cosine(progress), agreed])
        moving = schedules.moving_budget(budget, weight, first, last)
        iterate = fine_tune(problem, field, x0, noise, MULTIPLIER_SCALE * state.multiplier)
        kl, field = adjoint.path_kl(iterate.dv, iterate.g2, 1), iterate.field
        rows += [(name, step, *pair) for name, *pair in zip(names, moving.tolist(), kl.tolist(), strict=True)]
        state = dual.dual_descent(state, kl, moving, largest=KL_CLIP * moving.clamp(min=budget), **DUAL)
    return pd.DataFrame(rows, columns=["schedule", "step", "budget", "path_kl"])


def discretisation_experiment(
    steps: Sequence[int], variances: Sequence[float] = (1.0,), interpolant: Interpolant = FLOW
) -> pd.DataFrame:
    """KLs at the optimum for lambda = 1 and c'Sc = 1, each 1/2 in continuous time: a row a variance and K.

    ``path_kl`` is D_hat, ``last_term`` the share in it of i = K-1, which the roll-out never executes, ``sde_kl`` that
    of the roll-out's end points with and without fine-tuning, and ``ode_kl`` that of the sampler's.
    """
    rows = []
    for variance in variances:
        problem = isotropic_problem(variance, interpolant)
        for k in steps:
            field, dv, _, g2 = optimum(problem, k)
            kl, last = adjoint.path_kl(dv, g2, 1).item(), adjoint.path_kl(dv[-1:], k * g2[-1:], 1).item()
            ends = [
                gaussian_kl(end(problem, field, k), end(problem, problem.base, k))
                for end in (sde_end_point, ode_end_point)
            ]
            rows.append((variance, k, kl, last / kl, *ends))
    return pd.DataFrame(rows, columns=["variance", "steps", "path_kl", "last_term", "sde_kl", "ode_kl"])


def interpolant_experiment(
    steps: Sequence[int], budget: float, dimension: int, dual_steps: int, variance: float
) -> pd.DataFrame:
    """Relative errors of the flow and the diffusion, a row an interpolant and K.

    ``multiplier`` is that of lambda after dual descent, and ``path_kl`` that of the path KL at the optimum of a base of
    this ``variance``.
    """
    rows = []
    for name, between in INTERPOLANTS.items():
        at_optimum = discretisation_experiment(steps, [variance], between).path_kl
        for k, kl in zip(steps, at_optimum, strict=True):
            settings: dict[str, Any] = {"flow_steps": k, "dual_steps": dual_steps, "interpolant": between}
            last = dual_descent_experiment([budget], [dimension], **settings).iloc[-1]
            rows.append((name, k, last.multiplier / last.analytic - 1, kl / 0.5 - 1))
    return pd.DataFrame(rows, columns=["interpolant", "steps", "multiplier", "path_kl"])


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


def amplification_experiment(
    betas: Sequence[float], errors: Sequence[float], toys: int = 500, actions: int = 8, seed: int = 0
) -> pd.DataFrame:
    """The total variation that a critic's error causes, a row for each inverse temperature beta and error eps.

    ``typical`` and ``largest`` are the median and the maximum over ``toys`` random bases and critics with errors drawn
    uniformly (even toys) or of full size and random sign (odd ones).
    """
    rows = []
    for number, (beta, error) in enumerate((beta, error) for beta in betas for error in errors):
        draw = stream(seed, "theory/toys", number)
        base, value = draw.dirichlet(np.ones(actions), toys), draw.standard_normal((toys, actions))
        signs = draw.uniform(-1, 1, (toys, actions))
        signs[1::2] = np.sign(signs[1::2])
        variations = total_variation(base, value, error * signs, beta)
        rows.append((beta, error, np.median(variations), variations.max(), amplification_bound(beta * error)))
    return pd.DataFrame(rows, columns=["beta", "error", "typical", "largest", "bound"])
