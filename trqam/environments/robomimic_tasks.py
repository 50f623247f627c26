"""Robomimic's tasks in robosuite 1.5.2, made reproducible. Its packages are optional: requirements-robomimic.txt.

A task is its dataset: ``lift-mh``, ``can-mh`` and ``square-mh`` are Lift, PickPlaceCan and NutAssemblySquare with the
demonstrations of many humans (Mandlekar et al., 2021, arXiv:2108.03298). As in TRQAM's code: an observation is the pose
of the gripper, its two fingers and robosuite's features of the object; the reward is the task's sparse one minus 1; an
episode ends at its first success, or after 300, 300 and 400 steps. The robot is driven as it was for the datasets.

robosuite draws from ``env.rng`` alone, which its placement of objects shares, and in ``reset`` alone, which builds the
model anew (the cube's size is drawn, too): so an episode is that of its seed, whatever happened before.

robosuite 1.5.2 was written for MuJoCo 3. What two of its files ask of MuJoCo 4 is other than what that has, and is
replaced here, when it is imported: an integer is no member of an enumeration any more, and the inertia matrix is taken
from all of the data, not from ``qM``. The physics itself is that of our pinned MuJoCo, not of the datasets' version.
"""

import importlib.util
import logging
import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np

from trqam.config.errors import UserError

PACKAGES = ("robosuite", "mujoco", "gymnasium", "numpy")  # on which data and episodes depend
KEYS = ("robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos", "object")  # of an observation, in this order
NAMES = {"lift-mh": "Lift", "can-mh": "PickPlaceCan", "square-mh": "NutAssemblySquare"}  # robosuite's
LONGEST = {"lift-mh": 300, "can-mh": 300, "square-mh": 400}  # steps of an episode
ACTIONS = 7  # three of position, three of rotation, the gripper
CONTROL_HERTZ = 20
OPTIONAL = ("robosuite", "h5py", "numba", "cv2", "termcolor")  # by the names that Python imports
FIX = "pip install --no-deps -r requirements-robomimic.txt"
ARM = {  # of an action's 1: 5 cm, half a radian
    "type": "OSC_POSE",
    "input_max": 1,
    "input_min": -1,
    "output_max": [0.05, 0.05, 0.05, 0.5, 0.5, 0.5],
    "output_min": [-0.05, -0.05, -0.05, -0.5, -0.5, -0.5],
    "kp": 150,
    "input_ref_frame": "world",
    "interpolation": None,
}


def dataset_of(task: str) -> str:
    """The task itself; UserError for a name that is none."""
    if task not in NAMES:
        raise UserError(f"task {task}: not the name of a task of Robomimic; write one of {', '.join(NAMES)}")
    return task


def task_number(task: str) -> int:
    """The only one."""
    return 1


def make(task: str) -> gymnasium.Env:
    """The environment of ``task``, headless; UserError without robosuite."""
    simulator = simulation(dataset_of(task))
    spec = gymnasium.envs.registration.EnvSpec(
        f"{task}-v0", lambda **_: Robomimic(simulator), max_episode_steps=LONGEST[task], disable_env_checker=True
    )
    return gymnasium.make(spec)


class Robomimic(gymnasium.Env):
    """A task of robosuite as an environment of gymnasium: rewards -1 and 0, and the episode ends at success."""

    view, unseen = "frontview", [0]  # of pictures: the camera; the group of shapes that only collide

    def __init__(self, simulator: Any):
        self.simulator = simulator
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (ACTIONS,), np.float32)
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, self._observe().shape, np.float64)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        """The first observation [O] of the episode of ``seed``."""
        super().reset(seed=seed)
        if seed is not None:
            self.simulator.rng.bit_generator.state = np.random.default_rng(seed).bit_generator.state
        self.simulator.reset()
        return self._observe(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        """As gymnasium has it, with ``success`` (0 or 1) in the info."""
        seen, reward, _, _ = self.simulator.step(np.asarray(action, np.float64))
        success = reward > 0
        return _flat(seen), float(success) - 1.0, success, False, {"success": float(success)}

    def close(self) -> None:
        """Frees the simulation."""
        self.simulator.close()

    @property
    def model(self) -> Any:
        """MuJoCo's own, of the present episode."""
        return self.simulator.sim.model._model

    @property
    def data(self) -> Any:
        """MuJoCo's own."""
        return self.simulator.sim.data._data

    def _observe(self) -> np.ndarray:
        return _flat(self.simulator._get_observations(force_update=True))


def _flat(seen: dict[str, np.ndarray]) -> np.ndarray:
    """What the datasets keep of what robosuite gives."""
    return np.concatenate([np.asarray(seen["object-state" if key == "object" else key]) for key in KEYS])


def simulation(task: str) -> Any:
    """robosuite's own environment, which knows no end."""
    os.environ["MUJOCO_GL"] = os.environ.get("TRQAM_RENDERER", "disable")  # as for OGBench's
    logging.getLogger("robosuite_logs").addFilter(_is_error)  # it tells what it loads, each time
    require()
    import robosuite

    _fit_to_mujoco_4()
    return robosuite.make(
        NAMES[task],
        robots="Panda",
        controller_configs={"type": "BASIC", "body_parts": {"right": {**ARM, "gripper": {"type": "GRIP"}}}},
        control_freq=CONTROL_HERTZ,
        lite_physics=False,
        ignore_done=True,
        has_renderer=False,
        has_offscreen_renderer=False,
        use_camera_obs=False,
    )


def require() -> None:
    """A UserError if a package is missing that tasks of Robomimic need and others do not."""
    for name in OPTIONAL:
        if importlib.util.find_spec(name) is None:
            raise UserError(f"package {name}: missing, and tasks of Robomimic need it; {FIX}")


def _is_error(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR


def _fit_to_mujoco_4() -> None:
    import mujoco
    from robosuite.controllers.parts import controller
    from robosuite.utils import binding_utils

    def address(starts: str, free: int, ball: int) -> Callable:
        """Of a joint in qpos or qvel: an index, or a range."""
        widths = {int(mujoco.mjtJoint.mjJNT_FREE): free, int(mujoco.mjtJoint.mjJNT_BALL): ball}

        def of(model: Any, name: str) -> Any:
            joint = model.joint_name2id(name)
            first, width = getattr(model, starts)[joint], widths.get(int(model.jnt_type[joint]), 1)
            return first if width == 1 else (first, first + width)

        return of

    binding_utils.MjModel.get_joint_qpos_addr = address("jnt_qposadr", 7, 4)
    binding_utils.MjModel.get_joint_qvel_addr = address("jnt_dofadr", 6, 3)
    binding_utils.MjData.qM = property(lambda data: data._data)
    dense = lambda model, matrix, data: mujoco.mj_fullM(model, data, matrix)  # noqa: E731
    controller.mujoco = SimpleNamespace(mj_fullM=dense)
