"""The analytic count against the numbers it is held to, and against what an update really multiplies."""

import msgspec
import pytest

from tests.helpers.learners import METHODS, make_batch, make_learner
from trqam.agents import make_agent
from trqam.networks.replicas import assemble
from trqam.operations.bench.flops import counted, update_flops
from trqam.training.batches import draw_noise


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
    assert 0.8 * update_flops(agent) < counts.products.total() <= update_flops(agent)
