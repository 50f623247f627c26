"""A learner's policy as the environments see it: NumPy in, NumPy out, observations normalised."""

from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from trqam.agents.base import Agent, Tensors
from trqam.data.dataset import Dataset
from trqam.networks.capture import Call
from trqam.networks.replicas import State, assemble


class _Noted(dict):
    """Networks by name, which remembers those that were asked for."""

    def __init__(self, networks: dict[str, Tensors]):
        super().__init__(networks)
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> Tensors:
        self.read.add(name)
        return super().__getitem__(name)


def acting_part(agent: Agent, tensors: Tensors) -> Tensors:
    """Of one replica's ``tensors`` those that the agent reads when it acts, found by letting it act once."""
    state = assemble([{k: v for k, v in tensors.items() if not k.startswith("environment/")}])
    noted = {group: _Noted(getattr(state, group)) for group in ("online", "target")}
    state = replace(state, **noted)
    agent.act(state, torch.zeros(1, 1, agent.observation_size), torch.zeros(1, 1, agent.noise_size))
    prefixes = ("step", "dual/", *(f"{group}/{name}/" for group, networks in noted.items() for name in networks.read))
    return {name: tensor for name, tensor in tensors.items() if name.startswith(prefixes)}


class Policy:
    """Acts for a stack of replicas; also normalises the batches they learn from, so that both agree."""

    def __init__(self, agent: Agent, dataset: Dataset, device: torch.device, kind: str = "eager"):
        """``kind``: how updates are launched; on a GPU acting is captured unless they are eager."""
        self.agent, self.device = agent, device
        self._kind = "captured" if device.type == "cuda" and kind != "eager" else "eager"
        self._state: State | None = None  # whose acting was captured, by the shape of the observations
        self._calls: dict[tuple[int, ...], Call] = {}
        size = agent.observation_size
        self.mean, self.std = np.zeros(size, np.float32), np.ones(size, np.float32)
        if agent.run.normalise_observations:
            self.mean = dataset.observation_mean
            self.std = np.where(dataset.observation_std > 0, dataset.observation_std, 1)  # 0: it never changes

    def normalise(self, observations: np.ndarray) -> np.ndarray:
        """Zero mean and unit variance over the dataset, where the domain asks for it; unchanged otherwise."""
        return (observations - self.mean) / self.std

    def tensor(self, array: np.ndarray) -> Tensor:
        """``array`` as float32 on the device."""
        return torch.from_numpy(np.ascontiguousarray(array, np.float32)).to(self.device)

    def batch(self, chunks: dict[str, np.ndarray]) -> dict[str, Tensor]:
        """A training batch [R, B, ...] as normalised tensors."""
        return {key: tensor.to(self.device) for key, tensor in self.host(chunks).items()}

    def host(self, chunks: dict[str, np.ndarray]) -> dict[str, Tensor]:
        """The same on the CPU."""
        observed = ("observations", "next_observations")
        arrays = {k: self.normalise(v) if k in observed else v for k, v in chunks.items()}
        return {k: torch.from_numpy(np.ascontiguousarray(array, np.float32)) for k, array in arrays.items()}

    def act(self, state: State, observations: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Chunks [R, S, D] for observations [R, S, O] and noise [R, S, noise_size]."""
        given = self.tensor(self.normalise(observations)), self.tensor(noise)
        if self._kind == "eager":
            return self.agent.act(state, *given).cpu().numpy()
        if state is not self._state:
            self._state, self._calls = state, {}
        if observations.shape not in self._calls:
            act = partial(self.agent.act, state)
            self._calls[observations.shape] = Call(act, self._kind, self.device)
        return self._calls[observations.shape](*given).cpu().numpy()
