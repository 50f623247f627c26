"""What `benchmarks.gpu` runs: stacks of learners on synthetic data, set up without configuration files.

The data are a problem that can be learnt without an environment. Every episode has a context s, shown at every step;
the data's actions lie around one of two targets, +g(s) and -g(s), and only +g(s) is rewarded:

    r = -mean |a - g(s)|^2,   g(s) = 0.6 tanh(s W)

Behaviour cloning has to keep both; fine-tuning has to move to the first, as far as its budget lets it.
"""

from dataclasses import dataclass

import msgspec
import numpy as np
import torch
from torch import Tensor

from trqam.agents import make_agent
from trqam.agents.base import Agent
from trqam.config.schema import Run
from trqam.data.dataset import Dataset
from trqam.data.on_device import Resident
from trqam.networks.replicas import State, assemble
from trqam.operations.bench.cases import SHARED, SIZES
from trqam.operations.bench.flops import update_flops
from trqam.training.batches import FromDevice, FromHost, Streamed
from trqam.training.experience import Offline
from trqam.training.learner import Batches, Learner, Policy

EPISODES, LENGTH = 500, 20
OWN = {  # sizes beside those of `trqam bench`: observation, action, and what replaces the values below
    "tiny": (4, 2, {"hidden_width": 16, "hidden_layers": 2, "batch_size": 16}),
    "training": (4, 2, {"learning_rate": 1e-3, "target_rate": 0.02}),
}
TRQAM = {  # config/methods.yaml's, and a budget
    "clip_adjoint": True,
    "initial_multiplier": 1.0,
    "multiplier_scale": 3.0,
    "dual_rate": 0.01,
    "kl_ema_rate": 0.1,
    "kl_clip": 2.0,
    "multiplier_min": 0.01,
    "multiplier_max": 100.0,
    "kl_budget": 1.0,
}
STEPS = dict.fromkeys(("pretrain_steps", "offline_steps", "online_steps", "online_start", "log_interval"), 1)
EVALUATION = dict.fromkeys(("eval_interval", "eval_episodes", "eval_environments", "checkpoint_interval"), 1)
RUN = Run(
    **{"task": "synthetic", "domain": "synthetic", "method": "trqam", "agent": "trqam", "parameters": TRQAM},
    **{"kl_budget_online": None, "discount": 0.9, "pessimism": 0.5, "normalise_observations": False},
    **{"data_source": "generated", "transitions": EPISODES * LENGTH, "data_seed": 0, "sampling": "uniform"},
    **{"learning_rate": 3e-4, "target_rate": 0.005, "hidden_width": 128, "hidden_layers": 3, "critics": 2},
    **{"batch_size": 128, **SHARED, **STEPS, **EVALUATION},
)


def sized(name: str, **changes) -> tuple[Run, int, int]:
    """The run of a size, and its observation and action."""
    observation, action, values = {**SIZES, **OWN}[name]
    return msgspec.structs.replace(RUN, **{**values, **changes}), observation, action


def target(contexts: np.ndarray, action: int) -> np.ndarray:
    """g(s), [..., A]."""
    weights = np.random.default_rng(0).normal(0, 1, (contexts.shape[-1], action)) / contexts.shape[-1] ** 0.5
    return 0.6 * np.tanh(contexts @ weights)


def synthetic(observation: int, action: int) -> Dataset:
    """See above; in the layout of a store."""
    rng = np.random.default_rng(1)
    contexts = np.repeat(rng.normal(size=(EPISODES, observation)), LENGTH + 1, axis=0)
    sign = np.repeat(rng.choice([-1.0, 1.0], (EPISODES, 1)), LENGTH + 1, axis=0)
    good = target(contexts, action)
    actions = np.clip(sign * good + rng.normal(0, 0.1, good.shape), -1, 1)
    ends = np.arange(len(contexts)) % (LENGTH + 1) == LENGTH
    columns = {"observations": contexts, "actions": actions, "terminals": ends, "masks": np.ones(len(ends))}
    columns["rewards"] = -np.square(actions - good).mean(1)
    card = {"observation_mean": [0.0] * observation, "observation_std": [1.0] * observation}
    return Dataset({key: column.astype(np.float32) for key, column in columns.items()}, card)


@dataclass
class Stack:
    """A learner, what it trains, and where it stands."""

    agent: Agent
    state: State
    batches: Batches | None
    learner: Learner
    policy: Policy
    device: torch.device
    step: int = 0

    def update(self) -> None:
        """The next."""
        self.step += 1
        self.learner.update(self.step)

    @property
    def replicas(self) -> int:
        """How many are stacked."""
        return len(self.state.dual.multiplier)

    @property
    def flops(self) -> int:
        """Of an update of the whole stack."""
        return (update_flops(self.agent) or 0) * self.replicas


class Bench:
    """Stacks on one device; data of a size are made once."""

    def __init__(self, device: torch.device):
        self.device = device
        self._data: dict[tuple[int, int], tuple[Dataset, Resident]] = {}

    def stack(
        self,
        size: str,
        seeds: list[int],
        kind: str,
        made: str = "device",
        pretrained: dict[str, Tensor] | None = None,
        replicas: list[dict[str, Tensor]] | None = None,
        **changes,
    ) -> Stack:
        """``kind`` as `trqam.networks.capture.kind_of` answers; batches are ``made`` on the "device", on the "host", or
        there and "streamed"; ``replicas``: tensors to go on from."""
        run, *shape = sized(size, **changes)
        if tuple(shape) not in self._data:
            dataset = synthetic(*shape)
            self._data[tuple(shape)] = dataset, Resident(dataset, self.device)
        dataset, resident = self._data[tuple(shape)]
        agent = make_agent(run, *shape)
        state = assemble(replicas or [agent.initialise(seed, pretrained) for seed in seeds], self.device)
        policy = Policy(agent, state, dataset.normaliser, self.device, kind)
        given = agent, Offline(run, dataset, seeds, "offline"), self.device
        if made == "device":
            batches = FromDevice(*given, resident, 0)
        else:
            batches = (Streamed if made == "streamed" else FromHost)(*given)
        return Stack(agent, state, batches, Learner(agent, state, batches, kind, self.device), policy, self.device)


def difference(one: Stack, other: Stack) -> float:
    """The largest |a - b| / |b| of a network that is trained or averaged, in Euclidean norms, or of a metric."""
    found = []
    networks: dict[str, list[tuple[Tensor, Tensor]]] = {}
    for (name, a), (_, b) in zip(one.state.named(), other.state.named(), strict=True):
        if "moment" not in name:
            networks.setdefault(name.rpartition("/")[0], []).append((a.detach().cpu(), b.detach().cpu()))
    for pairs in networks.values():
        a, b = (torch.cat([tensor.flatten() for tensor in side]) for side in zip(*pairs, strict=True))
        found.append(float((a - b).norm() / b.norm().clamp(min=1e-12)))
    ours, theirs = one.learner.means(), other.learner.means()
    for name in ours.keys() & theirs.keys():
        a, b = np.array(ours[name]), np.array(theirs[name])
        found.append(float(np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-12)))
    return max(found)


def replica_of(stack: Stack, index: int) -> Stack:
    """One replica of a stack as a stack, to be compared; without metrics."""
    state = assemble([stack.state.replica(index)], stack.device)
    silent = Learner(stack.agent, state, None, "eager", stack.device)
    return Stack(stack.agent, state, None, silent, stack.policy, stack.device)
