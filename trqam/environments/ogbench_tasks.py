"""OGBench's environments, made reproducible.

A task is named as OGBench names it, such as ``pointmaze-medium-navigate-singletask-task2-v0``; the part before
``-singletask`` is its dataset. What OGBench 1.2.2 draws random numbers from, read in its source:

* ``reset`` of a maze: the *global* numpy generator (start, random task), the environment's own generator, and
  its action space's (a few random steps that settle the physics);
* ``reset`` of a manipulation task: its own generator, and an action space created anew on every access, hence
  seeded by the operating system; the random steps leave traces (warm start, contact forces) in the simulator;
* ``step``: nothing, except that teleport mazes choose their exit with the global generator and that scene, after
  a numerical explosion, uses the environment's own.

So ``environment.reset`` seeds all three, the action space of manipulation tasks is replaced by one that can be seeded,
and teleport mazes are refused: interleaved environments of one process would share their stream.
"""

import contextlib
import os
import re
import tempfile
from collections.abc import Iterator

import gymnasium
import numpy as np

from trqam.config.errors import UserError

TASKS = 5  # single-task variants of every dataset
PACKAGES = ("ogbench", "mujoco", "gymnasium", "numpy")  # on which data and episodes depend
_DATASET = r"[a-z0-9-]+-(?:navigate|stitch|explore|play|noisy)"
_TASK = re.compile(rf"(?P<dataset>{_DATASET})-singletask-task(?P<number>\d)-v0")


def dataset_of(task: str) -> str:
    """``pointmaze-medium-navigate`` of ``pointmaze-medium-navigate-singletask-task2-v0``."""
    return _parse(task)["dataset"]


def task_number(task: str) -> int:
    """1 to 5."""
    return int(_parse(task)["number"])


def task_name(dataset: str, number: int) -> str:
    """The inverse of ``dataset_of`` and ``task_number``."""
    return f"{dataset}-singletask-task{number}-v0"


def make(task: str) -> gymnasium.Env:
    """The single-task environment of ``task``, headless."""
    dataset, number = dataset_of(task), task_number(task)
    return make_registered(f"{dataset.rpartition('-')[0]}-singletask-task{number}-v0")


def make_registered(name: str, **options) -> gymnasium.Env:
    """The environment that OGBench registers as ``name`` (without the dataset's kind); UserError if none."""
    if "teleport" in name:
        raise UserError(f"task {name}: teleport mazes draw from numpy's global generator at every step; choose another")
    _register()
    if not re.match(r"pointmaze|antmaze|humanoidmaze|antsoccer", name):
        _replace_action_space()
    with _clean_temporary_files():
        try:
            # OGBench's observations are float64 as they should be; the passive checker costs time at every step.
            return gymnasium.make(name, disable_env_checker=True, **options)
        except gymnasium.error.UnregisteredEnv as error:
            raise UserError(f"task {name}: OGBench has no such environment; correct the name") from error


def is_dataset(name: str) -> bool:
    """Whether OGBench has an environment for a dataset of this name."""
    _register()
    return bool(re.fullmatch(_DATASET, name)) and f"{name.rpartition('-')[0]}-v0" in gymnasium.registry


def _register() -> None:
    """Let gymnasium know OGBench's environments."""
    # mujoco tries its renderer when it is imported, here: none, whatever the caller's MUJOCO_GL, for one that is not
    # there ends everything; or what `rendering.prepare` has found and left in TRQAM_RENDERER.
    os.environ["MUJOCO_GL"] = os.environ.get("TRQAM_RENDERER", "disable")
    import ogbench  # noqa: F401  (slow to import, so not before an environment is wanted)


def _parse(task: str) -> re.Match:
    match = _TASK.fullmatch(task)
    if not match or not 1 <= int(match["number"]) <= TASKS:
        example = task_name("pointmaze-medium-navigate", 2)
        raise UserError(f"task {task}: not the name of an OGBench task; write one such as {example}")
    return match


def _replace_action_space() -> None:
    """Give manipulation environments one action space each, made in float32.

    OGBench's property builds a new one on every access, which cannot be seeded and warns of lost precision.
    """
    from ogbench.manipspace.envs.manipspace_env import ManipSpaceEnv

    def action_space(env: ManipSpaceEnv) -> gymnasium.spaces.Box:
        if "_trqam_action_space" not in vars(env):
            env._trqam_action_space = gymnasium.spaces.Box(-1.0, 1.0, (5,), np.float32)
        return env._trqam_action_space

    ManipSpaceEnv.action_space = property(action_space)


@contextlib.contextmanager
def _clean_temporary_files() -> Iterator[None]:
    """Close and remove the files made meanwhile: OGBench's mazes leave an XML file and its descriptor behind."""
    original, made = tempfile.mkstemp, []

    def recording(*arguments, **options):
        made.append(original(*arguments, **options))
        return made[-1]

    tempfile.mkstemp = recording
    try:
        yield
    finally:
        tempfile.mkstemp = original
        for descriptor, path in made:
            os.close(descriptor)
            os.remove(path)
