"""OGBench data made on the spot: the collectors, and the store filled with their episodes.

Three collectors, after OGBench's (Park et al., 2025, arXiv:2410.20092, appendix on datasets):

* ``pointmaze-*-navigate``: a point follows shortest routes to random goals, one after another; each action is the
  direction of the next cell plus Gaussian noise. Starts and goals (in any free cell) and the choice among equally
  short routes are ours: the distribution resembles OGBench's and is not the same.
* ``antmaze-*-navigate``: the same with an ant that walks by a script (``trqam.data.gait``) where OGBench's was trained.
* ``cube-*-play``, ``scene-play``, ``puzzle-*-play``: OGBench's scripted oracles with its settings for play data.

Of Robomimic's sets a scripted policy makes one, ``lift-mh`` (`trqam.data.lift`, `trqam.data.demonstrations`).

Humanoids were steered by a policy that OGBench does not package, and no script is known: they need the official files.
"""

import itertools
import re
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np

from trqam.config.errors import UserError
from trqam.config.load import is_robomimic
from trqam.config.schema import EPISODE_TRANSITIONS
from trqam.config.strict import instead, shown
from trqam.data import gait
from trqam.data.demonstrations import collected
from trqam.data.store import Rows, dtype, standing, write
from trqam.environments import environment, ogbench_tasks
from trqam.maths.streams import episode_seed, stream

COLLECTED = r"(pointmaze|antmaze)-\w+-navigate|(cube-\w+|scene|puzzle-\w+)-play"  # the names that collectors are for
STATE = ("qpos", "qvel", "button_states")  # stored beside observations and actions, where the environment has them
# Added to a direction of length 1: independent noise, and a slow drift (an AR(1) process) that carries the walk off the
# shortest route, so that the data hold several ways through each cell and not one line.
NAVIGATE_NOISE, NAVIGATE_DRIFT, NAVIGATE_MEMORY = 0.5, 1.0, 0.9  # standard deviations; correlation a step
WALK_NOISE = 0.2  # standard deviation on an ant's torques
GOAL_SPREAD = 0.325  # of a cell's width: how far from its middle a goal may lie, either way
PLAY_NOISE, PLAY_SMOOTHING = 0.1, 0.5  # OGBench's settings for play data
# Range of an episode's probability of stacking a cube, by the number of cubes, as in OGBench's collection.
STACKING = {"single": (0.0, 0.0), "double": (0.0, 0.25), "triple": (0.05, 0.35), "quadruple": (0.1, 0.5)}


def generate(dataset: str, directory: Path | str, transitions: int, seed: int, workers: int = 1) -> dict:
    """Collect ``transitions`` of ``dataset`` (such as cube-single-play) into ``directory``; returns the card.

    OGBench's episodes have 1000 transitions, the last one what remains. Each is seeded on its own, so the same
    arguments give the same bytes whatever the number of ``workers`` (processes), more transitions only add episodes
    (the rest of the last one included), and an interrupted call is resumed after the episodes that it finished.
    """
    if transitions < 1:
        raise UserError(f"{dataset}: transitions is {transitions}; ask for at least 1")
    wanted = {"dataset": dataset, "source": "generated", "transitions": transitions, "seed": seed}
    stored = standing(Path(directory), wanted)  # before an environment is made
    if is_robomimic(dataset):
        return write(collected(dataset, Path(directory), transitions, seed, bool(stored)), directory)
    full, rest = divmod(transitions, EPISODE_TRANSITIONS)
    lengths = [EPISODE_TRANSITIONS] * full + [rest] * (rest > 0)
    return write(Episodes(dataset, lengths, seed), directory, workers)


def check_name(dataset: str, known: Collection[str]) -> None:
    """A UserError that says which of the ``known`` names was meant, if a name is near one and is no dataset's.

    Of a name that a collector is for, OGBench says itself whether it has the environment.
    """
    meant = instead(dataset, known, "", dataset in known)
    if meant and not re.fullmatch(COLLECTED, dataset) and not ogbench_tasks.is_dataset(dataset):
        raise UserError(f"{shown(dataset)}: no dataset of OGBench's or Robomimic's; {meant}")


class Episodes:
    """The episodes of a collector as blocks of a store: ``lengths[i]`` transitions and one row more."""

    verb = "generating"

    def __init__(self, dataset: str, lengths: list[int], seed: int):
        """Raises UserError for a dataset that has no collector."""
        if not re.fullmatch(COLLECTED, dataset):
            fix = f"run `trqam fetch {dataset}`, then `trqam convert {dataset}`"
            raise UserError(f"{dataset}: cannot be generated here and needs OGBench's official files; {fix}")
        self.dataset, self.seed = dataset, seed
        self.rows = [length + 1 for length in lengths]
        self.origin = {"source": "generated", "seed": seed}
        self._env = None

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """See ``Blocks``; of the collector's first row."""
        return {key: array.shape[1:] for key, array in self.episode(0, 1).items()}

    def parts(self, block: int) -> Iterator[Rows]:
        """The episode, in one part."""
        yield self.episode(block, self.rows[block])

    def episode(self, number: int, rows: int) -> Rows:
        """The first ``rows`` rows of an episode, which depend on nothing that was collected before."""
        if self._env is None:
            self._env = self._make()
        collect = _play if self.dataset.endswith("-play") else _navigate
        for attempt in itertools.count():  # all but always a single one
            purpose = f"generate/{self.dataset}"
            rng = stream(self.seed, purpose, attempt, number)
            record = collect(self._env, rng, episode_seed(self.seed, purpose, attempt, number), rows)
            if self._is_kept(record["qpos"]):
                break
        record["terminals"][-1] = 1
        return record

    def close(self) -> None:
        """Close the environment."""
        if self._env is not None:
            self._env.close()
            self._env = None

    def _is_kept(self, qpos: np.ndarray) -> bool:
        if self.dataset.startswith("scene"):
            return _cube_in_sight(qpos)
        return not self.dataset.startswith("antmaze") or bool((gait.upright(qpos) > 0).all())

    def _make(self):
        mode = {"mode": "data_collection"} if self.dataset.endswith("-play") else {}
        options = {"terminate_at_goal": False, "max_episode_steps": EPISODE_TRANSITIONS + 1, **mode}
        return ogbench_tasks.make_registered(f"{self.dataset.rpartition('-')[0]}-v0", **options)


# --- the collectors ---------------------------------------------------------------------------------------------


def _navigate(env, rng: np.random.Generator, seed: int, length: int) -> Rows:
    """``length`` rows of a walk to random goals along shortest routes, with noise."""
    maze = env.unwrapped
    free = [(i, j) for i, j in np.argwhere(maze.maze_map == 0).tolist()]

    def new_goal() -> tuple[tuple[int, int], np.ndarray, np.ndarray]:
        """A free cell, a point around its middle and the distances to the cell."""
        cell = free[rng.integers(len(free))]
        point = maze.ij_to_xy(cell) + rng.uniform(-1, 1, 2) * GOAL_SPREAD * maze._maze_unit
        return cell, point, maze.get_oracle_subgoal(maze.ij_to_xy(cell), maze.ij_to_xy(cell))[1]

    goal, goal_point, distances = new_goal()
    start = free[rng.integers(len(free))]
    observation, _ = environment.reset_with_details(env, seed, {"task_info": {"init_ij": start, "goal_ij": goal}})
    previous_cell = target = None
    mover = _Ant(rng) if env.spec.id.startswith("antmaze") else _Point(rng)
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
        action = np.clip(mover.action(maze, target - position), -1, 1)
        successor, _, _, _, details = env.step(action)
        record.append(_row(observation, action, details))
        observation = successor
    return _stack(record)


class _Point:
    """A point moves towards its target, with noise and drift."""

    def __init__(self, rng: np.random.Generator):
        self._rng, self._drift = rng, rng.normal(0, NAVIGATE_DRIFT, 2)

    def action(self, maze, direction: np.ndarray) -> np.ndarray:
        action = direction / (np.linalg.norm(direction) + 1e-6) + self._rng.normal(0, NAVIGATE_NOISE, 2) + self._drift
        fresh = (1 - NAVIGATE_MEMORY**2) ** 0.5 * self._rng.normal(0, NAVIGATE_DRIFT, 2)
        self._drift = NAVIGATE_MEMORY * self._drift + fresh
        return action


class _Ant:
    """An ant walks towards its target, with noise on its torques."""

    def __init__(self, rng: np.random.Generator):
        self._rng, self._gait, self._phase = rng, gait.Gait(), rng.uniform(0, 2 * np.pi)

    def action(self, maze, direction: np.ndarray) -> np.ndarray:
        heading, state = np.arctan2(direction[1], direction[0]), maze.data
        action = gait.torques(self._gait, state.qpos, state.qvel, self._phase, heading)
        self._phase = gait.advance(self._gait, self._phase)
        return action + self._rng.normal(0, WALK_NOISE, action.shape)


def _play(env, rng: np.random.Generator, seed: int, length: int) -> Rows:
    """``length`` rows of OGBench's plan oracles at play: a new random target whenever one is done."""
    observation, details = environment.reset_with_details(
        env, seed
    )  # seeds numpy's global generator, which oracles use
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
    state = {key: details[f"prev_{key}"] for key in STATE if f"prev_{key}" in details}
    return {"observations": observation, "actions": action, **state}


def _stack(record: list[Rows]) -> Rows:
    rows = {key: np.stack([row[key] for row in record]).astype(dtype(key)) for key in record[0]}
    return rows | {"terminals": np.zeros(len(record), np.float32)}
