"""Stores: datasets on disk, filled block by block, in parallel, and resumed where they were interrupted.

A store is a folder of ``.npy`` files in OGBench's raw layout, float32 (button_states int64), with R rows:
observations [R, O], actions [R, A], terminals [R] (1 on the last row of an episode, which is only a next
observation), and for each of the five tasks rewards-task{k} and masks-task{k} [R] from OGBench's own relabelling, or
for the one task of a set of Robomimic from the demonstrations (`trqam.data.demonstrations`).
Generated stores also have qpos, qvel and (scene, puzzle) button_states, which relabelling reads and training does not;
converted ones leave them in the official files. ``store.json`` describes a store and is written last, with its copy
``card.json`` (see ``trqam.data.card``): without them there is no dataset.

There is one file a key, however many shards the data came in: a batch is then gathered from five maps. With a map for
each of a hundred shards the same batch took 20 to 40 times as long, and needed 500 open files.

What a store is filled with are *blocks*, episodes of a collector or shards of a release, made in any order, each with
its place. Until all are there they lie in ``.unfinished/``: the files at full length (sparse), ``plan.json`` and
``blocks.jsonl``, which gets one sealed line for each block once its rows are written: their checksums, by which an
interrupted run knows what it has, and their statistics.

Nothing that is there is replaced: not a store of other data (more transitions, another seed, other files), for runs may
have been trained on it; not one that was begun; not a file that no card speaks of. Only a damaged store is made again.
"""

import hashlib
import io
import json
import os
import shutil
import sys
from collections.abc import Generator, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np

from trqam.config.errors import UserError
from trqam.config.load import tasks_of
from trqam.config.reading import seal
from trqam.config.strict import read_record, shown
from trqam.config.wording import weight
from trqam.data import verified
from trqam.data.card import CARD, RECORD, Card, Statistics, read, restore
from trqam.data.verified import dtype, exclusive, out_of_range, sums, watch
from trqam.environments import environment, ogbench_tasks
from trqam.environments.processes import in_processes
from trqam.experiment.files import publish, sweep, write_atomically, write_json, writing

Rows = dict[str, np.ndarray]


class Blocks(Protocol):
    """What fills a store; sent to worker processes, so it opens nothing before it is asked for rows."""

    dataset: str
    verb: str  # what is being done, for the progress line
    rows: list[int]  # of each block
    origin: dict[str, Any]  # goes into the card: source, seed, ...; equal blocks have an equal origin

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The keys to store, each with the shape of one row; without rewards and masks, of which each task has one."""

    def parts(self, block: int) -> Iterator[Rows]:
        """The rows of one block, in parts that fit in memory; whole episodes altogether. Rewards and masks that are
        not among them are OGBench's relabelling."""

    def close(self) -> None:
        """Release what the other methods opened."""


def write(blocks: Blocks, directory: Path | str, workers: int = 1) -> dict[str, Any]:
    """Fill the store in ``directory`` with ``blocks``, in ``workers`` processes; returns its card.

    A store that is there already, of equal origin and with the right checksums, is left as it is; a UserError names
    what else is there. The bytes of all files depend on ``blocks`` only.
    """
    directory = Path(directory)
    with exclusive(directory / ".lock", str(directory), "correct --out or data_dir"):
        try:
            tasks = range(1, len(tasks_of(blocks.dataset)) + 1)
            labels = [f"{label}-task{number}" for label in ("rewards", "masks") for number in tasks]
            files = Files(directory / ".unfinished", sum(blocks.rows), blocks.shapes() | dict.fromkeys(labels, ()))
            plan = {
                "dataset": blocks.dataset,
                **blocks.origin,
                "rows": files.rows,
                "shapes": {key: list(files.shape(key)) for key in files.shapes},
                "versions": {name: version(name) for name in environment.packages(blocks.dataset)},
            }
            card = standing(directory, plan)
            if card and _is_whole(directory, card, plan):
                print(f"{directory}: is there already, verified; not made again", file=sys.stderr)
                if not any(files.folder.glob("*.npy")):  # what a kill left after the last renaming
                    files.clear()
                return card
            begun, card_path = files.holds(plan), files.folder / CARD
            if not (begun and card_path.is_file()):  # otherwise only the last renaming is left to do
                if card is None:
                    _refuse_unknown(directory, files)
                files.begin(plan, begun)
                write_json(card_path, plan | _fill(blocks, files, workers))
            return _publish(files, directory)
        finally:
            blocks.close()


def standing(directory: Path, wanted: dict[str, Any]) -> dict[str, Any] | None:
    """The card of the store in ``directory``; None if there is none. A UserError if it is not what is ``wanted``, by
    whatever version it was made."""
    path, fix = directory / RECORD, _ways_out(directory)
    if not os.path.lexists(path):
        if os.path.lexists(directory / CARD):
            raise UserError(f"{directory / CARD}: {RECORD}, of which it would be a copy, is missing; {fix}")
        return None
    card = read(path, wanted["dataset"], fix)
    for key, value in wanted.items():
        if key != "versions" and card.get(key) != value:
            raise UserError(f"{path}: {key}: holds {_brief(card.get(key))}, not {_brief(value)}; {fix}")
    return card


def _ways_out(directory: Path) -> str:
    return f"remove {directory} if nothing was trained on it, or choose another --out or data_dir"


def _brief(value: Any) -> str:
    """A value of a plan, in a line."""
    if isinstance(value, list) and value and isinstance(value[0], dict):  # shards
        return f"{len(value)} files from {shown(str(value[0].get('file')))} on, {str(value[0].get('sha256'))[:8]}..."
    return shown(str("nothing" if value is None else value))


def _is_whole(directory: Path, card: dict[str, Any], plan: dict[str, Any]) -> bool:
    """Whether the arrays of a store that answers ``plan`` are what its card says; False if it is to be made again."""
    try:
        verified.ensure(directory, card, "making it again")
    except UserError as broken:
        if card.get("versions") != plan["versions"]:
            what = str(broken).partition("; ")[0]
            fix = f"restore it, or remove {directory} to make another"
            raise UserError(f"{what}, and other versions made it, {_brief(card.get('versions'))}; {fix}") from None
        print(broken, file=sys.stderr)
        return False
    restore(directory)
    return True


def _refuse_unknown(directory: Path, files: "Files") -> None:
    """A UserError if a file is there that the store would replace, and no card says that it is a store's."""
    for key in files.shapes:
        if os.path.lexists(path := directory / f"{key}.npy"):
            raise UserError(f"{path}: is there, and no {RECORD} says what it is; {_ways_out(directory)}")


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

    def holds(self, plan: dict[str, Any]) -> bool:
        """Whether the store was begun by ``plan``; a UserError if by another, and some of it is made."""
        path = self.folder / "plan.json"
        if not os.path.lexists(path):
            return False
        fix = f"ask for that again to go on, or remove {self.folder}"
        begun = read_record(path, dict, fix)
        if begun == plan:
            return True
        if not any(_lines(self.folder / "blocks.jsonl")) and not (self.folder / CARD).is_file():
            return False
        key = next(key for key in sorted(begun.keys() | plan.keys()) if begun.get(key) != plan.get(key))
        raise UserError(f"{path}: {key}: begun with {_brief(begun.get(key))}, not {_brief(plan.get(key))}; {fix}")

    def begin(self, plan: dict[str, Any], begun: bool) -> None:
        """Make the files, unless they were ``begun``. UserError if the disk is too small."""
        if not begun:
            self.clear()
            with writing(self.folder):
                self.folder.mkdir(exist_ok=True)
        present = [self.path(key) for key in self.shapes if self.path(key).is_file()]
        missing = sum(self._bytes(key) for key in self.shapes) - sum(path.stat().st_blocks * 512 for path in present)
        if missing > (free := shutil.disk_usage(self.folder).free):
            fix = f"{weight(free)} are free; make room or choose another data_dir"
            raise UserError(f"{self.folder.parent}: {weight(missing)} more are needed, {fix}")
        if not begun:
            for key in self.shapes:
                with writing(self.path(key)), open(self.path(key), "wb") as file:
                    file.write(self._header(key))
                    file.truncate(len(self._header(key)) + self._bytes(key))
            write_json(self.folder / "plan.json", plan)

    def clear(self) -> None:
        """Remove the folder and what is ours in it."""
        if self.folder.is_dir():
            sweep(self.folder)
            for path in [*self.folder.glob("*.npy"), *map(self.folder.joinpath, ("plan.json", "blocks.jsonl", CARD))]:
                path.unlink(missing_ok=True)
            with suppress(OSError):  # something of somebody else's is in it
                self.folder.rmdir()

    def write(self, key: str, start: int, array: np.ndarray) -> bytes:
        """Put ``array`` at row ``start``; returns its bytes."""
        content = np.ascontiguousarray(array, dtype(key)).tobytes()
        with writing(self.path(key)), open(self.path(key), "r+b") as file:
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
        description = {"descr": dtype(key).str, "fortran_order": False, "shape": self.shape(key)}
        np.lib.format.write_array_header_1_0(stream, description)
        return stream.getvalue()

    def _row_bytes(self, key: str) -> int:
        return int(np.prod(self.shapes[key], dtype=np.int64)) * dtype(key).itemsize

    def _bytes(self, key: str) -> int:
        return self.rows * self._row_bytes(key)


@dataclass
class Filler:
    """Makes one block after another; each process has its own."""

    blocks: Blocks
    files: Files

    def __call__(self, block: int) -> dict[str, Any]:
        """Write a block to its place; returns its line of the journal."""
        statistics, row = Statistics(self.blocks.dataset), self.starts[block]
        digests = {key: hashlib.sha256() for key in self.files.shapes}
        for part in self.blocks.parts(block):
            if "rewards-task1" not in part:  # the data bring none of their own
                part = part | _relabel(self._env, part)
            for key in self.files.shapes:
                if wrong := out_of_range(key, part[key]):
                    fix = "choose another seed, or give the official file"
                    raise UserError(f"{self.blocks.dataset}: part {block + 1}: {key} {wrong}; {fix}")
            statistics.add(part)
            for key, digest in digests.items():
                digest.update(self.files.write(key, row, part[key]))
            row += len(part["terminals"])
        return {
            "block": block,
            "sha256": {key: digest.hexdigest() for key, digest in digests.items()},
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
        return environment.make(tasks_of(self.blocks.dataset)[0])


def _fill(blocks: Blocks, files: Files, workers: int) -> dict[str, Any]:
    """Make the blocks that are missing; what the card says of them all."""
    filler, journal = Filler(blocks, files), files.folder / "blocks.jsonl"
    records = {record["block"]: record for record in _lines(journal) if filler.holds(record)}
    write_atomically(journal, "".join(map(_line, records.values())))
    missing = [block for block in range(len(blocks.rows)) if block not in records]
    done = sum(blocks.rows[block] for block in records)
    if records:
        print(f"{files.folder.parent}: going on; {len(records)} of {len(blocks.rows)} parts are there", file=sys.stderr)
    if workers > 1:
        blocks.close()  # what `shapes` opened cannot be sent to a worker
    made = cast(Generator, in_processes(filler, missing, max(1, min(workers, len(missing)))))
    bar = watch(f"{blocks.verb} {blocks.dataset}", files.rows, " rows", done)
    with closing(made), open(journal, "a", encoding="utf-8") as file, bar:
        for record in made:
            with writing(journal):
                file.write(_line(record))
                file.flush()
            records[record["block"]] = record
            bar.update(blocks.rows[record["block"]])
    statistics = Statistics(blocks.dataset)
    for _, record in sorted(records.items()):
        statistics.merge(record["statistics"])
    if not statistics.transitions:
        raise UserError(f"{files.folder.parent}: no transition, for every row ends an episode; give another file")
    digests = sums([files.path(key) for key in files.shapes], f"summing {files.folder.parent}")
    return statistics.summary() | {"sha256": dict(zip(files.shapes, digests, strict=True))}


def _publish(files: Files, directory: Path) -> dict[str, Any]:
    """Move a complete store to its place, its description last; can be interrupted and repeated."""
    card = read_record(files.folder / CARD, Card, f"remove {files.folder} to make the store again")
    for name in (CARD, RECORD):  # from here on older files are being replaced
        (directory / name).unlink(missing_ok=True)
    for key in files.shapes:
        if files.path(key).is_file():
            publish(files.path(key), directory / f"{key}.npy")
    publish(files.folder / CARD, directory / RECORD)
    verified.note(directory, verified.mark_of(directory, card))
    restore(directory)
    files.clear()
    return card


def _line(record: dict[str, Any]) -> str:
    """Of the journal."""
    return json.dumps({"record": record, "seal": seal(record)}) + "\n"


def _lines(journal: Path) -> Iterator[dict[str, Any]]:
    """The journal's records; a line that a kill cut short, or somebody changed, is left out."""
    for line in journal.read_bytes().splitlines() if journal.is_file() else []:
        with suppress(ValueError, LookupError, TypeError):
            entry = json.loads(line)
            if entry["seal"] == seal(entry["record"]):
                yield entry["record"]


def _relabel(env, part: Rows) -> Rows:
    """Rewards and masks of every row for every task, by OGBench's own rule (of the state before the action).

    One environment serves all tasks: the rule resets it, and a reset reads the task's number. Compiling five would
    take seconds.
    """
    from ogbench.relabel_utils import relabel_dataset

    labels: Rows = {}
    for number in range(1, ogbench_tasks.TASKS + 1):
        env.unwrapped._reward_task_id = number
        labelled = dict(part)
        relabel_dataset(env.spec.id, env, labelled)
        labels |= {f"rewards-task{number}": labelled["rewards"], f"masks-task{number}": labelled["masks"]}
    return labels
