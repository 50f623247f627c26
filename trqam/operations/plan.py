"""What a configuration will cost before it starts: jobs, steps, disk, memory, and hours from rates measured here.

The rates are those of this machine, on one thread: an update of each agent on each kind of domain (width, layers,
horizon and action size), as `trqam bench` times it, and a step of each environment; in CPU time, so that a busy machine
changes little. One kind is measured with all agents and the others with one, whose ratio stands for the rest.
Evaluations are counted with episodes of full length, so hours are an upper end.
"""

import math
import platform
import sys
import time
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch

from trqam.agents import make_agent
from trqam.agents.base import Agent
from trqam.config.load import Config, Run, tasks_of
from trqam.config.wording import count, methods_without_tasks, thousands, weight
from trqam.data.fetch import official_files
from trqam.data.generate import EPISODE_TRANSITIONS, STATE
from trqam.data.store import dtype
from trqam.environments import environment, processes
from trqam.experiment.resources import DEFAULTS, Request, Requests
from trqam.networks.capture import kind_of
from trqam.networks.replicas import device_of, replicas_at_once
from trqam.operations.bench.cases import Case, Size, Updates, resident_peak, seconds_a_unit
from trqam.operations.status import span

FLOAT = 4  # bytes
SECONDS = 0.5  # that an environment is stepped
ROWS = 1_000_000  # of an official file or shard
MARGIN = 1.5  # of what a job asks for, over what was measured


class Spaces(NamedTuple):
    """What a domain's environment takes and gives, and how fast."""

    observation: int
    action: int
    episode: int  # steps, at most
    steps_per_second: float
    state: int  # bytes a row of its full state, which generated sets store beside the observation


@dataclass
class Stage:
    """The cost of one line of the plan; seconds on one thread."""

    name: str
    jobs: int = 0
    updates: int = 0
    environment_steps: int = 0
    disk: float = 0.0  # bytes left when all is done
    seconds: float = 0.0
    longest: float = 0.0  # seconds of its longest job, environments stepped by all its workers
    state: float = 0.0  # bytes that the learners of its largest job hold

    def add(self, jobs: int, seconds: float, disk: float, longest: float, state: float) -> None:
        """Jobs more, with their totals, the duration of each and its learners' state."""
        self.jobs, self.seconds, self.disk = self.jobs + jobs, self.seconds + seconds, self.disk + disk
        self.longest, self.state = max(self.longest, longest), max(self.state, state)

    @property
    def row(self) -> list[str]:
        """In words, for the table."""
        counts = [thousands(n) if n else "" for n in (self.jobs, self.updates, self.environment_steps)]
        return [self.name, *counts, weight(self.disk) if self.disk else "", f"{self.seconds / 3600:,.1f}"]


@dataclass
class Costs:
    """What a configuration costs."""

    data: Stage
    cloning: Stage = field(default_factory=lambda: Stage("behaviour cloning"))
    offline: Stage = field(default_factory=lambda: Stage("offline"))
    online: Stage = field(default_factory=lambda: Stage("online"))
    evaluation: Stage = field(default_factory=lambda: Stage("evaluation (in those jobs)"))
    disk: float = 0.0  # bytes of all training's checkpoints, were none reduced or deleted

    @property
    def stages(self) -> list[Stage]:
        """The lines of the plan."""
        return [self.data, self.cloning, self.offline, self.online, self.evaluation]


def plan(config: Config, cores: int | None = None, costs: Costs | None = None) -> list[str]:
    """The lines of the plan, a table and what follows from it; measures first, unless given the ``costs``."""
    costs, cores = costs or measure(config), cores or processes.cores()
    lines, scale = costs.stages, config.scale
    final, total = sum(line.disk for line in lines), sum(line.seconds for line in lines)
    peak = costs.data.disk + costs.cloning.disk + max(costs.disk, final)
    memory = resident_peak() + max(line.state for line in lines)
    rows = [["", "jobs", "gradient steps", "environment steps", "disk", "hours on one core"]]
    rows += [line.row for line in lines]
    first, *widths = (max(map(len, column)) for column in zip(*rows, strict=True))
    table = [
        "  ".join([row[0].ljust(first), *(cell.rjust(width) for cell, width in zip(row[1:], widths, strict=True))])
        for row in rows
    ]
    compiling = "step    compiled: each training first compiles for minutes, which the time above leaves out"
    return [
        f"{config.path}: {count(len(config.tasks), 'task')}, {count(scale.seeds, 'seed')}, "
        f"{count(len(config.cells), 'cell')} (task and method)",
        *methods_without_tasks(config),
        "",
        *table,
        "",
        f"time    {total / 3600:,.1f} core hours; {span(total / cores)} on {count(cores, 'core')} at best "
        f"(one job a core); rates measured here on {device_of(scale.device).type}",
        f"disk    {weight(final)} when done (keep: {scale.keep}), {weight(peak)} at most on the way",
        f"memory  {weight(memory)} for the largest job, about (this process while measuring, and the state of its "
        "seeds)",
        *[compiling] * (scale.step == "compiled"),
    ]


def measure(config: Config) -> Costs:
    """Measures for a while (a minute or two at the paper's scale), and says so on stderr."""
    spaces = {domain: _spaces(domain) for domain in config.task_domains}
    rates = _Rates(config, spaces)
    costs = Costs(_datasets(config, spaces))
    for name in config.pretrainings:
        run = config.pretraining(name)
        seconds, whole = run.pretrain_steps * rates.update(run, 1), 4 * _bytes(rates.agent(run))
        costs.cloning.updates += run.pretrain_steps
        costs.cloning.add(1, seconds, whole, seconds, whole)
    for task, method in config.cells:
        run = config.run(task, method)
        whole = 4 * _bytes(rates.agent(run))  # parameters, targets and two moments, at most
        costs.disk += config.scale.seeds * whole
        for stage, steps in ((costs.offline, run.offline_steps), (costs.online, run.online_steps)):
            if stage.name in config.stages(method):
                _add_cell(config, run, stage, steps, whole, costs.evaluation, rates)
    return costs


def _add_cell(
    config: Config, run: Run, stage: Stage, steps: int, whole: float, evaluation: Stage, rates: "_Rates"
) -> None:
    """Adds one stage of one cell, all its seeds, each ``whole`` bytes."""
    scale, space, online = config.scale, rates.spaces[run.domain], stage.name == "online"
    seeds, block = scale.seeds, min(scale.seeds, scale.seeds_per_job)
    at_once = min(replicas_at_once(scale.replicas, run, device_of(scale.device)), block)
    learning = steps * rates.update(run, at_once)
    stepping = steps / space.steps_per_second if online else 0.0
    seen = (steps // run.eval_interval + (not online)) * run.eval_episodes * space.episode
    evaluating = seen / space.steps_per_second
    stage.updates += seeds * max(steps - run.online_start * online, 0)
    stage.environment_steps += seeds * steps * online
    kept = _bytes(rates.agent(run), acting=True) if scale.keep == "policy" else whole
    longest = block * (learning + (stepping + evaluating) / max(scale.env_workers, 1))
    jobs = math.ceil(seeds / scale.seeds_per_job)
    stage.add(jobs, seeds * (learning + stepping), seeds * kept, longest, at_once * whole)
    evaluation.environment_steps += seeds * seen
    evaluation.seconds += seeds * evaluating


def requests(config: Config, costs: Costs, longest: int | None = None) -> Requests:
    """What each kind of job should ask a cluster for that lets a job run ``longest`` minutes at most (None: any).

    Half as much again as was measured, and ten minutes to start; an environment's process counts as much as this one,
    which is more than it takes. A download and a film strip are not measured.
    """
    here, workers = resident_peak(), config.scale.env_workers

    def request(stage: Stage, workers: int = 0) -> Request:
        memory = here * (1 + workers) + stage.state
        return Request(runtime=math.ceil(MARGIN * stage.longest / 60) + 10, mem_mb=math.ceil(MARGIN * memory / 1e6))

    return Requests(
        measured_on=f"{platform.node()} ({device_of(config.scale.device).type})",
        longest=longest,
        dataset=request(costs.data) if config.scale.data_source == "generated" else DEFAULTS.dataset,
        pretrain=request(costs.cloning),
        offline=request(costs.offline, workers),
        online=request(costs.online, workers),
        rollouts=DEFAULTS.rollouts,
    )


def _datasets(config: Config, spaces: dict[str, Spaces]) -> Stage:
    """Generated sets take the environment's time; official ones a download, which is not timed."""
    stage, generated = Stage(f"datasets ({config.scale.data_source})"), config.scale.data_source == "generated"
    transitions = config.scale.transitions
    for domain in config.task_domains:
        space, rows, seconds = spaces[domain], ROWS * len(official_files(domain, "")), 0.0
        if generated:
            rows = transitions + math.ceil(transitions / EPISODE_TRANSITIONS)  # an episode has one row more
            seconds = rows / space.steps_per_second
            stage.environment_steps += rows
        labels = 2 * len(tasks_of(domain)) + 1  # a row's rewards and masks of every task, and its terminal
        row = FLOAT * (space.observation + space.action + labels) + generated * space.state
        stage.add(1, seconds, rows * row, seconds, 0.0)
    return stage


def _spaces(domain: str) -> Spaces:
    """Sizes of the domain's environment, and its speed under random actions."""
    print(f"measuring the environment of {domain}", file=sys.stderr)
    task = tasks_of(domain)[0]
    observation, action = environment.sizes(task)
    with closing(environment.make(task)) as env:
        environment.reset(env, 0)
        rng, steps, began = np.random.default_rng(0), 0, time.process_time()
        while time.process_time() < began + SECONDS:
            environment.step(env, rng.uniform(-1, 1, action))
            steps += 1
        rate = steps / (time.process_time() - began)
        details = env.step(np.zeros(action))[-1]
        stored = {key: details[f"prev_{key}"] for key in STATE if f"prev_{key}" in details}
        state = sum(values.size * np.dtype(dtype(key)).itemsize for key, values in stored.items())
        return Spaces(observation, action, environment.max_episode_steps(env), rate, state)


class _Rates:
    """Seconds of an update of one seed, measured where needed."""

    def __init__(self, config: Config, spaces: dict[str, Spaces]):
        self.config, self.spaces = config, spaces
        self.device = device_of(config.scale.device).type
        self._measured: dict[tuple, float] = {}
        cells = [config.run(task, method) for task, method in config.cells]
        self._reference = next((run for run in cells if run.agent == "trqam"), cells[0])

    def agent(self, run: Run) -> Agent:
        """The run's agent, without parameters."""
        return make_agent(run, self.spaces[run.domain].observation, self.spaces[run.domain].action)

    def update(self, run: Run, at_once: int) -> float:
        """Seconds an update and seed: the reference agent's on this kind of domain, times the agent's ratio to it."""
        reference = self._reference
        if run.offline_steps == 0 or self._kind(run) == self._kind(reference):
            return self._seconds(run, at_once)
        tasks = {task: method for task, method in self.config.cells if method == run.method}
        alike = next((task for task in tasks if task.startswith(reference.domain)), None)
        if alike is None:
            return self._seconds(run, at_once)
        there = self.config.run(next(t for t in self.config.tasks if t.startswith(run.domain)), reference.method)
        ratio = self._seconds(self.config.run(alike, run.method), at_once) / self._seconds(reference, at_once)
        return self._seconds(there, at_once) * ratio

    def _kind(self, run: Run) -> tuple:
        action = self.spaces[run.domain].action
        return (run.horizon, run.hidden_width, run.hidden_layers, run.actor_layer_norm, action)

    def _seconds(self, run: Run, at_once: int) -> float:
        key = (run.agent, *self._kind(run), at_once)
        if key not in self._measured:
            label = f"{run.agent}, {run.hidden_layers} x {run.hidden_width}, {count(at_once, 'seed')} at once"
            print(f"measuring an update of {label}", file=sys.stderr)
            space = self.spaces[run.domain]
            size = Size(name="plan", run=run, observation=space.observation, action=space.action)
            updates = run.offline_steps or run.pretrain_steps  # cloning has none of the former
            mode = kind_of(self.config.scale.step, torch.device(self.device), updates, run.hidden_width)
            case = Case(size=size, replicas=at_once, mode=mode, device=self.device)
            self._measured[key] = _time_updates(case) / at_once
        return self._measured[key]


def _time_updates(case: Case) -> float:
    """Seconds of an update of all its seeds: the faster of two, after two that warm up."""
    updates = Updates(case)
    updates("prepare")
    return min(seconds_a_unit(updates(0.0), case.device) for _ in range(2))


def _bytes(agent: Agent, acting: bool = False) -> float:
    """All parameters of one seed, or what `keep: policy` leaves of them."""
    names: Iterable[str] = agent.networks
    if acting:
        names = (name.partition("/")[2] for name in agent.acts_with)
    return FLOAT * sum(math.prod(shape) for name in names for shape in agent.networks[name].shapes().values())
