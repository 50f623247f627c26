"""TRQAM with a multiplier for each state, and TRQAM that logs the KL of single states."""

import itertools
import math

import msgspec
import numpy as np
import pytest
import torch

from tests.helpers.learners import SIZES, make_batch, make_learner
from tests.helpers.slow_reference import OBS, TRUST, Slow
from trqam.agents.trqam_scalar import over_states
from trqam.config.errors import UserError
from trqam.networks.replicas import assemble
from trqam.operations.golden.compare import relative_difference, replay
from trqam.operations.golden.files import FIELDS, TRANSLATIONS, Translation
from trqam.training.batches import draw_noise


class SlowByState(Slow):
    """TRQAM's loss at a multiplier of each sample, and what trains the network behind it; one sample at a time."""

    def initial(self):
        p, width = super().initial(), self.c["multiplier_width"]
        for i, (n, m) in enumerate(itertools.pairwise([OBS, width, width, 1])):
            p[f"modules_multiplier/mlp/Dense_{i}/kernel"] = self.normal(n, m) * 1.2 / n**0.5
            p[f"modules_multiplier/mlp/Dense_{i}/bias"] = 0.1 * self.normal(m)
        return p

    def multiplier(self, p, s):
        low, high = self.c["lambda_min"], self.c["lambda_max"]
        f = self.c["multiplier_gain"] * self.net(p, "multiplier", s)[0]
        odds = math.log(1 / low) / math.log(high) * f.exp()  # lambda_0 = 1
        return low ** (1 / (1 + odds)) * high ** (odds / (1 + odds))

    def lambda_eff(self):
        return self.c["lam_scale"] * self.here

    def adjoint_matching(self, p, o, s, n, i):
        c, self.here = self.c, float(self.multiplier(o, s))
        loss, kl, *others = super().adjoint_matching(p, o, s, n, i)
        measured = float(kl.detach())
        counted = min(measured, c["kl_clip_coef"] * c["kl_budget"])
        point = self.here + c["eta_lambda"] * (counted - c["kl_budget"])
        point = min(max(point, c["lambda_min"]), c["lambda_max"])
        self.ends.add("inside" if c["lambda_min"] < point < c["lambda_max"] else "bound")
        self.ends.add("clipped" if counted < measured else "whole")
        fit = (self.multiplier(p, s) - point) ** 2 / (2 * c["eta_lambda"] * self.here)
        return loss + fit, kl, *others

    def dual(self, kl):
        """The scalar stays where it is."""


VARIANTS = {
    "as it is": ({}, {"inside"}),
    "clipped and bounded": (
        {"kl_budget": 0.1, "kl_clip_coef": 1.5, "eta_lambda": 9.0, "lambda_min": 0.3, "lambda_max": 1.5},
        {"inside", "bound", "clipped", "whole"},
    ),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_it_agrees_with_the_slow_reference(name, tmp_path, monkeypatch):
    changes, reached = VARIANTS[name]
    slow = SlowByState("trqam", multiplier_width=5, multiplier_gain=0.7, **changes)
    slow.ends = set()
    slow.write(tmp_path / "slow.npz")
    assert slow.ends >= reached  # what the variant is about does act
    trqam, ema = TRANSLATIONS["trqam"], "kl_ema_coef"
    parameters = {ours: theirs for ours, theirs in trqam.parameters.items() if theirs != ema}
    loss = "adjoint_loss+multiplier_loss"
    info = {**trqam.info, "actor/adj_loss": loss, "actor/fast_loss": loss}
    del info["dual/kl_ema"]
    words = Translation(
        "trqam_per_state",
        {**FIELDS, "multiplier": "multiplier"},
        {**parameters, **{name: name for name in ("multiplier_width", "multiplier_gain")}},
        info,
        {ema: TRUST[ema]},
    )
    monkeypatch.setitem(TRANSLATIONS, "trqam", words)
    pairs = replay(tmp_path / "slow.npz")
    assert {"info/actor/adj_loss", "info/actor/path_kl", "step1/gradients", "step10/params"} <= pairs.keys()
    for quantity, found in pairs.items():
        assert relative_difference(found) < 1e-9, quantity
    assert len(pairs["step10/params"]) == len(slow.p)  # the network of the multiplier among them


def trained(name, updates, **parameters):
    """Updates from a cloned field, and the metrics of the last."""
    agent, (first,) = make_learner(name, seeds=[0], **parameters)
    base = {k.removeprefix("online/base/"): v for k, v in first.items() if k.startswith("online/base/")}
    state, batch, metrics = assemble([agent.initialise(0, base)]), make_batch(seeds=[0]), {}
    for step in range(updates):
        metrics = agent.update(state, batch, draw_noise(agent, [0], "noise", step))
    return agent, state, metrics


def test_the_scalar_form_logs_more_and_changes_no_bit():
    _, state, metrics = trained("trqam_scalar", 4)
    _, reference, theirs = trained("trqam", 4)
    for (name, ours), (other, value) in zip(state.named(), reference.named(), strict=True):
        assert name == other
        assert torch.equal(ours, value), name
    assert {name: metrics[name] for name in theirs} == theirs
    assert metrics.keys() - theirs.keys() == {"kl_p05", "kl_median", "kl_p95"}
    assert 0 < metrics["kl_p05"] < metrics["kl_median"] < metrics["kl_p95"]
    assert metrics["kl_p05"] < metrics["path_kl"] < metrics["kl_p95"]


@pytest.mark.parametrize("rows", [1, 2, 16, 101])
def test_quantiles_are_those_of_each_replica(rows):
    values = torch.randn(3, rows, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = over_states("x", values)
    for label, level in (("x_p05", 0.05), ("x_median", 0.5), ("x_p95", 0.95)):
        np.testing.assert_allclose(found[label], np.quantile(values, level, axis=1))


def test_it_starts_as_trqam_does_in_every_state():
    for initial in (1.0, 0.3):
        agent, state, metrics = trained("trqam_per_state", 1, initial_multiplier=initial)
        _, _, theirs = trained("trqam", 1, initial_multiplier=initial)
        for name in ("multiplier", "multiplier_p05", "multiplier_p95"):
            assert metrics[name].item() == pytest.approx(initial, rel=1e-6)
        for name in ("adjoint_loss", "path_kl", "critic_loss", "adjoint_norm"):
            assert metrics[name].item() == pytest.approx(theirs[name].item(), rel=1e-5), name
        multiplier = agent.multiplier(state, make_batch([0])["observations"])  # after the first update they differ
        assert multiplier.shape == (1, SIZES.batch)
        assert multiplier.detach().std() > 0


def test_the_multipliers_rise_above_the_budget_and_fall_below_it():
    _, state, tight = trained("trqam_per_state", 40, kl_budget=1e-5)
    _, _, loose = trained("trqam_per_state", 40, kl_budget=10.0)
    assert loose["multiplier_p95"] < 1 < tight["multiplier_p05"]
    assert tight["multiplier_p05"] < tight["multiplier"] < tight["multiplier_p95"]
    assert state.dual.multiplier.item() == 1.0  # of the scalar form; nobody reads it


@pytest.mark.parametrize("initial", [0.01, 100.0])
def test_a_first_multiplier_that_is_not_between_the_bounds_is_refused(initial):
    with pytest.raises(UserError, match=f"trqam_per_state: initial_multiplier: {initial:g} is not between the bounds;"):
        make_learner("trqam_per_state", seeds=[0], initial_multiplier=initial)


def steep_on_one_half(parameters):
    """A linear critic, ten times as steep where a state's first number is positive."""
    nothing = sum((0 * tensor).sum() for tensor in parameters.values())  # every network takes part in the loss
    return lambda s, a: (torch.where(s[..., :1] > 0, 3.0, 0.3) * a).sum(-1)[:, None] + nothing


def settled(name, budget=0.2):
    """The agent, its state and the means of its metrics over the last of 600 updates, from a cloned field."""
    agent, (first,) = make_learner(name, seeds=[0], kl_budget=budget, clip_adjoint=False)
    agent.critic = steep_on_one_half
    agent.run = msgspec.structs.replace(agent.run, learning_rate=0.002, batch_size=SIZES.batch)
    base = {k.removeprefix("online/base/"): v for k, v in first.items() if k.startswith("online/base/")}
    state, late = assemble([agent.initialise(0, base)]), []
    for step in range(600):
        metrics = agent.update(state, make_batch(seeds=[1000 + step]), draw_noise(agent, [0], "noise", step))
        late = [*late[-99:], metrics]
    return agent, state, {name: torch.stack([m[name] for m in late]).mean().item() for name in late[0]}


def test_the_agent_gives_states_the_multipliers_and_the_kl_of_the_theory(monkeypatch):
    """Learned fields and all: the multipliers are as the slopes of the critic, and the KL is alike in all states."""
    monkeypatch.setattr(SIZES, "batch", 64)
    agent, state, own = settled("trqam_per_state")
    _, _, scalar = settled("trqam_scalar")
    s = make_batch(seeds=[0])["observations"]
    multiplier, steep = agent.multiplier(state, s)[0].detach(), s[0, :, 0] > 0
    assert (multiplier[steep].median() / multiplier[~steep].median()).item() == pytest.approx(10, rel=0.4)
    assert own["path_kl"] == pytest.approx(0.2, rel=0.15)
    assert scalar["path_kl"] == pytest.approx(0.2, rel=0.15)
    assert own["kl_p95"] / own["kl_p05"] < 4
    assert scalar["kl_p95"] / scalar["kl_p05"] > 6
