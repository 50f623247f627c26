"""A learner's policy as the environments see it: NumPy in, NumPy out, observations normalised."""

import numpy as np
import torch
from torch import Tensor

from trqam.agents.base import Agent
from trqam.data.dataset import Dataset
from trqam.replicas import State


class Policy:
    """Acts for a stack of replicas; also normalises the batches they learn from, so that both agree."""

    def __init__(self, agent: Agent, dataset: Dataset, device: torch.device):
        self.agent, self.device = agent, device
        size = agent.observation_size
        self.mean, self.std = np.zeros(size, np.float32), np.ones(size, np.float32)
        if agent.run.normalise_observations:
            self.mean, self.std = dataset.observation_mean, dataset.observation_std

    def normalise(self, observations: np.ndarray) -> np.ndarray:
        """Zero mean and unit variance over the dataset, where the domain asks for it; unchanged otherwise."""
        return (observations - self.mean) / self.std

    def tensor(self, array: np.ndarray) -> Tensor:
        """``array`` as float32 on the device."""
        return torch.from_numpy(np.ascontiguousarray(array, np.float32)).to(self.device)

    def batch(self, chunks: dict[str, np.ndarray]) -> dict[str, Tensor]:
        """A training batch [R, B, ...] as normalised tensors."""
        observed = ("observations", "next_observations")
        return {k: self.tensor(self.normalise(v) if k in observed else v) for k, v in chunks.items()}

    def act(self, state: State, observations: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Chunks [R, S, D] for observations [R, S, O] and noise [R, S, noise_size]."""
        actions = self.agent.act(state, self.tensor(self.normalise(observations)), self.tensor(noise))
        return actions.cpu().numpy()
