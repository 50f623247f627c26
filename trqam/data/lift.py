"""A scripted policy for Robomimic's Lift, for a small set where the official one cannot be had.

It moves above the cube, comes down to it, closes the gripper and lifts, in one of four phases at a time:

    action of position = clip(speed (target - gripper) / 5 cm) + noise,    of rotation = noise,    gripper = -1 or 1

Speed, noise and the point that is gripped differ between demonstrations, as between humans; some miss the cube. A
demonstration ends ten steps after the cube is first up, as those of the official set do, or after 100 steps.

This is not the humans' policy: actions and poses are distributed differently.
"""

from typing import Any

import numpy as np

from trqam.environments.robomimic_tasks import ACTIONS

SPLITS = (3, 7, 9)  # of an observation: position and rotation of the gripper, its fingers, the cube
GRIPPER, CUBE = slice(0, 3), slice(9, 12)  # positions in it
REACH = 0.05  # metres of an action's 1
ABOVE, UPWARDS = np.array([0.0, 0.0, 0.08]), np.array([0.0, 0.0, REACH])  # metres over the cube; of lifting, a step
NEAR = 0.012  # metres from a target that is reached
SQUEEZE = 8  # steps that closing takes
MISS, ERROR = 0.03, 0.004  # metres: how far off the point is that a bad grasp is meant for; deviation of a good one's
MISSES = 0.2  # share of bad grasps
SPEEDS, NOISES = (0.4, 1.0), (0.02, 0.3)  # ranges, of the action's unit
AFTER, LONGEST = 10, 100  # steps after the first success; in all


def demonstration(env: Any, rng: np.random.Generator, seed: int) -> dict[str, np.ndarray]:
    """One, in ``env`` (a `Robomimic`): observations [T + 1, O], actions [T, A], rewards and dones [T], 0 or 1."""
    observation, _ = env.reset(seed=seed)
    script, up = Script(rng), 0
    record: list[tuple[np.ndarray, bool]] = []
    observations = [observation]
    while len(record) < LONGEST and up < AFTER:
        action = np.clip(script.action(observation), -1, 1)
        observation, _, success, _, _ = env.step(action)
        up += bool(success or up)
        observations.append(observation)
        record.append((action, success))
    success = np.array([done for _, done in record], np.float64)
    return {
        "observations": np.stack(observations),
        "actions": np.stack([action for action, _ in record]),
        "rewards": success,
        "dones": success,
    }


class Script:
    """The policy of one demonstration; the phase is all that it remembers."""

    def __init__(self, rng: np.random.Generator):
        self._rng, self._phase, self._squeezed = rng, "above", 0
        self._speed, self._noise = rng.uniform(*SPEEDS), rng.uniform(*NOISES)
        angle, bad = rng.uniform(0, 2 * np.pi), rng.random() < MISSES
        miss = MISS * np.array([np.cos(angle), np.sin(angle), 0.0])
        self._off = miss if bad else rng.normal(0, ERROR, 3)

    def action(self, observation: np.ndarray) -> np.ndarray:
        """[A], not clipped, from an observation [O]."""
        target = self._target(observation)
        action = self._rng.normal(0, self._noise, ACTIONS)
        action[:3] += np.clip(self._speed * (target - observation[GRIPPER]) / REACH, -1, 1)
        action[3:6] *= 0.2
        action[6] = -1.0 if self._phase in ("above", "down") else 1.0
        return action

    def _target(self, observation: np.ndarray) -> np.ndarray:
        """Where to move; changes the phase where one is done."""
        gripper, grasp = observation[GRIPPER], observation[CUBE] + self._off
        over = grasp + ABOVE
        if self._phase == "above" and np.linalg.norm(gripper - over) < NEAR:
            self._phase = "down"
        elif self._phase == "down" and np.linalg.norm(gripper - grasp) < NEAR:
            self._phase = "close"
        elif self._phase == "close":
            self._squeezed += 1
            self._phase = "lift" if self._squeezed == SQUEEZE else "close"
        return {"above": over, "down": grasp, "close": gripper, "lift": gripper + UPWARDS}[self._phase]
