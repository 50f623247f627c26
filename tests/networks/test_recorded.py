"""An update whose operators are recorded: the same bits as without, and built by Inductor, the same to rounding."""

import os
import shutil

import pytest
import torch
from torch._inductor import config
from torch._inductor.utils import fresh_cache

from tests.helpers.learners import METHODS, make_batch, make_learner
from trqam.config.errors import UserError
from trqam.networks import capture, layers
from trqam.networks.capture import kind_of, update_of
from trqam.networks.recorded import Recorded
from trqam.networks.replicas import assemble
from trqam.training.batches import draw_noise

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
COMPILER = os.environ.get("CXX", "g++")
needs_compiler = pytest.mark.skipif(shutil.which(COMPILER) is None, reason=f"no C++ compiler ({COMPILER})")
SEEDS, UPDATES = [0, 1], 4


def trained(name, kind):
    """The state, and the metrics of every update."""
    agent, replicas = make_learner(name, seeds=SEEDS)
    state, metrics = assemble(replicas), []
    update = update_of(agent, state, kind, CPU)
    for step in range(UPDATES):
        metrics.append(update(make_batch(seeds=[step, step + 1]), draw_noise(agent, SEEDS, "noise", step)))
    return state, metrics


@pytest.mark.parametrize("name", METHODS)
def test_recorded_updates_are_the_eager_ones_to_the_bit(name):
    (eager, expected), (recorded, found) = (trained(name, kind) for kind in ("eager", "captured"))
    assert not torch.equal(expected[0]["loss"], expected[-1]["loss"])
    for (tensor, one), (_, other) in zip(eager.named(), recorded.named(), strict=True):
        assert torch.equal(one, other), tensor
    assert torch.equal(eager.step, recorded.step)
    for one, other in zip(expected, found, strict=True):
        assert list(one) == list(other)
        assert all(torch.equal(one[metric], other[metric]) for metric in one)


def test_so_are_those_of_several_blocks(monkeypatch):
    monkeypatch.setattr(layers, "BLOCK", 64)
    test_recorded_updates_are_the_eager_ones_to_the_bit("trqam")


@needs_compiler
@pytest.mark.campaign
def test_compiled_updates_are_the_eager_ones_to_rounding_and_the_same_every_time():
    (eager, expected), built = trained("trqam", "eager"), []
    for _ in range(2):
        with fresh_cache():  # built anew, and not found where the first time left it
            built.append(trained("trqam", "compiled"))
    for compiled, found in built:
        for (tensor, one), (_, other) in zip(eager.named(), compiled.named(), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6, msg=tensor)
        for one, other in zip(expected, found, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    (first, _), (last, _) = built[0], built[-1]
    assert all(torch.equal(one, other) for (_, one), (_, other) in zip(first.named(), last.named(), strict=True))


def test_without_a_compiler_it_is_one_line():
    recorded = Recorded(lambda batch, noise: ([batch["x"] * 2], {}), compiled=True)
    with config.patch({"cpp.cxx": ("no-such-compiler",)}), pytest.raises(UserError, match="step: compiled: no C"):
        recorded({"x": torch.ones(8)}, {})


def test_it_reads_tensors_that_change_where_they_are():
    weight = torch.ones(2, 3, requires_grad=True)

    def gradient(batch, noise):
        loss = (batch["x"] @ weight.transpose(0, 1)).square().sum() + noise["z"].sum()
        return [*torch.autograd.grad(loss, [weight])], {"loss": loss.detach()}

    recorded, given = Recorded(gradient), ({"x": torch.ones(1, 3)}, {"z": torch.zeros(1)})
    for value in (1.0, 2.0):
        weight.data.fill_(value)
        (found,), metrics = recorded(*given)
        assert metrics["loss"] == 2 * (3 * value) ** 2
        assert torch.equal(found, torch.full((2, 3), 6 * value))


def test_what_returns_nothing_is_refused():
    def changing(batch, noise):
        torch._foreach_mul_([batch["x"]], 2.0)
        return [batch["x"]], {}

    with pytest.raises(AssertionError, match="foreach"):
        Recorded(changing)({"x": torch.ones(1)}, {})


def test_auto_records_where_it_pays():
    pays = (capture.CPU_UPDATES, capture.CPU_WIDTH)
    assert kind_of("auto", CPU, *pays) == "captured"
    for few in ((pays[0] - 1, pays[1]), (pays[0], pays[1] + 1)):
        assert kind_of("auto", CPU, *few) == "eager"
        assert kind_of("auto", CUDA, *few) == "captured"
    assert {kind_of(setting, CPU, 1, 10**6) for setting in ("eager", "captured", "compiled")} == {
        "eager",
        "captured",
        "compiled",
    }
