"""Evaluation by worker processes: the same outcome of every episode, and how many a second.

Episodes cut to some steps are evaluated by each count of workers, with a policy that costs nothing and acts on
observations, so that environments are what is measured and a difference in one step becomes one in all that follow.
Environments are made in a first evaluation that is compared but not timed; the timed ones are interleaved.
"""

import hashlib
import time
from contextlib import ExitStack

import numpy as np
import psutil

from trqam.config.load import domain_of
from trqam.environments.evaluator import Act, Evaluator
from trqam.environments.ogbench_tasks import sizes
from trqam.operations.bench.cases import Turn
from trqam.operations.bench.record import Environment

EPISODES, ENVIRONMENTS, STEPS = 16, 8, 40


def linear(observations: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """The hyperbolic tangent of a fixed linear map, plus noise."""
    size = (observations.shape[-1], noise.shape[-1])
    return np.tanh(observations @ np.random.default_rng(0).normal(0, 0.3, size).astype(np.float32) + noise)


def processor_seconds(evaluator: Evaluator) -> float:
    """Used so far by this process and an evaluator's workers."""
    times = [psutil.Process(pid).cpu_times() for pid in evaluator.fleet.pids]
    return time.process_time() + sum(used.user + used.system for used in times)


def fingerprint(evaluator: Evaluator, act: Act, step: int) -> str:
    """SHA-256 of all that the policy saw in an evaluation, and of all episodes' outcomes."""
    digest = hashlib.sha256()

    def witness(observations: np.ndarray, noise: np.ndarray) -> np.ndarray:
        digest.update(observations.tobytes())
        return act(observations, noise)

    for outcome in evaluator.evaluate(witness, step):
        digest.update(np.stack(outcome).tobytes())
    return digest.hexdigest()


def measure(
    task: str,
    horizon: int,
    workers: list[int],
    repeats: int,
    act: Act = linear,
    noise_size: int | None = None,
    episodes: int = EPISODES,
    environments: int = ENVIRONMENTS,
    steps: int = STEPS,
) -> list[Environment]:
    """A row for each count of ``workers``, the first of which is what the others are held to."""
    settings = (horizon, sizes(task)[1], noise_size, steps)
    with ExitStack() as stack:
        evaluators = {
            count: stack.enter_context(Evaluator(task, [0], episodes, environments, count, *settings))
            for count in workers
        }
        seen = {count: [fingerprint(evaluator, act, 0)] for count, evaluator in evaluators.items()}
        turns: dict[int, list[Turn]] = {count: [] for count in evaluators}
        for step in range(1, repeats + 1):
            for count, evaluator in evaluators.items():
                began, used = time.perf_counter(), processor_seconds(evaluator)
                seen[count].append(fingerprint(evaluator, act, step))
                spent = time.perf_counter() - began, processor_seconds(evaluator) - used
                turns[count].append(Turn(episodes, *spent))
    domain, first = domain_of(task), seen[workers[0]]
    return [
        Environment(domain=domain, workers=n, identical=seen[n] == first, steps=steps, turns=turns[n]) for n in workers
    ]
