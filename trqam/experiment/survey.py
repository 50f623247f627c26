"""How every run of a scale stands, from its files alone: safe beside trainings, and free of torch.

What is published (manifest and metrics of a stage) is finished. Otherwise the run's lock tells whether a job is at it,
and the newest checkpoint's record, or what the job notes beside it, how far it is. All of these are replaced
atomically, so what is read is whole; what disappears between two looks is looked for again; and what is none of ours,
or damaged, is a problem of that run, in one line, and never the end of the survey.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from trqam.config.errors import UserError
from trqam.config.load import STAGES, Config, Run
from trqam.config.reading import open_regular, read_bytes
from trqam.config.schema import Natural
from trqam.config.strict import read_record
from trqam.experiment import checkpoint, progress
from trqam.experiment.folder import Cell, cell_of, pretraining_cell, step_file
from trqam.experiment.holders import Holder, holder_of
from trqam.experiment.published import AGAIN
from trqam.experiment.run import RESTORE, Diverged

DONE, RUNNING, WAITING, DIVERGED = "done", "running", "waiting", "diverged"
TAIL = 4096  # bytes at the end of a metrics file, where its last evaluation is

Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e11)]
Block = Annotated[list[Natural], msgspec.Meta(min_length=1)]


@dataclass(frozen=True)
class Standing:
    """One seed in one stage."""

    run: Run
    stage: str
    cell: Cell
    state: str
    total: int  # steps
    step: int = 0  # the newest that is known from the disk
    saved: float | None = None  # when the newest checkpoint was, seconds since 1970
    seen: float | None = None  # when `step` was
    pace: float | None = None  # seconds a step, as this seed's share of the stack that it trains in
    success: float | None = None  # of the latest evaluation
    holder: Holder | None = None
    outdated: bool = False  # finished under another configuration than today's
    problem: str | None = None  # with its files, in one line
    warning: str | None = None  # of what is damaged and not needed

    @property
    def left(self) -> int:
        """Steps that are still to do."""
        return self.total - self.step if self.state in (RUNNING, WAITING) else 0


class Manifest(msgspec.Struct):
    """What is read of a manifest."""

    digest: str
    status: Literal["OK", "DIVERGED"]
    block: Block
    seconds: Seconds | None = None


class Timing(msgspec.Struct):
    """What is read of a row of timing."""

    step: Natural
    seconds: Seconds


class Row(msgspec.Struct):
    """What is read of a row of metrics."""

    success: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None


class Record(msgspec.Struct):
    """What is read of a checkpoint's record; the rest is skipped, which is many times as fast."""

    block: Block
    timing: list[Timing]
    rows: list[Row]


class Sealed(msgspec.Struct):
    """A checkpoint's file."""

    record: Record


@dataclass(frozen=True)
class Saved:
    """The newest checkpoint that can be read."""

    step: int = 0
    moment: float | None = None  # when it was saved
    record: Record | None = None
    problem: str | None = None  # where there are some, and none can be read
    warning: str | None = None  # of a newer one


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
    begun = not os.path.lexists(cell.path)  # then no lock is there to be looked at
    for stage in stages:
        total, holder, problem = totals[stage], None, None
        try:
            standing = _finished(run, stage, cell, total)
            if standing is None:
                if not begun:
                    begun = True
                    try:
                        holder = holder_of(cell)
                    except UserError as error:
                        problem = str(error)
                standing = _unfinished(run, stage, cell, total, holder)
                if standing.state == WAITING and standing.step == standing.total:  # it may have finished meanwhile
                    standing = _finished(run, stage, cell, total) or standing
        except UserError as error:
            standing = Standing(run, stage, cell, WAITING, total, holder=holder, problem=str(error))
        yield replace(standing, problem=problem) if problem else standing


def _finished(run: Run, stage: str, cell: Cell, total: int) -> Standing | None:
    """From what a stage has published; None if it has not. UserError if it is not what we publish."""
    manifest, metrics = cell.path / f"{stage}.json", cell.path / f"{stage}.csv"
    if not (os.path.lexists(manifest) and os.path.lexists(metrics)):
        return None
    try:
        record, success = read_record(manifest, Manifest, AGAIN), _last_success(metrics)
    except UserError:
        if os.path.lexists(manifest) and os.path.lexists(metrics):
            raise
        return None  # Snakemake deletes what a job that failed has declared
    common = {"step": total, "outdated": record["digest"] != run.digest(stage)}
    if record["status"] == "DIVERGED":
        return Standing(run, stage, cell, DIVERGED, total, success=None if stage == "pretrain" else 0.0, **common)
    seconds, pace = record.get("seconds"), None
    if seconds and total:
        pace = seconds / (total * len(record["block"]))
    return Standing(run, stage, cell, DONE, total, pace=pace, success=success, **common)


def _unfinished(run: Run, stage: str, cell: Cell, total: int, holder: Holder | None) -> Standing:
    """From the run directory: diverged but not yet published, running, or waiting."""
    if not os.path.lexists(cell.path):
        return Standing(run, stage, cell, WAITING, total)
    if os.path.lexists(cell.diverged):
        record = read_record(cell.diverged, Diverged, RESTORE)
        if STAGES.index(record["stage"]) <= STAGES.index(stage):
            step = record["rows"][-1]["step"] if record["stage"] == stage else 0
            return Standing(run, stage, cell, DIVERGED, total, step, success=0.0)
    found = _saved(cell.directory(stage))
    values: dict[str, Any] = {"step": found.step, "saved": found.moment, "seen": found.moment}
    values |= {"problem": found.problem, "warning": found.warning}
    record = found.record
    timed = record.timing[-1] if record and record.timing else None  # of the last interval, which may end before `step`
    if timed and timed.step:
        values["pace"] = timed.seconds / (timed.step * len(record.block))
    if record and (evaluated := [row.success for row in record.rows if row.success is not None]):
        values["success"] = evaluated[-1]
    if holder is None:
        return Standing(run, stage, cell, WAITING, total, **values)
    try:
        note = progress.noted(cell.directory(stage))
    except UserError as error:
        note, values["warning"] = None, str(error)
    if note and note.step > found.step:
        values |= {"step": note.step, "seen": note.moment}
        values.setdefault("pace", note.pace)
    return Standing(run, stage, cell, RUNNING, total, holder=holder, **values)


def _saved(directory: Path) -> Saved:
    """The newest checkpoint of a run directory; where none can be read, the newest's name tells its step."""
    for _ in range(3):  # a newer one replaces it at any moment
        first = None
        for step in checkpoint.recorded(directory):
            path = directory / step_file(step)
            try:
                moment = os.stat(path).st_mtime
                record = msgspec.json.decode(read_bytes(path), type=Sealed).record
            except (UserError, OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                if not os.path.lexists(path):
                    break
                reason = f"{path}: damaged, not a checkpoint's record"
                reason = str(error).partition("; ")[0] if isinstance(error, UserError) else reason
                first = first or (step, reason)
            else:
                warning = f"{first[1]}; the checkpoint before it is used" if first else None
                return Saved(step, moment, record, warning=warning)
        else:
            return Saved(first[0], problem=f"{first[1]}; {RESTORE}") if first else Saved()
    return Saved()


def _last_success(metrics: Path) -> float | None:
    """The last evaluation in a metrics file; its end is enough to read, as a stage ends with one."""
    try:
        with open_regular(metrics) as file:
            header = file.readline(TAIL).decode().rstrip("\n").split(",")
            start = file.tell()
            file.seek(max(start, os.fstat(file.fileno()).st_size - TAIL))
            lines = file.read(TAIL).decode().splitlines()
        column = header.index("success")
        for line in reversed(lines):
            cells = line.split(",")
            if len(cells) == len(header) and cells[column]:
                if 0 <= (success := float(cells[column])) <= 1:
                    return success
                raise ValueError
    except OSError as error:
        raise UserError(f"{metrics}: cannot be read ({error.strerror}); {AGAIN}") from None
    except ValueError:
        raise UserError(f"{metrics}: damaged, not a table of metrics; {AGAIN}") from None
    return None
