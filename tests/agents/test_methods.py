"""The method family: its table, methods without reference files, and what distinguishes one from the next."""

import math

import pytest
import torch

from tests.helpers.learners import METHODS, SIZES, make_batch, make_learner
from tests.helpers.slow_reference import TRUST, UPDATES, B, Slow
from trqam.config import load
from trqam.maths.streams import stream
from trqam.maths.td import expectile_loss, linex_loss
from trqam.networks.mlp import LogScalar, TanhGaussian
from trqam.networks.replicas import assemble
from trqam.operations.golden.compare import compare
from trqam.operations.golden.files import FIELDS, TRANSLATIONS, Translation
from trqam.training.batches import draw_noise

# The protocol's table: QAM, QAM-E inverse temperature and edit scale, FQL alpha, DSRL noise scale, IFQL kappa, CGQL-L
# guidance and noisy weight.
TABLE = {
    "antmaze-large-navigate": (10, 1, 0.1, 3, 0.8, 0.9, 0.1, 0.001),
    "antmaze-giant-navigate": (3, 10, 0.1, 3, 1.2, 0.8, 0.1, 0.001),
    "humanoidmaze-medium-navigate": (3, 3, 0.1, 30, 0.6, 0.7, 0.1, 0.1),
    "humanoidmaze-large-navigate": (3, 3, 0.1, 30, 0.8, 0.8, 0.1, 0.1),
    "scene-play": (1, 1, 0, 300, 0.4, 0.9, 0.1, 0.1),
    "puzzle-3x3-play": (3, 1, 0.1, 300, 1.0, 0.95, 0.1, 0.001),
    "puzzle-4x4-play": (30, 0.1, 0.9, 1, 1.0, 0.9, 1.0, 0.001),
    "cube-double-play": (1, 1, 0, 300, 1.0, 0.9, 0.01, 0.001),
    "cube-triple-play": (3, 3, 0.1, 30, 1.4, 0.95, 0.1, 0.001),
    "cube-quadruple-play": (1, 3, 0.1, 100, 1.4, 0.95, 0.01, 0.1),
}
BLOCKS = load.read_yaml("config/methods.yaml")


class SlowExternalKL(Slow):
    """QAM's loss, plus lambda times the path KL, with gradient."""

    def qam(self, p, o, b, n):
        loss, info = super().qam(p, o, b, n)
        return loss + self.lam * info["actor/path_kl"], info


class SlowSQAM(Slow):
    """TRQAM's loss on bridges to the policy's own end points, and the critic's penalty there."""

    def adjoint_matching(self, p, o, s, n, i):
        end = self.ode(o, "actor_fast", s, n["adj_x0"][i])
        gradient = -self.terminal(o, s, end)
        times = [j / self.K for j in range(1, self.K + 1)]
        xs = [(1 - t) * n[f"adj_eps_{j}"][i] + t * end for j, t in enumerate(times)]
        adjoints = [-t * gradient for t in times]
        loss, kl = self.matching(p, o, s, "target_actor_slow", xs, adjoints, times)
        return loss, kl, torch.stack(xs), torch.stack(adjoints), -gradient

    def qam(self, p, o, b, n):
        loss, info = super().qam(p, o, b, n)
        for i, s in enumerate(b["observations"]):
            end = self.ode(o, "actor_fast", s, n["adj_x0"][i]).clip(-1, 1)
            gap = self.q(p, "critic", s, end).mean() - self.q(p, "critic", s, b["a"][i]).mean()
            loss = loss + self.c["value_penalty"] * gap / len(b["observations"])
        return loss, info


class SlowSchedule(Slow):
    """TRQAM's update, towards a budget that moves with the step or with the agreement of the target critics."""

    def qam(self, p, o, b, n):
        loss, info = super().qam(p, o, b, n)
        values, u = [], self.steps / UPDATES
        for s, x in zip(b["observations"], self.xs[-1], strict=True):
            end = x + self.v(o, "target_actor_slow", s, x, (self.K - 1) / self.K) / self.K
            values.append(self.q(o, "target_critic", s, end.clip(-1, 1)).tolist())
        means = [sum(row) / len(row) for row in values]
        common = sum((m - sum(means) / B) ** 2 for m in means) / B
        apart = sum(sum((q - m) ** 2 for q in row) / len(row) for row, m in zip(values, means, strict=True)) / B
        critic = max(0.0, common - apart / (self.E - 1)) / (common + apart)
        weight = {"linear": u, "cosine": math.sin(math.pi * u / 2) ** 2, "critic": critic}[self.c["schedule"]]
        first, last = self.c["first_budget"], self.c["last_budget"]
        self.budget = info["budget"] = self.c["kl_budget"] * ((1 - weight) * first + weight * last)
        return loss, info

    def dual(self, kl):
        c = self.c
        kl = min(kl, c["kl_clip_coef"] * max(c["kl_budget"], self.budget))
        self.kl_ema = (1 - c["kl_ema_coef"]) * self.kl_ema + c["kl_ema_coef"] * kl
        self.lam = min(max(self.lam + c["eta_lambda"] * (self.kl_ema - self.budget), c["lambda_min"]), c["lambda_max"])


@pytest.mark.parametrize("schedule", ["linear", "cosine", "critic"])
def test_a_moving_budget_agrees_with_the_slow_reference(schedule, tmp_path, monkeypatch):
    own = {"schedule": schedule, "first_budget": 0.25, "last_budget": 1.75}
    SlowSchedule("trqam", **own, kl_budget=0.05).write(tmp_path / "slow.npz")
    trqam = TRANSLATIONS["trqam"]
    parameters = {**trqam.parameters, **{name: name for name in own}}
    words = Translation("trqam_scheduled", FIELDS, parameters, {**trqam.info, "budget": "kl_budget"})
    monkeypatch.setitem(TRANSLATIONS, "trqam", words)
    found = compare(tmp_path / "slow.npz")
    assert {"info/budget", "dual/multiplier", "dual/kl_ema", "step1/gradients", "step10/params"} <= found.keys()
    assert max(found.values()) < 1e-9


def test_a_schedule_runs_through_each_stage():
    agent, replicas = make_learner("trqam_linear", seeds=[0, 1])
    run = agent.run
    updates = run.online_steps - run.online_start
    state, offline = assemble(replicas), run.offline_steps
    shares = {0: 0, offline // 2: 0.5, offline: 0, offline + updates // 2: 0.5, offline + updates: 1}
    assert len(shares) == 5
    for step, share in shares.items():
        state.step.fill_(step)
        assert agent.progress(state).tolist() == [pytest.approx(share)] * 2


def test_a_budget_that_does_not_move_is_trqam():
    _, state, _ = trained("trqam_linear", first_budget=1.0, last_budget=1.0)
    _, reference, _ = trained("trqam")
    for (name, ours), (_, theirs) in zip(state.named(), reference.named(), strict=True):
        assert torch.equal(ours, theirs), name


def test_external_kl_agrees_with_the_slow_reference(tmp_path, monkeypatch):
    trust = {theirs: value for theirs, value in TRUST.items() if theirs != "lam_scale"}
    SlowExternalKL("qam", **trust | {"kl_budget": 0.05}).write(tmp_path / "slow.npz", lam=20.0)
    names = {ours: theirs for ours, theirs in TRANSLATIONS["trqam"].parameters.items() if theirs in trust}
    names |= TRANSLATIONS["qam"].parameters
    words = Translation("external_kl", FIELDS, names, TRANSLATIONS["trqam"].info, TRANSLATIONS["qam"].fixed)
    monkeypatch.setitem(TRANSLATIONS, "qam", words)
    found = compare(tmp_path / "slow.npz")
    assert {"info/actor/path_kl", "dual/multiplier", "step1/gradients", "step10/params"} <= found.keys()
    assert max(found.values()) < 1e-9


@pytest.mark.parametrize("penalty", [0.0, 0.3])
def test_sqam_agrees_with_the_slow_reference(penalty, tmp_path, monkeypatch):
    SlowSQAM("trqam", value_penalty=penalty).write(tmp_path / "slow.npz")
    trqam = TRANSLATIONS["trqam"]
    words = Translation("sqam", FIELDS, {**trqam.parameters, "value_penalty": "value_penalty"}, trqam.info)
    monkeypatch.setitem(TRANSLATIONS, "trqam", words)
    found = compare(tmp_path / "slow.npz")
    assert {"step1/adj/xs", "step1/adj/adjs", "dual/multiplier", "step1/gradients", "step10/params"} <= found.keys()
    assert max(found.values()) < 1e-9


def test_per_domain_values_are_the_protocols():
    for domain, (qam, edited, scale, alpha, noise, kappa, guidance, noisy) in TABLE.items():
        task = f"{domain}-singletask-task1-v0"
        bare = {key: [] for key in ("baselines", "baseline_tasks", "ablations", "ablation_tasks", "budgets")}
        loaded = load.load("config/paper.yaml", {**bare, "methods": list(BLOCKS), "tasks": [task]})

        def value(method, key, loaded=loaded, task=task):
            return loaded.run(task, method).parameters[key]

        assert value("qam", "inverse_temperature") == value("external_kl", "inverse_temperature") == qam
        assert (value("qam_e", "inverse_temperature"), value("qam_e", "edit_scale")) == (edited, scale)
        assert value("fql", "distillation") == alpha
        assert value("dsrl", "noise_scale") == noise
        assert value("ifql", "expectile") == kappa
        assert (value("cgql_l", "guidance"), value("cgql_l", "noisy_weight")) == (guidance, noisy)
        assert value("cgql_l", "inverse_temperature") == 10
        assert value("sqam", "value_penalty") == (0.0 if domain == "cube-double-play" else 0.3)
        assert value("sqam", "kl_budget") == 0.5


def test_labels_and_colours_are_distinct():
    for key in ("label", "colour"):
        values = [block[key] for block in BLOCKS.values()]
        assert len(set(values)) == len(values)


@pytest.mark.parametrize("name", ["qam", "qam_e", "trqam"])
def test_a_from_scratch_variant_differs_in_its_stages_alone(name):
    scratch, block = BLOCKS[f"{name}_from_scratch"], BLOCKS[name]
    assert scratch["stages"] == ["offline", "online"]
    assert [scratch[k] for k in ("agent", "parameters", "domains")] == [
        block[k] for k in ("agent", "parameters", "domains")
    ]


@pytest.mark.parametrize("name", METHODS)
def test_who_starts_from_the_cloned_policy(name):
    """The base and fine-tuned fields do; critics, value, one-step, noise and edit networks start at random."""
    agent, (scratch,) = make_learner(name, seeds=[0])
    fields = {k for k in scratch if k.startswith(("online/base/", "online/finetuned/", "target/base/"))}
    cloned = {k.split("/")[2]: torch.full_like(scratch[k], 0.5) for k in fields if k.startswith("online/base/")}
    tensors = agent.initialise(0, cloned)
    for key, tensor in tensors.items():
        assert torch.equal(tensor, cloned[key.split("/")[2]] if key in fields else scratch[key]), key
    if "finetuned" in agent.networks:  # without cloning two independent networks, as in the authors' code
        assert not torch.equal(scratch["online/base/0.weight"], scratch["online/finetuned/0.weight"])


def trained(name, updates=3, **parameters):
    agent, replicas = make_learner(name, seeds=[0], **parameters)
    state, batch, metrics = assemble(replicas), make_batch(seeds=[0]), {}
    for step in range(updates):
        metrics = agent.update(state, batch, draw_noise(agent, [0], "noise", step))
    return agent, state, metrics


def test_qam_e_without_an_edit_is_qam():
    temperature = {"inverse_temperature": 2.0}
    _, state, _ = trained("qam_e", edit_scale=0.0, **temperature)
    _, reference, _ = trained("qam", **temperature)
    for (name, ours), (other, theirs) in zip(state.named(), reference.named(), strict=True):
        assert name == other
        assert torch.equal(ours, theirs), name


def test_a_constant_multiplier_stays_where_trqam_starts():
    _, state, metrics = trained("constant_lambda")
    assert state.dual.multiplier.item() == 1.0
    assert state.dual.kl_ema.item() > 0.0
    assert metrics["multiplier"].item() == 1.0


@pytest.mark.parametrize("name", METHODS)
def test_only_methods_with_a_multiplier_report_one(name):
    _, _, metrics = trained(name, 1)
    assert ("multiplier" in metrics) == (
        BLOCKS[name]["group"] in ("Trust region", "Beyond the paper")
        or name in ("external_kl", "external_kl_fast", "constant_lambda")
    )
    assert ("path_kl" in metrics) == (
        BLOCKS[name]["group"] not in ("Pretraining", "Backprop", "Guidance", "Post-processing")
    )
    assert not any(value.requires_grad for value in metrics.values())


def test_external_kl_at_multiplier_zero_is_qam():
    _, state, _ = trained("external_kl", initial_multiplier=0.0, multiplier_min=0.0, dual_rate=0.0)
    _, reference, _ = trained("qam")
    for network, parameters in reference.online.items():
        for name, tensor in parameters.items():
            assert torch.equal(tensor, state.online[network][name]), (network, name)


def test_ifql_acts_by_the_sample_that_the_most_pessimistic_critic_likes_best():
    agent, state, _ = trained("ifql", samples=6)
    s, noise = torch.randn(1, 5, SIZES.observation), torch.randn(1, 5, agent.noise_size)
    best = agent.act(state, s, noise)
    for row in range(5):
        found = [agent.propose(state, s[:, row : row + 1], z[None, None]) for z in noise[0, row].view(6, -1)]
        critic = agent.critic(state.online["critic"])
        values = [critic(s[:, row : row + 1], a).min().item() for a in found]
        torch.testing.assert_close(best[:, row : row + 1], found[values.index(max(values))])


def test_entropy_is_tuned_towards_its_target():
    for name in ("dsrl", "qam_e"):
        for target, sign in ((-100.0, -1), (100.0, 1)):
            _, state, _ = trained(name, entropy_per_dimension=target)
            assert sign * state.online["temperature"]["log"].item() > 0, (name, target)


def test_tanh_gaussian_density_integrates_to_one():
    """Of one dimension: the density of tanh(u) summed over the values that a grid of noise maps to."""
    network = TanhGaussian((2, 8, 1), layer_norm=False)
    parameters = {k: torch.from_numpy(v)[None].double() for k, v in network.initialise(stream(0, "test")).items()}
    noise = torch.linspace(-8, 8, 20001).double().view(1, -1, 1)
    samples, log_density = network.sample(parameters, torch.ones(1, 20001, 2).double(), noise)
    total = torch.trapezoid(log_density[0].exp(), samples[0, :, 0])
    torch.testing.assert_close(total, torch.ones(()).double(), rtol=1e-6, atol=1e-6)
    assert network.shapes()["mean.weight"] == network.shapes()["log_std.weight"] == (8, 1)


def test_log_std_is_clipped_and_saturated_actions_stay_finite():
    network = TanhGaussian((1, 4, 2), layer_norm=False)
    parameters = {k: torch.zeros(1, *shape) for k, shape in network.shapes().items()}
    for bias, std in ((50.0, 2.0), (-50.0, -20.0)):
        parameters["log_std.bias"] = torch.full((1, 2), bias)
        samples, log_density = network.sample(parameters, torch.ones(1, 1, 1), torch.full((1, 1, 2), 30.0))
        u = math.exp(std) * 30
        slope = 2 * (math.log(2) - u - math.log1p(math.exp(-2 * u)))  # log(1 - tanh^2 u)
        expected = 2 * (-450 - std - math.log(2 * math.pi) / 2 - slope)
        torch.testing.assert_close(samples, torch.full((1, 1, 2), math.tanh(u)))
        torch.testing.assert_close(log_density, torch.full((1, 1), expected))
    assert LogScalar().initialise(stream(0, "test"))["log"] == 0.0  # a temperature of one


def test_expectile_and_linex_find_what_they_are_for():
    """The median-like expectile of a sample, and LinEx's log-mean-exp; and LinEx does not overflow."""
    sample = torch.tensor([[0.0, 1.0, 2.0, 10.0]]).double()
    value = torch.zeros(1).double().requires_grad_()
    for _ in range(4000):
        (gradient,) = torch.autograd.grad(expectile_loss(sample - value, 0.8).sum(), value)
        value = (value - 0.2 * gradient).detach().requires_grad_()
    u = sample - value
    balance = (torch.where(u < 0, 0.2, 0.8).double() * u).sum()
    assert abs(balance.item()) < 1e-5

    q, valid = torch.zeros(1, 1, 4).double().requires_grad_(), torch.ones(1, 4).double()
    shared = torch.zeros(1).double().requires_grad_()
    target = torch.tensor([0.1, 0.4, -0.3, 0.2]).double().view(1, 1, 4)
    for _ in range(2000):
        loss = linex_loss(shared.expand(1, 1, 4), target, 3.0, 5.0, valid)
        shared = (shared - 0.05 * torch.autograd.grad(loss.sum(), shared)[0]).detach().requires_grad_()
    torch.testing.assert_close(shared, ((3 * target).exp().mean().log() / 3).view(1))
    loss = linex_loss(q, torch.full((1, 1, 4), 1e6).double(), 10.0, 5.0, valid)
    assert torch.isfinite(torch.autograd.grad(loss.sum(), q)[0]).all()
