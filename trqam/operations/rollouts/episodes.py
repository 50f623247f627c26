"""Episodes of a kept policy: how often it succeeds, and films of what it does.

Every evaluation uses the same episodes: their resets and noise come from the streams "evaluate" of a seed, at step 0,
whatever policy acts. So two policies can be compared episode by episode, and no episode is one that training saw.
"""

import math
from collections.abc import Callable, Container
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from trqam.config.wording import count
from trqam.environments import ogbench_tasks
from trqam.environments.evaluator import Evaluator, Outcome
from trqam.maths.streams import episode_seed, stream
from trqam.operations.rollouts import camera
from trqam.operations.rollouts.saved_policy import ROWS, Kept

PURPOSE = "evaluate"
CONFIDENCE_Z = 1.959963984540054  # the normal distribution's 97.5 % quantile
FILM_SIZE, FILM_RATE, FILM_FRAMES = 400, 20, 100  # pixels; frames a second; frames an episode, at most
# Called with the environment and the number of steps taken: after the reset, and after every step.
Watch = Callable[[Any, int], None]


class Episode(NamedTuple):
    """How one episode ended."""

    success: bool
    length: int  # environment steps
    return_: float  # undiscounted sum of rewards


def evaluate(kept: Kept, episodes: int, seed: int = 0) -> list[Episode]:
    """Episodes 0 .. episodes-1 of the evaluation stream of ``seed``; episode i does not depend on how many follow."""
    run = kept.run
    with Evaluator(
        run.task,
        [seed],
        episodes,
        ROWS,
        workers=0,
        horizon=run.horizon,
        action_size=kept.action_size,
        noise_size=kept.policy.noise_size,
        purpose=PURPOSE,
    ) as evaluator:
        (outcome,) = evaluator.evaluate(kept.act, step=0)
    return [_episode(*values) for values in zip(*outcome, strict=True)]


def play(kept: Kept, number: int, seed: int = 0, watch: Watch = lambda env, step: None) -> Episode:
    """The same episode as number ``number`` of `evaluate`, alone and watched."""
    run, row = kept.run, number % ROWS
    observations = noise = None
    rng = stream(seed, PURPOSE, 0, number)
    env = ogbench_tasks.make(run.task)
    try:
        observation = ogbench_tasks.reset(env, episode_seed(seed, PURPOSE, 0, number))
        watch(env, 0)
        observations = np.zeros((1, ROWS, len(observation)), np.float32)
        noise = np.zeros((1, ROWS, kept.policy.noise_size), np.float32)
        steps, total = 0, 0.0
        while True:
            observations[0, row] = observation
            noise[0, row] = rng.standard_normal(noise.shape[-1], np.float32)
            for action in kept.act(observations, noise)[0, row].reshape(run.horizon, kept.action_size):
                result = ogbench_tasks.step(env, action)
                steps, total = steps + 1, total + result.reward
                watch(env, steps)
                if result.done:
                    return _episode(*Outcome(result.success, steps, total))
            observation = result.observation
    finally:
        env.close()


def summary(kept: Kept, episodes: list[Episode], seed: int) -> dict[str, Any]:
    """What `trqam evaluate` reports, as plain JSON types."""
    successes, number = sum(episode.success for episode in episodes), len(episodes)
    return {
        "run": str(kept.path),
        "task": kept.run.task,
        "method": kept.run.method,
        "stage": kept.stage,
        "step": kept.step,
        "diverged": kept.diverged,
        "training_seed": kept.seed,
        "flow_steps": kept.run.flow_steps,
        "evaluation_seed": seed,
        "episodes": number,
        "success": successes / number,
        "success_interval": list(wilson_interval(successes, number)),
        "return": float(np.mean([episode.return_ for episode in episodes])),
        "length": float(np.mean([episode.length for episode in episodes])),
        "outcomes": [
            {"success": episode.success, "length": episode.length, "return": episode.return_} for episode in episodes
        ],
    }


def report(summary: dict[str, Any]) -> str:
    """The summary in a few lines for people."""
    low, high = summary["success_interval"]
    lost = "; training DIVERGED later: this is the last policy saved" if summary["diverged"] else ""
    return (
        f"{summary['method']} on {summary['task']}, training seed {summary['training_seed']}\n"
        f"policy   {summary['stage']} step {summary['step']}, {summary['flow_steps']} flow steps{lost}\n"
        f"success  {summary['success']:.1%} of {count(summary['episodes'], 'episode')}"
        f" (95 % Wilson interval {low:.1%} to {high:.1%}), evaluation seed {summary['evaluation_seed']}\n"
        f"return   {summary['return']:.1f} on average\n"
        f"length   {summary['length']:.1f} environment steps on average"
    )


def wilson_interval(successes: int, count: int) -> tuple[float, float]:
    """The 95 % score interval of a rate (Wilson 1927): the p with |successes/n - p| <= z sqrt(p (1 - p) / n)."""
    z2, rate = CONFIDENCE_Z**2, successes / count
    centre = (rate + z2 / (2 * count)) / (1 + z2 / count)
    half = CONFIDENCE_Z * math.sqrt(rate * (1 - rate) / count + z2 / (4 * count**2)) / (1 + z2 / count)
    return (centre - half if successes else 0.0), (centre + half if successes < count else 1.0)  # exact at the ends


class Recorder:
    """A `Watch` that takes ``size`` pixel pictures at some steps; ``frames`` are (step, picture)."""

    def __init__(self, moments: Container[int], size: int):
        self.frames: list[tuple[int, Image.Image]] = []
        self._moments, self._size = moments, size
        self._camera: camera.Camera | None = None

    def __call__(self, env: Any, step: int) -> None:
        if self._camera is None:
            self._camera = camera.Camera(env, self._size)
        self._camera.follow()
        if step in self._moments:
            self.frames.append((step, self._camera.picture()))

    def close(self) -> None:
        """Gives the camera back."""
        if self._camera:
            self._camera.close()


def record(
    kept: Kept, number: int, seed: int, expected: Episode, moments: Container[int], size: int
) -> list[tuple[int, Image.Image]]:
    """Pictures of an episode that `evaluate` has run, at ``moments``; RuntimeError if it goes otherwise now."""
    recorder = Recorder(moments, size)
    try:
        seen = play(kept, number, seed, recorder)
    finally:
        recorder.close()
    if seen != expected:
        raise RuntimeError(f"episode {number} went otherwise when filmed: {seen}, not {expected}")
    return recorder.frames


def film(kept: Kept, episodes: list[Episode], seed: int, path: Path) -> None:
    """Write ``episodes`` (0, 1, ...) one after another as mp4 or GIF, each held for a second at its end."""
    stride = math.ceil(max(episode.length for episode in episodes) / FILM_FRAMES)
    short = kept.run.task.replace("-singletask-", " ").removesuffix("-v0")
    images = []
    for number, episode in enumerate(episodes):
        moments = {*range(0, episode.length, stride), episode.length}
        for step, picture in record(kept, number, seed, episode, moments, FILM_SIZE):
            over = step == episode.length
            state = f": {verdict(episode)}" if over else ""
            lines = (
                f"{kept.run.method}, {kept.stage} step {kept.step}",
                short,
                f"episode {number}, step {step}{state}",
            )
            images += [camera.titled(picture, lines)] * (FILM_RATE if over else 1)
    camera.write_film(path, images, FILM_RATE)


def verdict(episode: Episode) -> str:
    """`success` or `failure`."""
    return "success" if episode.success else "failure"


def _episode(success: float, length: float, return_: float) -> Episode:
    """From the evaluator's numbers, which are float32."""
    return Episode(bool(success), int(length), float(np.float32(return_)))
