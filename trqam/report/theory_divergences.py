"""Other divergences where they are known: a Gaussian base and a quadratic critic, whose tilt has another covariance.

    Q(a) = c.a + (k/2) sum_j (-1)^j z_j^2,   z the coordinates of a - mu along the axes of the base, in deviations
    tilt: mean mu + S* c / lambda,   S* with the base's axes and its variances times 1 / (1 - (-1)^j k / lambda)

So the tilt is wider than the base along some axes and narrower along others, and the three divergences differ. They are
those of the end points, in closed form, because the process is memoryless. The fine-tuned field is the exact one.
"""

import math
from collections.abc import Callable, Sequence

import pandas as pd
import scipy.optimize
import torch
from torch import Tensor

from trqam.maths import adjoint, divergences, dual, sde
from trqam.maths.closed_forms import GaussianBase, Problem, gaussian_kl
from trqam.maths.streams import stream
from trqam.report.theory_experiments import DUAL, KL_CLIP, MULTIPLIER_SCALE, random_problem

CURVATURE = 0.2  # k
LARGEST_MULTIPLIER = 100.0  # lambda_eff, of the search for the analytic one

Moments = tuple[Tensor, Tensor]
CLOSED: dict[str, Callable[[Moments, Moments], float]] = {  # of the tilt and the base
    "forward": gaussian_kl,
    "reverse": lambda tilt, base: gaussian_kl(base, tilt),
    "renyi": divergences.gaussian_renyi,
}
Estimate = Callable[[Tensor, Tensor, Tensor], Tensor]  # of dv and noise [K, R, B, D] and g^2 [K], to [R], a chunk
ESTIMATES: dict[str, Estimate] = {
    "forward": lambda dv, noise, g2: adjoint.path_kl(dv, g2, 1),
    "reverse": lambda dv, noise, g2: divergences.reverse_kl(dv, noise, g2, 1)[0],
    "renyi": lambda dv, noise, g2: divergences.renyi(dv, noise, g2, 1)[0],
}


def plain_reverse(dv: Tensor, noise: Tensor, g2: Tensor) -> Tensor:
    """mean_B e^{-M - A} A: the weight of the whole path, not divided by its mean."""
    cost, push = (term.sum(0) for term in divergences.step_terms(dv, noise, g2))
    return ((-push - cost).exp() * cost).mean(-1)


def plain_renyi(dv: Tensor, noise: Tensor, g2: Tensor) -> Tensor:
    """log mean_B e^{M + A}."""
    cost, push = (term.sum(0) for term in divergences.step_terms(dv, noise, g2))
    return (push + cost).logsumexp(-1) - math.log(cost.shape[-1])


SPREAD: dict[tuple[str, str], Estimate] = {  # by divergence, and by what becomes of the weights
    ("reverse", "normalised"): ESTIMATES["reverse"],
    ("renyi", "normalised"): ESTIMATES["renyi"],
    ("reverse", "plain"): plain_reverse,
    ("renyi", "plain"): plain_renyi,
}


def tilted(problem: Problem, multiplier: float, curvature: float = CURVATURE) -> GaussianBase:
    """The exact field of the tilt at lambda_eff, with its mean and covariance."""
    base = problem.base
    sign = torch.ones_like(base.variances)
    sign[::2] = -1
    covariance = (base.axes * base.variances / (1 - sign * curvature / multiplier)) @ base.axes.mT
    return GaussianBase(base.mean + covariance @ problem.slope / multiplier, covariance)


def closed_form(problem: Problem, name: str, multiplier: float, curvature: float = CURVATURE) -> float:
    """The divergence ``name`` of tilt and base, in nats a chunk."""
    tilt, base = tilted(problem, multiplier, curvature), problem.base
    return CLOSED[name]((tilt.mean, tilt.covariance), (base.mean, base.covariance))


def analytic_multiplier(problem: Problem, name: str, budget: float, curvature: float = CURVATURE) -> float:
    """lambda* = lambda_eff* / multiplier_scale, where the divergence ``name`` meets the budget."""

    def excess(multiplier: float) -> float:
        return min(closed_form(problem, name, multiplier, curvature), 2 * budget) - budget

    least = 1.01 * curvature + 1e-3  # below k there is no tilt
    return scipy.optimize.brentq(excess, least, LARGEST_MULTIPLIER) / MULTIPLIER_SCALE


def roll_out(base: GaussianBase, finetuned: GaussianBase, draws: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """dv and noise [K, R, B, D] and g^2 [K] along paths from ``draws`` [K + 1, R, B, D]: x0, and each step's noise."""
    x0, noise = draws[0], draws[1:]
    s = x0[..., :0]
    path, _ = sde.sample_trajectory(finetuned, base, s, x0, noise)
    t, g2 = sde.memoryless_schedule(len(noise), x0)
    dv = torch.stack([finetuned(s, x, at) - base(s, x, at) for x, at in zip(path, t.tolist(), strict=False)])
    return dv, noise, g2


def spread_experiment(
    multipliers: Sequence[float], batches: Sequence[int], dimension: int, flow_steps: int, repetitions: int
) -> pd.DataFrame:
    """A row a divergence, kind of weight, lambda_eff and batch: the ``path_kl`` (forward, closed form, nats) there, and
    over the repetitions the relative root mean square ``error`` and the relative ``median``, both against the closed
    form."""
    problem, rows = random_problem(dimension), []
    for number, multiplier in enumerate(multipliers):
        field, path_kl = tilted(problem, multiplier), closed_form(problem, "forward", multiplier)
        for batch in batches:
            draw = stream(0, "theory/divergences", number, batch)
            shape = (flow_steps + 1, repetitions, batch, dimension)
            rolled = roll_out(problem.base, field, torch.from_numpy(draw.standard_normal(shape)))
            for (name, weights), estimate in SPREAD.items():
                found = estimate(*rolled) / closed_form(problem, name, multiplier)
                error = (found - 1).square().mean().sqrt().item()
                rows.append((name, weights, batch, path_kl, error, found.median().item()))
    return pd.DataFrame(rows, columns=["divergence", "weights", "batch", "path_kl", "error", "median"])


def held_experiment(
    budget: float, dimension: int, flow_steps: int, dual_steps: int, batch: int = 64, curvature: float = CURVATURE
) -> pd.DataFrame:
    """Dual descent on each of the three from lambda = 1: a row a divergence.

    ``multiplier`` (lambda) is the mean over the last fifth of the steps and should be ``analytic`` (lambda*);
    ``path_kl`` is the forward one there, in closed form (nats).
    """
    problem, rows = random_problem(dimension), []
    for name, estimate in ESTIMATES.items():
        state, seen = dual.DualState(torch.ones(1).double(), torch.zeros(1).double()), []
        for step in range(dual_steps):
            draw = stream(0, "theory/held", step).standard_normal((flow_steps + 1, 1, batch, dimension))
            field = tilted(problem, MULTIPLIER_SCALE * state.multiplier.item(), curvature)
            found = estimate(*roll_out(problem.base, field, torch.from_numpy(draw)))
            state = dual.dual_descent(state, found, budget, largest=KL_CLIP * budget, **DUAL)
            seen.append(state.multiplier.item())
        late = seen[-(dual_steps // 5) :]
        settled = sum(late) / len(late)
        path_kl = closed_form(problem, "forward", MULTIPLIER_SCALE * settled, curvature)
        rows.append((name, settled, analytic_multiplier(problem, name, budget, curvature), path_kl))
    return pd.DataFrame(rows, columns=["divergence", "multiplier", "analytic", "path_kl"])
