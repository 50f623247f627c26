"""Environments of one task, each at a *place* of its own, in this process or shared out among several.

What an environment does depends on its orders only, not on who steps it: every episode has its own reset, and where
an environment stands is the seed of its episode and the actions taken since. So when a process dies or hangs it is
reported and replaced, its environments are brought to where they stood, and the order that it did not answer is given
again: no outcome changes.
"""

import sys
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import gymnasium
import numpy as np

from trqam.config.errors import UserError
from trqam.environments import environment
from trqam.environments.processes import Here, Lost, Process

Place = TypeVar("Place", bound=Hashable)

LOSSES = 3  # this many before an episode has ended are an error: the next would not end either
# Seconds that a process may take for an answer, and for each environment that it must first make or bring back. An
# answer is a matter of milliseconds; these are for a machine that swaps.
PATIENCE, PATIENCE_TO_BEGIN = 300.0, 60.0


class Position(NamedTuple):
    """Where an environment stands: the seed of its episode's reset, and the actions taken since."""

    seed: int
    actions: list[np.ndarray]  # [A] each


class Reply(NamedTuple):
    """The steps of a chunk up to the episode's end, and the observation [O] after them.

    If the episode ended and another was to follow, it is that one's first observation.
    """

    observation: np.ndarray
    steps: list[environment.Step]


class _Order(NamedTuple):
    begin: Position | None  # where to bring the environment first
    chunk: np.ndarray  # [L, A], executed open loop
    following: int | None  # the seed of the next episode, begun when this one ends


class Fleet(Generic[Place]):
    """The environments at ``places``, in ``workers`` processes (0: in this one).

    A place keeps its environment, made when it is first needed, and its process. ``max_steps`` shortens episodes;
    ``name`` is what messages call a process. Close it, or use it in a ``with`` statement.

    `begin` and `run` raise UserError when processes were lost `LOSSES` times before an episode ended, and RuntimeError
    with a worker's traceback if OGBench fails. After any exception, an interrupt too, the fleet is closed: answers may
    be under way.
    """

    def __init__(
        self,
        task: str,
        places: Sequence[Place],
        workers: int,
        max_steps: int | None = None,
        name: str = "environment worker",
    ):
        environment.task_number(task)  # a wrong name is reported here, not by a worker
        self._host, self._name = _Host[Place](task, max_steps), name
        self._workers: list[Here | Process] = [self._start(number) for number in range(min(workers, len(places)))]
        self._workers = self._workers or [Here(self._host)]
        self._worker_of = {place: index % len(self._workers) for index, place in enumerate(places)}
        self._positions: dict[Place, Position] = {}
        self._displaced: set[Place] = set()  # their process was replaced
        self._losses = 0  # since an episode ended

    def begin(self, positions: Mapping[Place, Position]) -> dict[Place, np.ndarray]:
        """Bring environments to ``positions``; the observations [O] there."""
        nothing = np.empty((0, 0), np.float32)
        self._positions |= {place: Position(seed, [*actions]) for place, (seed, actions) in positions.items()}
        replies = self._exchange({place: _Order(position, nothing, None) for place, position in positions.items()})
        return {place: reply.observation for place, reply in replies.items()}

    def run(self, chunks: Mapping[Place, tuple[np.ndarray, int | None]]) -> dict[Place, Reply]:
        """Execute a chunk [L, A] at each of some places, up to the episode's end.

        Beside the chunk stands the seed of the episode that follows then; None: no other does.
        """
        replies = self._exchange({place: _Order(None, *order) for place, order in chunks.items()})
        for place, (chunk, following) in chunks.items():
            steps = replies[place].steps
            if not steps[-1].done:
                self._positions[place].actions.extend(chunk)
            elif following is not None:
                self._positions[place] = Position(following, [])
            else:
                del self._positions[place]
        if any(reply.steps[-1].done for reply in replies.values()):
            self._losses = 0
        return replies

    def position(self, place: Place) -> Position:
        """Where the environment at ``place`` stands."""
        return self._positions[place]

    def drop(self, places: set[Place]) -> None:
        """Close the environments at ``places``."""
        self._worker_of = {place: index for place, index in self._worker_of.items() if place not in places}
        self._positions = {place: position for place, position in self._positions.items() if place not in places}
        for worker in self._workers:  # one that has died has none of them; the next order tells
            try:
                worker.send(({}, places))
                worker.receive(PATIENCE)
            except Lost:
                continue

    @property
    def pids(self) -> list[int]:
        """The numbers of the worker processes."""
        return [worker.pid for worker in self._workers if isinstance(worker, Process)]

    def close(self) -> None:
        """End the processes and close the environments; harmless when repeated."""
        for worker in self._workers:
            worker.close()
        self._workers = []
        self._host.close()

    def __enter__(self) -> "Fleet":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _exchange(self, orders: dict[Place, _Order]) -> dict[Place, Reply]:
        """One message to every process concerned, then their answers; again to those that were replaced meanwhile."""
        if not self._workers:
            raise RuntimeError("these environments are closed")
        replies: dict[Place, Reply] = {}
        try:
            while waiting := {place: order for place, order in orders.items() if place not in replies}:
                replies |= self._attempt(waiting)
        except BaseException:
            self.close()
            raise
        return replies

    def _attempt(self, orders: dict[Place, _Order]) -> dict[Place, Reply]:
        """The answers of those that gave one; the others have been replaced."""
        shares: dict[int, dict[Place, _Order]] = {}
        for place, order in orders.items():
            if place in self._displaced and order.begin is None:
                order = order._replace(begin=self._positions[place])
            shares.setdefault(self._worker_of[place], {})[place] = order
        replies: dict[Place, Reply] = {}
        lost: dict[int, Lost] = {}
        for index, share in shares.items():
            try:
                self._workers[index].send((share, set()))
            except Lost as loss:
                lost[index] = loss
        for index in shares.keys() - lost.keys():
            beginning = sum(order.begin is not None for order in shares[index].values())
            try:
                replies |= self._workers[index].receive(PATIENCE + PATIENCE_TO_BEGIN * beginning)
            except Lost as loss:
                lost[index] = loss
        self._displaced -= replies.keys()
        if lost:
            self._replace(lost)
        return replies

    def _replace(self, lost: dict[int, Lost]) -> None:
        """New processes for those at the indices ``lost``; UserError if that has not helped before."""
        self._losses += 1
        for index, loss in sorted(lost.items()):
            if self._losses == LOSSES:
                fix = "free memory, or lower env_workers or eval_environments, and run it again to go on"
                raise UserError(f"{loss}; {LOSSES} losses and no episode ended in between; {fix}") from loss
            print(f"{loss}; replaced, with no effect on results", file=sys.stderr, flush=True)
            self._workers[index].close()
            self._workers[index] = self._start(index)
            self._displaced |= {place for place in self._positions if self._worker_of[place] == index}

    def _start(self, number: int) -> Process:
        return Process(self._host, f"{self._name} {number}")


class _Host(Generic[Place]):
    """Some places' environments, and the execution of orders; a process has its own."""

    def __init__(self, task: str, max_steps: int | None):
        self._task, self._max_steps = task, max_steps
        self._envs: dict[Place, Any] = {}

    def __call__(self, message: tuple[dict[Place, _Order], set[Place]]) -> dict[Place, Reply]:
        """Close the environments of some places, then execute orders."""
        orders, dropped = message
        for place in dropped & self._envs.keys():
            self._envs.pop(place).close()
        return {place: self._execute(place, order) for place, order in orders.items()}

    def close(self) -> None:
        """Close all environments."""
        while self._envs:
            self._envs.popitem()[1].close()

    def _execute(self, place: Place, order: _Order) -> Reply:
        if place not in self._envs:
            self._envs[place] = self._make()
        env, observation = self._envs[place], np.empty(0, np.float32)
        steps: list[environment.Step] = []
        if order.begin is not None:
            observation = environment.restore(env, *order.begin)
        for action in order.chunk:
            steps.append(environment.step(env, action))
            observation = steps[-1].observation
            if steps[-1].done:
                if order.following is not None:
                    observation = environment.reset(env, order.following)
                break
        return Reply(observation, steps)

    def _make(self) -> gymnasium.Env:
        env = environment.make(self._task)
        return gymnasium.wrappers.TimeLimit(env, self._max_steps) if self._max_steps else env
