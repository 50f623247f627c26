"""Where batches come from: the dataset alone (offline), or dataset and environment together (online).

Both keep one independent part per seed, can drop a diverged seed, and can be saved and restored exactly.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trqam import envs
from trqam.config import Run
from trqam.data.dataset import SHARD_STEPS, Dataset, Source, Window, draw_indices, sample_chunks, training_batch
from trqam.data.replay import Replay
from trqam.policy import Policy
from trqam.replicas import State
from trqam.streams import episode_seed, stream


class Offline:
    """Chunks drawn uniformly from the dataset, or from one of its shards at a time."""

    warm_up = 0  # steps before the first update
    first_shard = 0

    def __init__(self, run: Run, dataset: Dataset, seeds: list[int], stage: str):
        self.run, self.dataset, self.seeds, self.stage = run, dataset, list(seeds), stage

    def source(self, position: int) -> Source:
        """What seed number ``position`` of the stack samples from."""
        return self.dataset

    def sampled(self, position: int, step: int) -> Source:
        """What an update draws its chunks from.

        With ``sampling: shards`` that is one shard, the next every ``SHARD_STEPS`` steps and the same one for all
        seeds, as the authors have it: a function of the step, so that a resumed run samples what it would have.
        """
        source = self.source(position)
        if self.run.sampling == "uniform":
            return source
        return Window(source, self.dataset, self.first_shard + step // SHARD_STEPS)

    def advance(self, step: int, policy: Policy, state: State) -> None:
        """Nothing happens in an environment."""

    def batch(self, step: int) -> dict[str, np.ndarray]:
        """The batch of one update, [R, B, ...], each seed's from its own stream."""
        run, parts = self.run, []
        for position, seed in enumerate(self.seeds):
            source = self.sampled(position, step)
            rng = stream(seed, f"batches/{self.stage}", step)
            indices = draw_indices(rng, source.size, run.horizon, run.batch_size)
            parts.append(training_batch(sample_chunks(source, indices, run.horizon, run.discount)))
        return {key: np.stack([part[key] for part in parts]) for key in parts[0]}

    def save(self, position: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and record of one seed's part."""
        return {}, {}

    def keep(self, positions: list[int]) -> None:
        """Drops all seeds but those at ``positions``."""
        self.seeds = [self.seeds[p] for p in positions]

    def close(self) -> None:
        """Nothing is open."""


class Worker:
    """One seed's environment online: its episode so far, the chunk being executed, and its replay."""

    def __init__(self, run: Run, dataset: Dataset, seed: int, path: Path, saved: tuple[dict, dict] | None):
        self.run, self.seed = run, seed
        self.env = envs.make(run.task)
        self.chunk: list[np.ndarray] = []
        if saved is None:
            path.unlink(missing_ok=True)  # of an attempt that was killed before its first checkpoint
            self.replay = Replay(dataset, path)
            self.episode = 0
            self.begin()
        else:
            tensors, record = saved
            self.replay = Replay.resume(dataset, path, record["replay"])
            self.episode = record["episode"]
            self.taken = list(tensors["environment/taken"].numpy())
            self.chunk = list(tensors["environment/chunk"].numpy())
            self.observation = envs.restore(self.env, self.episode_seed, self.taken)

    @property
    def episode_seed(self) -> int:
        """Seed of the current episode's reset."""
        return episode_seed(self.seed, "exploration", episode=self.episode)

    def begin(self) -> None:
        """Starts the episode that ``episode`` numbers; what is left of a chunk is dropped."""
        self.observation, self.taken, self.chunk = envs.reset(self.env, self.episode_seed), [], []

    def step(self) -> None:
        """Executes the next action of the chunk and records the transition."""
        action = self.chunk.pop(0)
        result = envs.step(self.env, action)
        mask = 0.0 if result.terminated else 1.0
        self.replay.append(self.observation, action, result.reward, mask, float(result.done), result.observation)
        self.observation = result.observation
        self.taken.append(action)
        if result.done:
            self.episode += 1
            self.begin()

    def save(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The environment's position as the episode's actions, which replayed from the seeded reset restore it."""
        size = self.env.action_space.shape[0]
        lists = {"taken": self.taken, "chunk": self.chunk}
        arrays = {k: np.array(v, np.float32).reshape(len(v), size) for k, v in lists.items()}
        tensors = {f"environment/{k}": torch.from_numpy(v) for k, v in arrays.items()}
        return tensors, {"episode": self.episode, "replay": self.replay.flush()}


class Online(Offline):
    """One environment a seed, stepped in turn; batches from dataset (or shard) and new transitions, uniformly."""

    def __init__(self, run: Run, dataset: Dataset, seeds: list[int], paths: list[Path], saved: list | None):
        super().__init__(run, dataset, seeds, "online")
        self.warm_up = run.online_start
        self.first_shard = run.offline_steps // SHARD_STEPS  # goes on where the offline stage ended
        restored = saved or [None] * len(seeds)
        self.workers = [Worker(run, dataset, *part) for part in zip(seeds, paths, restored, strict=True)]

    def source(self, position: int) -> Source:
        """The seed's replay."""
        return self.workers[position].replay

    def advance(self, step: int, policy: Policy, state: State) -> None:
        """One environment step of every seed; the policy is asked when a seed has finished its chunk.

        It is always asked for all seeds, so that a row's arithmetic does not depend on who needs an action.
        """
        if any(not worker.chunk for worker in self.workers):
            size = policy.agent.noise_size
            noise = [stream(seed, "exploration", step).standard_normal((1, size), np.float32) for seed in self.seeds]
            observations = np.stack([worker.observation[None] for worker in self.workers])
            actions = policy.act(state, observations, np.stack(noise))
            for worker, action in zip(self.workers, actions, strict=True):
                if not worker.chunk:
                    worker.chunk = list(action.reshape(self.run.horizon, -1))
        for worker in self.workers:
            worker.step()

    def save(self, position: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Environment and replay of one seed."""
        return self.workers[position].save()

    def keep(self, positions: list[int]) -> None:
        """Drops all seeds but those at ``positions``."""
        super().keep(positions)
        for position, worker in enumerate(self.workers):
            if position not in positions:
                worker.env.close()
        self.workers = [self.workers[p] for p in positions]

    def close(self) -> None:
        """Closes the environments."""
        for worker in self.workers:
            worker.env.close()
