"""How every run of a scale stands, from its files alone: safe beside trainings, and free of torch.

What is published (manifest and metrics of a stage) is finished. Otherwise the run's lock tells whether a job is at it,
and the newest checkpoint's record, or what the job notes beside it, how far it is (`trqam.experiment.run.RunFolder`).
What is none of ours, or damaged, is a problem of that run, in one line, and never the end of the survey.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import msgspec

from trqam.config.errors import UserError
from trqam.config.load import Config, Run
from trqam.config.reading import open_regular
from trqam.config.strict import read_record
from trqam.experiment import progress
from trqam.experiment.lock import Owner
from trqam.experiment.lock import standing as lock_standing
from trqam.experiment.published import AGAIN
from trqam.experiment.run import Block, Cell, RunFolder, Seconds, cell_of, pretraining_cell

DONE, RUNNING, WAITING, DIVERGED = "done", "running", "waiting", "diverged"
TAIL = 4096  # bytes at the end of a metrics file, where its last evaluation is


def holder_of(cell: Cell) -> Owner | None:
    """Who trains the run of ``cell``, found without touching the lock."""
    state, mark = lock_standing(cell.lock)
    return mark.holder if state == "held" else None


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
    holder: Owner | None = None
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


def survey(config: Config) -> Iterator[Standing]:
    """Every seed and stage of the scale: the pretrainings, then the cells in the configuration's order."""
    for name in config.pretrainings:
        yield from _stages(config.pretraining(name), pretraining_cell(config, name), ["pretrain"])
    for task, method in config.cells:
        run, stages = config.run(task, method), config.stages(method)
        for seed in range(config.scale.seeds):
            yield from _stages(run, cell_of(config, task, method, seed), stages)


def _stages(run: Run, cell: Cell, stages: list[str]) -> Iterator[Standing]:
    """The stages of one seed; a lock is at work on the first that is not finished."""
    begun = os.path.lexists(cell.path)  # else no lock is there to be looked at
    for stage in stages:
        folder, holder, problem = RunFolder(cell, run, stage), None, None
        waiting = Standing(run, stage, cell, WAITING, folder.total)
        try:
            standing = _finished(folder, waiting)
            if standing is None:
                if begun:
                    begun = False
                    try:
                        holder = holder_of(cell)
                    except UserError as error:
                        problem = str(error)
                standing = _unfinished(folder, waiting, holder)
                if standing.state == WAITING and standing.step == standing.total:  # it may have finished meanwhile
                    standing = _finished(folder, waiting) or standing
        except UserError as error:
            standing = replace(waiting, holder=holder, problem=str(error))
        yield replace(standing, problem=problem) if problem else standing


def _finished(folder: RunFolder, waiting: Standing) -> Standing | None:
    """From what a stage has published; None if it has not. UserError if it is not what we publish."""
    if not folder.published:
        return None
    try:
        record, success = read_record(folder.manifest, Manifest, AGAIN), _last_success(folder.metrics)
    except UserError:
        if folder.published:
            raise
        return None  # Snakemake deletes what a job that failed has declared
    ended = replace(waiting, step=folder.total, outdated=record["digest"] != folder.run.digest(folder.stage))
    if record["status"] == "DIVERGED":
        return replace(ended, state=DIVERGED, success=None if folder.stage == "pretrain" else 0.0)
    seconds, pace = record.get("seconds"), None
    if seconds and folder.total:
        pace = seconds / (folder.total * len(record["block"]))
    return replace(ended, state=DONE, pace=pace, success=success)


def _unfinished(folder: RunFolder, waiting: Standing, holder: Owner | None) -> Standing:
    """From the run directory: diverged but not yet published, running, or waiting."""
    if not os.path.lexists(folder.cell.path):
        return waiting
    if ended := folder.diverged:
        step = ended["rows"][-1]["step"] if ended["stage"] == folder.stage else 0
        return replace(waiting, state=DIVERGED, step=step, success=0.0)
    newest = folder.newest
    values: dict[str, Any] = {"step": newest.step, "saved": newest.moment, "seen": newest.moment}
    values |= {"problem": newest.problem, "warning": newest.warning}
    if record := newest.record:
        timed = record.timing[-1] if record.timing else None  # of the last interval, which may end before `step`
        if timed and timed.step:
            start = 0.0 if record.timing[0].step else record.timing[0].seconds  # the untrained policy's evaluation
            values["pace"] = (timed.seconds - start) / (timed.step * len(record.block))
        values["success"] = next((row.success for row in reversed(record.rows) if row.success is not None), None)
    if holder is None:
        return replace(waiting, **values)
    try:
        note = progress.noted(folder.directory)
    except UserError as error:
        note, values["warning"] = None, str(error)
    if note and note.step > newest.step:
        values |= {"step": note.step, "seen": note.moment}
        values.setdefault("pace", note.pace)
    return replace(waiting, state=RUNNING, holder=holder, **values)


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
