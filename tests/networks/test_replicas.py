"""What must never leak between replicas."""

import numpy as np
import pytest
import torch

from tests.helpers.learners import METHODS, make_batch, make_learner
from trqam.networks.replicas import State, assemble, clip_per_replica, replica_norm
from trqam.training.batches import draw_noise

AGENTS = METHODS


def train(agent, state: State, batch, seeds, updates=5) -> State:
    for step in range(updates):
        agent.update(state, batch, draw_noise(agent, seeds, "noise", step))
    return state


@pytest.mark.parametrize("name", AGENTS)
def test_a_slice_of_a_stack_equals_the_lone_run(name):
    agent, replicas = make_learner(name, seeds=[3, 1, 2])
    batch = make_batch(seeds=[3, 1, 2])
    together = train(agent, assemble(replicas), batch, [3, 1, 2])
    for position, seed in enumerate([3, 1, 2]):
        agent, (replica,) = make_learner(name, seeds=[seed])
        alone = train(agent, assemble([replica]), make_batch(seeds=[seed]), [seed])
        stacked = together.replica(position)
        for key, tensor in alone.replica(
            0
        ).items():  # matrix kernels depend on the batch: a few units in the last place
            torch.testing.assert_close(tensor, stacked[key], rtol=1e-5, atol=1e-6, msg=key)


@pytest.mark.parametrize("name", AGENTS)
def test_neighbours_do_not_matter(name):
    results = []
    for factor in (1.0, 1e4):
        agent, replicas = make_learner(name, seeds=[0, 1])
        batch = make_batch(seeds=[0, 1])
        batch["rewards"][1] *= factor
        batch["actions"][1] *= factor
        results.append(train(agent, assemble(replicas), batch, [0, 1]).replica(0))
    for key in results[0]:
        assert torch.equal(results[0][key], results[1][key]), key


def test_a_diverged_neighbour_does_not_spread():
    agent, replicas = make_learner("trqam", seeds=[0, 1])
    batch = make_batch(seeds=[0, 1])
    batch["rewards"][1] = float("nan")
    state = train(agent, assemble(replicas), batch, [0, 1])
    assert all(torch.isfinite(tensor).all() for tensor in state.replica(0).values())
    assert not all(torch.isfinite(tensor).all() for tensor in state.replica(1).values())


def test_clipping_reduces_per_replica():
    gradients = [torch.tensor([[3.0, 0.0], [0.3, 0.0]]), torch.tensor([[[4.0]], [[0.4]]])]
    norm = replica_norm(gradients)
    np.testing.assert_allclose(norm, [5.0, 0.5])
    clip_per_replica(gradients, norm)
    np.testing.assert_allclose(gradients[0], [[0.6, 0.0], [0.3, 0.0]])
    np.testing.assert_allclose(gradients[1], [[[0.8]], [[0.4]]])


def test_assemble_inverts_replica():
    agent, replicas = make_learner("trqam", seeds=[0, 1])
    state = train(agent, assemble(replicas), make_batch(seeds=[0, 1]), [0, 1], updates=2)
    again = assemble([state.replica(0), state.replica(1)])
    for (name, before), (_, after) in zip(state.named(), again.named(), strict=True):
        assert torch.equal(before, after), name
    assert again.step.item() == 2
