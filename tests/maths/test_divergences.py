"""The other divergences: against ratios of densities in a plain loop, and against closed forms between Gaussians."""

import math

import numpy as np
import pytest
import torch

from trqam.maths import adjoint, divergences, sde
from trqam.maths.closed_forms import gaussian_kl, optimal_multiplier
from trqam.report import theory_divergences
from trqam.report.theory_divergences import CLOSED, ESTIMATES, closed_form, plain_renyi, plain_reverse, tilted
from trqam.report.theory_experiments import MULTIPLIER_SCALE, fitted_order, optimum, random_problem

K, R, B, D, H = 5, 2, 6, 3, 2
OTHERS = ("reverse", "renyi")


def normal(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def base(s, x, t):
    return torch.sin(x) - t * x


def finetuned(s, x, t):
    return torch.cos(2 * x) * (0.5 + t)


def rolled(steps=K, replicas=R):
    """States X_0 .. X_K, dv, noise and g^2 of two fields that differ at every state."""
    x0, noise = normal(replicas, B, D), normal(steps, replicas, B, D, seed=2)
    path, _ = sde.sample_trajectory(finetuned, base, x0, x0, noise)
    t, g2 = sde.memoryless_schedule(steps, x0)
    dv = torch.stack([finetuned(None, x, at) - base(None, x, at) for x, at in zip(path, t.tolist(), strict=False)])
    return path, dv, noise, g2


def step_ratio(path, i, r, b):
    """log p_u / p_base of the step from X_i to X_{i+1}, a density of D numbers each, and twice the KL of the step."""
    t, h, x = i / K, 1 / K, path[i, r, b]
    variance, log_ratio, apart = h * 2 * (1 - t + h) / (t + h), 0.0, 0.0
    means = [x + h * (2 * field(None, x, t) - x / (t + h)) for field in (finetuned, base)]
    for d in range(D):
        u, v = (float(mean[d]) for mean in means)
        to = float(path[i + 1, r, b, d])
        log_ratio += ((to - v) ** 2 - (to - u) ** 2) / (2 * variance)
        apart += (u - v) ** 2 / variance
    return log_ratio, apart


def test_they_are_ratios_of_densities_in_a_plain_loop():
    path, dv, noise, g2 = rolled()
    for r in range(R):
        reverse, products = 0.0, [1.0] * B  # p_base / p_u of the path so far
        for i in range(K):
            steps = [step_ratio(path, i, r, b) for b in range(B)]
            reverse += sum(w * a / 2 for w, (_, a) in zip(products, steps, strict=True)) / sum(products)
            last, products = products, [w * math.exp(-ratio) for w, (ratio, _) in zip(products, steps, strict=True)]
        squares, weights = [], []  # p_u / p_base, the last step's by its expectation; and of mean one
        for b in range(B):
            steps = [step_ratio(path, i, r, b) for i in range(K)]
            squares.append(math.exp(sum(ratio for ratio, _ in steps[:-1]) + steps[-1][1]))
            weights.append(math.exp(sum(ratio - a for ratio, a in steps[:-1])))
        for found, value, w in (
            (divergences.reverse_kl(dv, noise, g2, H), reverse / H, last),
            (divergences.renyi(dv, noise, g2, H), math.log(sum(squares) / sum(weights)) / H, squares),
        ):
            expected = (value, sum(w) ** 2 / sum(x**2 for x in w))
            np.testing.assert_allclose([part[r] for part in found], expected, rtol=1e-9)


def test_the_noise_that_the_roll_out_does_not_use_is_not_used():
    """And the expectation over it, by quadrature, is what stands in its place."""
    _, dv, noise, g2 = rolled()
    lost = noise.clone()
    lost[-1] = math.nan
    for estimate in (divergences.reverse_kl, divergences.renyi):
        for found, expected in zip(estimate(dv, lost, g2, H), estimate(dv, noise, g2, H), strict=True):
            assert torch.equal(found, expected)
    at, weights = np.polynomial.hermite_e.hermegauss(60)
    dv, noise = dv[:1, :1, :1, :1], torch.from_numpy(at).view(1, 1, -1, 1)
    cost, push = divergences.step_terms(dv, noise, g2[:1])
    mean = (torch.from_numpy(weights) * (push + cost).exp()).sum() / math.sqrt(2 * math.pi)
    torch.testing.assert_close(mean, (2 * cost).exp().squeeze())


def test_the_forward_one_is_the_path_kl():
    _, dv, noise, g2 = rolled()
    cost, _ = divergences.step_terms(dv, noise, g2)
    torch.testing.assert_close(cost.sum(0), adjoint.path_kl_by_state(dv, g2, 1))


def test_a_replica_does_not_see_its_neighbours_and_the_order_of_rows_is_nothing():
    _, dv, noise, g2 = rolled()
    order = [3, 0, 5, 1, 4, 2]
    for estimate in (divergences.reverse_kl, divergences.renyi):
        both = estimate(dv, noise, g2, H)
        for r in range(R):
            one = slice(r, r + 1)
            for found, expected in zip(estimate(dv[:, one], noise[:, one], g2, H), both, strict=True):
                assert torch.equal(found, expected[one])
        for found, expected in zip(estimate(dv[:, :, order], noise[:, :, order], g2, H), both, strict=True):
            torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("scale", [0.0, 1e-12, 1e3, 1e9])
def test_they_stay_finite_and_within_the_paths(scale):
    _, dv, noise, g2 = (part.float() for part in rolled())
    dv = scale * dv
    cost, _ = divergences.step_terms(dv, noise, g2)
    reverse, many = divergences.reverse_kl(dv, noise, g2, 1)
    renyi, most = divergences.renyi(dv, noise, g2, 1)
    near = {"rtol": 1e-4, "atol": 1e-6}
    for value, low, high in (
        (reverse, cost.amin(-1).sum(0), cost.amax(-1).sum(0)),
        (renyi, 2 * cost.sum(0).amin(-1), 2 * cost.sum(0).amax(-1)),
        (many, torch.ones(R), torch.full((R,), float(B))),
        (most, torch.ones(R), torch.full((R,), float(B))),
    ):
        assert value.isfinite().all()
        torch.testing.assert_close(value, value.clamp(low, high), **near)


# Between Gaussians


def test_renyi_between_gaussians_is_the_integral():
    x = torch.linspace(-40, 40, 80_001).double()
    for mean, variance in ((0.7, 0.4), (-1.3, 1.0), (0.5, 1.9)):
        p, q = ((torch.tensor([m]).double(), torch.tensor([[v]]).double()) for m, v in ((mean, variance), (0.2, 1.0)))
        log_p, log_q = (torch.distributions.Normal(m, s.sqrt().squeeze()).log_prob(x) for m, s in (p, q))
        expected = torch.trapezoid((2 * log_p - log_q).exp(), x).log().item()
        assert divergences.gaussian_renyi(p, q) == pytest.approx(expected, rel=1e-9)
    wide = (torch.zeros(2).double(), torch.diag(torch.tensor([0.5, 2.0]).double()))
    assert divergences.gaussian_renyi(wide, (torch.zeros(2).double(), torch.eye(2).double())) == math.inf


def test_where_all_paths_cost_alike_nothing_is_left_to_chance():
    """A linear critic: the reverse KL is the path KL, and Renyi's is twice as much, on any noise."""
    problem = random_problem(3)
    _, dv, _, g2 = optimum(problem, 10)
    dv = dv.expand(-1, 2, 4, -1)
    kl = adjoint.path_kl(dv, g2, H)
    for seed in range(3):
        noise = normal(10, 2, 4, 3, seed=seed)
        torch.testing.assert_close(divergences.reverse_kl(dv, noise, g2, H)[0], kl)
        torch.testing.assert_close(divergences.renyi(dv, noise, g2, H)[0], 2 * kl)


def law(problem, field, steps):
    """Mean and covariance of X_0 .. X_K as one vector; the last step has noise, as A counts it. The chain is affine."""
    size, (t, g2) = len(problem.slope), sde.memoryless_schedule(steps, problem.slope)

    def path(draws):
        x0, noise = draws[:, :size], draws[:, size:].view(len(draws), steps, size).transpose(0, 1)
        states, _ = sde.sample_trajectory(field, problem.base, x0[None, :, :0], x0[None], noise[:, None])
        x, end = states[-2], t[-1].item()
        step = (2 * field(None, x, end) - x / (end + 1 / steps)) / steps
        return torch.cat([*states[:-1, 0], (x + step)[0] + (g2[-1] / steps).sqrt() * noise[-1]], -1)

    inputs = (steps + 1) * size
    mean, *columns = path(torch.cat([torch.zeros(1, inputs), torch.eye(inputs)]).double())
    spread = torch.stack(columns) - mean
    return mean, spread.mT @ spread


@pytest.mark.parametrize("name", CLOSED)
def test_of_paths_they_converge_to_those_of_the_end_points_at_first_order(name):
    problem, errors, steps = random_problem(2), [], (20, 40, 80)
    field, expected = tilted(problem, 1.0), closed_form(problem, name, 1.0)
    for k in steps:
        errors.append(CLOSED[name](law(problem, field, k), law(problem, problem.base, k)) - expected)
    assert fitted_order(steps, errors) == pytest.approx(1, abs=0.2)
    assert abs(errors[-1]) < 0.03 * expected


@pytest.mark.parametrize("name", CLOSED)
def test_estimates_converge_to_the_divergence_of_the_discrete_paths(name):
    problem, steps = random_problem(2), 10
    field = tilted(problem, 1.0)
    exact = CLOSED[name](law(problem, field, steps), law(problem, problem.base, steps))
    parts = theory_divergences.roll_out(problem.base, field, normal(steps + 1, 4, 50_000, 2))
    found = ESTIMATES[name](*parts)
    assert found.mean().item() == pytest.approx(exact, rel=0.01)
    assert (found / exact - 1).abs().max() < 0.03
    forward = gaussian_kl(law(problem, field, steps), law(problem, problem.base, steps))
    assert name == "forward" or abs(exact / forward - 1) > 0.1  # they can be told apart


@pytest.mark.parametrize("kl", [0.1, 0.5])
def test_plain_weights_spread_as_those_of_a_log_normal(kl):
    """The variance of a mean of B weights of paths that all cost ``kl``: (e^{2 kl} - 1) / B."""
    problem = random_problem(2)
    _, dv, _, g2 = optimum(problem, 10)
    rows, repetitions = 32, 6_000
    dv = dv * (kl / adjoint.path_kl(dv, g2, 1)).sqrt()
    dv, noise = dv.expand(-1, repetitions, rows, -1), normal(10, repetitions, rows, 2)
    expected = math.sqrt(math.expm1(2 * kl) / rows)
    assert (plain_reverse(dv, noise, g2) / kl).std().item() == pytest.approx(expected, rel=0.08)
    assert (plain_renyi(dv, noise, g2).exp() / math.exp(2 * kl)).std().item() == pytest.approx(expected, rel=0.08)


def test_what_the_figure_says_of_their_spread():
    found = theory_divergences.spread_experiment((3.5, 0.85), (64,), 4, 40, 60)
    error = found.pivot_table(index=["divergence", "weights"], columns="path_kl", values="error")
    low, high = error.columns
    assert (low, high) == pytest.approx((0.17, 3.5), rel=0.05)
    assert error.xs("normalised", level="weights")[low].max() < 0.05
    assert error[high]["reverse", "normalised"] < 0.1 < error[high]["renyi", "normalised"] < 0.2
    assert error[high]["reverse", "plain"] > 0.5


# Dual descent


@pytest.mark.parametrize("curvature", [0.0, 0.2])
def test_dual_descent_settles_where_the_closed_form_meets_the_budget(curvature):
    budget, dimension = 1.0, 4
    found = theory_divergences.held_experiment(budget, dimension, 40, 200, curvature=curvature).set_index("divergence")
    assert [*found.index] == ["forward", *OTHERS]
    np.testing.assert_allclose(found.multiplier, found.analytic, rtol=0.02)
    assert found.analytic["renyi"] > 1.3 * found.analytic["forward"]
    if not curvature:  # linear: the reverse KL is the forward one, Renyi's twice that
        own = optimal_multiplier(random_problem(dimension), budget, 1, MULTIPLIER_SCALE)
        np.testing.assert_allclose(found.analytic, [own, own, math.sqrt(2) * own], rtol=1e-6)
    else:
        assert abs(found.analytic["reverse"] / found.analytic["forward"] - 1) > 0.02
