"""What a configuration will cost before it starts: jobs, steps, disk, memory, and hours from rates measured here.

The rates are those of this machine, on one thread: an update of each agent on each kind of domain (width, layers,
horizon and action size), and a step of each environment; in CPU time, so that a busy machine changes little. One kind
is measured with all agents and the others with one, whose ratio stands for the rest. Evaluations are counted with
episodes of full length, so hours are an upper end.
"""

import math
import os
import platform
import resource
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from trqam.agents import make_agent
from trqam.agents.base import Agent
from trqam.config.load import Config, Run
from trqam.config.wording import count, thousands, weight
from trqam.data.fetch import official_files
from trqam.data.generate import EPISODE_TRANSITIONS, STATE
from trqam.data.store import dtype
from trqam.environments import ogbench_tasks
from trqam.experiment.resources import DEFAULTS, Request, Requests
from trqam.maths.streams import stream
from trqam.networks.replicas import assemble, device_of, replicas_at_once
from trqam.training.batches import draw_noise

FLOAT = 4  # bytes
LABELS = 2 * ogbench_tasks.TASKS + 1  # a row's rewards and masks of every task, and its terminal
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

    def counts(self, seconds: float, state: float) -> None:
        """One job more, by its duration and its learners' state."""
        self.longest, self.state = max(self.longest, seconds), max(self.state, state)


@dataclass
class Costs:
    """What a configuration costs."""

    data: Stage
    cloning: Stage
    offline: Stage
    online: Stage
    evaluation: Stage
    disk: float = 0.0  # bytes of all training's checkpoints, were none reduced or deleted

    @property
    def stages(self) -> list[Stage]:
        """The lines of the plan."""
        return [self.data, self.cloning, self.offline, self.online, self.evaluation]


def plan(config: Config, cores: int | None = None, costs: Costs | None = None) -> list[str]:
    """The lines of the plan; measures first, unless given the ``costs``."""
    return _written(config, costs or measure(config), cores or len(os.sched_getaffinity(0)))


def measure(config: Config) -> Costs:
    """Measures for a while (a minute or two at the paper's scale), and says so on stderr."""
    spaces = {domain: _spaces(domain) for domain in config.task_domains}
    rates = _Rates(config, spaces)
    costs = Costs(_datasets(config, spaces), Stage("behaviour cloning"), Stage("offline"), Stage("online"),
                  Stage("evaluation (in those jobs)"))  # fmt: skip
    for domain in config.task_domains:
        run, cloning = config.pretraining(domain), costs.cloning
        seconds, whole = run.pretrain_steps * rates.update(run, 1), 4 * _policy_bytes(rates.agent(run))
        cloning.jobs += 1
        cloning.updates += run.pretrain_steps
        cloning.seconds += seconds
        cloning.disk += whole
        cloning.counts(seconds, whole)
    for task, method in config.cells:
        run = config.run(task, method)
        whole = 4 * _policy_bytes(rates.agent(run))  # parameters, targets and two moments, at most
        costs.disk += config.scale.seeds * whole
        for stage, steps in ((costs.offline, run.offline_steps), (costs.online, run.online_steps)):
            if stage.name in config.stages(method):
                _add_cell(config, run, stage, steps, whole, costs.evaluation, rates)
    return costs


def _add_cell(
    config: Config, run: Run, stage: Stage, steps: int, whole: float, evaluation: Stage, rates: "_Rates"
) -> None:
    """Adds one stage of one cell, all its seeds, each ``whole`` bytes."""
    scale, space = config.scale, rates.spaces[run.domain]
    seeds, block = scale.seeds, min(scale.seeds, scale.seeds_per_job)
    at_once = min(replicas_at_once(scale.replicas, run, device_of(scale.device)), block)
    learning = steps * rates.update(run, at_once)
    stepping = steps / space.steps_per_second if stage.name == "online" else 0.0
    evaluations = steps // run.eval_interval + (stage.name == "offline")
    seen = evaluations * run.eval_episodes * space.episode
    evaluating = seen / space.steps_per_second
    stage.jobs += math.ceil(seeds / scale.seeds_per_job)
    stage.updates += seeds * max(steps - run.online_start * (stage.name == "online"), 0)
    stage.environment_steps += seeds * steps if stage.name == "online" else 0
    stage.seconds += seeds * (learning + stepping)
    stage.disk += seeds * (_kept_bytes(rates.agent(run)) if scale.keep == "policy" else whole)
    stage.counts(block * (learning + (stepping + evaluating) / max(scale.env_workers, 1)), at_once * whole)
    evaluation.environment_steps += seeds * seen
    evaluation.seconds += seeds * evaluating


def requests(config: Config, costs: Costs, longest: int | None = None) -> Requests:
    """What each kind of job should ask a cluster for that lets a job run ``longest`` minutes at most (None: any).

    Half as much again as was measured, and ten minutes to start; an environment's process counts as much as this one,
    which is more than it takes. A download and a film strip are not measured.
    """
    here, workers = _resident_bytes(), config.scale.env_workers

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


def _written(config: Config, costs: Costs, cores: int) -> list[str]:
    """The table and what follows from it."""
    lines = costs.stages
    final = sum(line.disk for line in lines)
    peak = costs.data.disk + costs.cloning.disk + max(costs.disk, final)
    largest = max(line.state for line in lines)
    header = ("", "jobs", "gradient steps", "environment steps", "disk", "hours on one core")
    rows = [header] + [
        (
            line.name, *(thousands(n) if n else "" for n in (line.jobs, line.updates, line.environment_steps)),
            weight(line.disk) if line.disk else "", f"{line.seconds / 3600:,.1f}",
        )
        for line in lines
    ]  # fmt: skip
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    aligned = [[cell.rjust(width) for cell, width in zip(row, widths, strict=True)] for row in rows]
    table = ["  ".join([row[0].ljust(widths[0]), *cells[1:]]) for row, cells in zip(rows, aligned, strict=True)]
    total = sum(line.seconds for line in lines)
    wall = total / cores
    measured = _resident_bytes()
    duration = f"{wall / 86400:.1f} days" if wall > 2 * 86400 else f"{wall / 3600:.1f} hours"
    scale, device = config.scale, device_of(config.scale.device)
    return [
        f"{config.path}: {count(len(config.tasks), 'task')}, {count(scale.seeds, 'seed')}, "
        f"{count(len(config.cells), 'cell')} (task and method)",
        "",
        *table,
        "",
        f"time    {total / 3600:,.1f} core hours; {duration} on {count(cores, 'core')} at best (one job a core); "
        f"rates measured here on {device.type}",
        f"disk    {weight(final)} when done (keep: {scale.keep}), {weight(peak)} at most on the way",
        f"memory  {weight(measured + largest)} for the largest job, about (this process while measuring, and the state "
        "of its seeds)",
    ]


def _datasets(config: Config, spaces: dict[str, Spaces]) -> Stage:
    """Generated sets take the environment's time; official ones a download, which is not timed."""
    stage = Stage(f"datasets ({config.scale.data_source})")
    for domain in config.task_domains:
        space, generated = spaces[domain], config.scale.data_source == "generated"
        rows = ROWS * len(official_files(domain, ""))
        if generated:
            transitions = config.scale.transitions
            rows = transitions + math.ceil(transitions / EPISODE_TRANSITIONS)  # an episode has one row more
            stage.environment_steps += rows
            stage.seconds += rows / space.steps_per_second
            stage.counts(rows / space.steps_per_second, 0.0)
        stage.jobs += 1
        stage.disk += rows * (FLOAT * (space.observation + space.action + LABELS) + generated * space.state)
    return stage


def _spaces(domain: str) -> Spaces:
    """Sizes of the domain's environment, and its speed under random actions."""
    print(f"measuring the environment of {domain}", file=sys.stderr)
    env = ogbench_tasks.make(ogbench_tasks.task_name(domain, 1))
    ogbench_tasks.reset(env, 0)
    rng, steps, began = np.random.default_rng(0), 0, time.process_time()
    while time.process_time() < began + SECONDS:
        ogbench_tasks.step(env, rng.uniform(-1, 1, env.action_space.shape))
        steps += 1
    rate = steps / (time.process_time() - began)
    _, _, _, _, details = env.step(np.zeros(env.action_space.shape))
    stored = {key: details[f"prev_{key}"] for key in STATE if f"prev_{key}" in details}
    state = sum(values.size * np.dtype(dtype(key)).itemsize for key, values in stored.items())
    sizes = env.observation_space.shape[0], env.action_space.shape[0]
    space = Spaces(*sizes, ogbench_tasks.max_episode_steps(env), rate, state)
    env.close()
    return space


class _Rates:
    """Seconds of an update of one seed, measured where needed."""

    def __init__(self, config: Config, spaces: dict[str, Spaces]):
        self.config, self.spaces = config, spaces
        self.device = device_of(config.scale.device)
        self._measured: dict[tuple, float] = {}
        cells = [config.run(task, method) for task, method in config.cells]
        self._reference = next((run for run in cells if run.agent == "trqam"), cells[0])

    def agent(self, run: Run) -> Agent:
        """The run's agent, without parameters."""
        space = self.spaces[run.domain]
        return make_agent(run, space.observation, space.action)

    def update(self, run: Run, at_once: int) -> float:
        """Seconds an update and seed: the reference agent's on this kind of domain, times the agent's ratio to it."""
        domain, method = self._reference.domain, self._reference.method
        kind, shared = self._kind(run), self._kind(self._reference)
        if run.agent == "behaviour_cloning" or run.offline_steps == 0 or kind == shared:
            return self._seconds(run, at_once)
        there = self.config.run(next(t for t in self.config.tasks if t.startswith(run.domain)), method)
        alike = [self.config.run(t, m) for t, m in self.config.cells if m == run.method and t.startswith(domain)]
        if not alike:
            return self._seconds(run, at_once)
        return (
            self._seconds(there, at_once) * self._seconds(alike[0], at_once) / self._seconds(self._reference, at_once)
        )

    def _kind(self, run: Run) -> tuple:
        space = self.spaces[run.domain]
        return (run.horizon, run.hidden_width, run.hidden_layers, run.actor_layer_norm, space.action)

    def _seconds(self, run: Run, at_once: int) -> float:
        key = (run.agent, *self._kind(run), at_once)
        if key not in self._measured:
            label = f"{run.agent}, {run.hidden_layers} x {run.hidden_width}, {count(at_once, 'seed')} at once"
            print(f"measuring an update of {label}", file=sys.stderr)
            self._measured[key] = _time_updates(self.agent(run), run, at_once, self.device) / at_once
        return self._measured[key]


def _time_updates(agent: Agent, run: Run, at_once: int, device: torch.device) -> float:
    """The faster of two updates, after one that warms up."""
    seeds = list(range(at_once))
    state = assemble([agent.initialise(seed, None) for seed in seeds], device)
    size, rng = (at_once, run.batch_size), stream(0, "plan")
    shapes = {"observations": (agent.observation_size,), "next_observations": (agent.observation_size,)}
    shapes |= {"actions": (agent.chunk_size,), "rewards": (), "masks": (), "valid": ()}
    batch = {k: torch.from_numpy(rng.random((*size, *shape), np.float32)).to(device) for k, shape in shapes.items()}
    times, clock = [], time.process_time if device.type == "cpu" else time.perf_counter
    for step in range(3):
        began = clock()
        noise = draw_noise(agent, seeds, "plan", step)
        metrics = agent.update(state, batch, {k: v.to(device) for k, v in noise.items()})
        metrics["loss"].sum().item()  # waits for a GPU
        times.append(clock() - began)
    return min(times[1:])


def _resident_bytes() -> float:
    """The most that this process has held in memory."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _policy_bytes(agent: Agent) -> float:
    """All parameters of one seed."""
    return FLOAT * _numbers(shape for network in agent.networks.values() for shape in network.shapes().values())


def _kept_bytes(agent: Agent) -> float:
    """What `keep: policy` leaves of one seed."""
    kept = (agent.networks[name.partition("/")[2]] for name in agent.acts_with)
    return FLOAT * _numbers(shape for network in kept for shape in network.shapes().values())


def _numbers(shapes: Iterable[tuple[int, ...]]) -> int:
    return sum(math.prod(shape) for shape in shapes)
