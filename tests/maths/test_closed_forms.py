"""Theory on problems that can be solved by hand: what must converge does, at its order, and bounds hold.

The pieces by themselves are tested in test_mathematics.py; here they run together, without a network.
"""

import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from trqam.config import load
from trqam.maths import adjoint, closed_forms, flow, schedules, sde
from trqam.maths.closed_forms import gaussian_kl
from trqam.maths.interpolants import FLOW, VARIANCE_PRESERVING
from trqam.report import theory_experiments, theory_figure
from trqam.report.selection import PAPER
from trqam.report.theory_experiments import Shifted, ode_end_point, optimum, sde_end_point

MORE = (40, 80, 160, 320)  # flow steps that a fit of the order uses
INTERPOLANTS = {"flow": FLOW, "diffusion": VARIANCE_PRESERVING}
PROBLEMS = [
    pytest.param(
        theory_experiments.random_problem(d, seed, between),
        id=f"{name}, D={d}, seed {seed}",
        marks=[pytest.mark.campaign] * (d in (1, 3)),
    )
    for name, between in INTERPOLANTS.items()
    for d, seed in ((1, 0), (2, 1), (3, 2), (5, 3))
]


@pytest.fixture(scope="module")
def at_optimum():
    """KLs at the optimum by variance and K."""
    return theory_experiments.discretisation_experiment((10, 20, *MORE), (4.0, 1.0, 0.25, 0.04)).set_index(
        ["variance", "steps"]
    )


@pytest.fixture(params=PROBLEMS)
def problem(request):
    return request.param


def path_kl(problem, steps, multiplier=1.0):
    _, dv, _, g2 = optimum(problem, steps, multiplier)
    return adjoint.path_kl(dv, g2, 1).item()


# The exact field


@pytest.fixture(params=INTERPOLANTS.values(), ids=INTERPOLANTS)
def between(request):
    return request.param


def test_base_field_is_the_regression_of_the_interpolants_slope(between):
    """E[dx_t/dt | x_t] by least squares on samples; the field is affine, so that this is its definition."""
    problem, draw = theory_experiments.random_problem(2, 0, between), np.random.default_rng(0)
    mean, covariance = problem.base.mean.numpy(), problem.base.covariance.numpy()
    x0, x1 = draw.standard_normal((200_000, 2)), draw.multivariate_normal(mean, covariance, 200_000)
    for t in (0.1, 0.5, 0.9):
        x, before, after = (
            flow.interpolate(torch.from_numpy(x0)[None], torch.from_numpy(x1)[None], torch.full((1, 1, 1), at), between)
            .squeeze(0)
            .numpy()
            for at in (t, t - 1e-3, t + 1e-3)
        )
        weights, *_ = np.linalg.lstsq(np.column_stack([x, np.ones(len(x))]), (after - before) / 2e-3)
        at = np.array([[0.0, 0.0], [1.0, -1.0], [-2.0, 0.5]])
        field = problem.base(None, torch.from_numpy(at)[None], t)[0]
        np.testing.assert_allclose(field, at @ weights[:2] + weights[2], atol=0.03)


def test_field_takes_a_time_for_each_row(problem):
    x, times = torch.randn(2, 3, len(problem.slope)).double(), torch.tensor([0.0, 0.25, 0.75]).double()
    rows = problem.base(None, x, times[None, :, None].expand(2, -1, 1))
    for i, t in enumerate(times.tolist()):
        torch.testing.assert_close(rows[:, i], problem.base(None, x, t)[:, i])


def test_a_fitted_field_differs_from_the_base_by_its_shift(problem):
    """What `fine_tune` returns as dv is read off the shift, and not evaluated along the paths."""
    x0, noise = torch.randn(2, 6, len(problem.slope)).double(), torch.randn(8, 2, 6, len(problem.slope)).double()
    field, dv, *_ = theory_experiments.fine_tune(problem, problem.base, x0, noise, torch.tensor([0.7, 2.0]).double())
    for i in range(8):
        torch.testing.assert_close(field(None, x0, i / 8) - problem.base(None, x0, i / 8), dv[i])


def test_dual_settings_are_those_of_the_method():
    p = load.load(PAPER.parent / "config/config.yaml").methods["trqam"].parameters
    assert p["multiplier_scale"] == theory_experiments.MULTIPLIER_SCALE
    assert p["kl_clip"] == theory_experiments.KL_CLIP
    bounds = (p["multiplier_min"], p["multiplier_max"])
    assert {"rate": p["dual_rate"], "ema_rate": p["kl_ema_rate"], "bounds": bounds} == theory_experiments.DUAL


# The optimum


def test_minimum_of_the_loss_is_a_field_of_time_alone(problem):
    """Every path has the same adjoint, so that one shift a time makes the loss of all of them zero."""
    x0, noise = torch.randn(1, 6, len(problem.slope)).double(), torch.randn(8, 1, 6, len(problem.slope)).double()
    multiplier = torch.tensor([0.7], dtype=torch.float64)
    start = Shifted(problem.base, torch.ones(8, 1, len(problem.slope)).double())
    _, dv, adjoints, g2 = theory_experiments.fine_tune(problem, start, x0, noise, multiplier)
    assert adjoint.adjoint_matching_loss(dv, adjoints, g2, multiplier).item() < 1e-20
    assert adjoint.adjoint_matching_loss(dv * 1.01, adjoints, g2, multiplier).item() > 1e-6


def test_adjoint_converges_to_the_exact_one_at_first_order(problem):
    errors = []
    for k in MORE:
        adjoints = optimum(problem, k).adjoints[:, 0, 0]
        errors.append((adjoints - closed_forms.exact_adjoint(problem, torch.arange(k) / k)).norm(dim=-1).max().item())
    assert theory_experiments.fitted_order(MORE, errors) == pytest.approx(1, abs=0.1)
    assert errors[-1] < 0.05 * problem.slope.norm()


def through_the_sde(problem, field, steps):
    """d(-c.X_K)/dX_i, i = 1..K-1, by autograd through the product's roll-out under ``field``, and the lean adjoint."""
    x0, noise = (torch.ones(n, 1, 1, len(problem.slope)).double() / 3 for n in (1, steps))
    between = problem.base.interpolant
    path, _ = sde.sample_trajectory(field, problem.base, x0[0, ..., :0], x0[0], noise.requires_grad_(), between)
    gradient = torch.autograd.grad(-problem.value(path[-1]).sum(), noise)[0][:-1]
    _, g2 = sde.memoryless_schedule(steps, noise, between)
    gradient = gradient / (g2[:-1] / steps).sqrt()[:, None, None, None]  # X_{i+1} holds sqrt(h) g_i noise_i
    pull = adjoint.pullback(problem.base, x0[0, ..., :0], path[:-1].detach(), between)
    lean = adjoint.lean_adjoint(pull, -problem.slope.expand(1, 1, -1), steps, between)
    return gradient, lean[1:]


def test_lean_adjoint_is_autograd_through_the_base_process_and_through_no_other(problem):
    """The roll-out evaluates the field at t_i and the adjoint at t_i + h: equal as h -> 0, for dv without x."""
    errors = []
    for k in MORE:
        gradient, lean = through_the_sde(problem, optimum(problem, k).field, k)
        errors.append((gradient - lean).abs().max().item())
    assert theory_experiments.fitted_order(MORE, errors) == pytest.approx(1, abs=0.15)
    gradient, lean = through_the_sde(problem, lambda s, x, t: problem.base(s, x, t) - x / 2, MORE[-1])
    assert (gradient - lean).abs().max() > 10 * errors[-1]


def test_roll_out_ends_in_the_tilt(problem):
    """N(mu + S c / lambda, S), with an error of first order."""
    errors = []
    for k in MORE:
        mean, covariance = sde_end_point(problem, optimum(problem, k, 0.5).field, k)
        error = torch.cat([mean[None] - closed_forms.tilted_mean(problem, 0.5), covariance - problem.base.covariance])
        errors.append(error.norm().item())
    assert theory_experiments.fitted_order(MORE, errors) == pytest.approx(1, abs=0.15)
    assert errors[-1] < 0.05 * (closed_forms.tilted_mean(problem, 0.5) - problem.base.mean).norm()


def test_exact_moments_are_those_of_samples(between):
    problem, k = theory_experiments.random_problem(2, 0, between), 8
    field = optimum(problem, k).field
    mean, covariance = sde_end_point(problem, field, k)
    x0, noise = torch.randn(9, 1, 100_000, 2, generator=torch.Generator().manual_seed(0)).double().split([1, 8])
    ends = sde.sample_trajectory(field, problem.base, x0[0, ..., :0], x0[0], noise, between)[0][-1, 0]
    torch.testing.assert_close(ends.mean(0), mean, atol=0.03, rtol=0)
    torch.testing.assert_close(ends.T.cov(), covariance, atol=0.06, rtol=0)


# Path KL


def test_path_kl_at_the_optimum_converges(problem):
    assert path_kl(problem, MORE[-1], 2.0) == pytest.approx(closed_forms.optimal_kl(problem, 2.0), rel=0.02)


@pytest.mark.parametrize("variance", [1.0, 0.25, 0.04])  # errors change their sign at wider ones, and have no order
def test_path_kl_at_the_optimum_is_of_first_order(variance, between):
    problem = theory_experiments.isotropic_problem(variance, between)
    errors = [path_kl(problem, k) - 0.5 for k in (80, 160, 320, 640)]
    assert theory_experiments.fitted_order((80, 160, 320, 640), errors) == pytest.approx(1, abs=0.15)


def test_path_kl_at_known_steps(at_optimum):
    for k, expected in ((10, 0.618), (50, 0.521), (100, 0.510), (1000, 0.501)):
        assert path_kl(theory_experiments.isotropic_problem(1.0), k) == pytest.approx(expected, abs=5e-4)
    training = at_optimum.xs(10, level="steps")
    np.testing.assert_allclose(training.path_kl[[4.0, 1.0, 0.25, 0.04]] / 0.5 - 1, [0.06, 0.24, 0.46, 1.08], atol=5e-3)
    assert training.last_term[0.04] == pytest.approx(0.58, abs=5e-3)


def test_path_kl_falls_as_the_square_of_the_multiplier(problem):
    assert path_kl(problem, 10, 7.0) == pytest.approx(path_kl(problem, 10) / 49, rel=1e-12)
    assert path_kl(problem, 10, 1e12) < 1e-20  # the policy stays at the base


@pytest.mark.parametrize("steps", [3, 10, 200])
def test_end_points_diverge_less_than_paths(problem, steps):
    """Proposition 1, for the optimum, where both agree as h -> 0, and for a field that is far from it."""
    draw = torch.Generator().manual_seed(steps)
    elsewhere = Shifted(problem.base, torch.randn(steps, 1, len(problem.slope), generator=draw, dtype=torch.float64))
    _, g2 = sde.memoryless_schedule(steps, problem.slope, problem.base.interpolant)
    ratios = []
    for field in (optimum(problem, steps).field, elsewhere):
        kl = adjoint.path_kl(field.shift[:, :, None], g2, 1).item()
        ends = gaussian_kl(sde_end_point(problem, field, steps), sde_end_point(problem, problem.base, steps))
        ratios.append(ends / kl)
    assert all(0 < ratio <= 1 for ratio in ratios)
    assert ratios[1] < 0.9
    assert ratios[0] > 0.98 or steps < 200


def test_the_flow_that_acts_is_not_bounded(at_optimum):
    """At K = 10 and a narrow base; its error vanishes as sqrt(S) log(K) / K, because it does not forget the start."""
    narrow = at_optimum.loc[0.04, 10]
    assert narrow.ode_kl / narrow.path_kl == pytest.approx(1.42, abs=5e-3)
    for variance in (1.0, 0.25):
        scaled = [k * (at_optimum.ode_kl[variance, k] - 0.5) for k in MORE]
        slope = (scaled[-1] - scaled[-2]) / np.log(2)
        assert slope == pytest.approx(-(variance**0.5), rel=0.08)


def test_flow_at_the_optimum_ends_in_the_tilt(problem):
    mean, covariance = ode_end_point(problem, optimum(problem, 1000).field, 1000)
    assert (mean - closed_forms.tilted_mean(problem, 1.0)).norm() < 0.03 * (1 + mean.norm())
    torch.testing.assert_close(covariance, problem.base.covariance, atol=0.01, rtol=0.01)


# Dual descent


@pytest.mark.parametrize(("horizon", "budgets"), [(1, (1.0, 3.0)), (5, (0.6,))])
def test_dual_descent_converges_to_the_analytic_multiplier(horizon, budgets, between):
    """To where the K-step KL meets the budget exactly, and thereby to lambda* up to the error of K steps."""
    found = (
        theory_experiments.dual_descent_experiment(budgets, (3,), dual_steps=350, horizon=horizon, interpolant=between)
        .groupby("budget")
        .last()
    )
    problem = theory_experiments.random_problem(3, 0, between)
    for budget, row in found.iterrows():
        settled = (path_kl(problem, 10) / (budget * horizon)) ** 0.5 / 3
        assert row.path_kl == pytest.approx(budget, rel=1e-3)
        assert row.multiplier == pytest.approx(settled, rel=1e-3)
        assert row.analytic == pytest.approx((3 / (2 * budget * horizon)) ** 0.5 / 3)  # c'Sc = D
        assert row.multiplier == pytest.approx(row.analytic, rel=0.15)


def test_error_of_the_multiplier_falls_with_the_steps(between):
    errors = []
    for k in (5, 10, 20):
        settings = {"flow_steps": k, "dual_steps": 200, "interpolant": between}
        last = theory_experiments.dual_descent_experiment((2.0,), (2,), **settings).iloc[-1]
        errors.append(last.multiplier / last.analytic - 1)
    assert errors[0] > errors[1] > errors[2] > 0
    assert theory_experiments.fitted_order((5, 10, 20), errors) == pytest.approx(1, abs=0.25)


def test_dual_descent_follows_a_budget_that_moves():
    """Within a tenth, once it has begun; by the critic as a mean over some steps, for a batch's agreement is noisy."""
    asked = (theory_figure.MOVING_BUDGET, theory_figure.MOVING_ENDS, theory_figure.MOVING_DIMENSION)
    found = theory_experiments.moving_budget_experiment(*asked, theory_figure.MOVING_STEPS)
    assert set(found.schedule) == {"linear", "cosine", "critic"}
    for schedule, rows in found.groupby("schedule"):
        window = theory_figure.SMOOTHED if schedule == "critic" else 1
        rows = rows[["path_kl", "budget"]].rolling(window).mean()[int(theory_figure.SETTLING * len(rows)) :]
        assert rows.budget.max() > 2 * rows.budget.min()
        assert (rows.path_kl / rows.budget - 1).abs().max() < 0.1, schedule


# Schedules


def test_schedules_by_hand():
    u = torch.tensor([-1.0, 0.0, 0.25, 1.0, 2.0])
    assert schedules.linear(u).tolist() == [0, 0, 0.25, 1, 1]
    torch.testing.assert_close(schedules.cosine(u), torch.tensor([0, 0, (1 - 0.5**0.5) / 2, 1, 1]))
    assert schedules.moving_budget(2.0, torch.tensor([0.0, 0.5, 1.0]), 0.5, 1.5).tolist() == [1, 2, 3]


def test_agreement_is_the_share_of_the_spread_that_critics_have_in_common():
    q = torch.tensor([[[1.0, 3.0], [1.0, 3.0]], [[1.0, 3.0], [3.0, 1.0]], [[0.0, 4.0], [1.0, 3.0]], [[5.0, 5.0]] * 2])
    found = schedules.agreement(q)  # the same; opposite; most of it; nothing to agree on
    torch.testing.assert_close(found, torch.tensor([1.0, 0.0, 0.8, 0.0]))
    torch.testing.assert_close(schedules.agreement(100 * q - 7), found)
    assert schedules.agreement(q[:, :1]).tolist() == [1, 1, 1, 0]
    draw = torch.Generator().manual_seed(0)
    common, own = (torch.randn(1, n, 20_000, generator=draw) for n in (1, 5))
    for share in (0.0, 0.3, 0.9):  # of the variance; without any there is no floor of one in five
        mixed = schedules.agreement(share**0.5 * common + (1 - share) ** 0.5 * own)
        assert mixed.item() == pytest.approx(share, abs=0.02)


# Lemma 1


@given(st.data(), st.integers(2, 6), st.floats(1e-3, 50), st.floats(1e-3, 2))
def test_total_variation_never_exceeds_the_lemma(data, actions, beta, error):
    def draw(low, high):
        return data.draw(arrays(float, actions, elements=st.floats(low, high)))

    base = draw(1e-3, 1)
    found = theory_experiments.total_variation(base / base.sum(), draw(-5, 5), error * draw(-1, 1), beta)
    attainable = closed_forms.attainable_variation(beta * error)
    assert found <= attainable + 1e-12
    assert attainable <= closed_forms.amplification_bound(beta * error) / 2


@pytest.mark.parametrize("exponent", [1e-4, 0.1, 1.0, 5.0])
def test_the_worst_toy_attains_all_that_is_attainable(exponent):
    base = np.array([1, np.exp(exponent)]) / (1 + np.exp(exponent))
    found = theory_experiments.total_variation(base, np.zeros(2), exponent * np.array([1, -1]), 1.0)
    assert found == pytest.approx(np.tanh(exponent / 2), rel=1e-9)
    if exponent < 1e-3:  # here the lemma's bound is as near as it comes: twice the truth
        assert found / closed_forms.amplification_bound(exponent) == pytest.approx(0.5, abs=1e-3)


def test_amplification_experiment_comes_near_the_bound_and_stays_below():
    table = theory_experiments.amplification_experiment((0.5, 4.0), (0.01, 0.1))
    assert (table.largest <= table.bound / 2).all()
    assert (table.largest > 0.4 * table.bound).any()
    assert (table.typical < table.largest).all()


# The figure and its numbers


def test_figure_and_facts(tmp_path, smaller):
    for copy in ("a", "b"):
        theory_figure.write(tmp_path / copy)
    for name in ("figures/theory.pdf", "figures/theory.png", "theory_facts.tex", "theory.txt"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    facts = theory_figure.theory_facts()
    assert facts["theoryOdeRatio"] == "1.42"
    assert (tmp_path / "a" / "theory.txt").read_text() == facts["captionTheory"] + "\n"
    written = (tmp_path / "a" / "theory_facts.tex").read_text()
    used = set(re.findall(r"\\factTheory[A-Za-z]+", (PAPER / "theory.tex").read_text()))
    assert used <= {f"\\fact{name[0].upper()}{name[1:]}" for name in facts}
    assert all(f"\\newcommand{{{macro}}}" in written for macro in used)
