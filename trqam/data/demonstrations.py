"""Robomimic's demonstrations (hdf5) as a store, and such a file of our own, made on the spot for Lift.

A file has one group a demonstration of T steps, and says in an attribute of `data`, as JSON, which environment and
controller it was made with:

    data/demo_K/obs/KEY, next_obs/KEY [T, .],  actions [T, 7],  rewards and dones [T], 0 or 1;   data.attrs["env_args"]

Nothing is relabelled: the reward is the file's minus 1, the mask 1 minus done. As in TRQAM's code an episode ends at
each step that is done. After its first success a demonstration goes on for some steps, all of them successes and done:
each of these is an episode of one transition, of which no chunk goes on into the next.
"""

import io
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from trqam.config.errors import UserError
from trqam.config.strict import shown
from trqam.data import lift
from trqam.data.store import Rows
from trqam.data.verified import sums, watch
from trqam.environments import environment
from trqam.environments.robomimic_tasks import ACTIONS, ARM, CONTROL_HERTZ, KEYS, NAMES, require
from trqam.experiment.files import write_atomically
from trqam.maths.streams import episode_seed, stream

AGAIN = "fetch or copy it again"
OURS = "trqam generate"  # in the place of robosuite's version, in a file of our own
CLOSE = 1e-4  # of two numbers that are the same observation


class Demonstrations:
    """The demonstrations of a file as one block of a store."""

    verb = "converting"

    def __init__(self, dataset: str, path: Path, origin: dict[str, Any] | None = None):
        """Reads all but observations; a UserError names a file that is damaged or not of ``dataset``.

        ``origin`` goes into the card; None: the file is official.
        """
        self.dataset, self.path, self._fix = dataset, path, "delete it; it is made again" if origin else AGAIN
        with _opened(path, self._fix) as file:
            made = json.loads(file["data"].attrs["env_args"])
            _check_environment(dataset, path, made)
            if origin is None and made.get("env_version") == OURS:
                raise UserError(f"{path}: `trqam generate` made it; give Robomimic's own file of {dataset}")
            self._names = sorted(file["data"], key=lambda name: int(name.removeprefix("demo_")))
            if not self._names:
                raise ValueError("no demonstration in it")
            self.rows = [sum(len(_ends(d)) + int(_ends(d).sum()) for d in map(file["data"].get, self._names))]
            self._widths = [file["data"][self._names[0]]["obs"][key].shape[1] for key in KEYS]
        shards = [{"file": path.name, "rows": self.rows[0], "sha256": sums([path], f"summing {path.name}")[0]}]
        self.origin = origin or {"source": "official", "seed": None, "shards": shards}

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """See ``Blocks``."""
        return {"observations": (sum(self._widths),), "actions": (ACTIONS,), "terminals": ()}

    def parts(self, block: int) -> Iterator[Rows]:
        """A demonstration after the other, with its rewards and masks."""
        with _opened(self.path, self._fix) as file:
            for name in self._names:
                yield self._rows(name, file["data"][name])

    def close(self) -> None:
        """Nothing stays open."""

    def _rows(self, name: str, demo: Any) -> Rows:
        """Every transition, and after the last of an episode a row that is only its next observation."""
        now, then = (np.concatenate([demo[kind][key][()] for key in KEYS], 1) for kind in ("obs", "next_obs"))
        actions, rewards, dones = (demo[key][()] for key in ("actions", "rewards", "dones"))
        length = len(dones)
        wanted = {"observations": (length, sum(self._widths)), "actions": (length, ACTIONS), "rewards": (length,)}
        for key, array in (("observations", now), ("observations", then), ("actions", actions), ("rewards", rewards)):
            if array.shape != wanted[key]:
                raise ValueError(f"{name}: {key} have the shape {array.shape}, not {wanted[key]}")
        if not np.isin([rewards, dones], (0, 1)).all():
            raise ValueError(f"{name}: a reward or done that is neither 0 nor 1")
        if not np.abs(then[:-1] - now[1:]).max(initial=0) < CLOSE:
            raise ValueError(f"{name}: next_obs is not the observation that follows")
        ends = _ends(demo)
        after = np.flatnonzero(ends) + 1
        return {
            "observations": np.insert(now, after, then[ends], axis=0).astype(np.float32),
            "actions": np.insert(actions, after, 0, axis=0).astype(np.float32),
            "rewards-task1": np.insert(rewards - 1.0, after, 0).astype(np.float32),
            "masks-task1": np.insert(1.0 - dones, after, 1).astype(np.float32),
            "terminals": np.insert(np.zeros(length, np.float32), after, 1),
        }


def collected(dataset: str, directory: Path, transitions: int, seed: int, stored: bool = False) -> Demonstrations:
    """Demonstrations of a scripted policy with ``transitions`` in all, the last cut short, in a file in ``directory``.

    The file is made at once, and made anew if that was interrupted, or if other versions made it than are here and
    nothing is ``stored`` of it; equal arguments and versions give equal bytes.
    """
    if dataset != "lift-mh":
        fix = f"run `trqam fetch {dataset}`, then `trqam convert {dataset}`"
        raise UserError(f"{dataset}: cannot be generated here (only lift-mh can) and needs Robomimic's file; {fix}")
    path = directory / f"demonstrations-{transitions}-{seed}.hdf5"
    if not path.is_file() or not (stored or _is_of_today(dataset, path)):
        env: Any = environment.make(dataset).unwrapped
        purpose, left = f"generate/{dataset}", transitions
        demos: list[dict[str, np.ndarray]] = []
        with watch(f"demonstrating {dataset}", transitions, " steps") as bar:
            while left:
                number = len(demos)
                seeded = episode_seed(seed, purpose, number), stream(seed, purpose, number)
                demo = lift.demonstration(env, seeded[1], seeded[0])
                observations = demo.pop("observations")
                demos.append({key: array[:left] for key, array in demo.items()})
                length = len(demos[-1]["actions"])
                demos[-1] |= {"obs": observations[:length], "next_obs": observations[1 : length + 1]}
                left -= length
                bar.update(length)
        env.close()
        save(path, dataset, demos)
    return Demonstrations(dataset, path, {"source": "generated", "seed": seed})


def _is_of_today(dataset: str, path: Path) -> bool:
    """Whether the versions that made a file of ours are those that are here; says so on stderr if they are not. A file
    that does not tell its versions is taken as it is."""
    here = _versions(dataset)
    with _opened(path, "delete it; it is made again") as file:
        made = file["data"].attrs.get("versions", here)
    if made != here:
        print(f"{path}: made by {made}, and here are {here}; made again", file=sys.stderr)
    return bool(made == here)


def _versions(dataset: str) -> str:
    """Of the packages on which the demonstrations depend, as words."""
    return ", ".join(f"{name} {version(name)}" for name in environment.packages(dataset))


def save(path: Path, dataset: str, demos: list[dict[str, np.ndarray]], made_by: str = OURS) -> None:
    """Write a file of Lift as Robomimic does, of demonstrations of obs, next_obs [T, O], actions, rewards and dones;
    ``made_by`` stands for robosuite's version."""
    h5py = _h5py()
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        data = file.create_group("data")
        controller = {"type": "BASIC", "body_parts": {"right": ARM}}
        made = {"env_name": NAMES[dataset], "env_version": made_by, "type": 1}
        made |= {"env_kwargs": {"control_freq": CONTROL_HERTZ, "controller_configs": controller}}
        data.attrs["env_args"], data.attrs["total"] = json.dumps(made), sum(len(demo["actions"]) for demo in demos)
        data.attrs["versions"] = _versions(dataset)
        for number, demo in enumerate(demos):
            group = data.create_group(f"demo_{number}")
            group.attrs["num_samples"] = len(demo["actions"])
            for key in ("actions", "rewards", "dones"):
                group[key] = demo[key]
            for kind in ("obs", "next_obs"):
                for key, part in zip(KEYS, np.split(demo[kind], lift.SPLITS, axis=1), strict=True):
                    group[f"{kind}/{key}"] = part
    write_atomically(path, content.getvalue())


def check(path: Path) -> str | None:
    """Why a file is none of Robomimic's; None if it is one that can be opened."""
    h5py = _h5py()
    try:
        with h5py.File(path, "r") as file:
            return None if "env_args" in file["data"].attrs else "no attribute env_args"
    except (OSError, KeyError, RuntimeError) as error:
        return str(error).splitlines()[0]


def _ends(demo: Any) -> np.ndarray:
    """Where an episode ends: at each done, and with the demonstration."""
    ends = demo["dones"][()] > 0
    ends[-1] = True
    return ends


def _check_environment(dataset: str, path: Path, made: dict[str, Any]) -> None:
    """A UserError if the actions of a file mean something else here."""
    options = made["env_kwargs"]
    arm = options["controller_configs"]
    arm = arm.get("body_parts", {}).get("right", arm)
    said = {"env_name": made["env_name"], "control_freq": options["control_freq"]}
    said |= {key: arm.get(key) for key in ("type", "output_max", "kp")}
    wanted = {"env_name": NAMES[dataset], "control_freq": CONTROL_HERTZ, **{k: ARM[k] for k in said if k in ARM}}
    for key, value in wanted.items():
        if said[key] != value:
            problem = f"env_args: {key}: {shown(str(said[key]))}, and the environment of {dataset} has {value}"
            raise UserError(f"{path}: {problem}; give Robomimic's own file of {dataset}")


@contextmanager
def _opened(path: Path, fix: str) -> Iterator[Any]:
    """The file; whatever is wrong with it is one line that names it and the ``fix``."""
    h5py = _h5py()
    if path.exists() and not path.is_file():
        raise UserError(f"{path}: not a regular file; give Robomimic's own file")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, KeyError, ValueError, TypeError, AttributeError, IndexError, RuntimeError) as error:
        why = (str(error.args[0]) if error.args else type(error).__name__).splitlines()[0]
        raise UserError(f"{path}: missing, damaged or not Robomimic's ({shown(why, 160)}); {fix}") from error


def _h5py() -> Any:
    require()
    import h5py

    return h5py
