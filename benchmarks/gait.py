"""How the ant's gait (``trqam/data/gait.py``) was found, and how well it walks.

    python -m benchmarks.gait search     # the cross-entropy method; prints a Gait; minutes on one core
    python -m benchmarks.gait measure    # the Gait in the code: speed and falls on flat ground

A trial is 12 seconds on flat ground from a random pose, towards a random direction that changes every 4 seconds, with
Gaussian noise of 0.2 on every torque. Its score is the mean speed towards the commanded direction in m/s, less what
falling or leaning costs. Deterministic: every trial has its own seed.
"""

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import mujoco
import numpy as np

from trqam.data import gait
from trqam.data.gait import PERIOD, Gait
from trqam.environments.ogbench_tasks import make_registered

NOISE = 0.2  # standard deviation on torques, as in the data
LOW = Gait(0.5, 0.1, 0.5, 0.0, 0.0, -np.pi, 0.3, 0.3, 0.0)
HIGH = Gait(2.5, 0.6, 1.2, 0.8, 0.8, np.pi, 6.0, 6.0, 1.0)
START = Gait(1.2, 0.4, 0.9, 0.3, 0.2, 0.0, 2.0, 2.0, 0.2)
ITERATIONS, CANDIDATES, ELITE, TRIALS = 24, 32, 8, 4


def flat_ground() -> mujoco.MjModel:
    """OGBench's ant without a maze."""
    make_registered("antmaze-large-v0").close()  # imports it as the rest of the code does
    from ogbench.locomaze.ant import AntEnv

    return mujoco.MjModel.from_xml_path(AntEnv.xml_file)


def trial(model: mujoco.MjModel, candidate: Gait, seed: int, steps: int = 120) -> tuple[float, float, bool]:
    """(score, speed towards the command in m/s, whether it fell)."""
    rng, data = np.random.default_rng(seed), mujoco.MjData(model)
    turn = rng.uniform(-np.pi, np.pi) / 2
    pose = [0, 0, 0.55, np.cos(turn), 0, 0, np.sin(turn), 0, 1, 0, -1, 0, -1, 0, 1]
    noise = rng.uniform(-0.1, 0.1, model.nq)
    noise[3:7] = 0
    data.qpos[:], data.qvel[:] = pose + noise, 0.1 * rng.standard_normal(model.nv)
    mujoco.mj_forward(model, data)
    heading, phase, progress, lean = rng.uniform(-np.pi, np.pi), 0.0, 0.0, 0.0
    for step in range(steps):
        if step % 40 == 39:
            heading += rng.uniform(-np.pi, np.pi)
        before = data.qpos[:2].copy()
        action = gait.torques(candidate, data.qpos, data.qvel, phase, heading)
        data.ctrl[:] = np.clip(action + NOISE * rng.standard_normal(model.nu), -1, 1)
        mujoco.mj_step(model, data, 5)
        phase = gait.advance(candidate, phase)
        progress += (data.qpos[:2] - before) @ [np.cos(heading), np.sin(heading)]
        lean += 1 - gait.upright(data.qpos)
        if gait.upright(data.qpos) < 0:
            speed = progress / (steps * PERIOD)
            return speed - 1.5 * (steps - step) / steps, speed, True
    speed = progress / (steps * PERIOD)
    return speed - 0.5 * max(0.0, lean / steps - 0.1), speed, False


def search(model: mujoco.MjModel) -> Gait:
    """The mean of the last elite, to two decimals."""
    rng, low, high = np.random.default_rng(0), np.array(LOW), np.array(HIGH)
    mean, deviation = np.array(START), (high - low) / 4
    for iteration in range(ITERATIONS):
        candidates = np.clip(mean + deviation * rng.standard_normal((CANDIDATES, len(low))), low, high)
        candidates[0] = mean
        seeds = range(TRIALS * iteration, TRIALS * (iteration + 1))
        scores = np.array([np.mean([trial(model, Gait(*c), seed)[0] for seed in seeds]) for c in candidates])
        elite = candidates[np.argsort(-scores)[:ELITE]]
        mean = elite.mean(axis=0)
        deviation = 0.9 * elite.std(axis=0) + 0.02 * 0.95**iteration * (high - low)
        print(f"iteration {iteration + 1} of {ITERATIONS}: best {scores.max():.2f}, mean of the elite {mean.round(2)}")
    return Gait(*mean.round(2).tolist())


def measure(model: mujoco.MjModel, candidate: Gait) -> None:
    """Prints speed and falls over fresh trials."""
    steps, trials = 1000, 20
    results = [trial(model, candidate, 10_000 + seed, steps) for seed in range(trials)]
    speeds, falls = [speed for _, speed, _ in results], sum(fell for _, _, fell in results)
    print(
        f"{np.mean(speeds):.2f} m/s ({min(speeds):.2f} to {max(speeds):.2f}), {falls} falls in {steps * trials} steps"
    )


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("search", "measure"))
    found = search(flat_ground()) if parser.parse_args().what == "search" else Gait()
    print(found)
    measure(flat_ground(), found)


if __name__ == "__main__":
    main()
