"""What is measured: updates of a method at a size, and the machine's matrix products.

`Updates` and `Products` are asked by messages, so that each can run in a process of its own
(`trqam.environments.processes`): with its own peak of memory and its own allocator, beside another where that is the
question. A message is a number of seconds, answered by a `Turn`.
"""

import os
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import torch
from torch import Tensor

from trqam.agents import make_agent
from trqam.agents.base import Agent
from trqam.config.schema import Run
from trqam.config.strict import Strict
from trqam.data.on_device import DEVICES
from trqam.maths.streams import stream
from trqam.networks.capture import WARM_UP
from trqam.networks.replicas import assemble, keep_freed_memory
from trqam.operations.bench.flops import Counts, update_flops
from trqam.training.batches import FromHost, Streamed
from trqam.training.experience import Offline
from trqam.training.learner import Batches, Learner

SQUARES = {"cpu": (512, 1024, 2048), "cuda": (4096, 8192)}  # the products of which the fastest counts

# Observation, action, and what replaces the profile's values. Where the small size comes from says neither of the
# first two; these give the 1.04 GFLOP an update that it does say.
SIZES: dict[str, tuple[int, int, dict[str, int]]] = {
    "small": (40, 4, {"hidden_width": 128, "hidden_layers": 3, "critics": 2, "batch_size": 128}),
    "paper": (40, 5, {"hidden_width": 512, "hidden_layers": 4, "critics": 10, "batch_size": 256}),
}
SHARED = {"horizon": 5, "flow_steps": 10, "actor_layer_norm": False}


class Turn(NamedTuple):
    """``units`` done (updates or FLOPs) in ``wall`` seconds and ``cpu`` seconds of a processor."""

    units: float
    wall: float
    cpu: float


class Size(Strict):
    """A run, and the environment that it would act in."""

    name: str
    run: Run
    observation: int
    action: int

    @property
    def described(self) -> str:
        """In words, for tables."""
        run = self.run
        return (
            f"observation {self.observation}, chunk {run.horizon * self.action}, {run.hidden_width} x "
            f"{run.hidden_layers}, {run.critics} critics, batch {run.batch_size}, {run.flow_steps} flow steps"
        )


def sized(name: str, run: Run, observation: int, action: int) -> Size:
    """``run`` at the size ``name``; "profile" is its own, with the ``observation`` and ``action`` of its task."""
    if name != "profile":
        observation, action, values = SIZES[name]
        run = msgspec.structs.replace(run, **SHARED, **values)
    return Size(name=name, run=run, observation=observation, action=action)


class Case(Strict):
    """A method at a size, so many replicas stacked, run in a mode on a device."""

    size: Size
    replicas: int = 1
    mode: str = "eager"
    device: str = "cpu"

    @property
    def label(self) -> str:
        """For people."""
        return f"{self.size.name}, {self.size.run.method}, R = {self.replicas}, {self.mode}"


class Same(Offline):
    """An experience whose batch, of random numbers, stays."""

    def __init__(self, agent: Agent, replicas: int):
        self.seeds, self.stage = list(range(replicas)), "bench"
        rng, rows = stream(0, "bench"), (replicas, agent.run.batch_size)
        widths = {"observations": agent.observation_size, "next_observations": agent.observation_size}
        widths["actions"] = agent.chunk_size
        self._batch = {name: rng.random((*rows, width), np.float32) for name, width in widths.items()}
        self._batch |= {name: rng.random(rows, np.float32) for name in ("rewards", "masks")}
        self._batch["valid"] = np.ones(rows, np.float32)

    def batch(self, step: int) -> dict[str, np.ndarray]:
        """Chunks [R, B, ...], all valid."""
        return self._batch


@dataclass
class Updates:
    """Updates of a case, launched as in training, noise included; only the batch is always the same.

    "prepare" sets up; "facts" asks for what no turn changes: peak memory in bytes; operators, FLOPs counted from the
    equations and FLOPs multiplied by one update (both the latter for an agent that `trqam.operations.bench.flops` does
    not know); processor seconds of the first update, which builds what the others run.
    """

    case: Case
    _parts: dict[str, Any] = field(default_factory=dict)

    def __call__(self, message: float | str) -> Any:
        """See above."""
        if message == "prepare":
            keep_freed_memory()  # as training does
            use_precision("float32")
            return self._prepare()
        if message == "facts":
            return self._facts()
        return timed(self._update, float(message), self.case.device)

    def _prepare(self) -> None:
        case, size, device = self.case, self.case.size, torch.device(self.case.device)
        agent = make_agent(size.run, size.observation, size.action)
        state = assemble([agent.initialise(seed, None) for seed in range(case.replicas)], device)
        kind = Streamed if device.type in DEVICES else FromHost
        batches: Batches = kind(agent, Same(agent, case.replicas), device)
        self._parts = {"agent": agent, "state": state, "batches": batches, "step": 0}
        self._parts["learner"] = Learner(agent, state, batches, case.mode, device)
        begun = spent()
        self._update()
        self._parts["built"] = spent() - begun
        for _ in range(1 if case.mode == "eager" else WARM_UP):
            self._update()

    def _update(self) -> float:
        self._parts["step"] += 1
        self._parts["learner"].update(self._parts["step"])
        return 1

    def _facts(self) -> dict[str, float]:
        agent, state, batches, built = (self._parts[key] for key in ("agent", "state", "batches", "built"))
        peak = resident_peak() if self.case.device == "cpu" else torch.cuda.max_memory_allocated()
        with Counts() as counts:
            agent.update(state, *batches())  # as if eager: a graph's launch is one call
        operators, multiplied, one = counts.operators, counts.multiplied, update_flops(agent)
        flops = multiplied if one is None else self.case.replicas * one
        return {"peak": peak, "operators": operators, "flops": flops, "multiplied": multiplied, "built": built}


@dataclass
class Products:
    """Products of large square matrices, one thread; of the sizes tried the turn of the fastest is the answer."""

    device: str
    precision: str
    _matrices: list[Tensor] = field(default_factory=list)

    def __call__(self, message: float | str) -> Turn:
        """See above."""
        if not self._matrices:
            use_precision(self.precision)
            dtype = torch.bfloat16 if self.precision == "bf16" else torch.float32
            self._matrices = [torch.rand(3, n, n, device=self.device).to(dtype) for n in SQUARES[self.device]]
            for matrices in self._matrices:
                _multiply(matrices)
        seconds = float(message) / len(self._matrices)
        turns = [timed(partial(_multiply, matrices), seconds, self.device) for matrices in self._matrices]
        return min(turns, key=lambda turn: seconds_a_unit(turn, self.device))


def _multiply(matrices: Tensor) -> float:
    torch.mm(matrices[0], matrices[1], out=matrices[2])
    return 2.0 * matrices.shape[-1] ** 3


def timed(function: Callable[[], float], seconds: float, device: str) -> Turn:
    """Calls ``function``, which returns the units it has done, for ``seconds`` and at least once.

    A call that is short beside ``seconds`` is not counted the first time: after a pause caches are cold.
    """
    wait_for(device)
    wall, cpu = time.perf_counter(), time.process_time()
    units = function()
    wait_for(device)
    first = time.perf_counter() - wall
    calls = max(1, int(seconds / 10 / first))  # between waits: a GPU must neither idle nor be told hours of work
    if first < seconds / 5:
        wall, cpu, units = time.perf_counter(), time.process_time(), 0.0
    while not units or time.perf_counter() - wall < seconds:
        units += sum(function() for _ in range(calls))
        wait_for(device)
    return Turn(units, time.perf_counter() - wall, time.process_time() - cpu)


def spent() -> float:
    """Processor seconds so far, of this process and those it has waited for, such as a compiler."""
    return sum(os.times()[:4])


def seconds_a_unit(turn: Turn, device: str) -> float:
    """Processor time on a CPU, which other work on the machine disturbs less; time on a GPU."""
    return (turn.cpu if device == "cpu" else turn.wall) / turn.units


def wait_for(device: str) -> None:
    """Until a GPU has done what it was told."""
    if device != "cpu":
        torch.cuda.synchronize()


def use_precision(name: str) -> None:
    """One thread, and whether a GPU may round the factors of float32 products to tf32."""
    torch.set_num_threads(1)
    torch.backends.cuda.matmul.allow_tf32 = name == "tf32"


def resident_peak() -> int:
    """The most memory that this process has had, in bytes; with the libraries that it maps."""
    try:  # not `getrusage`, whose answer a process inherits from the one that started it
        status = Path("/proc/self/status").read_text()
    except OSError:  # not Linux
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))
