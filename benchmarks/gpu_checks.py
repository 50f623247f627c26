"""Correctness on a GPU, and a short training: the first and the last part of `benchmarks.gpu`.

Every check is a name, what was found, and the most that it may be.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch

from benchmarks.gpu_cases import Bench, Stack, difference, replica_of, target
from trqam.data.dataset import UNCHANGED
from trqam.networks.capture import WARM_UP
from trqam.training.batches import Draws
from trqam.training.learner import Policy

CPU = torch.device("cpu")
EXACT, CLOSE, LOOSE = 0.0, 1e-5, 1e-4


class Check(NamedTuple):
    """A difference found, and the largest that passes."""

    name: str
    found: float
    limit: float

    @property
    def passed(self) -> bool:
        """NaN does not."""
        return self.found <= self.limit


def checks(bench: Bench, size: str, updates: int, kind: str) -> Iterator[Check]:
    """In float32 throughout; ``updates`` for ``kind``, captured where it can be, against eager."""
    yield from _draws(bench.device)
    yield _batches(bench, size)
    seeds, few = [0, 1], max(updates // 10, 2)
    eager, again = (_after(bench.stack(size, seeds, "eager"), updates) for _ in range(2))
    yield Check(f"eager again, {updates} updates", difference(again, eager), CLOSE)
    captured = _after(bench.stack(size, seeds, kind), updates)
    yield Check(f"{kind} = eager, {updates} updates", difference(captured, eager), CLOSE)
    together = _after(bench.stack(size, [3, 1, 2], kind), few)
    for position, seed in enumerate([3, 1, 2]):
        alone = _after(bench.stack(size, [seed], kind), few)
        found = difference(replica_of(together, position), alone)
        yield Check(f"seed {seed} packed = alone, {few} updates", found, CLOSE)
    left = [together.state.replica(position) for position in (1, 2)]  # as when the first seed has diverged
    stacks = [bench.stack(size, [1, 2], each, replicas=left) for each in (kind, "eager")]
    yield Check(f"{kind} anew = eager, {few} updates", difference(*(_after(s, few) for s in stacks)), CLOSE)
    yield _acting(bench, size, kind)
    streamed = [_after(bench.stack(size, seeds, each, made="streamed"), few) for each in (kind, "eager")]
    yield Check(f"streamed, {kind} = eager, {few} updates", difference(*streamed), CLOSE)
    host = [_after(each.stack(size, seeds, "eager", made="host"), few) for each in (bench, Bench(CPU))]
    yield Check(f"this device = the CPU, {few} updates from the same noise", difference(*host), LOOSE)


def _after(stack: Stack, updates: int) -> Stack:
    for _ in range(updates):
        stack.update()
    return stack


def _draws(device: torch.device) -> Iterator[Check]:
    """The device's numbers against the CPU's."""
    shapes, found = {"x": (64, 20), "u_t": (64, 1)}, []
    for where in (device, CPU):
        draws = Draws([0, 2**33 + 1], "check", 64, shapes, where)
        step, size = (torch.tensor(value, device=where) for value in (7, 100_000_000))
        indices, noise = draws(step, size)
        found.append({"indices": indices.cpu(), **{name: tensor.cpu() for name, tensor in noise.items()}})
    here, there = found
    for name, limit in (("indices", EXACT), ("u_t", EXACT), ("x", CLOSE)):
        yield Check(f"random {name} = the CPU's", float((here[name] - there[name]).abs().max()), limit)


def _batches(bench: Bench, size: str) -> Check:
    """A batch made on the device against the CPU's from the same indices."""
    stacks = [each.stack(size, [0, 1], "eager") for each in (bench, Bench(CPU))]
    batches = []
    for stack in stacks:
        stack.batches.prepare(5)
        batches.append({key: tensor.cpu() for key, tensor in stack.batches()[0].items()})
    worst = max(float((batches[0][key] - batches[1][key]).abs().max()) for key in batches[0])
    return Check("a batch of the device = the CPU's", worst, CLOSE)


def _acting(bench: Bench, size: str, kind: str) -> Check:
    """Actions as captured against eager ones, while an update changes what is acted with."""
    stack, agents = bench.stack(size, [0, 1], kind), []
    for launched in (kind, "eager"):
        agents.append(Policy(stack.agent, stack.state, UNCHANGED, bench.device, launched))
    rng, worst = np.random.default_rng(3), 0.0
    for _ in range(WARM_UP + 3):
        stack.update()
        shapes = [(2, 7, size) for size in (stack.agent.observation_size, stack.agent.noise_size)]
        given = [rng.normal(size=shape).astype(np.float32) for shape in shapes]
        one, other = (policy.act(*given) for policy in agents)
        worst = max(worst, float(np.abs(one - other).max()))
    return Check(f"acting, {kind} = eager", worst, CLOSE)


def training(bench: Bench, size: str, seeds: list[int], updates: int, kind: str) -> dict[str, float]:
    """``updates`` of behaviour cloning and as many of TRQAM from its field; the policies' mean reward after each.

    A perfect policy's reward is 0; cloning keeps both targets.
    """
    cloned = {"agent": "behaviour_cloning", "method": "behaviour_cloning", "parameters": {}}
    clone = bench.stack(size, [0], kind, **cloned)
    _after(clone, updates)
    tensors = clone.state.replica(0)
    field = {name.removeprefix("online/base/"): t for name, t in tensors.items() if name.startswith("online/base/")}
    tuned = bench.stack(size, seeds, kind, pretrained=field)
    _after(tuned, updates // 2)
    tuned.learner.begin_interval()
    _after(tuned, updates - updates // 2)
    means = tuned.learner.means()  # of the second half
    return {
        "cloned_reward": rewards(clone)[0],
        "tuned_reward_worst": min(rewards(tuned)),
        "tuned_reward_mean": float(np.mean(rewards(tuned))),
        "path_kl": float(np.mean(means["path_kl"])),
        "kl_budget": tuned.agent.parameters.kl_budget,
        "multiplier": float(np.mean(means["multiplier"])),
    }


@torch.no_grad()
def rewards(stack: Stack, contexts: int = 256) -> list[float]:
    """Mean reward of every replica's policy on contexts that are not in the data."""
    agent, rng = stack.agent, np.random.default_rng(2)
    states = rng.normal(size=(contexts, agent.observation_size)).astype(np.float32)
    noise = rng.normal(size=(contexts, agent.noise_size)).astype(np.float32)
    actions = stack.policy.act(*(np.repeat(array[None], stack.replicas, 0) for array in (states, noise)))
    each = agent.chunk_size // agent.chunk
    error = actions.reshape(stack.replicas, contexts, agent.chunk, each) - target(states, each)[:, None]
    return (-np.square(error).mean((1, 2, 3))).tolist()
