"""What a dataset's card says of its transitions: how many, how they are distributed, how often they solve each task.

``store.json`` is the truth and is written last. ``card.json``, which everybody reads, is a copy of it: the workflow
declares it as the output of its rule, and Snakemake deletes what a rule declares, before a job (``--forceall``) and
after one that failed. The command of the rule puts it back from the truth, without reading an official file again.
"""

from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np

from trqam.config.errors import UserError
from trqam.config.load import is_robomimic, tasks_of
from trqam.config.reading import read_bytes
from trqam.config.schema import Count, Finite, Natural
from trqam.config.strict import read_record, shown
from trqam.config.wording import weight
from trqam.environments.ogbench_tasks import TASKS
from trqam.experiment.files import write_atomically

CARD, RECORD = "card.json", "store.json"
RANGE = ("observation_min", "observation_max")
TASK = Annotated[str, msgspec.Meta(pattern=rf"^[1-{TASKS}]\Z", description=f"a task, 1 to {TASKS}")]
REWARD = Annotated[str, msgspec.Meta(pattern=r"^-?\d+(\.\d+)?(e[+-]\d\d)?\Z", description="a reward")]
KEY = Annotated[  # becomes the name of a file
    str,
    msgspec.Meta(
        pattern=rf"^(observations|actions|terminals|qpos|qvel|button_states|(rewards|masks)-task[1-{TASKS}])\Z",
        description="the name of an array, such as observations",
    ),
]
Sum = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z", description="64 hexadecimal digits")]


class Shard(msgspec.Struct):
    """One of the files that a store was made of."""

    file: str
    rows: Count
    sha256: Sum


class Task(msgspec.Struct):
    """How often the transitions solve a task, and how many of them have which reward."""

    successes: Natural
    reward_histogram: dict[REWARD, Natural]


class Card(msgspec.Struct):
    """What a store holds; ``sha256`` are the sums of its arrays."""

    dataset: str
    source: Literal["generated", "official"]
    seed: Natural | None
    rows: Count
    transitions: Count
    episodes: Count
    tasks: dict[TASK, Task]
    shapes: dict[KEY, Annotated[list[Count], msgspec.Meta(min_length=1, max_length=2)]]
    sha256: dict[KEY, Sum]
    observation_mean: list[Finite]
    observation_std: list[Annotated[float, msgspec.Meta(ge=0, le=1e300)]]
    observation_min: list[Finite] = []  # of a set of Robomimic, next observations included
    observation_max: list[Finite] = []
    versions: dict[str, str] = {}
    shards: list[Shard] = []


def read(path: Path, dataset: str, fix: str) -> dict[str, Any]:
    """The card at ``path`` of a store of ``dataset``; a UserError that ends in ``fix`` if it is not one."""
    card = read_record(path, Card, fix)
    if card["dataset"] != dataset:
        raise UserError(f"{path}: dataset: holds {shown(card['dataset'])}, not {dataset}; {fix}")
    shapes, rows = card["shapes"], card["rows"]
    if missing := sorted(_needed(dataset) - shapes.keys()) or sorted(shapes.keys() - card["sha256"].keys()):
        raise UserError(f"{path}: {missing[0]}: no shape or no SHA-256 of it; {fix}")
    for key in ("observation_mean", "observation_std", *RANGE[: 2 * is_robomimic(dataset)]):
        if len(card.get(key, [])) != shapes["observations"][-1]:
            count, width = len(card.get(key, [])), shapes["observations"]
            raise UserError(f"{path}: {key}: {count} numbers, and observations have the shape {width}; {fix}")
    if len(shapes["observations"]) != 2 or len(shapes["actions"]) != 2:
        raise UserError(f"{path}: shapes: observations and actions are no tables; {fix}")
    if wrong := [key for key, shape in shapes.items() if shape[0] != rows]:
        raise UserError(f"{path}: shapes: {wrong[0]} has {shapes[wrong[0]][0]} rows of {rows}; {fix}")
    if card["transitions"] + card["episodes"] != rows or (
        card.get("shards") and sum(shard["rows"] for shard in card["shards"]) != rows
    ):
        raise UserError(f"{path}: transitions and episodes, or shards: are not {rows} rows together; {fix}")
    if len(card["tasks"]) < (tasks := len(tasks_of(dataset))):
        raise UserError(f"{path}: tasks: {len(card['tasks'])} of {tasks}; {fix}")
    record = path.with_name(RECORD)
    if path.name == CARD and record.is_file() and read_bytes(record) != read_bytes(path):
        raise UserError(f"{path}: differs from {RECORD} beside it, of which it is a copy; {fix}")
    return card


def _needed(dataset: str) -> set[str]:
    """The arrays of a store."""
    tasks = range(1, len(tasks_of(dataset)) + 1)
    return {"observations", "actions", "terminals"} | {f"{k}-task{n}" for k in ("rewards", "masks") for n in tasks}


class Statistics:
    """Sums over transitions (the last rows of episodes left out), which can be recorded by block and merged.

    Of a set of Robomimic also the range of the observations, over all rows: its observations are scaled by it.
    """

    def __init__(self, dataset: str) -> None:
        self.transitions = self._episodes = 0
        self._sum = self._squares = np.zeros(())
        self._range = [np.array(np.inf), np.array(-np.inf)] if is_robomimic(dataset) else []
        numbers = [str(number) for number in range(1, len(tasks_of(dataset)) + 1)]
        self._successes = dict.fromkeys(numbers, 0)
        self._rewards: dict[str, Counter[str]] = {number: Counter() for number in numbers}

    def add(self, part: dict[str, np.ndarray]) -> None:
        """Count the rows of ``part``, which has rewards and masks of every task."""
        if self._range:
            self._widen(part["observations"].min(axis=0), part["observations"].max(axis=0))
        inner = part["terminals"] == 0
        observations = part["observations"][inner].astype(np.float64)
        self._sum = self._sum + observations.sum(axis=0)
        self._squares = self._squares + np.square(observations).sum(axis=0)
        self.transitions += len(observations)
        self._episodes += int((~inner).sum())
        for number, histogram in self._rewards.items():
            self._successes[number] += int((part[f"masks-task{number}"][inner] == 0).sum())
            rewards, counts = np.unique(part[f"rewards-task{number}"][inner], return_counts=True)
            for reward, count in zip(rewards, counts.tolist(), strict=True):
                histogram[f"{reward:g}"] += count

    def record(self) -> dict[str, Any]:
        """The sums as plain JSON types, from which ``merge`` takes them without loss."""
        return {
            "transitions": self.transitions,
            "episodes": self._episodes,
            "sum": self._sum.tolist(),
            "squares": self._squares.tolist(),
            "tasks": self._tasks(),
            **self._ranges(),
        }

    def merge(self, record: dict[str, Any]) -> None:
        """Add what another ``Statistics`` recorded. The order of merging decides the last bits."""
        self.transitions += record["transitions"]
        self._episodes += record["episodes"]
        self._sum = self._sum + np.array(record["sum"])
        self._squares = self._squares + np.array(record["squares"])
        if self._range:
            self._widen(*(np.array(record[key], np.float32) for key in RANGE))
        for number, task in record["tasks"].items():
            self._successes[number] += task["successes"]
            self._rewards[number].update(task["reward_histogram"])

    def summary(self) -> dict[str, Any]:
        """What the card says: counts, successes and rewards by task, mean and standard deviation of observations."""
        mean = self._sum / self.transitions
        std = np.sqrt(np.maximum(self._squares / self.transitions - mean**2, 0))
        return {
            "transitions": self.transitions,
            "episodes": self._episodes,
            "tasks": self._tasks(),
            "observation_mean": mean.tolist(),
            "observation_std": std.tolist(),
            **self._ranges(),
        }

    def _widen(self, least: np.ndarray, most: np.ndarray) -> None:
        self._range = [np.minimum(self._range[0], least), np.maximum(self._range[1], most)]

    def _ranges(self) -> dict[str, list[float]]:
        return {key: bound.tolist() for key, bound in zip(RANGE, self._range, strict=False)}

    def _tasks(self) -> dict[str, Any]:
        return {n: {"successes": self._successes[n], "reward_histogram": dict(r)} for n, r in self._rewards.items()}


def restore(folder: Path) -> None:
    """Make the card of a complete store a copy of its record again."""
    content = read_bytes(folder / RECORD)
    if not (folder / CARD).is_file() or read_bytes(folder / CARD) != content:
        write_atomically(folder / CARD, content)


def describe(card: dict[str, Any], directory: Path | str) -> str:
    """The card of the store in ``directory`` for people: size, origin, and by task the successes and rewards."""
    size = weight(sum((Path(directory) / f"{key}.npy").stat().st_size for key in card["shapes"]))
    whose = "Robomimic's" if is_robomimic(card["dataset"]) else "OGBench's"
    origin = f"generated, not {whose} release" if card["source"] == "generated" else "of official files"
    said = f"{card['transitions']:,} transitions in {card['episodes']:,} episodes, {size}; {origin}"
    lines = [f"{directory}: {card['dataset']}, {said}"]
    for number, task in sorted(card["tasks"].items()):
        rewards = sorted(task["reward_histogram"].items(), key=lambda item: float(item[0]))
        shares = ", ".join(f"{reward}: {100 * count / card['transitions']:.4g} %" for reward, count in rewards)
        lines.append(f"  task {number}: {task['successes']:,} successes; rewards {shares}")
    return "\n".join(lines)
