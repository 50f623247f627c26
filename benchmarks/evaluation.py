"""Evaluation by worker processes on all domains: the same outcome of every episode, and how many episodes a second.

    python -m benchmarks.evaluation [--domains cube-double-play ...] [--workers 0 1 2 4 8] [--policy linear|network]
                                    [--episodes 16] [--environments 8] [--steps 40] [--repeats 3]

For each domain of the paper, what `trqam bench` measures for a few (`trqam.operations.bench.environments` says how):
whether the policy saw the same observations as with the first number of workers, in every bit of every episode, and
success, length and return are the same; episodes a second; that as a factor; and the processor seconds an episode
takes, workers included, which other work on the machine disturbs less. Medians.

``linear`` is a policy that costs nothing, so that environments are what is measured; ``network`` is TRQAM's with
the widths of config/paper.yaml and random weights, in the calling process on the CPU.
"""

import argparse
import os
from statistics import median

os.environ.setdefault("OMP_NUM_THREADS", "1")


from trqam.config import load
from trqam.config.load import Config
from trqam.environments import ogbench_tasks
from trqam.environments.evaluator import Act
from trqam.environments.workers import cores
from trqam.operations.bench import environments

WORKERS = [0, 1, 2, 4, 8]


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
    agent = make_agent(loaded.run(task, "trqam"), *ogbench_tasks.sizes(task))
    policy = Policy(agent, assemble([agent.initialise(0, None)]), UNCHANGED, torch.device("cpu"))
    return policy.act, agent.noise_size


def measure(domain: str, options: argparse.Namespace) -> list[str]:
    """The table's rows for one domain."""
    loaded, task = paper(), ogbench_tasks.task_name(domain, 1)
    act, noise_size = network(loaded, task) if options.policy == "network" else (environments.linear, None)
    found = environments.measure(
        task,
        loaded.run(task, "trqam").horizon,
        options.workers,
        options.repeats,
        act,
        noise_size,
        options.episodes,
        options.environments,
        options.steps,
    )
    return [
        f"| {domain} | {row.workers} | {'yes' if row.identical else 'NO'} | {row.episodes:.3g} | "
        f"{row.episodes / found[0].episodes:.2f} | {median(turn.cpu / turn.units for turn in row.turns):.3g} |"
        for row in found
    ]


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
        print(*measure(domain, options), sep="\n", flush=True)


if __name__ == "__main__":
    main()
