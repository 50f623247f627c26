"""The GPU's ways of feeding an update, run on a CPU: right batches, exact resume, no neighbours, no hidden copies."""

import msgspec
import numpy as np
import pytest
import torch
from scipy import stats
from torch.utils._python_dispatch import TorchDispatchMode

from tests.data.test_dataset import dataset_of_lengths
from tests.helpers.learners import METHODS
from tests.training.test_training import POINT, assert_same, everything, killed
from trqam.agents import make_agent
from trqam.agents.base import Agent
from trqam.config import load as config
from trqam.data import on_device
from trqam.data.dataset import UNCHANGED, Normaliser
from trqam.data.on_device import Resident
from trqam.experiment.run import RunFolder, cell_of
from trqam.networks.replicas import assemble
from trqam.training.batches import Draws, FromDevice, FromHost, Streamed
from trqam.training.blocks import pretrain, train
from trqam.training.experience import Offline
from trqam.training.learner import Learner, Policy
from trqam.training.stop import Stop
from trqam.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("short_episodes")
CPU = torch.device("cpu")


def learner(kind, seeds=(0, 1), device=CPU, name="trqam", normalised=False, **values):
    """A learner on a small dataset, its state, its batches and its policy."""
    run = msgspec.structs.replace(config.load("tests/tiny.yaml", {"methods": [name]}).run(POINT, name), **values)
    dataset = dataset_of_lengths([30, 10, 20, 40], shards=(1, 2, 1))
    if normalised:
        dataset.normaliser = Normaliser(np.float32([1, 50]), np.float32([2, 30]))
    agent = make_agent(run, 2, 3)
    experience = Offline(run, dataset, list(seeds), "offline")
    placed = (Resident(dataset, device), 0) if kind is FromDevice else ()
    batches = kind(agent, experience, device, *placed)
    state = assemble([agent.initialise(seed, None) for seed in seeds], device)
    policy = Policy(agent, state, dataset.normaliser, device)
    return Learner(agent, state, batches, "eager", device), state, batches, policy


@pytest.mark.parametrize("sampling", ["uniform", "shards"])
@pytest.mark.parametrize("kind", [FromHost, Streamed, FromDevice])
@pytest.mark.parametrize("normalised", [False, True])
def test_batches_are_normalised_chunks(sampling, kind, normalised):
    _, _, batches, _ = learner(kind, sampling=sampling, normalised=normalised, batch_size=64)
    experience = batches._experience
    for step in (1, 999, 1000, 3001):
        batches.prepare(step)
        batch, _ = batches()
        rows = batch["observations"] * (torch.tensor([2.0, 30.0]) if normalised else 1)
        rows = (rows + (torch.tensor([1.0, 50.0]) if normalised else 0)).round()
        start, stop = experience.window(step)
        everything_there = experience.dataset.gather(np.arange(start, stop))["observations"]
        assert {tuple(r) for r in rows.flatten(0, 1).tolist()} <= {tuple(r) for r in everything_there.tolist()}
        assert batch["observations"].shape == (2, 64, 2)
        assert normalised or torch.equal(rows, batch["observations"])


def test_a_policy_sees_observations_as_batches_hold_them():
    rng = np.random.default_rng(0)
    given = [rng.normal(size=(2, 4, size)).astype(np.float32) for size in (2, 15)]
    (*_, plain), (*_, normalising) = learner(FromHost), learner(FromHost, normalised=True)
    shifted = given[0] * np.float32([2, 30]) + np.float32([1, 50])
    np.testing.assert_allclose(normalising.act(shifted, given[1]), plain.act(*given), rtol=1e-4, atol=1e-5)


def test_streamed_batches_are_the_hosts_sampled_once_and_ahead():
    _, _, host, _ = learner(FromHost)
    _, _, streamed, _ = learner(Streamed)
    sampled = []
    original = streamed._experience.batch
    streamed._experience.batch = lambda step: (sampled.append(step), original(step))[1]
    places = None
    for step in (5, 6, 7):
        for each in (host, streamed):
            each.prepare(step)
        (expected, _), (batch, _) = host(), streamed()
        for key, tensor in expected.items():
            assert torch.equal(tensor, batch[key])
        places = places or {key: t.data_ptr() for key, t in batch.items()}
        assert places == {key: t.data_ptr() for key, t in batch.items()}
        streamed.after(step)
    assert sampled == [5, 6, 7, 8]


@pytest.mark.parametrize("kind", [FromDevice, Streamed])
def test_a_seed_is_the_same_alone_and_when_it_starts_in_between(kind):
    stack, state, *_ = learner(kind, seeds=(3, 1, 2))
    for step in (1, 2, 3):
        stack.update(step)
    alone, own, *_ = learner(kind, seeds=(1,))
    alone.update(1)
    again, resumed, *_ = learner(kind, seeds=(1,))  # another object, as after a restart
    for (_, there), (_, here) in zip(own.named(), resumed.named(), strict=True):
        with torch.no_grad():
            here.copy_(there)
    resumed.step.copy_(own.step)
    for step in (2, 3):
        again.update(step)
        alone.update(step)
    for name, tensor in own.replica(0).items():
        assert torch.equal(tensor, resumed.replica(0)[name]), name
        torch.testing.assert_close(tensor, state.replica(1)[name], rtol=1e-4, atol=1e-6, msg=name)


def test_means_are_those_of_the_metrics_and_begin_anew():
    stack, *_ = learner(FromHost)
    _, other, same, _ = learner(FromHost)
    agent = same._agent
    assert stack.means() == {}
    for steps in ([1, 2, 3], [4]):
        expected = []
        for step in steps:
            stack.update(step)
            same.prepare(step)
            expected.append(agent.update(other, *same()))
        for name, means in stack.means().items():
            total = sum(metrics[name] for metrics in expected)
            assert means == (total / len(steps)).tolist(), name
        stack.begin_interval()


class Watch(TorchDispatchMode):
    """Notes what makes a tensor elsewhere than on the device: a hidden copy, or a value that is waited for."""

    def __init__(self):
        super().__init__()
        self.elsewhere, self.count = [], 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        self.count += 1
        tensors = [t for t in torch.utils._pytree.tree_leaves(out) if isinstance(t, torch.Tensor)]
        self.elsewhere += [str(function) for t in tensors if t.device.type != "meta"]
        return out


@pytest.mark.parametrize("name", METHODS)
def test_a_step_stays_on_its_device(name):
    """On torch's device without values every look at a value is an error, and so is a tensor of the CPU: what can run
    there can be captured."""
    stack, _, batches, policy = learner(FromDevice, device=torch.device("meta"), name=name)
    batches.prepare(1)
    given = [torch.empty(2, 3, size, device="meta") for size in (2, policy.noise_size)]
    with Watch() as watch:
        stack._launch()
        policy._act(*given)
    assert watch.elsewhere == []


@pytest.mark.parametrize("name", ["trqam", "cgql_l"])
def test_a_device_launches_as_much_for_many_replicas_as_for_one(name):
    """At the width of the paper, where a CPU works replica by replica and in blocks of rows."""
    launched = []
    for seeds in ([0], list(range(8))):
        sizes = {"hidden_width": 512, "batch_size": 256}
        stack, _, batches, _ = learner(FromDevice, seeds, device=torch.device("meta"), name=name, **sizes)
        batches.prepare(1)
        with Watch() as watch:
            stack._launch()
        launched.append(watch.count)
    assert launched[1] < 1.05 * launched[0]  # what is a view of one replica may be a copy of several


def test_a_policy_that_is_captured_acts_as_one_that_is_not():
    _, state, batches, eager = learner(FromHost)
    captured, rng = Policy(batches._agent, state, UNCHANGED, CPU, "captured"), np.random.default_rng(0)
    assert not captured._captured  # without a GPU
    captured._captured = True
    for rows in (1, 5, 1, 1):
        given = [rng.normal(size=(2, rows, size)).astype(np.float32) for size in (2, eager.noise_size)]
        np.testing.assert_array_equal(captured.act(*given), eager.act(*given))


def test_a_policy_acts_with_nothing_but_what_its_agent_names():
    _, state, batches, _ = learner(FromHost)
    batches._agent.proposes_with = ("online/base",)
    with pytest.raises(KeyError, match="finetuned"):
        Policy(batches._agent, state, UNCHANGED, CPU).act(np.zeros((2, 1, 2)), np.zeros((2, 1, 15)))


def test_the_watch_sees_a_constant_from_the_cpu():
    with Watch() as watch:
        torch.ones(3, device="meta") * torch.tensor([1.0, 2.0, 3.0]).to("meta")
    assert watch.elsewhere != []
    with pytest.raises(RuntimeError), Watch():
        torch.ones(3, device="meta").sum().item()


@pytest.fixture(params=["resident", "streamed"])
def as_a_gpu(request, monkeypatch):
    """The CPU fed as a GPU is, whose memory holds all data or none."""
    monkeypatch.setattr(on_device, "DEVICES", ("cpu",))
    monkeypatch.setattr(on_device, "free_memory", lambda device: 1e12 if request.param == "resident" else 0)
    return FromDevice if request.param == "resident" else Streamed


def test_training_fed_as_a_gpu_is_resumes_exactly(as_a_gpu, load, monkeypatch):
    undisturbed = load(scale="undisturbed", tasks=[POINT])
    used = []
    original = as_a_gpu.prepare
    monkeypatch.setattr(as_a_gpu, "prepare", lambda self, step: (used.append(step), original(self, step))[1])
    everything(undisturbed, POINT)
    assert used == [*range(1, 21), *range(1, 21), *range(7, 21)]  # online after its warm-up
    disturbed = load(scale="disturbed", tasks=[POINT])
    work = lambda: everything(disturbed, POINT)  # noqa: E731
    assert killed(work, Agent, "update", 33)  # offline
    assert killed(work, Agent, "update", 15)  # online, in its second interval
    work()
    assert_same(undisturbed, disturbed, POINT)


def test_the_stack_goes_on_when_a_seed_is_dropped(load, monkeypatch):
    """The other seed trains as it would have alone: learner, feed and its part of the replay are made anew."""
    monkeypatch.setattr(on_device, "DEVICES", ("cpu",))
    monkeypatch.setattr(on_device, "free_memory", lambda device: 1e12)
    loaded = load(tasks=[POINT], seeds=2, pretrain_steps=5)
    pretrain(loaded, loaded.run(POINT, "trqam").domain)
    train(loaded, POINT, "trqam", "offline", [0, 1])
    weights = {}
    for seeds in ([0, 1], [1]):
        run = loaded.run(POINT, "trqam")
        cells = [cell_of(loaded, POINT, "trqam", seed) for seed in seeds]
        trainer = Trainer(loaded, [RunFolder(cell, run, "online") for cell in cells], None, Stop())
        if len(seeds) == 2:
            original = trainer.learner.update
            trainer.learner.update = lambda step, t=trainer, o=original: (o(step), spoil(t.state, step))
        trainer.train()
        assert trainer.seeds == [1]
        weights[len(seeds)] = trainer.state.replica(0)
    for name, tensor in weights[1].items():
        torch.testing.assert_close(tensor, weights[2][name], rtol=1e-4, atol=1e-6, msg=name)


def spoil(state, step):
    """The first seed diverges at step 8."""
    if step == 8:
        with torch.no_grad():
            state.online["critic"]["0.weight"][0] = float("nan")


# Noise drawn on a device: independent of steps, seeds, purposes and neighbours, and distributed as it should be.
SHAPES = {"x0": (64, 10), "bc_t": (64, 1), "eps": (3, 64, 10)}


def draw(seeds=(3, 1, 2), purpose="update/offline", step=7, size=1000):
    return Draws(list(seeds), purpose, 64, SHAPES, CPU)(torch.tensor(step), torch.tensor(size))


def test_a_seed_draws_the_same_whatever_its_neighbours():
    indices, noise = draw()
    for position, seed in enumerate([3, 1, 2]):
        alone, own = draw(seeds=[seed])
        assert torch.equal(alone[0], indices[position])
        for name, shape in SHAPES.items():
            assert own[name].shape == (1, *shape)
            assert torch.equal(own[name][0], noise[name][position]), name


@pytest.mark.parametrize("other", [{"step": 8}, {"purpose": "update/online"}, {"seeds": [2**32 + 3, 0, 4]}])
def test_every_part_of_the_key_and_the_step_counts(other):
    (before, noise), (after, others) = draw(), draw(**other)
    assert (before == after).float().mean() < 0.02
    for name in SHAPES:
        assert not (noise[name] == others[name]).any(), name


def test_numbers_of_an_update_are_all_different():
    noise = draw()[1]
    numbers = torch.cat([noise[name].flatten() for name in ("x0", "eps")])
    assert len(numbers.unique()) > 0.999 * len(numbers)


def test_distributions():
    draws = Draws([0], "update/offline", 20_000, {"x": (200_000,), "u_t": (200_000,)}, CPU)
    indices, noise = draws(torch.tensor(1), torch.tensor(10))
    normal, uniform = noise["x"][0].numpy(), noise["u_t"][0].numpy()
    assert stats.kstest(normal, "norm").pvalue > 1e-3
    assert stats.kstest(uniform, "uniform").pvalue > 1e-3
    assert 0 <= uniform.min() < uniform.max() < 1
    assert np.isfinite(normal).all()
    assert abs(np.corrcoef(normal[::2], normal[1::2])[0, 1]) < 0.01
    assert stats.chisquare(np.bincount(indices[0], minlength=10)).pvalue > 1e-3
