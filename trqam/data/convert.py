"""Official files as a store. OGBench's: each npz is a shard, converted once, in parts that fit in memory; Robomimic's
single file is read by `trqam.data.demonstrations`.

Only what training reads is stored; qpos and button_states are read along for relabelling and stay in the npz files.
Members of an npz file are read side by side, a part of each at a time, so that memory does not grow with the file.
"""

import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from trqam.config.errors import UserError
from trqam.config.load import is_robomimic
from trqam.config.reading import DAMAGED_ZIP
from trqam.data import verified
from trqam.data.card import restore
from trqam.data.demonstrations import Demonstrations
from trqam.data.store import Rows, standing, write
from trqam.data.verified import dtype, out_of_range, sums
from trqam.environments import environment, ogbench_tasks

STORED = ("observations", "actions", "terminals")
PART = 1 << 16  # rows read at once


def convert(dataset: str, npz_paths: Sequence[Path | str], directory: Path | str, workers: int = 1) -> dict:
    """Store the official files of ``dataset``, in this order, in ``directory``; returns the card.

    ``workers`` processes convert a file each. An interrupted call is resumed after the files that it finished.
    """
    if not npz_paths:
        raise UserError(f"{dataset}: no npz file was given; name the official files of the dataset")
    standing(Path(directory), {"dataset": dataset, "source": "official"})  # before minutes of reading
    if not is_robomimic(dataset):
        return write(Shards(dataset, [Path(path) for path in npz_paths]), directory, workers)
    if len(npz_paths) > 1:
        raise UserError(f"{npz_paths[1]}: a second file, and {dataset} has one; name that alone")
    return write(Demonstrations(dataset, Path(npz_paths[0])), directory)


def stored(dataset: str, directory: Path | str, names: Sequence[str]) -> dict[str, Any] | None:
    """The card of a whole store of the official files ``names``, which may be gone; None if there is none.

    A UserError if the store is damaged, or of other data.
    """
    directory = Path(directory)
    card = standing(directory, {"dataset": dataset, "source": "official"})
    if card is None or [shard["file"] for shard in card.get("shards", [])] != list(names):
        return None
    verified.ensure(directory, card, f"restore it, or run `trqam fetch {dataset}` and then `trqam convert {dataset}`")
    restore(directory)
    return card


class Shards:
    """The npz files of a release as blocks of a store."""

    verb = "converting"

    def __init__(self, dataset: str, paths: list[Path]):
        """Reads headers and checksums; a UserError names a file that is not OGBench's or has another shape."""
        self.dataset, self.paths = dataset, paths
        self._keys = [*STORED, "qpos"]
        with _reporting(paths[0]), zipfile.ZipFile(paths[0]) as file:
            self._keys += ["button_states"] * ("button_states.npy" in file.namelist())
        shapes = [self._shapes(path) for path in paths]
        self.rows = [shape["terminals"][0] for shape in shapes]
        self._all_shapes = {key: shapes[0][key][1:] for key in self._keys}
        self._row_shapes = {key: self._all_shapes[key] for key in STORED}
        for path, rows, shape in zip(paths, self.rows, shapes, strict=True):
            for key in self._keys:
                if shape[key] != (rows, *self._all_shapes[key]):
                    problem = f"{_numbers(shape[key])} numbers, which fits no other"
                    raise UserError(f"{path}: key {key!r} has {problem}; fetch it again")
        self._check_dataset()
        digests = sums(paths, f"summing {len(paths)} npz files")
        if doubled := [path for path, digest in zip(paths, digests, strict=True) if digests.count(digest) > 1]:
            raise UserError(f"{doubled[-1]}: is given twice; it has the bytes of {doubled[0].name}, name it once")
        files = zip(paths, self.rows, digests, strict=True)
        shards = [{"file": path.name, "rows": rows, "sha256": digest} for path, rows, digest in files]
        self.origin = {"source": "official", "seed": None, "shards": shards}

    def _check_dataset(self) -> None:
        env: Any = environment.make(ogbench_tasks.task_name(self.dataset, 1))
        wanted = {"observations": env.observation_space.shape, "actions": env.action_space.shape, "terminals": ()}
        environment.reset(env, 0)  # loads the model
        wanted |= {"qpos": (env.unwrapped.model.nq,), "button_states": (getattr(env.unwrapped, "_num_buttons", 0),)}
        env.close()
        for key, shape in wanted.items():
            if key in self._all_shapes and self._all_shapes[key] != shape:
                problem = f"{_numbers(self._all_shapes[key])} in a row, where {self.dataset} has {_numbers(shape)}"
                raise UserError(f"{self.paths[0]}: key {key!r} has {problem}; give the files of {self.dataset}")

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """See ``Blocks``."""
        return self._row_shapes

    def parts(self, block: int) -> Iterator[Rows]:
        """The rows of one file."""
        path, rows = self.paths[block], self.rows[block]
        with _reporting(path), zipfile.ZipFile(path) as file:
            members = {key: Member(file, key) for key in self._keys}
            for start in range(0, rows, PART):
                part = {key: member.read(min(PART, rows - start)) for key, member in members.items()}
                if start + PART >= rows:
                    for member in members.values():
                        member.finish()
                    if part["terminals"][-1] != 1:
                        raise ValueError("the last episode has no end (key 'terminals')")
                yield part

    def close(self) -> None:
        """Nothing stays open."""

    def _shapes(self, path: Path) -> dict[str, tuple[int, ...]]:
        with _reporting(path), zipfile.ZipFile(path) as file:
            return {key: Member(file, key).shape for key in self._keys}


class Member:
    """One array of an npz file, read from its beginning, some rows at a time."""

    def __init__(self, file: zipfile.ZipFile, key: str):
        """Raises KeyError if it is missing, ValueError if it is not an array that can be read this way."""
        self._stream, self._key = file.open(f"{key}.npy"), key
        if (version := np.lib.format.read_magic(self._stream)) != (1, 0):
            raise ValueError(f"key {key!r} has the unknown format {version}")
        self.shape, fortran, self._dtype = np.lib.format.read_array_header_1_0(self._stream)
        if self._dtype.kind not in "biuf" or not self.shape or (fortran and len(self.shape) > 1) or self.shape[0] < 2:
            raise ValueError(f"key {key!r} is not an array of rows of numbers")

    def read(self, rows: int) -> np.ndarray:
        """The next rows, in the type that stores have."""
        wanted = rows * int(np.prod(self.shape[1:], dtype=np.int64)) * self._dtype.itemsize
        content = self._stream.read(wanted)
        if len(content) < wanted:
            raise EOFError(f"key {self._key!r} ends too early")
        values = np.frombuffer(content, self._dtype).reshape(rows, *self.shape[1:])
        with np.errstate(over="ignore"):  # then it is infinite
            values = values.astype(dtype(self._key), copy=False)
        if wrong := out_of_range(self._key, values):
            raise ValueError(f"key {self._key!r} {wrong}")
        return values

    def finish(self) -> None:
        """After the last row: nothing may follow, and reaching the end has the member's CRC checked."""
        if self._stream.read(1):
            raise ValueError(f"key {self._key!r} is longer than its header says")


def _numbers(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "one number"


@contextmanager
def _reporting(path: Path) -> Iterator[None]:
    """Whatever is wrong with a file is one line that names it."""
    if path.exists() and not (path.is_file() or path.is_dir()):  # a pipe, which would be waited for
        raise UserError(f"{path}: not a regular file; give OGBench's own file")
    try:
        yield
    except KeyError as error:
        name = str(error.args[0]).split("'")[1].removesuffix(".npy")
        raise UserError(f"{path}: key {name!r} is missing; give OGBench's own file, fetched again") from error
    except (OSError, *DAMAGED_ZIP) as error:
        why = getattr(error, "strerror", None) or (str(error).splitlines() or ["empty"])[0]
        raise UserError(f"{path}: missing or damaged ({why}); fetch or copy it again") from error
