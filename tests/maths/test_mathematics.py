"""flow, sde, adjoint, dual and td against hand computation, autograd and finite differences, in float64."""

import numpy as np
import pytest
import torch

from trqam.maths import adjoint, dual, flow, sde, td
from trqam.maths.interpolants import FLOW, VARIANCE_PRESERVING
from trqam.networks.mlp import along_path

K, R, B, D, O = 5, 2, 4, 3, 2  # noqa: E741


@pytest.fixture
def fields():
    """Two smooth nonlinear fields of (s, x, t), and observations."""
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(O + D + 1, D, generator=generator, dtype=torch.float64) / 2 for _ in range(2)]

    def field(weight):
        def velocity(s, x, t):
            t = t if isinstance(t, torch.Tensor) else torch.full_like(x[..., :1], t)
            return torch.tanh(torch.cat([s, x, t], -1) @ weight) + 0.3 * x

        return velocity

    return *map(field, weights), torch.randn(R, B, O, generator=generator, dtype=torch.float64)


def noise(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("between", [FLOW, VARIANCE_PRESERVING])
def test_interpolant_runs_from_noise_to_action(between):
    x0, x1 = noise(R, B, D), noise(R, B, D) + 1
    assert torch.equal(flow.interpolate(x0, x1, torch.zeros(R, B, 1).double(), between), x0)
    torch.testing.assert_close(flow.interpolate(x0, x1, torch.ones(R, B, 1).double(), between), x1)


@pytest.mark.parametrize("between", [FLOW, VARIANCE_PRESERVING])
def test_an_interpolant_is_one_with_its_slopes_and_its_steps(between):
    """alpha', beta' and W by differences; and a step of the ODE, which keeps both ends."""
    x0, x1, d, h = noise(R, B, D), noise(R, B, D) + 1, 1e-6, 0.2
    for t in (0.0, 0.3, 0.8):
        alpha, beta, rise, fall = between.at(t)
        after, before = between.at(t + d), between.at(t - d)
        assert (rise, fall) == pytest.approx([(after[i] - before[i]) / (2 * d) for i in (0, 1)], rel=1e-6, abs=1e-6)
        assert rise * beta - alpha * fall == pytest.approx(between.wronskian)
        x, v = beta * x0 + alpha * x1, rise * x1 + fall * x0
        torch.testing.assert_close(between.slope(x0, x1, torch.full((1, 1, 1), t).double()), v)
        arrived = between.at(t + h)
        torch.testing.assert_close(between.advance(x, h * v, h), arrived[1] * x0 + arrived[0] * x1)
        exact = 2 * beta * (rise / alpha * beta - fall) if t else np.inf
        assert between.squared_diffusion(t, 1e-9) == pytest.approx(exact, rel=1e-6) or t == 0
        assert between.timescale(t, t) == pytest.approx(alpha / rise)


def test_the_circles_schedule_by_hand():
    t, g2 = sde.memoryless_schedule(4, torch.zeros(1, dtype=torch.float64), VARIANCE_PRESERVING)
    sine = np.sin(np.pi / 8 * np.arange(-1, 5))
    np.testing.assert_allclose(t, [0, 0.25, 0.5, 0.75])
    np.testing.assert_allclose(g2, np.pi * np.sin(np.pi / 8 * np.array([5, 4, 3, 2])) / sine[2:])
    assert VARIANCE_PRESERVING.timescale(0.0, 0.25) == pytest.approx(sine[2] / (np.pi / 2))


def test_flow_matching_loss_by_hand():
    x0, x1, t = torch.zeros(1, 2, 2), torch.tensor([[[1.0, 3.0], [2.0, 2.0]]]), torch.full((1, 2, 1), 0.5)
    loss = flow.flow_matching_loss(lambda s, x, t: 2 * x, x0, x1, x0, t, torch.tensor([[1.0, 0.0]]))
    assert loss.tolist() == [0.0]  # 2 x_t = x1 exactly
    loss = flow.flow_matching_loss(lambda s, x, t: 0 * x, x0, x1, x0, t, torch.tensor([[1.0, 0.0]]))
    assert loss.tolist() == [(1 + 9) / 2 / 2]  # mean over D, then over the whole batch, valid or not


def test_euler_is_of_first_order():
    exact, start = np.exp(1.0), torch.ones(1, 1, 1, dtype=torch.float64)
    errors = [abs(flow.euler(lambda s, x, t: x, start, start, k).item() - exact) for k in (10, 20, 40, 80)]
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    np.testing.assert_allclose(orders, 1, atol=0.08)


def test_schedule_by_hand():
    t, g2 = sde.memoryless_schedule(4, torch.zeros(1, dtype=torch.float64))
    np.testing.assert_allclose(t, [0, 0.25, 0.5, 0.75])
    np.testing.assert_allclose(g2, [2 * 1.25 / 0.25, 2 * 1.0 / 0.5, 2 * 0.75 / 0.75, 2 * 0.5 / 1.0])


def test_trajectory_follows_its_recursion(fields):
    finetuned, base, s = fields
    x0, eps = noise(R, B, D), noise(K, R, B, D)
    (path, _), h = sde.sample_trajectory(finetuned, base, s, x0, eps), 1 / K
    assert path.shape == (K + 1, R, B, D)
    for i in range(K - 1):
        drift = 2 * finetuned(s, path[i], i * h) - path[i] / (i * h + h)
        spread = (2 * (1 - i * h + h) / (i * h + h) * h) ** 0.5
        torch.testing.assert_close(path[i + 1], path[i] + h * drift + spread * eps[i])
    torch.testing.assert_close(path[K], path[K - 1] + h * base(s, path[K - 1], 1 - h))


def test_the_diffusion_follows_its_recursion_and_ends_at_the_clean_action(fields):
    finetuned, base, s = fields
    x0, eps = noise(R, B, D), noise(K, R, B, D)
    (path, _), h, w = sde.sample_trajectory(finetuned, base, s, x0, eps, VARIANCE_PRESERVING), 1 / K, np.pi / 2
    for i in range(K - 1):
        above, low, high = np.cos(w * i * h), np.cos(w * (i - 1) * h), np.sin(w * (i + 1) * h)
        drift = 2 * finetuned(s, path[i], i * h) - w * above / high * path[i]
        torch.testing.assert_close(path[i + 1], path[i] + h * drift + (2 * w * low / high * h) ** 0.5 * eps[i])
    beta, slope = np.cos(w * (1 - h)), -w * np.sin(w * (1 - h))
    clean = (beta * base(s, path[K - 1], 1 - h) - slope * path[K - 1]) / w  # v = (W D + beta' x) / beta
    torch.testing.assert_close(path[K], clean)


def test_the_diffusions_adjoint_is_the_gradient_through_its_base_process(fields):
    """Through X + h (2 v_base(X, t + h) - kappa(t + h) X), and in the last step through the clean action."""
    _, base, s = fields
    h, w, path = 1 / K, np.pi / 2, [noise(R, B, D).requires_grad_()]
    for i in range(K - 1):
        t, x = i * h + h, path[-1]
        path.append(x + h * (2 * base(s, x, t) - w / np.tan(w * t) * x) + noise(R, B, D) / 3)
    x, t = path[-1], 1 - h
    clean = (np.cos(w * t) * base(s, x, t) + w * np.sin(w * t) * x) / w
    by_autograd = torch.autograd.grad(clean.pow(3).sum(), path)
    pull = adjoint.pullback(base, s, torch.stack(path).detach(), VARIANCE_PRESERVING)
    lean = adjoint.lean_adjoint(pull, 3 * clean.detach().square(), K, VARIANCE_PRESERVING)
    torch.testing.assert_close(lean, torch.stack(by_autograd))


def test_lean_adjoint_is_the_gradient_through_the_base_drift(fields):
    """With fixed noise, adj_0 is d/dX_0 of the terminal cost along X + h (2 v_base(X, t + h) - X / (t + h)) + noise."""
    _, base, s = fields
    h, x0, increments = 1 / K, noise(R, B, D).requires_grad_(), noise(K, R, B, D) / 3
    path = [x0]
    for i in range(K):
        t, x = i * h + h, path[-1]
        path.append(x + h * (2 * base(s, x, t) - x / t) + increments[i])
    cost = path[-1].pow(3).sum()
    by_autograd = torch.autograd.grad(cost, path[:-1])
    terminal = 3 * path[-1].detach().square()
    lean = adjoint.lean_adjoint(adjoint.pullback(base, s, torch.stack(path[:-1]).detach()), terminal, K)
    torch.testing.assert_close(lean, torch.stack(by_autograd))


def test_terminal_adjoint_is_minus_the_gradient_and_zero_outside_the_box():
    x = torch.tensor([[[0.5, 2.0], [-3.0, -0.25]]])
    clipped = adjoint.terminal_adjoint(lambda a: a.square().sum(-1), x, clip=True)
    assert clipped.tolist() == [[[-1.0, 0.0], [0.0, 0.5]]]
    free = adjoint.terminal_adjoint(lambda a: a.square().sum(-1), x, clip=False)
    assert free.tolist() == [[[-1.0, -4.0], [6.0, 0.5]]]


def test_along_path_is_the_field_at_each_state(fields):
    finetuned, _, s = fields
    states, (t, _) = noise(K, R, B, D), sde.memoryless_schedule(K, s)
    batched = along_path(finetuned, s, states, t)
    one_by_one = torch.stack([finetuned(s, states[i], t[i].item()) for i in range(K)])
    torch.testing.assert_close(batched, one_by_one)


def test_path_kl_of_a_constant_offset_by_hand():
    _, g2 = sde.memoryless_schedule(2, torch.zeros(1, dtype=torch.float64))
    dv = torch.full((2, R, B, D), 0.1, dtype=torch.float64)
    expected = sum(2 * 0.5 / g for g in g2.tolist()) * D * 0.01 / 4
    np.testing.assert_allclose(adjoint.path_kl(dv, g2, horizon=4), expected)
    assert adjoint.path_kl(0 * dv, g2, horizon=4).tolist() == [0.0] * R


def test_minimum_of_the_loss_and_the_kl_there():
    """dv = -(sigma^2/2) adj makes the loss zero, and there D_hat = mean sum h g^2/(2 lambda^2) |adj|^2 / H."""
    _, g2 = sde.memoryless_schedule(K, torch.zeros(1, dtype=torch.float64))
    adjoints, multiplier, horizon = noise(K, R, B, D), torch.tensor([0.5, 3.0], dtype=torch.float64), 5
    sigma2 = (g2[:, None] / multiplier)[:, :, None, None]
    dv = -sigma2 / 2 * adjoints
    np.testing.assert_allclose(adjoint.adjoint_matching_loss(dv, adjoints, g2, multiplier), 0, atol=1e-24)
    per_state = g2[:, None, None] / (2 * K * multiplier[None, :, None] ** 2) * adjoints.square().sum(-1)
    np.testing.assert_allclose(adjoint.path_kl(dv, g2, horizon), per_state.sum(0).mean(-1) / horizon)
    dv = dv + 1e-3
    assert (adjoint.adjoint_matching_loss(dv, adjoints, g2, multiplier) > 0).all()


def step(multiplier, kl, ema=1.0, **changes):
    settings = {"budget": 1.0, "rate": 0.1, "ema_rate": 0.5, "largest": 2.0, "bounds": (0.01, 100.0)} | changes
    state = dual.DualState(torch.tensor([multiplier]), torch.tensor([ema]))
    return dual.dual_descent(state, torch.tensor([kl]), **settings)


def test_dual_step_raises_the_multiplier_above_the_budget_and_lowers_it_below():
    assert step(1.0, kl=1.5).multiplier.item() == pytest.approx(1 + 0.1 * 0.25)
    assert step(1.0, kl=0.5).multiplier.item() == pytest.approx(1 - 0.1 * 0.25)
    assert step(1.0, kl=1.0).multiplier.item() == 1.0


def test_dual_step_clips_the_estimate_and_projects_the_multiplier():
    assert step(1.0, kl=1e9).kl_ema.item() == pytest.approx(0.5 * 1 + 0.5 * 2)
    assert step(0.02, kl=0.0, ema=0.0).multiplier.item() == pytest.approx(0.01)
    assert step(99.99, kl=1e9, ema=2.0).multiplier.item() == pytest.approx(100.0)


def test_td_target_and_loss_by_hand():
    q = torch.tensor([[[1.0], [3.0]]])  # one replica, two critics, one transition
    value = td.pessimistic_value(q, pessimism=0.5)
    assert value.tolist() == [[2.0 - 0.5 * 1.0]]
    target = td.td_target(torch.tensor([[-1.0]]), torch.tensor([[1.0]]), value, discount=0.9, horizon=2)
    assert target.item() == pytest.approx(-1 + 0.81 * 1.5)
    assert td.td_target(torch.tensor([[-1.0]]), torch.tensor([[0.0]]), value, 0.9, 2).item() == -1
    assert td.critic_loss(q, torch.tensor([[2.0]]), torch.tensor([[1.0]])).tolist() == [1.0]
    assert td.critic_loss(q, torch.tensor([[2.0]]), torch.tensor([[0.0]])).tolist() == [0.0]
