"""A scripted walk for OGBench's ant, in any direction, for antmaze data where the official cannot be had.

The four legs stand at 45, 135, 225 and 315 degrees of the body; a hip swings its foot sideways about the vertical, an
ankle moves it in and out as it bends. To walk towards angle theta (in the body's frame), the foot of the leg at
alpha has to go to and fro along theta: sin(theta - alpha) of that is the hip's, cos(theta - alpha) the ankle's share.
Diagonal legs step together, the two pairs in turn:

    hip   =        swing sin(theta - alpha) cos(phase)
    bend  = bend - reach cos(theta - alpha) cos(phase) - lift max(0, sin(phase + lag))
    torque = gain (wanted angle - angle) - damping * angular velocity

No heading is held and none is needed: the direction is turned into the body's frame at every step. The nine parameters
were found by ``benchmarks/gait.py`` (the cross-entropy method on flat ground, random commands, noisy torques).

This is not the policy that OGBench's data come from, which was trained: actions and poses are distributed differently.
"""

from typing import NamedTuple

import numpy as np

LEGS = np.pi / 4 + np.arange(4) * np.pi / 2  # alpha of legs 1 to 4
OFFSETS = np.array([0, np.pi, 0, np.pi])  # phase of each leg
DOWN = np.array([1, -1, -1, 1])  # sign of an ankle's angle that bends the leg down
HIP_LIMIT, BEND_LIMITS = np.radians(30), np.radians((30, 70))  # of the ant's joints
PERIOD = 0.1  # seconds between two actions


class Gait(NamedTuple):
    """Angles in radians; gains and damping in units of the largest torque."""

    frequency: float = 1.31  # steps of a leg a second
    swing: float = 0.58
    bend: float = 0.9
    lift: float = 0.39
    reach: float = 0.32
    lag: float = 2.21
    hip_gain: float = 2.57
    ankle_gain: float = 2.13
    damping: float = 0.18


def torques(gait: Gait, qpos: np.ndarray, qvel: np.ndarray, phase: float, heading: float) -> np.ndarray:
    """Actions [8], not clipped, that walk towards ``heading`` (radians, in the world) from qpos [15] and qvel [14]."""
    w, x, y, z = qpos[3:7]
    theta = heading - np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))
    stride = np.cos(phase + OFFSETS)
    hip = gait.swing * np.sin(theta - LEGS) * stride
    bend = gait.bend - gait.reach * np.cos(theta - LEGS) * stride
    bend -= gait.lift * np.maximum(0, np.sin(phase + OFFSETS + gait.lag))
    wanted = np.stack([hip.clip(-HIP_LIMIT, HIP_LIMIT), DOWN * bend.clip(*BEND_LIMITS)], axis=1)
    gains = np.array([gait.hip_gain, gait.ankle_gain])
    action = gains * (wanted - qpos[7:].reshape(4, 2)) - gait.damping * qvel[6:].reshape(4, 2)
    return np.roll(action, 1, axis=0).ravel()  # the fourth leg's motors come first


def advance(gait: Gait, phase: float) -> float:
    """The phase at the next action."""
    return (phase + 2 * np.pi * gait.frequency * PERIOD) % (2 * np.pi)


def upright(qpos: np.ndarray) -> np.ndarray:
    """Cosine of the torso's tilt, of qpos [..., 15]; negative when the ant lies on its back."""
    return 1 - 2 * (qpos[..., 4] ** 2 + qpos[..., 5] ** 2)
