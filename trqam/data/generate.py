"""OGBench data made on the spot, and official files converted to the same store.

A store is a folder of ``.npy`` files in OGBench's raw layout, float32 (button_states int64), with R rows:
observations [R, O], actions [R, A], terminals [R] (1 on the last row of an episode, which is only a next
observation), qpos, qvel, button_states, and for each of the five tasks rewards-task{k} and masks-task{k} [R] from
OGBench's own relabelling. ``card.json`` describes it and is written last: without a card there is no dataset.

Two collectors, after OGBench's (Park et al., 2025, arXiv:2410.20092, appendix on datasets):

* ``pointmaze-*-navigate``: a point follows shortest routes to random goals, one after another; each action is the
  direction of the next cell plus Gaussian noise. Starts and goals (in any free cell) and the choice among equally
  short routes are ours: the distribution resembles OGBench's and is not the same.
* ``cube-*-play``, ``scene-play``, ``puzzle-*-play``: OGBench's scripted oracles with its settings for play data.

Ants and humanoids were steered by policies that OGBench does not package: those need the official files.
"""

import itertools
import re
import sys
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
from tqdm import tqdm

from trqam import envs
from trqam.artefacts import publish, sha256, temporary_name, write_json
from trqam.errors import UserError
from trqam.streams import episode_seed, stream

EPISODE_TRANSITIONS = 1000  # and one row more
# Added to a direction of length 1: independent noise, and a slow drift (an AR(1) process) that carries the walk off the
# shortest route, so that the data hold several ways through each cell and not one line.
NAVIGATE_NOISE, NAVIGATE_DRIFT, NAVIGATE_MEMORY = 0.5, 1.0, 0.9  # standard deviations; correlation a step
GOAL_SPREAD = 0.325  # of a cell's width: how far from its middle a goal may lie, either way
PLAY_NOISE, PLAY_SMOOTHING = 0.1, 0.5  # OGBench's settings for play data
# Range of an episode's probability of stacking a cube, by the number of cubes, as in OGBench's collection.
STACKING = {"single": (0.0, 0.0), "double": (0.0, 0.25), "triple": (0.05, 0.35), "quadruple": (0.1, 0.5)}
REQUIRED = ("observations", "actions", "terminals", "qpos", "qvel")

Rows = dict[str, np.ndarray]


def generate(dataset: str, directory: Path | str, transitions: int, seed: int) -> dict:
    """Collect ``transitions`` of ``dataset`` (such as cube-single-play) into ``directory``; returns the card.

    Episodes have 1000 transitions, the last one what remains. Each is seeded on its own, so the same arguments
    give the same bytes, and more transitions only add episodes (the rest of the last one included).
    """
    if transitions < 1:
        raise UserError(f"{dataset}: transitions is {transitions}; ask for at least 1")
    full, rest = divmod(transitions, EPISODE_TRANSITIONS)
    lengths = [EPISODE_TRANSITIONS] * full + [rest] * (rest > 0)
    episodes = _progress(_collect(dataset, lengths, seed), len(lengths), f"generating {dataset}")
    rows = transitions + len(lengths)
    return _write_store(dataset, Path(directory), episodes, rows, {"source": "generated", "seed": seed})


def convert(dataset: str, npz_paths: Sequence[Path | str], directory: Path | str) -> dict:
    """Make the same store from OGBench's own npz files, in this order; returns the card."""
    if not npz_paths:
        raise UserError(f"{dataset}: no npz file was given; name the official files of the dataset")
    rows = sum(len(_read_npz(path, ["terminals"])["terminals"]) for path in npz_paths)
    parts = _progress(map(_read_npz, npz_paths), len(npz_paths), f"converting {dataset}")
    return _write_store(dataset, Path(directory), parts, rows, {"source": "official", "seed": None})


# --- collecting -------------------------------------------------------------------------------------------------


def _collect(dataset: str, lengths: Sequence[int], seed: int) -> Iterator[Rows]:
    """One episode after another, with lengths[i] transitions and one row more; a generator, to bound memory."""
    options = {"terminate_at_goal": False, "max_episode_steps": EPISODE_TRANSITIONS + 1}
    name = f"{dataset.rpartition('-')[0]}-v0"
    if re.fullmatch(r"pointmaze-\w+-navigate", dataset):
        env, collect = envs.make_registered(name, **options), _navigate
    elif re.fullmatch(r"(cube-\w+|scene|puzzle-\w+)-play", dataset):
        env, collect = envs.make_registered(name, mode="data_collection", **options), _play
    else:
        raise UserError(f"{dataset}: cannot be generated here; place OGBench's official npz files and convert them")
    try:
        for episode, length in enumerate(lengths):
            for attempt in itertools.count():  # all but always a single one
                purpose = f"generate/{dataset}"
                rng = stream(seed, purpose, attempt, episode)
                rows = collect(env, rng, episode_seed(seed, purpose, attempt, episode), length + 1)
                if not dataset.startswith("scene") or _cube_in_sight(rows["qpos"]):
                    break
            rows["terminals"][-1] = 1
            yield rows
    finally:
        env.close()


def _navigate(env, rng: np.random.Generator, seed: int, length: int) -> Rows:
    """``length`` rows of a walk to random goals along shortest routes, with noise."""
    maze = env.unwrapped
    free = [tuple(cell) for cell in np.argwhere(maze.maze_map == 0).tolist()]

    def new_goal() -> tuple[tuple[int, int], np.ndarray, np.ndarray]:
        """A free cell, a point around its middle and the distances to the cell."""
        cell = free[rng.integers(len(free))]
        point = maze.ij_to_xy(cell) + rng.uniform(-1, 1, 2) * GOAL_SPREAD * maze._maze_unit
        return cell, point, maze.get_oracle_subgoal(maze.ij_to_xy(cell), maze.ij_to_xy(cell))[1]

    goal, goal_point, distances = new_goal()
    start = free[rng.integers(len(free))]
    observation, _ = envs.reset_with_details(env, seed, {"task_info": {"init_ij": start, "goal_ij": goal}})
    previous_cell = target = None
    drift = rng.normal(0, NAVIGATE_DRIFT, 2)
    record = []
    for _ in range(length):
        position = maze.get_xy()
        while np.linalg.norm(position - goal_point) <= maze._goal_tol:
            goal, goal_point, distances = new_goal()
            previous_cell = None
        cell = maze.xy_to_ij(position)
        if cell == goal:
            target = goal_point
        elif cell != previous_cell:  # a new cell, or a new goal: choose among the equally short ways on
            i, j = cell
            neighbours = [(i - 1, j), (i, j - 1), (i + 1, j), (i, j + 1)]
            nearer = [other for other in neighbours if distances[other] == distances[cell] - 1]
            target = np.array(maze.ij_to_xy(nearer[rng.integers(len(nearer))]))
        previous_cell = cell
        direction = target - position
        action = direction / (np.linalg.norm(direction) + 1e-6) + rng.normal(0, NAVIGATE_NOISE, 2) + drift
        drift = NAVIGATE_MEMORY * drift + (1 - NAVIGATE_MEMORY**2) ** 0.5 * rng.normal(0, NAVIGATE_DRIFT, 2)
        action = np.clip(action, -1, 1)
        successor, _, _, _, details = env.step(action)
        record.append(_row(observation, action, details))
        observation = successor
    return _stack(record)


def _play(env, rng: np.random.Generator, seed: int, length: int) -> Rows:
    """``length`` rows of OGBench's plan oracles at play: a new random target whenever one is done."""
    observation, details = envs.reset_with_details(env, seed)  # seeds numpy's global generator, which oracles use
    name = env.spec.id
    cubes = name.split("-")[1] if name.startswith("cube") else None
    if cubes is not None and cubes not in STACKING:
        raise UserError(f"{name}: OGBench's stacking probability is not known for it; place the official files")
    stacking = rng.uniform(*STACKING[cubes]) if cubes else 0.5
    oracles = _oracles(env)
    oracle = oracles[details["privileged/target_task"]]
    oracle.reset(observation, details)
    record = []
    for _ in range(length):
        action = np.clip(oracle.select_action(observation, details), -1, 1)
        successor, _, _, _, details = env.step(action)
        record.append(_row(observation, action, details))
        observation = successor
        if oracle.done:
            planned = env.unwrapped.set_new_target(p_stack=stacking)
            oracle = oracles[planned[1]["privileged/target_task"]]
            oracle.reset(*planned)
    return _stack(record)


def _oracles(env) -> dict:
    """The oracle of each kind of target; in puzzles the gripper stays closed."""
    from ogbench.manipspace.oracles.plan.button_plan import ButtonPlanOracle
    from ogbench.manipspace.oracles.plan.cube_plan import CubePlanOracle
    from ogbench.manipspace.oracles.plan.drawer_plan import DrawerPlanOracle
    from ogbench.manipspace.oracles.plan.window_plan import WindowPlanOracle

    settings = {"env": env, "noise": PLAY_NOISE, "noise_smoothing": PLAY_SMOOTHING}
    return {
        "cube": CubePlanOracle(**settings),
        "button": ButtonPlanOracle(gripper_always_closed=env.spec.id.startswith("puzzle"), **settings),
        "drawer": DrawerPlanOracle(**settings),
        "window": WindowPlanOracle(**settings),
    }


def _cube_in_sight(qpos: np.ndarray) -> bool:
    """OGBench discards an episode of scene when the cube leaves the table, unless it lies in the drawer."""
    y, z = qpos[:, 15], qpos[:, 16]
    lost = (y >= 0.29) | ((y <= -0.3) & ((z < 0.06) | (z > 0.08)))
    return not lost.any()


def _row(observation: np.ndarray, action: np.ndarray, details: dict) -> Rows:
    """One row: the state before the action, and the action."""
    row = {"observations": observation, "actions": action, "qpos": details["prev_qpos"], "qvel": details["prev_qvel"]}
    if "prev_button_states" in details:
        row["button_states"] = details["prev_button_states"]
    return row


def _stack(record: list[Rows]) -> Rows:
    rows = {key: np.stack([row[key] for row in record]).astype(_dtype(key)) for key in record[0]}
    return rows | {"terminals": np.zeros(len(record), np.float32)}


# --- storing ----------------------------------------------------------------------------------------------------


def _write_store(dataset: str, directory: Path, parts: Iterable[Rows], rows: int, provenance: dict) -> dict:
    """Relabel the parts (whole episodes, ``rows`` rows together), write the files, then the card.

    Parts stream through memory maps of temporary files, so a dataset may be larger than memory.
    """
    directory.mkdir(parents=True, exist_ok=True)
    env = envs.make(envs.task_name(dataset, 1))
    statistics = _Statistics()
    files: dict[str, np.memmap] = {}
    start = 0
    try:
        for part in parts:
            part = part | _relabel(env, part)
            statistics.add(part)
            if not files:
                files = {key: _new_file(directory, key, (rows, *array.shape[1:])) for key, array in part.items()}
            stop = start + len(part["terminals"])
            for key, file in files.items():
                file[start:stop] = part[key]
            start = stop
        (directory / "card.json").unlink(missing_ok=True)  # from here on older files are being replaced
        for key, file in files.items():
            file.flush()
            publish(file.filename, directory / f"{key}.npy")
    finally:
        for file in files.values():
            Path(file.filename).unlink(missing_ok=True)
        env.close()
    card = {
        "dataset": dataset,
        **provenance,
        "rows": rows,
        **statistics.summary(),
        "shapes": {key: list(file.shape) for key, file in files.items()},
        "sha256": {key: sha256(directory / f"{key}.npy") for key in files},
        "versions": {name: version(name) for name in ("ogbench", "mujoco", "gymnasium", "numpy")},
    }
    write_json(directory / "card.json", card)
    return card


def _relabel(env, part: Rows) -> Rows:
    """Rewards and masks of every row for every task, by OGBench's own rule (of the state before the action).

    One environment serves all tasks: the rule resets it, and a reset reads the task's number. Compiling five would
    take seconds.
    """
    from ogbench.relabel_utils import relabel_dataset

    labels = {}
    for number in range(1, envs.TASKS + 1):
        env.unwrapped._reward_task_id = number
        labelled = dict(part)
        relabel_dataset(env.spec.id, env, labelled)
        labels |= {f"rewards-task{number}": labelled["rewards"], f"masks-task{number}": labelled["masks"]}
    return labels


class _Statistics:
    """Sums over transitions (last rows of episodes left out) for the card."""

    def __init__(self):
        self._transitions = self._episodes = 0
        self._sum = self._squares = 0.0
        self._tasks = {number: {"successes": 0, "reward_histogram": {}} for number in range(1, envs.TASKS + 1)}

    def add(self, part: Rows) -> None:
        inner = part["terminals"] == 0
        observations = part["observations"][inner].astype(np.float64)
        self._sum = self._sum + observations.sum(axis=0)
        self._squares = self._squares + np.square(observations).sum(axis=0)
        self._transitions += len(observations)
        self._episodes += int((~inner).sum())
        for number, task in self._tasks.items():
            task["successes"] += int((part[f"masks-task{number}"][inner] == 0).sum())
            histogram = task["reward_histogram"]
            rewards, counts = np.unique(part[f"rewards-task{number}"][inner], return_counts=True)
            for reward, count in zip(rewards, counts, strict=True):
                histogram[f"{reward:g}"] = histogram.get(f"{reward:g}", 0) + int(count)

    def summary(self) -> dict:
        mean = self._sum / self._transitions
        std = np.sqrt(np.maximum(self._squares / self._transitions - mean**2, 0))
        return {
            "transitions": self._transitions,
            "episodes": self._episodes,
            "tasks": {str(number): task for number, task in self._tasks.items()},
            "observation_mean": mean.tolist(),
            "observation_std": std.tolist(),
        }


def _read_npz(path: Path | str, keys: Sequence[str] | None = None) -> Rows:
    """The rows of an official file, checked; a UserError names the file."""
    fix = "fetch or copy it again"
    try:
        with np.load(path, allow_pickle=False) as file:
            wanted = keys or [*REQUIRED, *({"button_states"} & set(file.files))]
            rows = {key: file[key].astype(_dtype(key), copy=False) for key in wanted}
    except KeyError as error:
        raise UserError(f"{path}: key {error.args[0]!r} is missing; this is not an OGBench file") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: missing or damaged ({type(error).__name__}); {fix}") from error
    count = len(rows["terminals"])
    if count < 2 or rows["terminals"][-1] != 1 or any(len(array) != count for array in rows.values()):
        raise UserError(f"{path}: rows are missing or the last episode has no end (key 'terminals'); {fix}")
    return rows


def _new_file(directory: Path, key: str, shape: tuple[int, ...]) -> np.memmap:
    path = temporary_name(directory / f"{key}.npy")
    return np.lib.format.open_memmap(path, mode="w+", dtype=_dtype(key), shape=shape)


def _dtype(key: str) -> type:
    return np.int64 if key == "button_states" else np.float32


def _progress(items: Iterable, total: int, label: str) -> Iterator:
    """A bar on a terminal, otherwise a line for every tenth."""
    if sys.stderr.isatty():
        yield from tqdm(items, total=total, desc=label)
        return
    for done, item in enumerate(items, start=1):
        yield item
        if done * 10 // total > (done - 1) * 10 // total:
            print(f"{label}: {done} of {total} parts", file=sys.stderr, flush=True)
