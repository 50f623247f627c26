"""A multiplier for each state: its formulas row by row in plain numbers, and the Gaussian case with a known answer."""

import math

import numpy as np
import pytest
import torch

from trqam.maths import adjoint, dual, sde
from trqam.report import theory_states
from trqam.report.theory_experiments import DUAL, MULTIPLIER_SCALE, random_problem

K, R, B, D, H = 4, 2, 5, 3, 2
BOUNDS = (0.05, 20.0)
BUDGET = 1.0


def noise(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def drawn():
    """dv, adjoints [K, R, B, D], g^2 [K] and a multiplier for each row [R, B]."""
    _, g2 = sde.memoryless_schedule(K, noise(1))
    return noise(K, R, B, D), noise(K, R, B, D, seed=2), g2, noise(R, B, seed=3).exp()


def test_kl_and_loss_of_each_row_are_those_of_a_plain_loop(drawn):
    dv, adjoints, g2, multiplier = drawn
    kl, loss = np.zeros((R, B)), np.zeros(R)
    for r in range(R):
        for b in range(B):
            for i in range(K):
                g = math.sqrt(2 * (1 - i / K + 1 / K) / (i / K + 1 / K))
                sigma = g / math.sqrt(float(multiplier[r, b]))
                for d in range(D):
                    away, adj = float(dv[i, r, b, d]), float(adjoints[i, r, b, d])
                    kl[r, b] += 2 / K / g**2 * away**2 / H
                    loss[r] += (2 / sigma * away + sigma * adj) ** 2 / B
    np.testing.assert_allclose(adjoint.path_kl_by_state(dv, g2, H), kl, rtol=1e-9)
    np.testing.assert_allclose(adjoint.path_kl(dv, g2, H), kl.mean(1), rtol=1e-9)
    np.testing.assert_allclose(adjoint.adjoint_matching_loss(dv, adjoints, g2, multiplier), loss, rtol=1e-9)


def test_one_multiplier_for_all_rows_is_one_a_replica_to_the_bit(drawn):
    dv, adjoints, g2, multiplier = (part.float() for part in drawn)
    of_replicas = adjoint.adjoint_matching_loss(dv, adjoints, g2, multiplier[:, 0])
    assert torch.equal(of_replicas, adjoint.adjoint_matching_loss(dv, adjoints, g2, multiplier[:, :1].expand(-1, B)))
    assert not torch.equal(of_replicas, adjoint.adjoint_matching_loss(dv, adjoints, g2, multiplier))


def test_point_and_loss_of_the_multiplier_are_those_of_a_plain_loop():
    f, kl = 4 * noise(R, B), 3 * noise(R, B, seed=2).abs()
    kl[0, 0], kl[1, 1], f[1, 1] = 0.0, 9.0, 40.0  # both ends: a KL far above what counts, at the upper bound
    start, rate, clip = 0.7, 0.5, 2.0
    found = dual.bounded_multiplier(f, start, BOUNDS)
    points = dual.projected_point(found, kl, BUDGET, rate, clip, BOUNDS)
    losses = dual.multiplier_loss(found, points, rate)
    for r in range(R):
        loss = 0.0
        for b in range(B):
            odds = math.log(start / BOUNDS[0]) / math.log(BOUNDS[1] / start) * math.exp(float(f[r, b]))
            share = odds / (1 + odds)
            multiplier = BOUNDS[0] ** (1 - share) * BOUNDS[1] ** share
            moved = multiplier + rate * (min(float(kl[r, b]), clip * BUDGET) - BUDGET)
            point = min(max(moved, BOUNDS[0]), BOUNDS[1])
            loss += (multiplier - point) ** 2 / (2 * rate * multiplier) / B
            assert float(found[r, b]) == pytest.approx(multiplier, rel=1e-9)
            assert float(points[r, b]) == pytest.approx(point, rel=1e-9)
        assert float(losses[r]) == pytest.approx(loss, rel=1e-9)


def test_a_network_that_says_zero_starts_where_it_is_told_and_none_leaves_the_bounds():
    for start in (0.06, 1.0, 19.0):
        f = torch.tensor([[0.0, -60.0, 60.0, -1.0, 1.0]]).double()
        first, low, high, below, above = dual.bounded_multiplier(f, start, BOUNDS)[0].tolist()
        assert first == pytest.approx(start, rel=1e-12)
        assert (low, high) == pytest.approx(BOUNDS)
        assert BOUNDS[0] < below < start < above < BOUNDS[1]


def test_inside_the_bounds_the_gradient_is_what_is_left_of_the_budget_and_at_a_bound_nothing():
    log = torch.tensor([[-1.0, 0.0, 2.0]]).double().requires_grad_()
    kl = torch.tensor([[0.4, 1.7, 9.0]]).double()
    point = dual.projected_point(log.exp(), kl, BUDGET, 0.01, 2.0, BOUNDS)
    (gradient,) = torch.autograd.grad(dual.multiplier_loss(log.exp(), point, 0.01).sum(), log)
    np.testing.assert_allclose(gradient, [[(1 - 0.4) / 3, (1 - 1.7) / 3, (1 - 2.0) / 3]])
    bound = torch.tensor([BOUNDS], dtype=torch.float64).requires_grad_()
    for kl, expected in (([[0.4, 1.7]], [[0, 0]]), ([[1.7, 0.4]], [[-0.7 / 2 * 1, 0.6 / 2 * 1]])):
        point = dual.projected_point(bound, torch.tensor(kl).double(), BUDGET, 0.01, 2.0, BOUNDS)
        (gradient,) = torch.autograd.grad(dual.multiplier_loss(bound, point, 0.01).sum(), bound)
        np.testing.assert_allclose(gradient * bound.detach(), expected, atol=1e-12)


# The Gaussian case


@pytest.fixture(scope="module")
def learned():
    """Both forms at the grid of states, on the steps of the figure."""
    return theory_states.by_state_experiment(BUDGET, flow_steps=40, updates=600)


def test_the_multiplier_of_each_state_is_the_analytic_one(learned):
    states, scalar = learned
    assert states.analytic.max() > 6 * states.analytic.min()
    off = (states.multiplier / states.analytic - 1).abs()
    assert off.max() < 0.1
    assert off.median() < 0.05
    assert (scalar / states.analytic - 1).abs().median() > 0.3


def test_the_budget_holds_in_most_states_where_one_multiplier_holds_it_on_average(learned):
    states, _ = learned
    own, scalar = ((states[name] / BUDGET - 1).abs() for name in ("path_kl", "scalar_kl"))
    assert (own < 0.1).mean() > 0.9
    assert (scalar < 0.1).mean() < 0.1
    assert states.scalar_kl.mean() == pytest.approx(BUDGET, rel=0.15)
    assert states.path_kl.mean() == pytest.approx(BUDGET, rel=0.05)


def test_the_field_of_the_experiment_is_the_minimum_of_the_loss_in_every_state():
    problem, s = random_problem(2), torch.linspace(-1, 1, 7).double()[None, :, None]
    adjoints, g2 = theory_states.lean_adjoints(problem, s, noise(1, 7, 2), noise(6, 1, 7, 2))
    multiplier = torch.linspace(0.2, 3, 7).double()[None]
    dv = theory_states.at_the_minimum(adjoints, g2, multiplier)
    assert adjoint.adjoint_matching_loss(dv, adjoints, g2, MULTIPLIER_SCALE * multiplier).item() < 1e-20
    assert adjoint.adjoint_matching_loss(dv, adjoints, g2, MULTIPLIER_SCALE * multiplier.flip(1)).item() > 1e-3
    halved = adjoint.path_kl_by_state(theory_states.at_the_minimum(adjoints, g2, 2 * multiplier), g2, 1)
    torch.testing.assert_close(4 * halved, adjoint.path_kl_by_state(dv, g2, 1))


def test_the_adjoint_of_a_state_is_that_of_its_own_critic_alone():
    """A row's adjoint is the plain problem's with the slope of that row."""
    problem, s = random_problem(2), torch.tensor([[[-0.5], [0.8]]]).double()
    x0, increments = noise(1, 2, 2), noise(6, 1, 2, 2)
    adjoints, _ = theory_states.lean_adjoints(problem, s, x0, increments)
    for row in range(2):
        one = problem._replace(slope=theory_states.slopes(problem, s)[0, row])
        path, _ = sde.sample_trajectory(
            one.base, one.base, s[:, :1], x0[:, row : row + 1], increments[:, :, row : row + 1]
        )
        end = adjoint.terminal_adjoint(one.value, path[-1], clip=False)
        alone = adjoint.lean_adjoint(adjoint.pullback(one.base, s[:, :1], path[:-1]), end, 6)
        torch.testing.assert_close(alone[:, :, 0], adjoints[:, :, row])


def test_the_bounds_of_the_experiment_hold_the_answer(learned):
    states, scalar = learned
    low, high = DUAL["bounds"]
    assert low < min(states.analytic.min(), scalar)
    assert max(states.analytic.max(), scalar) < high
