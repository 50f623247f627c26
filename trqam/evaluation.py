"""Success rates of several policies at once: one policy a replica (seed), several environments each.

Environments step in worker processes; policies act in the calling process, on one batch of fixed size
[replicas, slots, ...], a chunk at a time. The outcome of an episode depends on (seed, training step, episode) and
on its policy only, not on the number of workers: each episode has its own reset and its own stream of noise.
"""

import multiprocessing
import signal
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import NamedTuple, Self

import numpy as np

from trqam import envs
from trqam.streams import episode_seed, stream

# (observations [R, S, O], noise [R, S, N]) -> chunks [R, S, H*A], float32
Act = Callable[[np.ndarray, np.ndarray], np.ndarray]
PURPOSE = "evaluation"


class Outcome(NamedTuple):
    """Of one policy, over episodes [E], float32."""

    success: np.ndarray  # 0 or 1
    length: np.ndarray  # environment steps
    return_: np.ndarray  # undiscounted sum of rewards


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
        envs.task_number(task)  # a wrong name is reported here, not by a worker
        self._seeds, self._episodes, self._purpose = list(seeds), episodes, purpose
        self._slots = min(environments, episodes)  # S
        self._chunk = (horizon, action_size)
        self._noise_size = noise_size or horizon * action_size
        self._replicas = list(range(len(self._seeds)))  # original positions of those still evaluated
        places = len(self._seeds) * self._slots
        if workers:
            self._workers = [_Remote(task, max_steps, index) for index in range(min(workers, places))]
        else:
            self._workers = [_Local(task, max_steps)]

    def evaluate(self, act: Act, step: int) -> list[Outcome]:
        """Run all episodes with ``act`` at training step ``step``; one Outcome for each replica kept.

        ``act`` always gets all slots: those that have finished keep their last observation and get zero noise.
        Raises RuntimeError if a worker dies; the evaluator is closed then.
        """
        try:
            return self._evaluate(act, step)
        except BaseException:  # also an interrupt: replies may be under way, so the workers are of no more use
            self.close()
            raise

    def keep(self, positions: Sequence[int]) -> None:
        """Go on with the replicas at ``positions`` of those kept so far; the others' environments are closed."""
        self._replicas = [self._replicas[position] for position in positions]
        slots = {(replica, slot) for replica in self._replicas for slot in range(self._slots)}
        self._exchange("keep", [slots] * len(self._workers))

    def close(self) -> None:
        """End the workers and close the environments; harmless when repeated."""
        for worker in self._workers:
            worker.close()
        self._workers = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _evaluate(self, act: Act, step: int) -> list[Outcome]:
        if not self._workers:
            raise RuntimeError("this evaluator is closed")
        horizon, action_size = self._chunk
        running = [(replica, slot) for replica in self._replicas for slot in range(self._slots)]
        if not running:
            return []
        position = {replica: index for index, replica in enumerate(self._replicas)}
        current = {place: place[1] for place in running}  # the episode that each slot is running
        noise_of = {place: self._noise_stream(place, step, current[place]) for place in running}
        seeds = {place: [self._reset_seed(place, step, e) for e in self._episodes_of(place)] for place in running}
        first = self._exchange("begin", self._shares(seeds))
        observations = np.zeros((len(self._replicas), self._slots, len(first[running[0]])), dtype=np.float32)
        for (replica, slot), observation in first.items():
            observations[position[replica], slot] = observation
        results = np.zeros((len(self._replicas), 3, self._episodes), dtype=np.float32)
        while running:
            noise = np.zeros((len(self._replicas), self._slots, self._noise_size), dtype=np.float32)
            for place in running:
                replica, slot = place
                noise[position[replica], slot] = noise_of[place].standard_normal(self._noise_size, np.float32)
            chunks = np.asarray(act(observations.copy(), noise)).reshape(*noise.shape[:2], horizon, action_size)
            actions = {(replica, slot): chunks[position[replica], slot] for replica, slot in running}
            for place, (observation, outcome) in self._exchange("run", self._shares(actions)).items():
                replica, slot = place
                observations[position[replica], slot] = observation
                if outcome is None:
                    continue
                results[position[replica], :, current[place]] = outcome
                current[place] += self._slots
                if current[place] < self._episodes:
                    noise_of[place] = self._noise_stream(place, step, current[place])
                else:
                    running.remove(place)
        return [Outcome(*result) for result in results]

    def _episodes_of(self, place: tuple[int, int]) -> range:
        return range(place[1], self._episodes, self._slots)

    def _reset_seed(self, place: tuple[int, int], step: int, episode: int) -> int:
        return episode_seed(self._seeds[place[0]], self._purpose, step, episode)

    def _noise_stream(self, place: tuple[int, int], step: int, episode: int) -> np.random.Generator:
        return stream(self._seeds[place[0]], self._purpose, step, episode)

    def _shares(self, by_place: dict) -> list[dict]:
        """Each worker's part; a place always belongs to the same worker, which has its environment."""
        shares: list[dict] = [{} for _ in self._workers]
        for place, item in by_place.items():
            shares[(place[0] * self._slots + place[1]) % len(shares)][place] = item
        return shares

    def _exchange(self, method: str, arguments: Sequence) -> dict:
        """One message to every worker, then their replies together."""
        addressed = [(worker, argument) for worker, argument in zip(self._workers, arguments, strict=True) if argument]
        for worker, argument in addressed:
            worker.send(method, argument)
        return {place: reply for worker, _ in addressed for place, reply in worker.receive().items()}


class _Environments:
    """A worker's environments, by place (replica, slot), and the episodes that they are running."""

    def __init__(self, task: str, max_steps: int | None):
        self._task, self._max_steps = task, max_steps or np.inf
        self._envs: dict = {}
        self._seeds: dict = {}  # of the episodes still to come
        self._totals: dict = {}  # steps and return so far

    def begin(self, seeds: dict) -> dict:
        """Start the first of each place's episodes; place -> observation."""
        for place in seeds.keys() - self._envs.keys():
            self._envs[place] = envs.make(self._task)
        self._seeds = {place: iter(several) for place, several in seeds.items()}
        return {place: self._next_episode(place) for place in seeds}

    def run(self, actions: dict) -> dict:
        """Execute the chunks [H, A] open loop; place -> (observation, None or the ended episode's outcome).

        After an episode's end the observation is the next episode's first, or after the last one's its last.
        """
        return {place: self._run_chunk(place, chunk) for place, chunk in actions.items()}

    def keep(self, places: set) -> dict:
        """Close all environments but those of ``places``."""
        for place in self._envs.keys() - places:
            self._envs.pop(place).close()
        return {}

    def close(self) -> None:
        self.keep(set())

    def _next_episode(self, place: tuple[int, int]) -> np.ndarray | None:
        seed = next(self._seeds[place], None)
        self._totals[place] = (0, 0.0)
        return None if seed is None else envs.reset(self._envs[place], seed)

    def _run_chunk(self, place: tuple[int, int], chunk: np.ndarray) -> tuple:
        steps, total = self._totals[place]
        for action in chunk:
            result = envs.step(self._envs[place], action)
            steps, total = steps + 1, total + result.reward
            if result.done or steps >= self._max_steps:
                following = self._next_episode(place)
                observation = result.observation if following is None else following
                return observation, (result.success, steps, total)
        self._totals[place] = (steps, total)
        return result.observation, None


class _Local:
    """All environments in this process."""

    def __init__(self, task: str, max_steps: int | None):
        self._environments = _Environments(task, max_steps)
        self._reply: dict = {}

    def send(self, method: str, argument: object) -> None:
        self._reply = getattr(self._environments, method)(argument)

    def receive(self) -> dict:
        return self._reply

    def close(self) -> None:
        self._environments.close()


class _Remote:
    """Environments in a spawned process (a forked one would inherit threads and devices), behind a pipe."""

    def __init__(self, task: str, max_steps: int | None, index: int):
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._name = f"evaluation worker {index}"
        self._process = context.Process(target=_serve, args=(theirs, task, max_steps), name=self._name, daemon=True)
        self._process.start()
        theirs.close()  # so that its death is seen as the end of the pipe

    def send(self, method: str, argument: object) -> None:
        try:
            self._pipe.send((method, argument))
        except OSError as error:
            raise self._died() from error

    def receive(self) -> dict:
        try:
            failure, reply = self._pipe.recv()
        except (EOFError, OSError) as error:
            raise self._died() from error
        if failure:
            raise RuntimeError(f"{self._name} failed:\n{failure}")
        return reply

    def close(self) -> None:
        self._pipe.close()  # ends its loop
        self._process.join(timeout=5)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _died(self) -> RuntimeError:
        self._process.join(timeout=5)
        return RuntimeError(f"{self._name} died with exit code {self._process.exitcode}; out of memory, or killed?")


def _serve(pipe: Connection, task: str, max_steps: int | None) -> None:
    """A worker's loop; ends with the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the caller decides what an interrupt means
    environments = _Environments(task, max_steps)
    while True:
        try:
            method, argument = pipe.recv()
        except (EOFError, OSError):
            environments.close()
            return
        try:
            pipe.send((None, getattr(environments, method)(argument)))
        except Exception as error:  # whatever it is, the caller reports it
            pipe.send((traceback.format_exc(), None))
            raise SystemExit(1) from error
