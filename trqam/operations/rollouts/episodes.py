"""Episodes of a saved policy: how often it succeeds, and films of what it does.

Every evaluation uses the same episodes: their resets and noise come from the streams "evaluate" of a seed, at step 0,
whatever policy acts. So two policies can be compared episode by episode, and no episode is one that training saw.
"""

import math
from collections.abc import Container
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import binomtest

from trqam.config.wording import count
from trqam.environments import ogbench_tasks
from trqam.environments.evaluator import Act, Evaluator
from trqam.maths.streams import episode_seed
from trqam.operations.rollouts import camera
from trqam.operations.rollouts.saved_policy import ROWS, Kept

PURPOSE = "evaluate"
FILM_SIZE, FILM_RATE, FILM_FRAMES = 400, 20, 100  # pixels; frames a second; frames an episode, at most


class Episode(NamedTuple):
    """How one episode ended."""

    success: bool
    length: int  # environment steps
    return_: float  # undiscounted sum of rewards


def evaluate(kept: Kept, episodes: int, seed: int = 0) -> list[Episode]:
    """Episodes 0 .. episodes-1 of the evaluation stream of ``seed``; episode i does not depend on how many follow."""
    return _evaluated(kept, episodes, seed, kept.act)


def _evaluated(kept: Kept, episodes: int, seed: int, act: Act) -> list[Episode]:
    sizes = {"horizon": kept.run.horizon, "action_size": kept.action_size, "noise_size": kept.policy.noise_size}
    with Evaluator(kept.run.task, [seed], episodes, ROWS, workers=0, purpose=PURPOSE, **sizes) as evaluator:
        (outcome,) = evaluator.evaluate(act, step=0)
    return [Episode(bool(s), int(length), float(total)) for s, length, total in zip(*outcome, strict=True)]


def actions_of(kept: Kept, episodes: int, seed: int = 0) -> list[np.ndarray]:
    """The actions [L, A] of every episode of `evaluate`, which is run for it."""
    seen: list[np.ndarray] = []

    def act(observations: np.ndarray, noise: np.ndarray) -> np.ndarray:
        seen.append(kept.act(observations, noise))
        return seen[-1]

    found, slots = _evaluated(kept, episodes, seed, act), min(ROWS, episodes)
    begun, actions = [0] * slots, []  # chunks that a slot has done
    for number, episode in enumerate(found):
        slot = number % slots  # see `trqam.environments.evaluator`
        first, begun[slot] = begun[slot], begun[slot] + math.ceil(episode.length / kept.run.horizon)
        chunks = np.stack([chunk[0, slot] for chunk in seen[first : begun[slot]]])
        actions.append(chunks.reshape(-1, kept.action_size)[: episode.length])
    return actions


def pictures(
    kept: Kept, number: int, seed: int, episode: Episode, actions: np.ndarray, moments: Container[int], size: int
) -> list[tuple[int, np.ndarray]]:
    """(step, picture) at some steps of an episode, brought about again by its ``actions``.

    RuntimeError if it goes otherwise now, so that no film shows what the numbers do not say.
    """
    env = ogbench_tasks.make(kept.run.task)
    try:
        ogbench_tasks.reset(env, episode_seed(seed, PURPOSE, 0, number))
        with camera.Camera(env, size) as eye:
            eye.follow()
            frames, total = [(0, eye.picture())] if 0 in moments else [], 0.0
            for step, action in enumerate(actions, 1):
                done = ogbench_tasks.step(env, action)
                total += done.reward
                eye.follow()
                if step in moments:
                    frames.append((step, eye.picture()))
    finally:
        env.close()
    if (seen := Episode(bool(done.success), step, float(np.float32(total)))) != episode:
        raise RuntimeError(f"episode {number} went otherwise when filmed: {seen}, not {episode}")
    return frames


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
        "success_interval": list(binomtest(successes, number).proportion_ci(0.95, "wilson")),
        "return": float(np.mean([episode.return_ for episode in episodes])),
        "length": float(np.mean([episode.length for episode in episodes])),
        "outcomes": [{"success": e.success, "length": e.length, "return": e.return_} for e in episodes],
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


def film(kept: Kept, episodes: list[Episode], seed: int, path: Path) -> None:
    """Write ``episodes`` (0, 1, ...) one after another as mp4 or GIF, each held for a second at its end."""
    stride = math.ceil(max(episode.length for episode in episodes) / FILM_FRAMES)
    short = kept.run.task.replace("-singletask-", " ").removesuffix("-v0")
    images: list[np.ndarray] = []
    for number, (episode, actions) in enumerate(zip(episodes, actions_of(kept, len(episodes), seed), strict=True)):
        moments = {*range(0, episode.length, stride), episode.length}
        for step, picture in pictures(kept, number, seed, episode, actions, moments, FILM_SIZE):
            end = (": success" if episode.success else ": failure") if step == episode.length else ""
            lines = f"{kept.run.method}, {kept.stage} step {kept.step}", short, f"episode {number}, step {step}{end}"
            images += [camera.titled(picture, lines)] * (FILM_RATE if end else 1)
    camera.write_film(path, images, FILM_RATE)
