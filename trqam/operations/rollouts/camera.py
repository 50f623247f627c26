"""Pictures of environments without a screen: which OpenGL works here, the camera, and films as mp4 or GIF.

MuJoCo chooses its OpenGL when it is imported, from MUJOCO_GL, and `trqam.environments.ogbench_tasks` sets that to none
unless `prepare` was called before the first environment is made.
"""

import itertools
import math
import os
import subprocess
import sys
from collections.abc import Container, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from trqam.config.errors import Unwritable, UserError
from trqam.config.strict import shown
from trqam.environments import environment
from trqam.experiment.files import publish, temporary_name, writing

if TYPE_CHECKING:  # which imports torch
    from trqam.operations.rollouts.saved_policy import Episode, Kept

BACKENDS = {"egl": "EGL", "osmesa": "OSMesa"} if sys.platform == "linux" else {"": "OpenGL"}
OFF = ("", "disable", "disabled", "off", "false", "0")  # of MUJOCO_GL, as mujoco reads it
INSTALL = "install libosmesa6, or libegl1 with libopengl0 and libgl1-mesa-dri"  # Debian's names; each was tried alone
FORMATS = (".mp4", ".gif")
FILMED = 3  # episodes of `trqam evaluate --video`, the first
FILM_SIZE, FILM_RATE, FILM_FRAMES = 400, 20, 100  # pixels; frames a second; frames an episode, at most
TRAIL_COLOUR, GOAL_COLOUR = (1.0, 0.85, 0.1, 1.0), (0.96, 0.26, 0.33, 0.7)
TRAIL_SPACING = 0.3  # of the points of an agent's path in a maze, whose corridors are 4 wide
INK, PALE = "#111111", "#666666"
# A whole picture, because libraries that load may still fail to make a context, or crash.
_PROBE = """
import mujoco
model = mujoco.MjModel.from_xml_string("<mujoco><worldbody><geom size='1'/></worldbody></mujoco>")
renderer = mujoco.Renderer(model, 8, 8)
renderer.update_scene(mujoco.MjData(model))
assert renderer.render().shape == (8, 8, 3)
renderer.close()
"""


def prepare() -> str | None:
    """Have everything that is imported from here on render with what does so here; None, or why nothing does."""
    backend, trouble = find()
    if backend is not None:
        os.environ |= {**_variables(backend), "TRQAM_RENDERER": backend}
    return trouble


def find() -> tuple[str | None, str | None]:
    """What renders here, or None, and in one line why nothing does, or None.

    A MUJOCO_GL that the caller has set (other than to disable it) is tried first, then EGL and OSMesa; a line on
    stderr says if it is not the one.
    """
    asked = os.environ.get("MUJOCO_GL", "").lower().strip()
    named = {} if asked in OFF else {asked: f"MUJOCO_GL={shown(asked)}"}
    failures: list[str] = []
    for backend, name in {**named, **BACKENDS, **named}.items():
        failure = _failure(backend)
        if failure is None:
            if failures:
                print(f"trqam: notice: {failures[0]} does not render here; {name} is used", file=sys.stderr)
            return backend, None
        failures.append(f"{name} ({failure})")
    return None, f"no picture: neither {' nor '.join(failures)} renders here; {INSTALL}"


def _variables(backend: str) -> dict[str, str]:
    """What MuJoCo and PyOpenGL read, in agreement."""
    return {"MUJOCO_GL": backend} | ({"PYOPENGL_PLATFORM": backend} if backend in ("egl", "osmesa") else {})


def _failure(backend: str) -> str | None:
    """Render one picture in a process of its own; the last line of what went wrong, None if nothing did."""
    command, environment = [sys.executable, "-c", _PROBE], {**os.environ, **_variables(backend)}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    except subprocess.TimeoutExpired:
        return "it hangs"
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return None if done.returncode == 0 else lines[-1].strip() if lines else f"exit code {done.returncode}"


class Camera:
    """Square pictures, ``size`` pixels wide, of one environment; in a maze, with the agent's path so far.

    Make it after the first reset (a manipulation environment has no model before), in a ``with`` statement.
    """

    def __init__(self, env: Any, size: int):
        import mujoco

        inner = env.unwrapped
        self._model, self._env, self._size = inner.model, inner, size
        # A maze is seen from above; a table from the front.
        self._view = inner.custom_camera if is_maze(inner) else getattr(inner, "view", "front")
        self._trail: list[np.ndarray] = []
        buffer = self._model.vis.global_
        buffer.offwidth, buffer.offheight = max(size, buffer.offwidth), max(size, buffer.offheight)
        self._renderer, self._shown = mujoco.Renderer(self._model, size, size), mujoco.MjvOption()
        self._shown.geomgroup[getattr(inner, "unseen", [])] = 0

    def follow(self) -> None:
        """Remember where the agent is, for the path, unless it has hardly moved; call it at every step."""
        if is_maze(self._env):
            here = np.array(self._env.get_xy()[:2], float)
            if not self._trail or np.linalg.norm(here - self._trail[-1]) >= TRAIL_SPACING:
                self._trail.append(here)

    def picture(self) -> np.ndarray:
        """What there is to see now, as RGB."""
        import mujoco

        scene = self._renderer.scene
        self._renderer.update_scene(self._env.data, camera=self._view, scene_option=self._shown)
        scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = False  # ten times as fast without a GPU
        if is_maze(self._env):
            radius = self._env._goal_tol  # the marker is always 0.5 wide, whatever distance counts as reached
            centre = np.append(self._env.cur_goal_xy, 0.05)
            self._add(mujoco.mjtGeom.mjGEOM_CYLINDER, GOAL_COLOUR, np.array([radius, 0.03, 0.0]), centre)
        for start, end in itertools.pairwise(self._trail):
            line = self._add(mujoco.mjtGeom.mjGEOM_LINE, TRAIL_COLOUR, np.zeros(3), np.zeros(3))
            mujoco.mjv_connector(line, line.type, self._size / 90, np.append(start, 0.1), np.append(end, 0.1))
            line.emission = 1.0  # flat, whatever the light
        return self._renderer.render()

    def _add(self, shape: int, colour: tuple, size: np.ndarray, position: np.ndarray):
        """One more body in the picture, which the physics does not know."""
        import mujoco

        scene = self._renderer.scene
        scene.ngeom += 1
        geom = scene.geoms[scene.ngeom - 1]
        mujoco.mjv_initGeom(geom, shape, size, position, np.eye(3).ravel(), np.array(colour, np.float32))
        return geom

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._renderer.close()  # without this EGL complains when Python ends


def is_maze(env: Any) -> bool:
    """Whether an environment of OGBench is a maze, seen from above, with an agent that moves in it."""
    return hasattr(env.unwrapped, "maze_map")


def pictures(task: str, episode: "Episode", moments: Container[int], size: int) -> list[tuple[int, np.ndarray]]:
    """(step, picture) at some steps of an episode, brought about again by its actions.

    RuntimeError if it goes otherwise now, so that no film shows what the numbers do not say.
    """
    env = environment.make(task)
    try:
        environment.reset(env, episode.reset)
        with Camera(env, size) as eye:
            eye.follow()
            frames, total = [(0, eye.picture())] if 0 in moments else [], 0.0
            for step, action in enumerate(episode.actions, 1):
                done = environment.step(env, action)
                total += done.reward
                eye.follow()
                if step in moments:
                    frames.append((step, eye.picture()))
    finally:
        env.close()
    if (seen := (bool(done.success), step, float(np.float32(total)))) != episode[:3]:
        raise RuntimeError(f"an episode went otherwise when filmed: {seen}, not {episode[:3]}")
    return frames


def film(kept: "Kept", episodes: "list[Episode]", path: Path) -> None:
    """Write ``episodes`` (0, 1, ...) one after another as mp4 or GIF, each held for a second at its end."""
    stride = math.ceil(max(episode.length for episode in episodes) / FILM_FRAMES)
    short = kept.run.task.replace("-singletask-", " ").removesuffix("-v0")
    images: list[np.ndarray] = []
    for number, episode in enumerate(episodes):
        moments = {*range(0, episode.length, stride), episode.length}
        for step, picture in pictures(kept.run.task, episode, moments, FILM_SIZE):
            end = (": success" if episode.success else ": failure") if step == episode.length else ""
            lines = f"{kept.run.method}, {kept.stage} step {kept.step}", short, f"episode {number}, step {step}{end}"
            images += [titled(picture, lines)] * (FILM_RATE if end else 1)
    write_film(path, images, FILM_RATE)


def titled(picture: np.ndarray, lines: Sequence[str]) -> np.ndarray:
    """``picture`` under some lines of text; sides are even, as video needs them."""
    height, width = picture.shape[:2]
    size = width // 22
    bar = round(size * 1.5) * len(lines) + size
    image = Image.new("RGB", (width + width % 2, height + bar + (height + bar) % 2), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(size)  # Pillow's own, the same on every machine
    for number, line in enumerate(lines):
        draw.text((size // 2, size // 2 + round(size * 1.5) * number), line, PALE if number else INK, font)
    image.paste(Image.fromarray(picture), (0, bar))
    return np.asarray(image)


def check_format(path: Path) -> None:
    """A UserError unless films can be written to ``path``, where nothing must be: no film says that it is ours."""
    if os.path.lexists(path):
        raise UserError(f"--video {path}: exists; delete it, or give another name")
    if path.suffix.lower() not in FORMATS:
        raise UserError(f"--video {path}: not a format of film; write a name that ends in {' or '.join(FORMATS)}")


def write_film(path: Path, frames: Sequence[np.ndarray], rate: int) -> None:
    """Write RGB frames of one size, ``rate`` a second, as mp4 or GIF, by the name's ending; atomically."""
    check_format(path)
    temporary = temporary_name(path.absolute())
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix.lower() == ".gif":  # not by imageio, which tries again, aloud, where the disk is full
                first, *rest = map(Image.fromarray, frames)
                first.save(temporary, "GIF", save_all=True, append_images=rest, duration=1000 // rate, loop=0)
            elif not _write_mp4(temporary, frames, rate):
                raise Unwritable(f"{path}: cannot be written (ffmpeg failed); make room on the disk, or write a .gif")
            publish(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink()


def _write_mp4(path: Path, frames: Sequence[np.ndarray], rate: int) -> bool:
    """Whether it is whole: imageio does not ask whether ffmpeg succeeded, and a film cut short can be played, too."""
    import imageio.v3
    from imageio_ffmpeg import count_frames_and_secs

    given: dict[str, Any] = {"fps": rate, "macro_block_size": 2, "output_params": ["-threads", "1", "-f", "mp4"]}
    try:
        imageio.v3.imwrite(path, frames, extension=".mp4", plugin="FFMPEG", ffmpeg_log_level="quiet", **given)
        return count_frames_and_secs(str(path))[0] == len(frames)
    except (OSError, RuntimeError):
        return False
