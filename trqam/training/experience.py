"""Where batches come from: the dataset alone (offline), or dataset and environment together (online).

Both keep one independent part per seed, can drop a diverged seed, and can be saved and restored exactly.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trqam.config.load import Run
from trqam.data.dataset import SHARD_STEPS, Dataset, Source, Window, draw_indices, sample_chunks, training_batch
from trqam.data.replay import Replay, check
from trqam.environments.pool import Fleet, Position, Reply
from trqam.experiment.files import writing
from trqam.maths.streams import episode_seed, stream
from trqam.training.learner import Policy
from trqam.training.profiling import region

REPLAY = "replay.bin"  # beside the checkpoints of the online stage, which share it


def check_saved(record: dict[str, Any], directory: Path) -> None:
    """A UserError if what the checkpoint of ``record`` leans on beside its own files is not there."""
    if "width" in record["experience"].get("replay", {}):
        check(directory / REPLAY, record["experience"]["replay"])


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
        return source if self.run.sampling == "uniform" else Window(source, self.dataset, self._shard(step))

    def _shard(self, step: int) -> int:
        return self.first_shard + step // SHARD_STEPS

    def window(self, step: int) -> tuple[int, int]:
        """The dataset's transitions [start, stop) that an update draws from, beside all new ones."""
        if self.run.sampling == "uniform":
            return 0, self.dataset.size
        return self.dataset.shards[self._shard(step) % len(self.dataset.shards)]

    @property
    def replays(self) -> list[Replay]:
        """The seeds' new transitions; none offline."""
        return []

    def advance(self, step: int, policy: Policy) -> None:
        """Nothing happens in an environment."""

    def batch(self, step: int) -> dict[str, np.ndarray]:
        """The batch of one update, [R, B, ...] float32, each seed's from its own stream."""
        run, parts = self.run, []
        for position, seed in enumerate(self.seeds):
            source = self.sampled(position, step)
            rng = stream(seed, f"batches/{self.stage}", step)
            indices = draw_indices(rng, source.size, run.horizon, run.batch_size)
            chunks = sample_chunks(source, indices, run.horizon, run.discount)
            parts.append(training_batch(chunks, self.dataset.normaliser))
        return {key: np.stack([part[key] for part in parts]) for key in parts[0]}

    def save(self, position: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and record of one seed's part."""
        return {}, {}

    def keep(self, positions: list[int]) -> None:
        """Drops all seeds but those at ``positions``."""
        self.seeds = [self.seeds[p] for p in positions]

    def close(self) -> None:
        """Nothing is open."""


class Explorer:
    """One seed online: its episode so far, the chunk being executed, and its replay. Its environment is the fleet's."""

    def __init__(self, run: Run, dataset: Dataset, seed: int, path: Path, saved: tuple[dict, dict] | None):
        self.seed = seed
        self.observation = np.empty(0, np.float32)  # until the environment has begun
        if saved is None:
            with writing(path):
                path.unlink(missing_ok=True)  # of an attempt that was killed before its first checkpoint
            self.replay = Replay(dataset, path)
            self.episode, taken = 0, []
            self.chunk = np.empty((0, 0), np.float32)  # what is left of it, [L, A]
        else:
            tensors, record = saved
            self.replay = Replay.resume(dataset, path, record["replay"])
            self.episode, taken = record["episode"], list(tensors["environment/taken"].numpy())
            self.chunk = tensors["environment/chunk"].numpy()
        self.start = Position(self.reset_seed(self.episode), taken)

    def reset_seed(self, episode: int) -> int:
        """The seed of an episode's reset."""
        return episode_seed(self.seed, "exploration", episode=episode)

    def order(self) -> tuple[np.ndarray, int]:
        """The next action of the chunk, [1, A], and the seed of the episode that follows this one."""
        return self.chunk[:1], self.reset_seed(self.episode + 1)

    def record(self, reply: Reply) -> None:
        """Adds the transition to the replay; what is left of a chunk at an episode's end is dropped."""
        (result,) = reply.steps
        mask = 0.0 if result.terminated else 1.0
        done = float(result.done)
        self.replay.append(self.observation, self.chunk[0], result.reward, mask, done, result.observation)
        self.observation, self.chunk = reply.observation, self.chunk[1:]
        if result.done:
            self.episode += 1
            self.chunk = self.chunk[:0]


class Online(Offline):
    """One environment a seed, stepping side by side; batches from dataset (or shard) and new transitions, uniformly.

    ``workers`` processes step the environments (0: this one), to the same effect.
    """

    def __init__(
        self, run: Run, dataset: Dataset, seeds: list[int], paths: list[Path], saved: list | None, workers: int = 0
    ):
        super().__init__(run, dataset, seeds, "online")
        self.warm_up = run.online_start
        self.first_shard = run.offline_steps // SHARD_STEPS  # goes on where the offline stage ended
        restored = saved or [None] * len(seeds)
        self.explorers = [Explorer(run, dataset, *part) for part in zip(seeds, paths, restored, strict=True)]
        self.fleet = Fleet(run.task, seeds, workers, name="exploration worker")
        observations = self.fleet.begin({explorer.seed: explorer.start for explorer in self.explorers})
        for explorer in self.explorers:
            explorer.observation = observations[explorer.seed]

    def source(self, position: int) -> Source:
        """The seed's replay."""
        return self.explorers[position].replay

    @property
    def replays(self) -> list[Replay]:
        """Every seed's."""
        return [explorer.replay for explorer in self.explorers]

    def advance(self, step: int, policy: Policy) -> None:
        """One environment step of every seed; the policy is asked when a seed has finished its chunk.

        It is always asked for all seeds, so that a row's arithmetic does not depend on who needs an action.
        """
        if any(not len(explorer.chunk) for explorer in self.explorers):
            size = (1, policy.noise_size)
            noise = [stream(seed, "exploration", step).standard_normal(size, np.float32) for seed in self.seeds]
            observations = np.stack([explorer.observation[None] for explorer in self.explorers])
            with region("acting"):
                actions = policy.act(observations, np.stack(noise))
            for explorer, action in zip(self.explorers, actions, strict=True):
                if not len(explorer.chunk):
                    explorer.chunk = action.reshape(self.run.horizon, -1)
        with region("environments"):
            replies = self.fleet.run({explorer.seed: explorer.order() for explorer in self.explorers})
        for explorer in self.explorers:
            explorer.record(replies[explorer.seed])

    def save(self, position: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Replay and environment of one seed, as its episode's actions: replayed from the reset they restore it."""
        explorer = self.explorers[position]
        actions = self.fleet.position(explorer.seed).actions
        taken = np.array(actions, np.float32).reshape(len(actions), explorer.chunk.shape[1])
        arrays = {"environment/taken": taken, "environment/chunk": explorer.chunk}
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        return tensors, {"episode": explorer.episode, "replay": explorer.replay.flush()}

    def keep(self, positions: list[int]) -> None:
        """Drops all seeds but those at ``positions``."""
        self.fleet.drop({seed for position, seed in enumerate(self.seeds) if position not in positions})
        super().keep(positions)
        self.explorers = [self.explorers[p] for p in positions]

    def close(self) -> None:
        """Ends the processes and closes the environments."""
        self.fleet.close()
