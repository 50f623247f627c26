"""Stores: datasets on disk, filled block by block, in parallel, and resumed where they were interrupted.

A store is a folder of ``.npy`` files in OGBench's raw layout, float32 (button_states int64), with R rows:
observations [R, O], actions [R, A], terminals [R] (1 on the last row of an episode, which is only a next
observation), and for each of the five tasks rewards-task{k} and masks-task{k} [R] from OGBench's own relabelling.
Generated stores also have qpos, qvel and (scene, puzzle) button_states, which relabelling reads and training does not;
converted ones leave them in the official files. ``card.json`` describes a store and is written last: without a card
there is no dataset.

There is one file a key, however many shards the data came in: a batch is then gathered from five maps. With a map for
each of a hundred shards the same batch took 20 to 40 times as long, and needed 500 open files.

What a store is filled with are *blocks*, episodes of a collector or shards of a release, made in any order, each with
its place. Until all are there they lie in ``.unfinished/``: the files at full length (sparse), ``plan.json`` and
``blocks.jsonl``, which gets one line for each block once its rows are written: their checksums, by which an
interrupted run knows what it has, and their statistics. Another plan (more transitions, another seed, another
version of MuJoCo, other files) starts from nothing.
"""

import hashlib
import io
import json
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import filelock
import numpy as np
from tqdm import tqdm

from trqam import envs
from trqam.artefacts import publish, read_json, sha256, write_atomically, write_json
from trqam.data.card import Statistics, size
from trqam.data.workers import in_processes
from trqam.errors import UserError

Rows = dict[str, np.ndarray]


class Blocks(Protocol):
    """What fills a store; sent to worker processes, so it opens nothing before it is asked for rows."""

    dataset: str
    verb: str  # what is being done, for the progress line
    rows: list[int]  # of each block
    origin: dict[str, Any]  # goes into the card: source, seed, ...; equal blocks have an equal origin

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The keys to store, each with the shape of one row; without rewards and masks, which are added."""

    def parts(self, block: int) -> Iterator[Rows]:
        """The rows of one block, in parts that fit in memory; whole episodes altogether."""

    def close(self) -> None:
        """Release what the other methods opened."""


def dtype(key: str) -> type:
    """The type that ``key`` is stored with."""
    return np.int64 if key == "button_states" else np.float32


def write(blocks: Blocks, directory: Path | str, workers: int = 1) -> dict[str, Any]:
    """Fill the store in ``directory`` with ``blocks``, in ``workers`` processes; returns its card.

    A store that is there already, with an equal origin and the right checksums, is left as it is. The bytes of all
    files depend on ``blocks`` only.
    """
    directory = Path(directory)
    with _alone(directory):
        try:
            names = [f"{label}-task{number}" for label in ("rewards", "masks") for number in range(1, envs.TASKS + 1)]
            files = Files(directory / ".unfinished", sum(blocks.rows), blocks.shapes() | dict.fromkeys(names, ()))
            plan = {
                "dataset": blocks.dataset,
                **blocks.origin,
                "rows": files.rows,
                "shapes": {key: list(files.shape(key)) for key in files.shapes},
                "versions": {name: version(name) for name in ("ogbench", "mujoco", "gymnasium", "numpy")},
            }
            if card := _already_there(directory, plan):
                print(f"{directory}: is there already, verified; not made again", file=sys.stderr)
                return card
            card_path = files.folder / "card.json"
            if not (files.begin(plan) and card_path.is_file()):  # otherwise only the last renaming is left to do
                write_json(card_path, plan | _fill(blocks, files, workers))
            return _publish(files, directory)
        finally:
            blocks.close()


@dataclass
class Files:
    """The ``.npy`` files of an unfinished store, at full length from the start, written at any row by any process."""

    folder: Path
    rows: int
    shapes: dict[str, tuple[int, ...]]  # of one row

    def shape(self, key: str) -> tuple[int, ...]:
        """The shape of the whole array."""
        return (self.rows, *self.shapes[key])

    def path(self, key: str) -> Path:
        """The file of ``key``."""
        return self.folder / f"{key}.npy"

    def begin(self, plan: dict[str, Any]) -> bool:
        """Make the files, unless those of the same plan are there: then True. UserError if the disk is too small."""
        record = self.folder / "plan.json"
        resumed = record.is_file() and read_json(record) == plan
        if not resumed:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir()
        present = [self.path(key) for key in self.shapes if self.path(key).is_file()]
        missing = sum(self._bytes(key) for key in self.shapes) - sum(path.stat().st_blocks * 512 for path in present)
        if not (self.folder / "card.json").is_file() and missing > (free := shutil.disk_usage(self.folder).free):
            fix = f"{size(free)} are free; make room or choose another data_dir"
            raise UserError(f"{self.folder.parent}: {size(missing)} more are needed, {fix}")
        if not resumed:
            for key in self.shapes:
                with open(self.path(key), "wb") as file:
                    file.write(self._header(key))
                    file.truncate(len(self._header(key)) + self._bytes(key))
            write_json(record, plan)
        return resumed

    def write(self, key: str, start: int, array: np.ndarray) -> bytes:
        """Put ``array`` at row ``start``; returns its bytes."""
        content = np.ascontiguousarray(array, dtype(key)).tobytes()
        with open(self.path(key), "r+b") as file:
            file.seek(len(self._header(key)) + start * self._row_bytes(key))
            file.write(content)
        return content

    def sum(self, key: str, start: int, stop: int) -> str:
        """The SHA-256 of rows ``start`` to ``stop``."""
        digest, step = hashlib.sha256(), 1 << 16
        with open(self.path(key), "rb") as file:
            file.seek(len(self._header(key)) + start * self._row_bytes(key))
            for first in range(start, stop, step):
                digest.update(file.read(min(step, stop - first) * self._row_bytes(key)))
        return digest.hexdigest()

    def _header(self, key: str) -> bytes:
        stream = io.BytesIO()
        description = {"descr": np.dtype(dtype(key)).str, "fortran_order": False, "shape": self.shape(key)}
        np.lib.format.write_array_header_1_0(stream, description)
        return stream.getvalue()

    def _row_bytes(self, key: str) -> int:
        return int(np.prod(self.shapes[key], dtype=np.int64)) * np.dtype(dtype(key)).itemsize

    def _bytes(self, key: str) -> int:
        return self.rows * self._row_bytes(key)


@dataclass
class Filler:
    """Makes one block after another; each process has its own."""

    blocks: Blocks
    files: Files

    def __call__(self, block: int) -> dict[str, Any]:
        """Write a block to its place; returns its line of the journal."""
        statistics, row = Statistics(), self.starts[block]
        sums = {key: hashlib.sha256() for key in self.files.shapes}
        for part in self.blocks.parts(block):
            part = part | _relabel(self._env, part)
            statistics.add(part)
            for key, digest in sums.items():
                digest.update(self._write(key, row, part[key]))
            row += len(part["terminals"])
        return {
            "block": block,
            "sha256": {key: digest.hexdigest() for key, digest in sums.items()},
            "statistics": statistics.record(),
        }

    def holds(self, record: dict[str, Any]) -> bool:
        """Whether the files still have what a line of the journal says."""
        start = self.starts[record["block"]]
        stop = start + self.blocks.rows[record["block"]]
        return all(self.files.sum(key, start, stop) == digest for key, digest in record["sha256"].items())

    @cached_property
    def starts(self) -> list[int]:
        """The first row of each block."""
        return (np.cumsum(self.blocks.rows) - self.blocks.rows).tolist()

    @cached_property
    def _env(self):
        return envs.make(envs.task_name(self.blocks.dataset, 1))

    def _write(self, key: str, start: int, array: np.ndarray) -> bytes:
        try:
            return self.files.write(key, start, array)
        except OSError as error:
            fix = "make room and run it again to go on"
            raise UserError(f"{self.files.path(key)}: cannot be written ({error.strerror}); {fix}") from error


def _fill(blocks: Blocks, files: Files, workers: int) -> dict[str, Any]:
    """Make the blocks that are missing; what the card says of them all."""
    filler, journal = Filler(blocks, files), files.folder / "blocks.jsonl"
    records = {record["block"]: record for record in _lines(journal) if filler.holds(record)}
    write_atomically(journal, "".join(f"{json.dumps(record)}\n" for record in records.values()))
    missing = [block for block in range(len(blocks.rows)) if block not in records]
    done = sum(blocks.rows[block] for block in records)
    if records:
        print(f"{files.folder.parent}: going on; {len(records)} of {len(blocks.rows)} parts are there", file=sys.stderr)
    if workers > 1:
        blocks.close()  # what `shapes` opened cannot be sent to a worker
    made = in_processes(filler, missing, max(1, min(workers, len(missing))))
    with closing(made), open(journal, "a", encoding="utf-8") as file, Progress(blocks, files.rows, done) as progress:
        for record in made:
            file.write(f"{json.dumps(record)}\n")
            file.flush()
            records[record["block"]] = record
            progress.advance(blocks.rows[record["block"]])
    statistics = Statistics()
    for _, record in sorted(records.items()):
        statistics.merge(record["statistics"])
    return statistics.summary() | {"sha256": {key: sha256(files.path(key)) for key in files.shapes}}


def _publish(files: Files, directory: Path) -> dict[str, Any]:
    """Move a complete store to its place, the card last; can be interrupted and repeated."""
    card = read_json(files.folder / "card.json")
    (directory / "card.json").unlink(missing_ok=True)  # from here on older files are being replaced
    for key in files.shapes:
        if files.path(key).is_file():
            publish(files.path(key), directory / f"{key}.npy")
    publish(files.folder / "card.json", directory / "card.json")
    shutil.rmtree(files.folder)
    return card


def _already_there(directory: Path, plan: dict[str, Any]) -> dict[str, Any] | None:
    """The card of a complete store that answers ``plan``."""
    path = directory / "card.json"
    card = read_json(path) if path.is_file() else {}
    if not isinstance(card, dict) or any(card.get(key) != value for key, value in plan.items()):
        return None
    files = {key: directory / f"{key}.npy" for key in plan["shapes"]}
    if all(file.is_file() and sha256(file) == card["sha256"].get(key) for key, file in files.items()):
        return card
    return None


def _lines(journal: Path) -> Iterator[dict[str, Any]]:
    """The journal's records; a line that a kill cut short is left out."""
    if journal.is_file():
        for line in journal.read_bytes().splitlines():
            try:
                yield json.loads(line)
            except ValueError:
                continue


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Wait until no other process writes to ``directory``; a killed one lets go of it."""
    lock = filelock.FileLock(directory / ".lock")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            print(f"{directory}: another process is writing it; waiting", file=sys.stderr)
            lock.acquire()
    except OSError as error:
        raise UserError(f"{directory}: cannot be written ({error.strerror}); correct data_dir") from error
    try:
        yield
    finally:
        lock.release()


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


class Progress:
    """A bar on a terminal, otherwise a line for every tenth; with the rate of this run and the time left."""

    def __init__(self, blocks: Blocks, total: int, done: int):
        """``total`` rows, of which ``done`` were made by earlier runs."""
        self._label, self._total, self._before, self._done = f"{blocks.verb} {blocks.dataset}", total, done, done
        self._began = time.monotonic()
        tty = sys.stderr.isatty()
        self._bar = tqdm(
            total=total, initial=done, desc=self._label, unit=" rows", unit_scale=True, smoothing=0, disable=not tty
        )

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def advance(self, rows: int) -> None:
        """That many rows more."""
        tenths, self._done = self._done * 10 // self._total, self._done + rows
        self._bar.update(rows)
        if self._bar.disable and self._done * 10 // self._total > tenths:
            rate = (self._done - self._before) / max(time.monotonic() - self._began, 1e-9)
            left = (self._total - self._done) / rate
            line = f"{self._label}: {self._done:,} of {self._total:,} rows, {rate:,.0f} rows/s"
            print(f"{line}, {_duration(left)} left", file=sys.stderr, flush=True)


def _duration(seconds: float) -> str:
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"
