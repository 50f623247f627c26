"""TRQAM on a diffusion, and the diffusion that is cloned for it."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from tests.helpers.learners import SIZES, make_batch, make_learner
from tests.helpers.slow_reference import Slow
from trqam.maths.interpolants import VARIANCE_PRESERVING
from trqam.maths.sde import time_grid
from trqam.networks.mlp import MLP, Denoiser, RecordedField, along_path
from trqam.networks.replicas import assemble
from trqam.operations.golden.compare import compare
from trqam.operations.golden.files import TRANSLATIONS
from trqam.training.batches import draw_noise

K, R, B, D, O = 4, 2, 3, 2, 3  # noqa: E741
W = math.pi / 2


class SlowDiffusion(Slow):
    """TRQAM's loss along the circle: clean actions and noises, one sample at a time."""

    def clean(self, p, module, s, x, t):
        return super().v(p, module, s, x, t)

    def v(self, p, module, s, x, t):
        clean, alpha, beta = self.clean(p, module, s, x, t), math.sin(W * t), math.cos(W * t)
        return W * (beta * clean - alpha * (x - alpha * clean) / beta)

    def cloning_error(self, p, field, s, a, x0, t):
        return self.clean(p, field, s, math.sin(W * t) * a + math.cos(W * t) * x0, t) - a

    def ode(self, p, module, s, x):
        for i in range(self.K):
            now, then = W * i / self.K, W * (i + 1) / self.K
            clean = self.clean(p, module, s, x, i / self.K)
            noise = (x - math.sin(now) * clean) / math.cos(now)
            x = math.sin(then) * clean + math.cos(then) * noise
        return x

    def g2(self, t):
        h = 1 / self.K
        return 2 * W * math.cos(W * (t - h)) / math.sin(W * (t + h))

    def adjoint_matching(self, p, o, s, n, i):
        h, base, jacobian = 1 / self.K, "target_actor_slow", torch.autograd.functional.jacobian
        xs, times = [n["adj_x0"][i]], [k * h for k in range(self.K)]
        for k, t in enumerate(times[:-1]):
            drift = 2 * self.v(o, "actor_fast", s, xs[-1], t)
            drift = drift - W * math.cos(W * t) / math.sin(W * (t + h)) * xs[-1]
            xs.append(xs[-1] + h * drift + math.sqrt(h * self.g2(t)) * n[f"adj_eps_{k}"][i])
        adjoints = [self.terminal(o, s, self.clean(o, base, s, xs[-1], times[-1]))]
        last = jacobian(lambda x: self.clean(o, base, s, x, times[-1]), xs[-1])
        adjoints.insert(0, last.T @ adjoints[0])
        for k in reversed(range(self.K - 1)):
            t = times[k + 1]
            drift = jacobian(lambda x, t=t: 2 * self.v(o, base, s, x, t) - W / math.tan(W * t) * x, xs[k])
            adjoints.insert(0, adjoints[0] + h * drift.T @ adjoints[0])
        loss = kl = 0.0
        for x, adjoint, t in zip(xs, adjoints, times, strict=False):
            sigma = math.sqrt(self.g2(t) / self.lambda_eff())
            dv = self.v(p, "actor_fast", s, x, t) - self.v(o, base, s, x, t)
            loss = loss + ((2 / sigma * dv + sigma * adjoint) ** 2).sum()
            kl = kl + 2 * h / self.g2(t) * (dv**2).sum() / self.chunk
        return loss, kl, torch.stack(xs), torch.stack(adjoints[:-1]), adjoints[-1]


def test_it_agrees_with_the_slow_reference(tmp_path, monkeypatch):
    SlowDiffusion("trqam", kl_budget=0.05).write(tmp_path / "slow.npz")
    words = TRANSLATIONS["trqam"]
    monkeypatch.setitem(TRANSLATIONS, "trqam", dataclasses.replace(words, agent="trqam_diffusion"))
    found = compare(tmp_path / "slow.npz")
    assert {"step1/adj/xs", "step1/adj/adjs", "info/actor/path_kl", "dual/multiplier", "step10/params"} <= found.keys()
    assert {"act/actions", "info/actor/flow_loss", "step1/gradients"} <= found.keys()
    assert max(found.values()) < 1e-9


# The denoiser's fast paths


@pytest.fixture
def denoiser():
    """One with gradient, its observations, and states at the times of the roll-out."""
    network, draw = MLP((O + D + 1, 8, 8, D), layer_norm=True), torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=draw, dtype=torch.float64)

    parameters = {name: normal(R, *shape).requires_grad_() for name, shape in network.shapes().items()}
    return Denoiser(network, parameters, VARIANCE_PRESERVING), normal(R, B, O), normal(K, R, B, D)


def test_velocity_is_that_of_the_clean_action_and_the_noise(denoiser):
    field, s, states = denoiser
    for t in (0.0, 0.5, 0.9):
        alpha, beta = math.sin(W * t), math.cos(W * t)
        clean = field.clean(s, states[0], t)
        noise = (states[0] - alpha * clean) / beta
        torch.testing.assert_close(field(s, states[0], t), W * (beta * clean - alpha * noise))


def test_pullback_is_autograds(denoiser):
    field, s, states = denoiser
    times = VARIANCE_PRESERVING.adjoint_time(time_grid(K, s, first=1), 1 / K)
    pull = field.pullback(s, states, times)
    for i, t in enumerate(times.tolist()):
        x, cotangent = states[i].clone().requires_grad_(), torch.sin(states[i])
        (expected,) = torch.autograd.grad(field(s, x, t), x, cotangent)
        torch.testing.assert_close(pull(i, cotangent), expected)


def test_a_recorded_field_has_the_values_and_gradients_of_the_field(denoiser):
    field, s, states = denoiser
    recorded, times = RecordedField(field), time_grid(K, s)
    for x, t in zip(states, times.tolist(), strict=True):
        torch.testing.assert_close(recorded(s, x, t), field(s, x, t).detach())
    ours = recorded.velocities().view(R, K, B, D).transpose(0, 1)
    theirs = along_path(field, s, states, times)
    torch.testing.assert_close(ours, theirs)
    leaves = [*field.parameters]
    found = [torch.autograd.grad(v.square().sum(), leaves) for v in (ours, theirs)]
    for pair in zip(*found, strict=True):
        torch.testing.assert_close(*pair)


# Cloning


def test_a_law_of_two_modes_is_cloned():
    """Three of four actions at the one mode, the others at the opposite: their shares, their places and their width."""
    agent, replicas = make_learner("diffusion_cloning", seeds=[0])
    state, draw = assemble(replicas), np.random.default_rng(0)
    s = torch.zeros(1, 256, SIZES.observation)
    where = np.tile([0.6, -0.4], 5)
    for step in range(1500):
        sign = np.where(draw.random((256, 1)) < 0.75, 1.0, -1.0)
        actions = sign * where + 0.1 * draw.standard_normal((256, len(where)))
        batch = {"observations": s, "actions": torch.tensor(actions[None]).float(), "valid": torch.ones(1, 256)}
        noise = {"bc_x0": torch.tensor(draw.standard_normal((1, 256, len(where)))).float()}
        noise["bc_t"] = torch.tensor(draw.random((1, 256, 1))).float()
        agent.update(state, batch, noise)
    found = agent.act(state, torch.zeros(1, 4000, 4), torch.randn(1, 4000, 10, generator=torch.manual_seed(0)))[0]
    along = found @ torch.tensor(where).float() / float(where @ where)  # 1 at the one mode, -1 at the other
    upper = along > 0
    print(upper.float().mean(), along[upper].mean(), along[~upper].mean(), found[upper].std(0), (along.abs() - 1).abs().max())
    assert 0


def test_pretraining_lowers_the_loss_that_it_is_named_for():
    agent, replicas = make_learner("diffusion_cloning", seeds=[0, 1])
    state, batch = assemble(replicas), make_batch(seeds=[0, 1])
    losses = [agent.update(state, batch, draw_noise(agent, [0, 1], "noise", step))["flow_loss"] for step in range(60)]
    assert (torch.stack(losses[-10:]).mean(0) < 0.8 * torch.stack(losses[:10]).mean(0)).all()
