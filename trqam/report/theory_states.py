"""A multiplier for each state where it can be solved by hand: a Gaussian base, and a critic that varies with the state.

    Q(s, a) = c(s).a,   c(s) = 2^(3/2 sin 3s) R(pi s) c_0,   s uniform on [-1, 1],   R(x) a turn of the plane by x
    lambda*(s) = sqrt(c(s)'S c(s) / (2 eps)) / multiplier_scale

The fine-tuned field is the minimum of L_AM over all fields, dv = -(g^2 / 2 lambda_eff(s)) adj, so that the network
behind lambda(s) is all that is learned; TRQAM's one lambda moves beside it on the same states.
"""

import math

import pandas as pd
import torch
from torch import Tensor

from trqam.maths import adjoint, dual, sde
from trqam.maths.closed_forms import Problem, optimal_multiplier
from trqam.maths.streams import stream
from trqam.networks.mlp import FromZero
from trqam.report.theory_experiments import DUAL, KL_CLIP, MULTIPLIER_SCALE, random_problem

WIDTH, LEARNING_RATE = 16, 0.004
GRID = 201  # states at which both forms are read in the end


def slopes(problem: Problem, s: Tensor) -> Tensor:
    """c(s) [R, B, 2] at states s [R, B, 1]; c_0 is the slope of ``problem``, in a plane."""
    angle, (x, y) = math.pi * s, problem.slope
    turned = torch.cat([angle.cos() * x - angle.sin() * y, angle.sin() * x + angle.cos() * y], -1)
    return 2 ** (1.5 * (3 * s).sin()) * turned


def at_the_minimum(adjoints: Tensor, g2: Tensor, multiplier: Tensor) -> Tensor:
    """dv [K, R, B, D] of the field that minimises L_AM at lambda [R, B] or [R], for adjoints [K, R, B, D]."""
    rows = multiplier[..., None] if multiplier.ndim == 2 else multiplier[:, None, None]
    return -g2[:, None, None, None] / (2 * MULTIPLIER_SCALE * rows) * adjoints


def lean_adjoints(problem: Problem, s: Tensor, x0: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Adjoints [K, R, B, D] and g^2 [K] along paths of the base; they are the same on the paths of every field."""
    path, _ = sde.sample_trajectory(problem.base, problem.base, s, x0, noise)
    terminal = adjoint.terminal_adjoint(lambda a: (a * slopes(problem, s)).sum(-1), path[-1], clip=False)
    adjoints = adjoint.lean_adjoint(adjoint.pullback(problem.base, s, path[:-1]), terminal, len(noise))
    return adjoints, sde.memoryless_schedule(len(noise), x0)[1]


def by_state_experiment(
    budget: float, flow_steps: int, updates: int, batch: int = 64, seed: int = 0
) -> tuple[pd.DataFrame, float]:
    """Both forms from lambda = 1 for so many ``updates``; a row a state of the grid, and what the scalar came to.

    The columns ``multiplier`` and ``path_kl`` (nats), of the form by state, should be ``analytic`` (lambda*) and the
    budget in every row; ``scalar_kl`` is what the scalar form gives the same state.
    """
    problem, network = random_problem(2, seed), FromZero((1, WIDTH, WIDTH, 1), layer_norm=False)
    drawn = network.initialise(stream(seed, "theory/multiplier")).items()
    parameters = {name: torch.from_numpy(value)[None].double().requires_grad_() for name, value in drawn}
    optimiser = torch.optim.Adam(parameters.values(), LEARNING_RATE)
    state = dual.DualState(torch.ones(1).double(), torch.zeros(1).double())

    def forms(s: Tensor, rng_step: int) -> tuple[Tensor, Tensor, Tensor]:
        """lambda(s) [1, B] with gradient, and dv [K, 1, B, D] of the form by state and of the scalar one."""
        shape = (flow_steps + 1, *s.shape[:2], 2)
        draws = torch.from_numpy(stream(seed, "theory/noise", rng_step).standard_normal(shape))
        adjoints, g2 = lean_adjoints(problem, s, draws[0], draws[1:])
        multiplier = dual.bounded_multiplier(network(parameters, s).squeeze(-1), 1.0, DUAL["bounds"])
        return multiplier, at_the_minimum(adjoints, g2, multiplier.detach()), at_the_minimum(adjoints, g2, state[0])

    _, g2 = sde.memoryless_schedule(flow_steps, state.multiplier)
    largest = KL_CLIP * budget
    for update in range(updates):
        s = torch.from_numpy(stream(seed, "theory/states", update).uniform(-1, 1, (1, batch, 1)))
        multiplier, own, scalar = forms(s, update)
        kl = adjoint.path_kl_by_state(own, g2, 1)
        point = dual.projected_point(multiplier.detach(), kl, budget, DUAL["rate"], largest, DUAL["bounds"])
        optimiser.zero_grad()
        dual.multiplier_loss(multiplier, point, DUAL["rate"]).sum().backward()
        optimiser.step()
        state = dual.dual_descent(state, adjoint.path_kl(scalar, g2, 1), budget, largest=largest, **DUAL)
    grid = torch.linspace(-1, 1, GRID).double()[None, :, None]
    multiplier, own, scalar = forms(grid, updates)
    problems = [problem._replace(slope=slope) for slope in slopes(problem, grid)[0]]
    found = {
        "state": grid[0, :, 0],
        "analytic": [optimal_multiplier(p, budget, 1, MULTIPLIER_SCALE) for p in problems],
        "multiplier": multiplier.detach()[0],
        "path_kl": adjoint.path_kl_by_state(own, g2, 1)[0],
        "scalar_kl": adjoint.path_kl_by_state(scalar, g2, 1)[0],
    }
    return pd.DataFrame(found), state.multiplier.item()
