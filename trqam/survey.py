"""How every run of a scale stands, from its files alone: safe beside trainings, and free of torch.

What is published (manifest and metrics of a stage) is finished. Otherwise the run's lock tells whether a job is at it,
and the newest checkpoint's record how far it is. All of these are replaced atomically, so what is read is whole; what
disappears between two looks is looked for again.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from trqam.artefacts import read_json
from trqam.cells import Cell, cell_of, pretraining_cell
from trqam.config import STAGES, Config, Run
from trqam.errors import UserError
from trqam.holders import Holder, holder_of

DONE, RUNNING, WAITING, DIVERGED = "done", "running", "waiting", "diverged"
TAIL = 4096  # bytes at the end of a metrics file, where its last evaluation is


@dataclass(frozen=True)
class Standing:
    """One seed in one stage."""

    run: Run
    stage: str
    cell: Cell
    state: str
    total: int  # steps
    step: int = 0  # the newest that is on disk
    saved: float | None = None  # when that was, seconds since 1970
    pace: float | None = None  # seconds a step, as this seed's share of the stack that it trains in
    success: float | None = None  # of the latest evaluation
    holder: Holder | None = None
    outdated: bool = False  # finished under another configuration than today's
    problem: str | None = None  # with its files, in one line

    @property
    def left(self) -> int:
        """Steps that are still to do."""
        return self.total - self.step if self.state in (RUNNING, WAITING) else 0


class Timing(msgspec.Struct):
    """What is read of a row of timing."""

    step: int
    seconds: float


class Row(msgspec.Struct):
    """What is read of a row of metrics."""

    success: float | None = None


class Record(msgspec.Struct):
    """What is read of a checkpoint's record; the rest is skipped, which is many times as fast."""

    block: list[int]
    timing: list[Timing]
    rows: list[Row]


class Sealed(msgspec.Struct):
    """A checkpoint's file."""

    record: Record


def survey(config: Config) -> Iterator[Standing]:
    """Every seed and stage of the scale: the pretrainings, then the cells in the configuration's order."""
    for domain in config.task_domains:
        cell = pretraining_cell(config, domain)
        yield from _stages(config.pretraining(domain), cell, ["pretrain"])
    for task, method in config.cells:
        run, stages = config.run(task, method), config.stages(method)
        for seed in range(config.scale.seeds):
            yield from _stages(run, cell_of(config, task, method, seed), stages)


def _stages(run: Run, cell: Cell, stages: list[str]) -> Iterator[Standing]:
    """The stages of one seed; a lock is at work on the first that is not finished."""
    totals = {"pretrain": run.pretrain_steps, "offline": run.offline_steps, "online": run.online_steps}
    begun = False
    for stage in stages:
        standing = _finished(run, stage, cell, totals[stage])
        if standing is None:
            holder = holder_of(cell) if cell.path.exists() and not begun else None
            standing, begun = _unfinished(run, stage, cell, totals[stage], holder), True
            if standing.state == WAITING and standing.step == standing.total:  # it may have finished meanwhile
                standing = _finished(run, stage, cell, totals[stage]) or standing
        yield standing


def _finished(run: Run, stage: str, cell: Cell, total: int) -> Standing | None:
    """From what a stage has published; None if it has not."""
    manifest, metrics = cell.path / f"{stage}.json", cell.path / f"{stage}.csv"
    if not (manifest.is_file() and metrics.is_file()):
        return None
    try:
        record, success = read_json(manifest), _last_success(metrics)
    except UserError as error:
        return None if not manifest.is_file() else Standing(run, stage, cell, WAITING, total, problem=str(error))
    except FileNotFoundError:  # Snakemake deletes what a job that failed has declared
        return None
    common = {"step": total, "outdated": record["digest"] != run.digest(stage)}
    if record["status"] == "DIVERGED":
        return Standing(run, stage, cell, DIVERGED, total, success=None if stage == "pretrain" else 0.0, **common)
    seconds, pace = record.get("seconds"), None
    if seconds and total:
        pace = seconds / (total * len(record["block"]))
    return Standing(run, stage, cell, DONE, total, pace=pace, success=success, **common)


def _unfinished(run: Run, stage: str, cell: Cell, total: int, holder: Holder | None) -> Standing:
    """From the run directory: diverged but not yet published, running, or waiting."""
    if not cell.path.exists():
        return Standing(run, stage, cell, WAITING, total)
    if cell.diverged.is_file():
        record = read_json(cell.diverged)
        if STAGES.index(record["stage"]) <= STAGES.index(stage):
            step = record["rows"][-1]["step"] if record["stage"] == stage else 0
            return Standing(run, stage, cell, DIVERGED, total, step, success=0.0)
    step, saved, record = _record(cell.directory(stage))
    values: dict[str, Any] = {"step": step, "saved": saved, "holder": holder}
    timed = record.timing[-1] if record and record.timing else None  # of the last interval, which may end before `step`
    if timed and timed.step:
        values["pace"] = timed.seconds / (timed.step * len(record.block))
    if record and (evaluated := [row.success for row in record.rows if row.success is not None]):
        values["success"] = evaluated[-1]
    return Standing(run, stage, cell, RUNNING if holder else WAITING, total, **values)


def newest(directory: Path) -> tuple[int, float] | None:
    """The step of the newest checkpoint in a run directory, by its name, and when it was saved; None if none is."""
    try:
        with os.scandir(directory) as entries:
            records = [e for e in entries if e.name.startswith("step") and e.name.endswith(".json")]
            last = max(records, key=lambda entry: entry.name, default=None)
            return last and (int(last.name[4:-5]), last.stat().st_mtime)
    except FileNotFoundError:
        return None


def _record(directory: Path) -> tuple[int, float | None, Record | None]:
    """Step and time of the newest checkpoint, and its record; (0, None, None) if there is none to be read."""
    found = None
    for _ in range(3):  # a newer one replaces it at any moment
        found = newest(directory)
        if found is None:
            break
        try:
            content = (directory / f"step{found[0]:09d}.json").read_bytes()
            return *found, msgspec.json.decode(content, type=Sealed).record
        except (FileNotFoundError, msgspec.DecodeError):
            continue
    return *(found or (0, None)), None


def _last_success(metrics: Path) -> float | None:
    """The last evaluation in a metrics file; its end is enough to read, as a stage ends with one."""
    with open(metrics, "rb") as file:
        header = file.readline().decode().rstrip("\n").split(",")
        start = file.tell()
        file.seek(max(start, os.fstat(file.fileno()).st_size - TAIL))
        lines = file.read().decode().splitlines()
    if "success" not in header:
        return None
    column = header.index("success")
    for line in reversed(lines):
        cells = line.split(",")
        if len(cells) == len(header) and cells[column]:
            return float(cells[column])
    return None
