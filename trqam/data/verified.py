"""Whether a store is what its card says, looked at once for each version of its files.

Reading 39 GB takes minutes, so ``.verified.json`` in the store's folder notes which files were found right: their
sizes, times and inodes, and the card's own sum. What was changed, replaced or copied since is read again. Everything
that the card says of the arrays is compared with them: sums, counts, rewards, mean and deviation.
"""

import hashlib
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from trqam.config.errors import UserError
from trqam.config.reading import seal
from trqam.config.strict import read_record
from trqam.data.card import Statistics
from trqam.data.exclusive import exclusive
from trqam.data.record import CARD
from trqam.data.watch import watch
from trqam.experiment.files import write_json

MARK = ".verified.json"
PIECE = 1 << 14  # rows looked at together
# Of any number in a store. OGBench's are below 1,000 (positions, velocities, scaled coordinates), and MuJoCo gives up
# on a simulation at 1e10.
LARGEST = 1e6


class Mark(msgspec.Struct):
    """What was found right."""

    card: str
    files: dict[str, list[int]]


def dtype(key: str) -> type:
    """The type that ``key`` is stored with."""
    return np.int64 if key == "button_states" else np.float32


def mapped(path: Path, shape: list[int], fix: str) -> np.memmap:
    """A read-only memory map of ``path``, an array of a store; a UserError if it is none or has not ``shape``."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, SyntaxError, MemoryError) as error:  # truncated, not an array, empty; header
        raise UserError(f"{path}: missing or damaged; {fix}") from error
    if not isinstance(array, np.memmap):
        raise UserError(f"{path}: an archive of arrays where one array is stored; {fix}")
    if array.dtype != dtype(path.stem):
        raise UserError(f"{path}: {array.dtype.name} where {np.dtype(dtype(path.stem)).name} is stored; {fix}")
    if list(array.shape) != list(shape):
        raise UserError(f"{path}: shape {list(array.shape)} where card.json says {shape}; {fix}")
    if not array.flags.c_contiguous or path.stat().st_size != array.offset + array.nbytes:
        raise UserError(f"{path}: not row after row to the end of the file; {fix}")
    return array


def out_of_range(key: str, array: np.ndarray) -> str | None:
    """The first number of ``array`` that no ``key`` of a store can have, and what it should be."""
    if key == "terminals" or key.startswith("masks"):
        right, wanted = (array == 0) | (array == 1), "0 or 1"
    else:
        right, wanted = np.abs(array) <= LARGEST, f"a number within +-{LARGEST:,.0f}"  # not so for nan
    return None if right.all() else f"holds {array[~right].flat[0]:g} where {wanted} is stored"


def ensure(directory: Path, card: dict[str, Any], fix: str) -> None:
    """A UserError that ends in ``fix`` if the store in ``directory`` is not what ``card`` says; reads it once only."""
    if is_noted(directory, card):
        return
    waiting = f"{directory}: another process is verifying it; waiting"
    with exclusive(directory / ".verify.lock", waiting, None):
        if is_noted(directory, card):
            return
        stamps = _stamps(directory, card)
        _compare(directory, card, fix)
        note(directory, card, stamps)


def note(directory: Path, card: dict[str, Any], stamps: dict[str, list[int]] | None = None) -> None:
    """Remember that the store is right, as it is or as it was at ``stamps``."""
    mark = {"card": seal(card), "files": stamps or _stamps(directory, card)}
    try:
        write_json(directory / MARK, mark)
    except UserError as error:
        why = str(error).partition("; ")[0]
        print(f"{why}; verified, and will be each time that it is opened", file=sys.stderr, flush=True)


def is_noted(directory: Path, card: dict[str, Any]) -> bool:
    """Whether this version of the store was found right before."""
    try:
        mark = read_record(directory / MARK, Mark, "delete it")
        return mark["card"] == seal(card) and mark["files"] == _stamps(directory, card)
    except (UserError, OSError):  # no mark, or not ours: then the arrays themselves are asked
        return False


def _stamps(directory: Path, card: dict[str, Any]) -> dict[str, list[int]]:
    """By file that is there what changes when it is changed, replaced or copied."""
    paths = {key: directory / f"{key}.npy" for key in card["shapes"]}
    stats = {key: path.stat() for key, path in paths.items() if path.exists()}
    return {key: [s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino] for key, s in stats.items()}


def _compare(directory: Path, card: dict[str, Any], fix: str) -> None:
    """Reads every array, a piece of each at a time, and compares all that the card says of them."""
    arrays = {key: mapped(directory / f"{key}.npy", shape, fix) for key, shape in card["shapes"].items()}
    sums, statistics = {key: hashlib.sha256() for key in arrays}, Statistics()
    for key, digest in sums.items():
        with open(directory / f"{key}.npy", "rb") as file:
            digest.update(file.read(arrays[key].offset))
    with watch(f"verifying {directory}", card["rows"], " rows") as bar:
        for start in range(0, card["rows"], PIECE):
            part = {key: np.asarray(array[start : start + PIECE]) for key, array in arrays.items()}
            for key, piece in part.items():
                if wrong := out_of_range(key, piece):
                    raise UserError(f"{directory / f'{key}.npy'}: {wrong}; {fix}")
                sums[key].update(memoryview(piece).cast("B"))
            statistics.add(part)
            bar.update(len(part["terminals"]))
    for key, digest in sums.items():
        if digest.hexdigest() != card["sha256"][key]:
            raise UserError(f"{directory / f'{key}.npy'}: its SHA-256 is not the one in card.json; {fix}")
    found = statistics.summary()
    for key in ("transitions", "episodes", "tasks", "observation_mean", "observation_std"):
        close = key.startswith("observation") and _is_close(found[key], card[key], found["observation_mean"])
        if not close and found[key] != card[key]:
            raise UserError(f"{directory / CARD}: {key}: not what the arrays hold; {fix}")


def _is_close(found: list[float], said: list[float], mean: list[float]) -> bool:
    """Equal but for the order of a sum; a deviation comes from a difference of two numbers as large as the mean's."""
    return bool((np.abs(np.subtract(found, said)) <= 1e-6 * (1 + np.abs(mean) + np.abs(said))).all())
