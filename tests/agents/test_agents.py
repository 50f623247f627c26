"""Agents as a whole, beyond what the reference numbers exercise."""

from copy import copy

import msgspec
import pytest
import torch

from tests.helpers.learners import METHODS, SIZES, make_batch, make_learner
from trqam.maths.streams import stream
from trqam.networks.mlp import MLP, VelocityField
from trqam.networks.replicas import assemble
from trqam.training.batches import draw_noise


def updated(name, updates, **parameters):
    agent, replicas = make_learner(name, seeds=[0], **parameters)
    base = {k.removeprefix("online/base/"): v for k, v in replicas[0].items() if k.startswith("online/base/")}
    state = assemble([agent.initialise(0, base)])
    batch, metrics = make_batch(seeds=[0]), {}
    for step in range(updates):
        metrics = agent.update(state, batch, draw_noise(agent, [0], "noise", step))
    return agent, state, metrics


def test_fine_tuning_starts_at_the_cloned_policy():
    _, _, metrics = updated("trqam", 1)
    assert metrics["path_kl"].item() == 0.0
    _, state, _ = updated("trqam", 0)
    for name, tensor in state.online["base"].items():
        assert torch.equal(tensor, state.online["finetuned"][name])
        assert torch.equal(tensor, state.target["base"][name])


def test_an_infinite_multiplier_keeps_the_policy_at_the_base():
    """The loss is then (2/sigma)^2 |dv|^2 alone, up to an adjoint term that vanishes as 1/lambda."""
    fixed = {"dual_rate": 0.0, "multiplier_max": 1e12}
    _, _, tight = updated("trqam", 60, initial_multiplier=1e8, **fixed)
    _, _, loose = updated("trqam", 60, initial_multiplier=0.05, **fixed)
    assert loose["path_kl"].item() > 1e-3
    assert tight["path_kl"].item() < 1e-2 * loose["path_kl"].item()


def test_dual_descent_moves_the_multiplier_towards_the_budget():
    _, state, _ = updated("trqam", 20, kl_budget=1e-6, dual_rate=1e4)
    assert state.dual.multiplier.item() > 1.0
    _, state, _ = updated("trqam", 20, kl_budget=10.0)
    assert state.dual.multiplier.item() < 1.0


def test_trqam_with_multiplier_one_is_qam_at_temperature_one():
    settings = {"initial_multiplier": 1.0, "multiplier_scale": 1.0, "dual_rate": 0.0}
    _, state, _ = updated("trqam", 5, **settings)
    _, reference, _ = updated("qam", 5, inverse_temperature=1.0)
    for (name, ours), (_, theirs) in zip(state.named(), reference.named(), strict=True):
        if not name.startswith("dual/"):
            assert torch.equal(ours, theirs), name


@pytest.mark.parametrize("name", [name for name in METHODS if not name.endswith("_cloning")])
def test_the_scale_of_rewards_multiplies_every_reward(name):
    agent, replicas = make_learner(name, [0])
    scaled = copy(agent)
    scaled.run = msgspec.structs.replace(agent.run, reward_scale=10.0)
    state, batch, noise = assemble(replicas), make_batch([0]), draw_noise(agent, [0], "noise", 0)
    ten = {**batch, "rewards": 10 * batch["rewards"]}
    assert torch.equal(scaled.td_target(state, batch, noise), agent.td_target(state, ten, noise))
    assert not torch.equal(scaled.td_target(state, batch, noise), agent.td_target(state, batch, noise))


@pytest.mark.parametrize("name", METHODS)
def test_actions_stay_in_the_box_and_targets_move(name):
    agent, state, _ = updated(name, 3)
    rng = stream(0, "test")
    observations = torch.from_numpy(rng.standard_normal((1, 7, SIZES.observation), "float32"))
    noise = torch.from_numpy(10 * rng.standard_normal((1, 7, agent.noise_size), "float32"))
    actions = agent.act(state, observations, noise)
    assert actions.shape == (1, 7, agent.chunk_size)
    assert actions.abs().max() <= 1


def test_layer_norm_network_against_a_plain_loop():
    """The stacked network with LayerNorm in the actor (wide domains), which the reference files do not exercise."""
    network = MLP((6, 8, 8, 3), layer_norm=True)
    rng = stream(0, "test")
    stacks = [network.initialise(rng) for _ in range(2)]
    for values in stacks:
        for key, value in values.items():
            values[key] = value + 0.1 * rng.standard_normal(value.shape, "float32")
    stacked = {k: torch.stack([torch.from_numpy(v[k]) for v in stacks]) for k in stacks[0]}
    s, x = torch.randn(2, 5, 2), torch.randn(2, 5, 3)
    ours = VelocityField(network, stacked)(s, x, 0.25)
    for r in range(2):
        for b in range(5):
            row = torch.cat([s[r, b], x[r, b], torch.tensor([0.25])])
            for layer in range(3):
                row = row @ torch.from_numpy(stacks[r][f"{layer}.weight"]) + torch.from_numpy(
                    stacks[r][f"{layer}.bias"]
                )
                if layer < 2:
                    row = torch.nn.functional.gelu(row, approximate="tanh")
                    row = (row - row.mean()) / (row.var(correction=0) + 1e-6).sqrt()
                    scale, shift = (torch.from_numpy(stacks[r][f"{layer}.{k}"]) for k in ("scale", "shift"))
                    row = row * scale + shift
            torch.testing.assert_close(ours[r, b], row, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_what_is_kept_of_a_policy_acts_alike(name):
    agent, state, _ = updated(name, 3)
    whole = state.replica(0)
    kept = agent.acting_part(whole)
    assert not any(key.startswith(("first_moment/", "second_moment/")) for key in kept)
    assert sum(t.numel() for t in kept.values()) < 0.5 * sum(t.numel() for t in whole.values())
    rng = stream(0, "test")
    observations, noise = (
        torch.from_numpy(rng.standard_normal((1, 7, size), "float32")) for size in (SIZES.observation, agent.noise_size)
    )
    assert torch.equal(agent.act(assemble([kept]), observations, noise), agent.act(state, observations, noise))
