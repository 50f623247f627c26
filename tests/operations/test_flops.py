"""What one update costs: the analytic count against what it is held to, and bounds that speed must not creep away from.

Whoever does better lowers the bounds.
"""

from collections import Counter

import msgspec
import pytest
import torch

from tests.helpers.learners import METHODS, SIZES, TASK, make_batch, make_learner
from trqam.agents import make_agent
from trqam.config import load
from trqam.networks.replicas import State, assemble
from trqam.operations.bench.flops import Counts, update_flops, weights
from trqam.training.batches import draw_noise

# An update, views included, at any number of replicas, while activations fit in a cache (else every block has its own)
OPERATORS = {"behaviour_cloning": 160, "qam": 2159, "trqam": 2170}
STEPS, LAYERS, CRITICS = 10, 4, 10  # the paper's: these decide how many operators there are, not the width


class ByNetwork(Counts):
    """The products of each network too: how many, ``calls``, and their FLOPs, ``products``.

    A network is named as "target/base". Products with its weights are forward passes and input gradients; those of two
    activations, which weight gradients are, stand under "activations".
    """

    def __init__(self, state: State):
        super().__init__()
        self.calls: Counter[str] = Counter()
        self.products: Counter[str] = Counter()
        self.owners: list[tuple[int, int, str]] = []  # first byte, end, network
        for name, tensor in state.named():
            first = tensor.data_ptr()
            self.owners.append((first, first + tensor.numel() * tensor.element_size(), name.rpartition("/")[0]))

    def count(self, left, right, flops):
        super().count(left, right, flops)
        network = self.owner(left) or self.owner(right) or "activations"
        self.calls[network] += 1
        self.products[network] += flops

    def owner(self, tensor):
        address = tensor.data_ptr()
        return next((owner for first, end, owner in self.owners if first <= address < end), None)


def counted(function, state: State, *arguments) -> ByNetwork:
    """What ``function(state, *arguments)`` asks for."""
    with ByNetwork(state) as counts:
        function(state, *arguments)
    return counts


def learner(method: str, seeds: list[int]):
    """An agent of the paper's depth, narrow; its state, a batch and noise."""
    loaded = load.load("tests/tiny.yaml", {"flow_steps": STEPS, "hidden_layers": LAYERS, "critics": CRITICS})
    agent = make_agent(loaded.run(TASK, method), SIZES.observation, SIZES.action)
    state = assemble([agent.initialise(seed, None) for seed in seeds])
    return agent, state, make_batch(seeds), draw_noise(agent, seeds, "noise", 0)


@pytest.mark.parametrize("seeds", [[0], [0, 1, 2]])
@pytest.mark.parametrize("method", OPERATORS)
def test_an_update_dispatches_no_more_operators_than_it_did(method, seeds):
    agent, *arguments = learner(method, seeds)
    assert counted(agent.update, *arguments).operators <= OPERATORS[method]


@pytest.mark.parametrize("method", ["qam", "trqam"])
def test_no_network_is_evaluated_more_often_than_the_equations_ask(method):
    agent, *arguments = learner(method, [0, 1])
    products = counted(agent.update, *arguments).products
    weights = {name: passes_of(agent, name, rows=2 * SIZES.batch) for name in ("base", "finetuned", "critic")}
    bounds = {  # forward passes and input gradients over one batch
        "target/base": 3 * STEPS * weights["base"],  # v_base (once the roll-out's), adjoint (forward, product)
        "online/base": 2 * weights["base"],
        "online/finetuned": 3 * STEPS * weights["finetuned"],  # next action, roll-out, its gradient
        "target/critic": 3 * weights["critic"],  # target; value and gradient at the path's end
        "online/critic": 2 * weights["critic"],
        "activations": weights["base"] + STEPS * weights["finetuned"] + weights["critic"],  # weight gradients
    }
    assert products.keys() <= bounds.keys()
    assert {name: found for name, found in products.items() if found > bounds[name]} == {}


def passes_of(agent, network: str, rows: int) -> int:
    """FLOPs of one pass over ``rows`` rows."""
    return 2 * rows * weights(agent, network)


@pytest.mark.parametrize("method", ["qam", "trqam"])
def test_the_adjoint_takes_one_backward_pass_a_flow_step(method, monkeypatch):
    agent, *arguments = learner(method, [0])
    calls, grad = [], torch.autograd.grad

    def counted(*parts, **options):
        calls.append(parts)
        return grad(*parts, **options)

    monkeypatch.setattr(torch.autograd, "grad", counted)
    agent.update(*arguments)
    assert len(calls) <= STEPS + 2  # one a step, the critic's at the path's end, the loss's


def test_an_ensemble_is_one_product_a_layer():
    agent, state, batch, _ = learner("trqam", [0, 1])

    def value(state) -> None:
        agent.critic(state.target["critic"])(batch["observations"], batch["actions"])

    assert counted(value, state).calls == {"target/critic": LAYERS + 1}


def test_products_are_counted_by_the_network_whose_weights_they_take():
    agent, state, batch, noise = learner("behaviour_cloning", [0, 1])
    found = counted(lambda state: agent.act(state, batch["observations"], torch.zeros(2, SIZES.batch, 10)), state)
    assert found.products == {"online/base": STEPS * passes_of(agent, "base", 2 * SIZES.batch)}
    update = counted(agent.update, state, batch, noise)
    assert update.products.keys() == {"online/base", "activations"}


@pytest.mark.parametrize(
    ("width", "layers", "critics", "batch", "action", "expected"),
    [(512, 4, 10, 256, 5, 60.6), (128, 3, 2, 128, 4, 1.04)],
)
def test_trqam_takes_what_was_counted_by_hand(width, layers, critics, batch, action, expected):
    run = make_learner("trqam", [0])[0].run
    sizes = {"hidden_width": width, "hidden_layers": layers, "critics": critics, "batch_size": batch}
    run = msgspec.structs.replace(run, horizon=5, flow_steps=10, **sizes)
    found = update_flops(make_agent(run, 40, action)) / 1e9
    assert float(f"{found:.3g}") == expected


@pytest.mark.parametrize("method", METHODS)
def test_an_update_multiplies_no_more_and_not_much_less(method):
    """Less by the inputs' gradient of first layers, which nobody asks for, and by what code shares."""
    agent, replicas = make_learner(method, [0])
    noise = draw_noise(agent, [0], "noise", 0)
    counts = counted(agent.update, assemble(replicas), make_batch([0]), noise)
    assert 0.8 * update_flops(agent) < counts.multiplied <= update_flops(agent)
