"""Evaluation by worker processes: the same outcome of every episode, and how many episodes a second.

    python -m benchmarks.evaluation [--domains cube-double-play ...] [--workers 0 1 2 4 8] [--policy linear|network]
                                    [--episodes 16] [--environments 8] [--steps 40] [--repeats 3]

For each domain of the paper, episodes cut to ``--steps`` are evaluated by 0 (the calling process alone), 1, 2, 4 and 8
workers. A row of the table it prints says whether the policy saw the same observations as with 0 workers, in every bit
of every episode, and success, length and return are the same; episodes a second; that as a factor of 0 workers' figure;
and the processor seconds an episode takes, workers included, which other work on the machine disturbs less.
Environments are made in a first evaluation that is compared but not timed; the timed ones are interleaved, and the
median is printed.

``linear`` is a policy that costs nothing, so that environments are what is measured; ``network`` is TRQAM's with
the widths of config/paper.yaml and random weights, in the calling process on the CPU. Both act on observations,
so that a difference in one step becomes one in all that follow. Linux only.
"""

import argparse
import hashlib
import os
import statistics
import time
from contextlib import ExitStack

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from trqam import config, envs
from trqam.config import Config
from trqam.data.workers import cores
from trqam.evaluation import Act, Evaluator

WORKERS = [0, 1, 2, 4, 8]
HERTZ = os.sysconf("SC_CLK_TCK")


def paper() -> Config:
    """The paper's domains and horizons."""
    return config.load("config/paper.yaml")


def sizes(task: str) -> tuple[int, int]:
    """Numbers in an observation and in an action."""
    env = envs.make(task)
    try:
        return env.observation_space.shape[0], env.action_space.shape[0]
    finally:
        env.close()


def linear(observations: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """The hyperbolic tangent of a fixed linear map, plus noise."""
    size = (observations.shape[-1], noise.shape[-1])
    return np.tanh(observations @ np.random.default_rng(0).normal(0, 0.3, size).astype(np.float32) + noise)


def network(loaded: Config, task: str, observation_size: int, action_size: int) -> tuple[Act, int]:
    """TRQAM's policy before training, and the normal numbers that it takes for a chunk."""
    import torch

    from trqam.agents import make_agent
    from trqam.policy import Policy
    from trqam.replicas import assemble

    torch.set_num_threads(1)
    agent = make_agent(loaded.run(task, "trqam"), observation_size, action_size)
    state, policy = assemble([agent.initialise(0, None)]), Policy(agent, None, torch.device("cpu"))
    return lambda observations, noise: policy.act(state, observations, noise), agent.noise_size


def processor_seconds(evaluator: Evaluator) -> float:
    """Used so far by this process and an evaluator's workers."""
    used = time.process_time()
    for pid in evaluator.fleet.pids:
        with open(f"/proc/{pid}/stat") as file:
            user, system = file.read().rpartition(")")[2].split()[11:13]
        used += (int(user) + int(system)) / HERTZ
    return used


def fingerprint(evaluator: Evaluator, act: Act, step: int) -> str:
    """SHA-256 of all that the policy saw in an evaluation, and of all episodes' outcomes."""
    digest = hashlib.sha256()

    def witness(observations: np.ndarray, noise: np.ndarray) -> np.ndarray:
        digest.update(observations.tobytes())
        return act(observations, noise)

    for outcome in evaluator.evaluate(witness, step):
        digest.update(np.stack(outcome).tobytes())
    return digest.hexdigest()


def measure(domain: str, policy: str, options: argparse.Namespace) -> list[str]:
    """The table's rows for one domain."""
    loaded, task = paper(), envs.task_name(domain, 1)
    horizon, (observation_size, action_size) = loaded.run(task, "trqam").horizon, sizes(task)
    act, noise_size = linear, horizon * action_size
    if policy == "network":
        act, noise_size = network(loaded, task, observation_size, action_size)
    settings = (horizon, action_size, noise_size, options.steps)
    with ExitStack() as stack:
        evaluators = {
            workers: stack.enter_context(
                Evaluator(task, [0], options.episodes, options.environments, workers, *settings)
            )
            for workers in options.workers
        }
        seen = {workers: [fingerprint(evaluator, act, 0)] for workers, evaluator in evaluators.items()}
        spent: dict[int, list[tuple[float, float]]] = {workers: [] for workers in evaluators}
        for step in range(1, options.repeats + 1):
            for workers, evaluator in evaluators.items():
                began, used = time.monotonic(), processor_seconds(evaluator)
                seen[workers].append(fingerprint(evaluator, act, step))
                spent[workers].append((time.monotonic() - began, processor_seconds(evaluator) - used))
    rows, single = [], options.workers[0]
    for workers, times in spent.items():
        wall, processor = (statistics.median(column) / options.episodes for column in zip(*times, strict=True))
        factor = statistics.median(column[0] for column in spent[single]) / options.episodes / wall
        verdict = "yes" if seen[workers] == seen[single] else "NO"
        rows.append(f"| {domain} | {workers} | {verdict} | {1 / wall:.3g} | {factor:.2f} | {processor:.3g} |")
    return rows


def main() -> None:
    """Prints the table, in Markdown, a domain at a time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--domains", nargs="+", default=paper().task_domains)
    parser.add_argument("--workers", nargs="+", type=int, default=WORKERS, help="the first is what others are held to")
    parser.add_argument("--policy", choices=["linear", "network"], default="linear")
    for name, value in (("episodes", 16), ("environments", 8), ("steps", 40), ("repeats", 3)):
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    print(
        f"{options.policy} policy, {options.episodes} episodes of {options.steps} steps in {options.environments} "
        f"environments, median of {options.repeats}, {cores()} cores\n"
    )
    print("| domain | workers | identical | episodes/s | factor | CPU s an episode |\n|---|---|---|---|---|---|")
    for domain in options.domains:
        print(*measure(domain, options.policy, options), sep="\n", flush=True)


if __name__ == "__main__":
    main()
