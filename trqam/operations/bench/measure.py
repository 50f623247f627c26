"""What `trqam bench` measures, in groups: the cases of one take turns, with the machine's matrix products among them.

Other work on a machine comes and goes within seconds, so only numbers that were taken in turns are compared. One line
of stderr tells of each group.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import chain, product
from typing import Any

import torch

from trqam.config.errors import UserError
from trqam.config.load import Config
from trqam.config.wording import count
from trqam.environments import environment
from trqam.environments.processes import Lost, Process, cores
from trqam.networks.capture import CPU_UPDATES, kind_of
from trqam.networks.replicas import device_of, replicas_at_once
from trqam.operations.bench import Options, peer, record
from trqam.operations.bench.cases import Case, Products, Size, Updates, sized
from trqam.operations.bench.record import Concurrent, Peak, Record

REFERENCE = "trqam"  # the method whose replicas and modes are measured
REPLICAS = {"cpu": (1, 2, 4, 8), "cuda": (1, 2, 4, 8, 16, 32)}
PROCESSES, LONGER = 2, 4  # at once, and for so many times a turn, which their starts and ends blur
UNFINISHED = "what was to come after: the benchmark was stopped"
PATIENCE = 3600.0  # seconds for an answer: a compiled step takes minutes at first


def measure(config: Config, options: Options, save: Callable[[Record], None]) -> Record:
    """All of it: minutes. What has been found is saved after every part, in case that one is the last."""
    bench, load = _Bench(config, options), os.getloadavg()[0]
    for _ in bench.beside() if options.peer else chain(bench.updates(), bench.concurrency()):
        save(bench.record(load, [UNFINISHED]))
    found = bench.record(load, [])
    save(found)
    return found


class _Bench:
    """One run: its cases by group, and what has been found."""

    def __init__(self, config: Config, options: Options):
        self.config, self.options = config, options
        self.device = device_of(options.device).type
        if self.device == "cuda" and not torch.cuda.is_available():
            raise UserError("--device cuda: PyTorch sees no GPU here; leave it out")
        self.task = config.tasks[0]
        if options.peer:
            self._check_peer()
        agents: dict[str, str] = {}
        for method in (method for task, method in config.cells if task == self.task):
            agents.setdefault(config.methods[method].agent, method)
        written = {agent: method for agent, method in agents.items() if not options.peer or agent in peer.AGENTS}
        self.methods = options.methods or tuple(written.values())
        spaces = environment.sizes(self.task)
        self.sizes = {
            (name, method): sized(name, config.run(self.task, method), *spaces)
            for name in options.sizes
            for method in dict.fromkeys((*self.methods, REFERENCE))
        }
        self.found: dict[str, list] = {"peaks": [], "rows": [], "concurrent": []}
        self.skipped: dict[str, None] = {}  # in order, each once

    def updates(self) -> Iterator[None]:
        """Group by group: replicas and modes of one method; and all methods beside it."""
        for name in self.options.sizes:
            for method in self.methods if self.options.full else (REFERENCE,):
                self.group(f"{name}: replicas of {method}", self._variants(self.sizes[name, method]))
                yield
            if len(self.methods) > 1 and not self.options.full:
                sizes = [self.sizes[name, method] for method in self.methods]
                cases = [Case(size=size, mode=self._trained(size), device=self.device) for size in sizes]
                self.group(f"{name}: methods", cases)
                yield

    def _check_peer(self) -> None:
        """A UserError unless all that is asked for can be measured beside JAX."""
        peer.refuse_missing()
        if self.device != "cpu":
            raise UserError("--peer: JAX is measured on the CPU; leave out --device")
        for method in self.options.methods or ():
            if self.config.run(self.task, method).agent not in peer.AGENTS:
                raise UserError(f"--peer: {method} is not written in JAX; these agents are: {', '.join(peer.AGENTS)}")

    def beside(self) -> Iterator[None]:
        """The same update in JAX beside every case, all on one core; few at a time, for each takes memory."""
        wanted = product(self.options.sizes, self.methods, self.options.replicas or peer.REPLICAS)
        with peer.one_core():
            for name, method, replicas in wanted:
                if (name, replicas) == peer.LONG and not self.options.replicas:
                    self.skip(f"{name}, R = {replicas}", "minutes a method, and gigabytes; ask for it with --replicas")
                    continue
                size = self.sizes[name, method]
                theirs = Case(size=size, replicas=replicas, mode=peer.MODE, device=self.device)
                ours = self._variants(size, (replicas,))
                self.group(f"{name}: {method} beside JAX, R = {replicas}", [*ours, theirs])
                yield

    def _variants(self, size: Size, replicas: tuple[int, ...] = ()) -> list[Case]:
        """Every replicas x mode that this device supports; says what it leaves out."""
        modes = self.options.modes or (*["eager"] * (self.device == "cuda"), self._trained(size))
        if "compiled" not in modes:
            self.skip("compiled", "compiling takes minutes a case; ask for it with --modes")
        kinds = product(modes, replicas or self.options.replicas or REPLICAS[self.device])
        return [Case(size=size, replicas=count, mode=mode, device=self.device) for mode, count in kinds]

    def _trained(self, size: Size) -> str:
        """How a long training launches its steps."""
        return kind_of("auto", torch.device(self.device), CPU_UPDATES, size.run.hidden_width)

    def skip(self, what: str, why: str) -> None:
        """Remembers, once, what is not measured."""
        self.skipped[f"{what}: {why}"] = None

    def group(self, name: str, cases: list[Case]) -> None:
        """Turns of all cases and of the products, one after another, round and round."""
        if not cases:
            return
        with ExitStack() as stack:
            products = self._start(stack, Products(self.device, "float32"), "products")
            started: list[tuple[Case, Process]] = []
            for case in cases:
                say(f"{name}: setting up {case.label}")
                function: Updates | peer.Peer = peer.Peer(case) if case.mode == peer.MODE else Updates(case)
                process = self._start(stack, function, case.label)
                try:
                    ask(process, "prepare")
                except RuntimeError as error:  # not every mode and precision is supported everywhere
                    self.skip(case.label, str(error).strip().splitlines()[-1])
                    process.close()
                    continue
                started.append((case, process))
            say(f"{name}: {count(self.options.repeats, 'turn')} of each")
            everyone, seconds = [products, *(process for _, process in started)], self.options.seconds
            rounds = [[ask(process, seconds) for process in everyone] for _ in range(self.options.repeats)]
            beside, *turns = (list(column) for column in zip(*rounds, strict=True))
            self.found["peaks"].append(Peak(group=name, device=self.device, turns=beside))
            for (case, process), found in zip(started, turns, strict=True):
                self.found["rows"].append(record.row(name, case, ask(process, "facts"), found))

    def concurrency(self) -> Iterator[None]:
        """Size by size: one process beside none, and two at once: what a job a core brings."""
        if self.device != "cpu" or cores() < PROCESSES:
            self.skip(f"{PROCESSES} processes at once", f"{cores()} core, or a GPU, which they would share")
            return
        seconds = LONGER * self.options.seconds
        for name in self.options.sizes:
            case = Case(size=self.sizes[name, REFERENCE], device=self.device)
            say(f"{name}: {PROCESSES} processes at once against one")
            with ExitStack() as stack:
                processes = [self._start(stack, Updates(case), f"process {n}") for n in range(PROCESSES)]
                for process in processes:
                    ask(process, "prepare")
                alone, together = [], []
                for _ in range(self.options.repeats):
                    alone.append(ask(processes[0], seconds))
                    for process in processes:
                        process.send(seconds)
                    together.append([process.receive(PATIENCE) for process in processes])
            both = Concurrent(size=name, method=REFERENCE, alone=alone, together=together)
            self.found["concurrent"].append(both)
            yield

    def record(self, load: float, missing: list[str]) -> Record:
        """All that was found, and what is ``missing`` beside what was skipped; ``load`` is that of the beginning."""
        sizes, device = {name: self.sizes[name, REFERENCE] for name in self.options.sizes}, device_of(self.device)
        return record.make(
            load=[load, os.getloadavg()[0]],
            repeats=self.options.repeats,
            seconds=self.options.seconds,
            sizes={name: size.described for name, size in sizes.items()},
            packed={name: replicas_at_once("auto", size.run, device) for name, size in sizes.items()},
            skipped=[*self.skipped, *missing],
            **{name: [*parts] for name, parts in self.found.items()},
        )

    def _start(self, stack: ExitStack, function: Updates | Products | peer.Peer, name: str) -> Process:
        process = Process(function, name)
        stack.callback(process.close)
        return process


def ask(process: Process, message: float | str) -> Any:
    """The answer of a process."""
    try:
        process.send(message)
        return process.receive(PATIENCE)
    except Lost as loss:
        raise UserError(f"{loss}; measure less at once, see `trqam bench --help`") from loss


def say(line: str) -> None:
    """To people, who wait."""
    print(line, file=sys.stderr, flush=True)
