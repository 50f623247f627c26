"""Whether a store is what its card says, looked at once for each version of its files.

Reading 39 GB takes minutes, so ``.verified.json`` in the store's folder notes which files were found right: their
sizes, times and inodes, and the card's own sum. What was changed, replaced or copied since is read again. Everything
that the card says of the arrays is compared with them: sums, counts, rewards, mean and deviation.
"""

import hashlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock
import numpy as np

from trqam.config.errors import UserError
from trqam.config.reading import read_json, seal
from trqam.data.card import CARD, Statistics
from trqam.experiment.files import write_json

if TYPE_CHECKING:
    from tqdm import tqdm

MARK = ".verified.json"
PIECE = 1 << 14  # rows looked at together
# Of any number in a store. OGBench's are below 1,000 (positions, velocities, scaled coordinates), and MuJoCo gives up
# on a simulation at 1e10.
LARGEST = 1e6


@contextmanager
def exclusive(lock: Path, what: str, fix: str | None) -> Iterator[None]:
    """One process at a time at ``what``, by a lock of the system's that a killed process lets go of.

    Makes the folder of ``lock``. A UserError that ends in ``fix`` if it cannot be written; without a ``fix`` it goes
    on without the lock.
    """
    held = filelock.FileLock(lock)
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        try:
            held.acquire(timeout=0)
        except filelock.Timeout:
            print(f"{what}: another process is at it; waiting", file=sys.stderr, flush=True)
            held.acquire()
    except (OSError, NotImplementedError) as error:  # NotImplementedError: a file system without locks
        if fix is not None:
            why = getattr(error, "strerror", None) or "it has no locks"
            raise UserError(f"{lock.parent}: cannot be written ({why}); {fix}") from error
    try:
        yield
    finally:
        held.release()


def watch(label: str, total: int | None, unit: str, initial: int = 0) -> "tqdm":
    """What takes long says how far it is: a bar on a terminal; in a log a line every half minute."""
    from tqdm import tqdm  # only here: the benchmark of a GPU runs with PyTorch alone

    every = 0.2 if sys.stderr.isatty() else 30
    options = {"unit": unit, "unit_scale": True, "leave": False, "delay": every, "mininterval": every}
    return tqdm(desc=label, total=total, initial=initial, **options)


def sums(paths: Sequence[Path], label: str) -> list[str]:
    """The hexadecimal SHA-256 of each file."""
    digests = []
    with watch(label, sum(path.stat().st_size for path in paths), "B") as bar:
        for path in paths:
            digest = hashlib.sha256()
            with open(path, "rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
                    bar.update(len(block))
            digests.append(digest.hexdigest())
    return digests


def dtype(key: str) -> np.dtype:
    """The type that ``key`` is stored with."""
    return np.dtype(np.int64 if key == "button_states" else np.float32)


def mapped(path: Path, shape: list[int], fix: str) -> np.memmap:
    """A read-only memory map of ``path``, an array of a store; a UserError if it is none or has not ``shape``."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, SyntaxError, MemoryError) as error:  # truncated, not an array, empty; header
        raise UserError(f"{path}: missing or damaged; {fix}") from error
    if not isinstance(array, np.memmap):
        raise UserError(f"{path}: an archive of arrays where one array is stored; {fix}")
    if array.dtype != dtype(path.stem):
        raise UserError(f"{path}: {array.dtype.name} where {dtype(path.stem).name} is stored; {fix}")
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
    with exclusive(directory / ".verify.lock", str(directory), None):
        if is_noted(directory, card):
            return
        mark = mark_of(directory, card)  # before it is read
        _compare(directory, card, fix)
        note(directory, mark)


def note(directory: Path, mark: dict[str, Any]) -> None:
    """Remember by ``mark`` that the store is right."""
    try:
        write_json(directory / MARK, mark)
    except UserError as error:
        why = str(error).partition("; ")[0]
        print(f"{why}; verified, and will be each time that it is opened", file=sys.stderr, flush=True)


def is_noted(directory: Path, card: dict[str, Any]) -> bool:
    """Whether this version of the store was found right before."""
    with suppress(UserError, OSError):  # no mark, or not ours: then the arrays themselves are asked
        return read_json(directory / MARK) == mark_of(directory, card)
    return False


def mark_of(directory: Path, card: dict[str, Any]) -> dict[str, Any]:
    """The card's sum and, by file that is there, what changes when it is changed, replaced or copied."""
    paths = {key: directory / f"{key}.npy" for key in card["shapes"]}
    stats = {key: path.stat() for key, path in paths.items() if path.exists()}
    files = {key: [s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino] for key, s in stats.items()}
    return {"card": seal(card), "files": files}


def _compare(directory: Path, card: dict[str, Any], fix: str) -> None:
    """Reads every array, a piece of each at a time, and compares all that the card says of them."""
    arrays = {key: mapped(directory / f"{key}.npy", shape, fix) for key, shape in card["shapes"].items()}
    digests, statistics = {key: hashlib.sha256() for key in arrays}, Statistics(card["dataset"])
    for key, digest in digests.items():
        with open(directory / f"{key}.npy", "rb") as file:
            digest.update(file.read(arrays[key].offset))
    with watch(f"verifying {directory}", card["rows"], " rows") as bar:
        for start in range(0, card["rows"], PIECE):
            part = {key: np.asarray(array[start : start + PIECE]) for key, array in arrays.items()}
            for key, piece in part.items():
                if wrong := out_of_range(key, piece):
                    raise UserError(f"{directory / f'{key}.npy'}: {wrong}; {fix}")
                digests[key].update(np.ascontiguousarray(piece).data)
            statistics.add(part)
            bar.update(len(part["terminals"]))
    for key, digest in digests.items():
        if digest.hexdigest() != card["sha256"][key]:
            raise UserError(f"{directory / f'{key}.npy'}: its SHA-256 is not the one in card.json; {fix}")
    computed = statistics.summary()
    for key in computed:
        close = key.startswith("observation") and _is_close(computed[key], card[key], computed["observation_mean"])
        if not close and computed[key] != card[key]:
            raise UserError(f"{directory / CARD}: {key}: not what the arrays hold; {fix}")


def _is_close(computed: list[float], said: list[float], mean: list[float]) -> bool:
    """Equal but for the order of a sum; a deviation comes from a difference of two numbers as large as the mean's."""
    return bool((np.abs(np.subtract(computed, said)) <= 1e-6 * (1 + np.abs(mean) + np.abs(said))).all())
