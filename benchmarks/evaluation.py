"""Evaluation by worker processes on all domains: the same outcome of every episode, and how many episodes a second.

    python -m benchmarks.evaluation [--domains cube-double-play ...] [--workers 0 1 2 4 8] [--policy linear|network]
                                    [--seeds 1] [--episodes 16] [--environments 8] [--steps 40] [--repeats 3]

For each domain of the paper: whether the policy saw the same observations as with the first number of workers, in every
bit of every episode, and success, length and return are the same; episodes a second; that as a factor; and the
processor seconds an episode takes, workers included, which other work on the machine disturbs less. Medians.
Episodes, which are cut to some steps, and environments are those of each seed. Environments are made in a first
evaluation that is compared but not timed; the timed ones are interleaved. The row ``plain`` is OGBench as its users
step it: one environment in this process (made as ours are, without Gymnasium's checker), step after step, as many
episodes of as many steps, without a stack or seeds, and ``linear`` for a policy. *by plain* is its episodes a second
as 1.

``linear`` is a policy that costs nothing and acts on observations, so that environments are what is measured and a
difference in one step becomes one in all that follow; ``network`` is TRQAM's with the widths of config/paper.yaml and
random weights, in the calling process on the CPU.
"""

import argparse
import hashlib
import os
import time
from contextlib import ExitStack, closing
from functools import cache
from statistics import median
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import gymnasium
import numpy as np
import psutil

from trqam.config import load
from trqam.config.load import Config
from trqam.environments import environment, ogbench_tasks
from trqam.environments.evaluator import Act, Evaluator
from trqam.environments.processes import cores

WORKERS = [0, 1, 2, 4, 8]


class Row(NamedTuple):
    """Evaluation by so many worker processes (0: by this one; plain: OGBench alone)."""

    workers: int | str
    identical: bool
    episodes: float  # a second
    processor: float  # seconds an episode


def linear(observations: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """The hyperbolic tangent of a fixed linear map, plus noise."""
    return np.tanh(observations @ weights(observations.shape[-1], noise.shape[-1]) + noise)


@cache
def weights(*size: int) -> np.ndarray:
    """Of ``linear``; drawn once, since a plain loop asks at every step and a stack once a chunk."""
    return np.random.default_rng(0).normal(0, 0.3, size).astype(np.float32)


def plain(env: gymnasium.Env, episodes: int, steps: int) -> None:
    """Episodes as OGBench's users write them, cut to some steps."""
    assert env.action_space.shape
    noise = np.zeros(env.action_space.shape, np.float32)
    for _ in range(episodes):
        observation, _ = env.reset()
        for _ in range(steps):
            observation, _, terminated, truncated, _ = env.step(linear(observation, noise))
            if terminated or truncated:
                break


def fingerprint(evaluator: Evaluator, act: Act, step: int) -> str:
    """SHA-256 of all that the policy saw in an evaluation, and of all episodes' outcomes."""
    digest = hashlib.sha256()

    def witness(observations: np.ndarray, noise: np.ndarray) -> np.ndarray:
        digest.update(observations.tobytes())
        return act(observations, noise)

    for outcome in evaluator.evaluate(witness, step):
        digest.update(np.stack(outcome).tobytes())
    return digest.hexdigest()


def processor_seconds(evaluator: Evaluator) -> float:
    """Used so far by this process and an evaluator's workers."""
    times = [psutil.Process(pid).cpu_times() for pid in evaluator.fleet.pids]
    return time.process_time() + sum(used.user + used.system for used in times)


def paper() -> Config:
    """The paper's domains and horizons."""
    return load.load("config/paper.yaml")


def network(loaded: Config, task: str) -> tuple[Act, int]:
    """TRQAM's policy before training, and the normal numbers that it takes for a chunk."""
    import torch

    from trqam.agents import make_agent
    from trqam.data.dataset import UNCHANGED
    from trqam.networks.replicas import assemble
    from trqam.training.learner import Policy

    torch.set_num_threads(1)
    agent = make_agent(loaded.run(task, "trqam"), *environment.sizes(task))
    policy = Policy(agent, assemble([agent.initialise(0, None)]), UNCHANGED, torch.device("cpu"))
    return policy.act, agent.noise_size


def measure(domain: str, options: argparse.Namespace) -> list[Row]:
    """A row for each count of workers."""
    loaded, task = paper(), ogbench_tasks.task_name(domain, 1)
    act, noise_size = network(loaded, task) if options.policy == "network" else (linear, None)
    shape = loaded.run(task, "trqam").horizon, environment.sizes(task)[1], noise_size, options.steps
    seen: dict[int, list[str]] = {workers: [] for workers in options.workers}
    timed: dict[int, list[tuple[float, float]]] = {workers: [] for workers in options.workers}
    seeds, episodes = range(options.seeds), options.seeds * options.episodes
    alone: list[tuple[float, float]] = []
    with ExitStack() as stack:
        env = stack.enter_context(closing(environment.make(task)))
        evaluators = {
            workers: stack.enter_context(
                Evaluator(task, seeds, options.episodes, options.environments, workers, *shape)
            )
            for workers in options.workers
        }
        for step in range(options.repeats + 1):
            began, used = time.perf_counter(), time.process_time()
            plain(env, episodes, options.steps)
            alone.append((time.perf_counter() - began, time.process_time() - used))
            for workers, evaluator in evaluators.items():
                began, used = time.perf_counter(), processor_seconds(evaluator)
                seen[workers].append(fingerprint(evaluator, act, step))
                timed[workers].append((time.perf_counter() - began, processor_seconds(evaluator) - used))
    rows = []
    for workers, turns in ({"plain": alone} | timed).items():
        wall, processor = (median(turn) for turn in zip(*turns[1:], strict=True))
        same = workers == "plain" or seen[workers] == seen[options.workers[0]]
        rows.append(Row(workers, same, episodes / wall, processor / episodes))
    return rows


def main() -> None:
    """Prints the table, in Markdown, a domain at a time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--domains", nargs="+", default=paper().task_domains)
    parser.add_argument("--workers", nargs="+", type=int, default=WORKERS, help="the first is what others are held to")
    parser.add_argument("--policy", choices=["linear", "network"], default="linear")
    for name, value in (("seeds", 1), ("episodes", 16), ("environments", 8), ("steps", 40), ("repeats", 3)):
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    print(
        f"{options.policy} policy, {options.seeds} x {options.episodes} episodes of {options.steps} steps in "
        f"{options.seeds} x {options.environments} environments, median of {options.repeats}, {cores()} cores\n"
    )
    columns = ("domain", "workers", "identical", "episodes/s", "factor", "by plain", "CPU s an episode")
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for domain in options.domains:
        alone, *rows = measure(domain, options)
        for row in (alone, *rows):
            by = f"{row.episodes / rows[0].episodes:.2f} | {row.episodes / alone.episodes:.2f}"
            identical = "--" if row is alone else "yes" if row.identical else "NO"
            print(
                f"| {domain} | {row.workers} | {identical} | {row.episodes:.3g} | {by} | {row.processor:.3g} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
