"""Comparison with reference numbers computed by the authors' JAX code (format: tests/golden/README.md).

The updates that a file recorded are run here from its parameters, batches and noise, and every quantity is compared as
max|a - b| / max(max|b|, 1e-12) over its array.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from trqam.agents.base import ActorCritic, Tensors
from trqam.config.errors import UserError
from trqam.networks.replicas import leaves
from trqam.operations.golden.files import Golden

PARAMETER_GROUPS = {"online": "params", "target": "params", "first_moment": "adam_mu", "second_moment": "adam_nu"}
Pairs = dict[str, list[tuple[np.ndarray, np.ndarray]]]


def relative_difference(pairs: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """max|a - b| / max(max|b|, 1e-12), the worst over the arrays of one quantity."""
    return max(float(np.abs(ours - theirs).max() / max(np.abs(theirs).max(), 1e-12)) for ours, theirs in pairs)


def compare(path: str | Path) -> dict[str, float]:
    """The worst relative difference of every quantity in the file, by name."""
    return {name: relative_difference(found) for name, found in replay(path).items()}


def replay(path: str | Path) -> Pairs:
    """Acts and runs the file's updates; every quantity as pairs (ours, the reference's), by name."""
    golden = Golden(path)
    agent, state, arrays = golden.agent, golden.state, golden.arrays
    online = [name for name, _ in state.named() if name.startswith("online/")]
    pairs: Pairs = {}

    def record(name: str, ours: Tensor, theirs: np.ndarray) -> None:
        theirs = np.asarray(theirs, np.float64)
        if ours.shape != theirs.shape:
            raise UserError(f"{path}: {name}: shape {theirs.shape}, this package's is {tuple(ours.shape)}")
        pairs.setdefault(name, []).append((ours.detach().double().numpy().copy(), theirs))

    if not golden.config.get("bc_only"):  # the reference acts with a field that cloning has not trained
        actions = agent.act(state, golden.tensor("act/observations"), golden.act_noise())
        record("act/actions", actions[0], golden.array("act/actions"))
    for name, ours in _intermediates(golden).items():
        if name in arrays:
            record(name, ours, arrays[name])
    for update in range(golden.updates):
        batch, noise = golden.batch(update), golden.noise(update)
        gradients = [
            g[0] for g in torch.autograd.grad(agent.losses(state, batch, noise)[0].sum(), leaves(state.online))
        ]
        if update == 0:
            for name, gradient in zip(online, gradients, strict=True):
                record("step1/gradients", gradient, golden.parameter("step1/grads", name))
        found = _statistics(golden, batch, noise, gradients)
        metrics = agent.update(state, batch, noise)
        for theirs, names in golden.words.info.items():
            found[theirs] = torch.stack([metrics[name][0] for name in names.split("+")]).sum()
        for keys, ours in found.items():
            logged = [f"info/{key}" for key in keys.split("+")]
            if all(key in arrays for key in logged):
                record(f"info/{keys}", ours, sum(arrays[key][update] for key in logged))
        record("info/gradient_norm", metrics["gradient_norm"][0], golden.array("info_extra/grad_global_norm")[update])
        if "traj/lam" in arrays:
            record("dual/multiplier", state.dual.multiplier[0], arrays["traj/lam"][update])
            record("dual/kl_ema", state.dual.kl_ema[0], arrays["traj/kl_ema"][update])
        for group, theirs in PARAMETER_GROUPS.items():
            if not any(key.startswith(f"step{update + 1}/{theirs}/") for key in arrays):
                continue
            for name, tensor in state.named():
                if name.startswith(f"{group}/"):
                    own = name.replace(group, "online") if "moment" in group else name
                    record(f"step{update + 1}/{theirs}", tensor[0], golden.parameter(f"step{update + 1}/{theirs}", own))
    return pairs


@torch.no_grad()
def _intermediates(golden: Golden) -> Tensors:
    """What the first update goes through, by the reference's names."""
    agent, state, batch, noise = golden.agent, golden.state, golden.batch(0), golden.noise(0)
    found = {}
    if isinstance(agent, ActorCritic):
        found["step1/inter/target_q"] = agent.td_target(state, batch, noise)[0]
    if isinstance(agent, ActorCritic) and "next_action_noise" in noise:
        following = batch["next_observations"]
        actions = agent.act(state, following, noise["next_action_noise"])
        found["step1/inter/sample_actions_0"] = actions[0]
        found["step1/inter/next_qs"] = agent.critic(state.target["critic"])(following, actions)[0]
    if hasattr(agent, "sample_adjoints"):
        samples = agent.sample_adjoints(state, batch["observations"], noise)
        found |= {"step1/adj/xs": samples.states[:, 0], "step1/adj/adjs": samples.adjoints[:, 0]}
    return found


@torch.no_grad()
def _statistics(golden: Golden, batch: Tensors, noise: Tensors, gradients: list[Tensor]) -> Tensors:
    """What the reference logs and this package does not, by its names; before the update."""
    agent, state = golden.agent, golden.state
    largest, smallest = max(g.max() for g in gradients), min(g.min() for g in gradients)
    found = {"grad/norm": sum(g.norm() for g in gradients)}  # a sum of norms, as theirs; targets count as zeros
    found |= {"grad/max": largest.clamp(min=0), "grad/min": smallest.clamp(max=0)}
    if hasattr(agent, "sample_adjoints"):
        terminal = agent.sample_adjoints(state, batch["observations"], noise).terminal.abs()
        found |= {"actor/adj_mean": terminal.mean(), "actor/adj_max": terminal.max()}
        found |= {"actor/adj_std": terminal.std(correction=0)}
    if isinstance(agent, ActorCritic) and golden.words.agent == "ifql":  # logs the target under the critic's name
        target = agent.td_target(state, batch, noise)
        found |= {"critic/q_mean": target.mean(), "critic/q_min": target.min(), "critic/q_max": target.max()}
    return found
