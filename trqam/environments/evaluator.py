"""Success rates of several policies at once: one policy a replica (seed), several environments each.

Environments step in worker processes (see `trqam.environments.pool`); policies act in the calling process, on one batch
of fixed size [replicas, slots, ...], a chunk at a time. The outcome of an episode depends on (seed, training step,
episode) and on its policy only, not on the number of workers nor on their fate: each episode has its own reset and its
own stream of noise.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np

from trqam.environments.pool import Fleet, Position
from trqam.maths.streams import episode_seed, stream

# (observations [R, S, O], noise [R, S, N]) -> chunks [R, S, H*A], float32
Act = Callable[[np.ndarray, np.ndarray], np.ndarray]
PURPOSE = "evaluation"


class Outcome(NamedTuple):
    """Of one policy, over episodes [E], float32."""

    success: np.ndarray  # 0 or 1
    length: np.ndarray  # environment steps
    return_: np.ndarray  # undiscounted sum of rewards

    def means(self) -> dict[str, float]:
        """The means over episodes as metrics name them, in float64: in float32 three of five are 0.600000024."""
        named = {"success": self.success, "episode_length": self.length, "episode_return": self.return_}
        return {name: float(values.mean(dtype=np.float64)) for name, values in named.items()}


@dataclass
class _Episode:
    """What a slot is running."""

    number: int
    seed: int  # of its reset
    following: int | None  # the seed of the slot's next episode
    noise: np.random.Generator
    length: int = 0
    return_: float = 0.0


class Evaluator:
    """Evaluates the policies of ``seeds``, ``episodes`` each, in ``environments`` slots each.

    Slot j runs episodes j, j + S, ... in its own environment, made at the first evaluation and kept. ``workers``
    processes share the slots (0: all in this process). ``max_steps`` shortens the episodes. Close it, or use it in
    a ``with`` statement. An action chunk takes ``noise_size`` normal numbers (None: one for each of its own).
    ``purpose`` names the random streams: another one gives other episodes.
    """

    def __init__(
        self,
        task: str,
        seeds: Sequence[int],
        episodes: int,
        environments: int,
        workers: int,
        horizon: int,
        action_size: int,
        noise_size: int | None = None,
        max_steps: int | None = None,
        purpose: str = PURPOSE,
    ):
        self._seeds, self._episodes, self._purpose = list(seeds), episodes, purpose
        self._slots = min(environments, episodes)  # S
        self._chunk = (horizon, action_size)
        self._noise_size = noise_size or horizon * action_size
        self._replicas = list(range(len(self._seeds)))  # original positions of those still evaluated
        self._fleet = Fleet(task, self._places(), workers, max_steps, "evaluation worker")

    @property
    def fleet(self) -> Fleet:
        """The environments, at places (replica, slot)."""
        return self._fleet

    def evaluate(self, act: Act, step: int) -> list[Outcome]:
        """Run all episodes with ``act`` at training step ``step``; one Outcome for each replica kept.

        ``act`` always gets all slots: those that have finished keep their last observation and get zero noise.
        Workers that die are replaced. If that does not help (see `Fleet`), or ``act`` fails, the evaluator is closed.
        """
        try:
            return self._evaluate(act, step)
        except BaseException:  # also an interrupt
            self.close()
            raise

    def keep(self, positions: Sequence[int]) -> None:
        """Go on with the replicas at ``positions`` of those kept so far; the others' environments are closed."""
        before = set(self._places())
        self._replicas = [self._replicas[position] for position in positions]
        self._fleet.drop(before - set(self._places()))

    def close(self) -> None:
        """End the workers and close the environments; harmless when repeated."""
        self._fleet.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _evaluate(self, act: Act, step: int) -> list[Outcome]:
        if not self._replicas:
            return []
        row = {replica: index for index, replica in enumerate(self._replicas)}
        running = {place: self._episode(place, step, place[1]) for place in self._places()}
        first = self._fleet.begin({place: Position(episode.seed, []) for place, episode in running.items()})
        width = len(first[next(iter(running))])
        observations = np.zeros((len(row), self._slots, width), np.float32)
        for (replica, slot), observation in first.items():
            observations[row[replica], slot] = observation
        results = np.zeros((len(row), 3, self._episodes), np.float32)
        while running:
            noise = np.zeros((len(row), self._slots, self._noise_size), np.float32)
            for (replica, slot), episode in running.items():
                noise[row[replica], slot] = episode.noise.standard_normal(self._noise_size, np.float32)
            chunks = np.asarray(act(observations.copy(), noise)).reshape(len(row), self._slots, *self._chunk)
            orders = {(r, slot): (chunks[row[r], slot], running[r, slot].following) for r, slot in running}
            for place, (observation, steps) in self._fleet.run(orders).items():
                replica, slot = place
                observations[row[replica], slot] = observation
                episode = running[place]
                episode.length += len(steps)
                for taken in steps:  # one after another: another order has another last bit
                    episode.return_ += taken.reward
                if steps[-1].done:
                    results[row[replica], :, episode.number] = steps[-1].success, episode.length, episode.return_
                    del running[place]
                    if episode.following is not None:
                        running[place] = self._episode(place, step, episode.number + self._slots)
        return [Outcome(*result) for result in results]

    def _places(self) -> list[tuple[int, int]]:
        return [(replica, slot) for replica in self._replicas for slot in range(self._slots)]

    def _episode(self, place: tuple[int, int], step: int, number: int) -> _Episode:
        """Episode ``number`` of a slot, which runs every S-th."""
        key, after = (self._seeds[place[0]], self._purpose, step), number + self._slots
        following = episode_seed(*key, after) if after < self._episodes else None
        return _Episode(number, episode_seed(*key, number), following, stream(*key, number))
