"""TRQAM on a diffusion, and the diffusion that is cloned for it."""

import dataclasses
import math

import msgspec
import numpy as np
import pytest
import torch

from tests.helpers.learners import SIZES, make_learner
from tests.helpers.slow_reference import Slow
from trqam.agents import make_agent
from trqam.config.parameters import policy_of
from trqam.maths.interpolants import VARIANCE_PRESERVING
from trqam.maths.sde import time_grid
from trqam.networks import layers
from trqam.networks.mlp import MLP, Denoiser, RecordedField, along_path
from trqam.networks.replicas import assemble
from trqam.operations.golden.compare import compare
from trqam.operations.golden.files import TRANSLATIONS

K, R, B, D, O = 4, 2, 3, 2, 3  # noqa: E741
W = math.pi / 2


class SlowDiffusion(Slow):
    """TRQAM's loss along the circle: clean actions and noises, one sample at a time."""

    def clean(self, p, module, s, x, t):
        return math.sin(W * t) * x + math.cos(W * t) * super().v(p, module, s, x, t)

    def v(self, p, module, s, x, t):
        clean, alpha, beta = self.clean(p, module, s, x, t), math.sin(W * t), math.cos(W * t)
        return W * (beta * clean - alpha * (x - alpha * clean) / beta)

    def cloning_error(self, p, field, s, a, x0, t):
        clean = self.clean(p, field, s, math.sin(W * t) * a + math.cos(W * t) * x0, t)
        return W / math.cos(W * t) * (clean - a)

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


@pytest.mark.parametrize("name", ["trqam", "behaviour_cloning", "trqam_diffusion", "diffusion_cloning"])
def test_the_kind_of_policy_is_that_of_the_parameters_class(name):
    diffusion = "diffusion" in name
    agent, replicas = make_learner(name, seeds=[0])
    field = agent.field(assemble(replicas).online["base"])
    assert policy_of(agent.run.agent) == ("diffusion" if diffusion else "flow")
    assert (agent.interpolant is VARIANCE_PRESERVING, isinstance(field, Denoiser)) == (diffusion, diffusion)


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
        clean = alpha * states[0] + beta * layers.run(field.layers, field.parameters, field.inputs(s, states[0], t))
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
    agent, _ = make_learner("diffusion_cloning", seeds=[0])
    run = msgspec.structs.replace(agent.run, hidden_width=128, hidden_layers=3, learning_rate=0.002, flow_steps=40)
    agent = make_agent(run, SIZES.observation, SIZES.action)
    state, draw, mode = assemble([agent.initialise(0, None)]), np.random.default_rng(0), np.tile([0.6, -0.4], 5)
    for _ in range(3000):
        sign = np.where(draw.random((1, 64, 1)) < 0.75, 1.0, -1.0)
        actions = sign * mode + 0.1 * draw.standard_normal((1, 64, 10))
        given = {"actions": actions, "bc_x0": draw.standard_normal((1, 64, 10)), "bc_t": draw.random((1, 64, 1))}
        given |= {"observations": np.zeros((1, 64, SIZES.observation)), "valid": np.ones((1, 64))}
        batch = {name: torch.from_numpy(value).float() for name, value in given.items()}
        agent.update(state, batch, batch)
    noise = torch.from_numpy(draw.standard_normal((1, 4000, 10))).float()
    found = agent.act(state, torch.zeros(1, 4000, SIZES.observation), noise)[0].numpy()
    along = found @ mode / (mode @ mode)  # 1 at the one mode, -1 at the other
    upper = along > 0
    assert upper.mean() == pytest.approx(0.75, abs=0.05)
    for side, place in ((upper, 1), (~upper, -1)):
        assert np.median(along[side]) == pytest.approx(place, abs=0.05)
        assert np.median(np.abs(found[side] - place * mode)) / 0.6745 == pytest.approx(0.1, abs=0.02)
    assert (np.abs(along) < 0.5).mean() < 0.03
