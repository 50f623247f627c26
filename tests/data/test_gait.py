"""The ant's gait walks where it is told to, whichever way the body is turned, and does not fall."""

import numpy as np
import pytest

from benchmarks.gait import flat_ground, trial
from trqam.data import gait
from trqam.data.gait import Gait, advance, torques, upright


def turned(qpos, angle):
    """The same pose turned about the vertical."""
    w, x, y, z = qpos[3:7]
    c, s = np.cos(angle / 2), np.sin(angle / 2)
    return np.concatenate([qpos[:3], [c * w - s * z, c * x - s * y, c * y + s * x, c * z + s * w], qpos[7:]])


@pytest.fixture(scope="module")
def model():
    return flat_ground()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_it_walks_towards_changing_commands_under_noise(model, seed):
    _, speed, fell = trial(model, Gait(), seed)
    assert not fell
    assert speed > 0.9  # m/s; standing still scores 0


def test_standing_still_is_no_walk(model):
    _, speed, _ = trial(model, Gait(swing=0, lift=0, reach=0), 1)
    assert abs(speed) < 0.2


def test_trials_are_deterministic(model):
    assert trial(model, Gait(), 5, steps=30) == trial(model, Gait(), 5, steps=30)


def test_torques_depend_on_the_direction_in_the_body_alone():
    rng = np.random.default_rng(0)
    qpos, qvel = rng.normal(size=15), rng.normal(size=14)
    qpos[3:7] = [0.9, 0.1, -0.2, 0.3] / np.linalg.norm([0.9, 0.1, -0.2, 0.3])
    expected = torques(Gait(), qpos, qvel, 0.7, heading=0.4)
    assert expected.shape == (8,)
    for angle in (0.5, 2.0, -2.5):
        np.testing.assert_allclose(torques(Gait(), turned(qpos, angle), qvel, 0.7, 0.4 + angle), expected, atol=1e-9)
    assert not np.allclose(torques(Gait(), qpos, qvel, 0.7, heading=1.4), expected)


def test_a_quarter_turn_of_the_command_moves_the_gait_on_by_one_leg():
    """The ant has fourfold symmetry; legs one and three, two and four are in phase."""
    qpos, qvel = np.array([0, 0, 0.5, 1, 0, 0, 0, *np.zeros(8)]), np.zeros(14)
    gains = Gait(ankle_gain=1, hip_gain=1)
    for phase in (0.0, 1.0, 4.0):
        one = np.roll(torques(gains, qpos, qvel, phase, 0.3).reshape(4, 2), -1, axis=0)  # by leg
        other = np.roll(torques(gains, qpos, qvel, phase + np.pi, 0.3 + np.pi / 2).reshape(4, 2), -1, axis=0)
        signs = np.stack([np.ones(4), gait.DOWN], axis=1)
        np.testing.assert_allclose(other * signs, np.roll(one * signs, 1, axis=0), atol=1e-9)


def test_phase_and_tilt():
    assert advance(Gait(frequency=2.5), 0.0) == pytest.approx(np.pi / 2)
    assert 0 <= advance(Gait(), 6.2) < 2 * np.pi
    poses = np.zeros((3, 15))
    poses[:, 3:7] = [[1, 0, 0, 0], [0, 1, 0, 0], [np.sqrt(0.5), 0, np.sqrt(0.5), 0]]
    np.testing.assert_allclose(upright(poses), [1, -1, 0], atol=1e-9)
