"""A run on disk: one folder per seed and stage that holds the truth, and the files published from it.

results/{scale}/{task}/{method}/seed{n}/run/{stage}/   checkpoints with the complete metrics; never declared to
                                                       Snakemake, which deletes what it was told of
results/{scale}/{task}/{method}/seed{n}/{stage}.csv    metrics, one row a logged step; no clock in it
results/{scale}/{task}/{method}/seed{n}/{stage}.json   manifest, with the metrics' checksum and a seal of its own
results/{scale}/{task}/{method}/seed{n}/timing.csv     seconds and updates per second, of all stages
"""

import csv
import hashlib
import io
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import msgspec

from trqam.config.errors import UserError
from trqam.config.load import STAGES, Run
from trqam.config.reading import read_json, seal
from trqam.config.schema import Natural
from trqam.config.strict import read_record
from trqam.experiment import checkpoint, lock
from trqam.experiment.files import write_atomically, write_json
from trqam.experiment.folder import Cell, cell_of, pretraining_cell  # noqa: F401 (the whole of a run is to be had here)
from trqam.experiment.provenance import environment, provenance

METRICS = [
    "loss",
    "critic_loss",
    "flow_loss",
    "adjoint_loss",
    "path_kl",
    "kl_ema",
    "multiplier",
    "adjoint_norm",
    "gradient_norm",
    "q_mean",
    "q_min",
    "q_max",
    "actor_loss",
    "value_loss",
    "distill_loss",
    "entropy",
    "temperature",
]
COLUMNS = ["step", "status", "success", "episode_length", "episode_return", *METRICS]
TIMING_COLUMNS = ["stage", "step", "seconds", "evaluation_seconds", "updates_per_second"]


@contextmanager
def locked(cells: list[Cell], look: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Exclusive use of the run directories; `Busy` if another process, even an orphaned one, is writing there.

    ``look`` is called while a lock that may be stale is watched (`trqam.experiment.lock`).
    """
    with lock.held([cell.lock for cell in cells], look):
        yield


class Changed(NamedTuple):
    """A key in which two configurations differ."""

    key: str
    old: Any
    new: Any


def changes(record: dict[str, Any], run: Run, stage: str) -> list[Changed]:
    """Where a recorded configuration differs from ``run``."""
    old, new = record["configuration"], run.resolved(stage)
    keys = sorted(old.keys() | new.keys())
    return [Changed(key, old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key)]


def check_same(record: dict[str, Any], run: Run, stage: str, where: Path, clean: str | None = None) -> None:
    """A UserError that names the first key in which a recorded configuration differs from ``run``.

    ``clean`` is the command that the line names, if another than the one for this run alone.
    """
    for key, old, new in changes(record, run, stage):
        single = run.domain if stage == "pretrain" else f"{run.task} {run.method} --seed {record['seed']}"
        clean = clean or f"`python -m trqam clean {single}`"
        message = f"{where}: {key}: trained with {old!r}, the configuration now says {new!r}"
        raise UserError(f"{message}; restore it, or run {clean} to train anew")


RESTORE = "restore it, or `trqam clean` the run to train it anew"
BELONGS = "put back what belongs here, or `trqam clean` this run to train it anew"


def check_place(record: dict[str, Any], cell: Cell, stage: str, where: Path, fix: str = BELONGS) -> None:
    """A UserError if a record is of another seed or stage than the place where it lies: files were copied or moved."""
    for key, here in (("seed", cell.seed), ("stage", stage)):
        if record.get(key) != here:
            raise UserError(f"{where}: {key}: is of {key} {record.get(key)}, in the place of {key} {here}; {fix}")


class Row(msgspec.Struct):
    """What is read of a row of metrics."""

    step: Natural


class Diverged(msgspec.Struct):
    """What is read of the record that a diverged seed leaves."""

    stage: Literal["pretrain", "offline", "online"]
    seed: int
    configuration: dict[str, Any]
    versions: dict[str, str]
    rows: Annotated[list[Row], msgspec.Meta(min_length=1)]


def finished(cell: Cell, run: Run, stage: str, total: int) -> dict[str, Any] | None:
    """The record of a stage that has ended, by reaching ``total`` or by diverging; None if it has not."""
    if cell.diverged.exists():
        record = read_record(cell.diverged, Diverged, RESTORE)
        check_place(record, cell, record["stage"], cell.diverged)
        if STAGES.index(record["stage"]) <= STAGES.index(stage):
            check_same(record, run, record["stage"], cell.diverged)
            return record
    directory = cell.directory(stage)
    if total not in checkpoint.steps(directory):
        return None
    record = checkpoint.load(directory, total)[1]
    check_place(record, cell, stage, directory)
    check_same(record, run, stage, directory)
    return None if "interval" in record else record  # stopped in the last evaluation


def publish(cell: Cell, run: Run, stage: str, record: dict[str, Any]) -> None:
    """Writes a finished stage's files from its record: the same bytes every time, the manifest last."""
    rows, timing = record["rows"], record["timing"]
    times = _table(_timing(cell, record), TIMING_COLUMNS)
    if record["stage"] != stage:  # diverged in an earlier stage: this one never began
        rows, timing = [{"step": 0, "status": "DIVERGED"}], []
        record = {**record, "configuration": run.resolved(stage), "digest": run.digest(stage)}
    own = sorted({name for row in rows for name in row}.difference(COLUMNS))  # metrics that only this agent has
    metrics = _table(rows, [*COLUMNS, *own])
    manifest = {key: value for key, value in record.items() if key not in ("rows", "timing", "experience", "kept")}
    speeds = [row["updates_per_second"] for row in timing if row["updates_per_second"] > 0]
    manifest |= {
        "stage": stage,
        "status": rows[-1]["status"],
        "seconds": timing[-1]["seconds"] if timing else 0.0,
        "updates_per_second": statistics.median(speeds) if speeds else None,
        "metrics_sha256": hashlib.sha256(metrics.encode()).hexdigest(),
    }
    write_atomically(cell.path / "timing.csv", times)
    write_atomically(cell.path / f"{stage}.csv", metrics)
    write_json(cell.path / f"{stage}.json", {**manifest, "seal": seal(manifest)})


def new_record(run: Run, stage: str, seed: int, block: list[int]) -> dict[str, Any]:
    """The part of a record that does not change while training: what the manifest will say."""
    return {
        "configuration": run.resolved(stage),
        "digest": run.digest(stage),
        "stage": stage,
        "seed": seed,
        "block": block,
        "command": provenance()["command"],
        **environment(run.agent),
    }


def note_environment(record: dict[str, Any], run: Run, step: int) -> None:
    """Adds to the record what makes the run from ``step`` on, where that is not what made it before."""
    now = environment(run.agent)
    before = [record, *record.get("resumed", [])][-1]
    if any(before.get(key) != value for key, value in now.items()):
        record["resumed"] = [*record.get("resumed", []), {"step": step, **now}]


def _timing(cell: Cell, record: dict[str, Any]) -> list[dict[str, Any]]:
    """Timing rows of all stages that have a record, whichever of them is published."""
    rows = []
    for stage in STAGES:
        for found in [record] if stage == record["stage"] else _newest_record(cell, stage):
            rows += [{"stage": stage, **row} for row in found["timing"]]
    return rows


def _newest_record(cell: Cell, stage: str) -> list[dict[str, Any]]:
    """The record of another stage; none where it is lost, which must not keep a finished stage from its files."""
    directory = cell.directory(stage)
    try:
        if cell.diverged.exists() and (record := read_json(cell.diverged))["stage"] == stage:
            return [record]
        return [checkpoint.record(directory, step) for step in checkpoint.steps(directory)[:1]]
    except UserError as error:
        checkpoint.warn(f"warning: {error}; timing.csv goes without that stage")
        return []


def _table(rows: list[dict[str, Any]], columns: list[str]) -> str:
    """CSV text; floats with nine significant digits, which is all that float32 holds."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        values = [row.get(column) for column in columns]
        writer.writerow([f"{v:.9g}" if isinstance(v, float) else v for v in values])
    return text.getvalue()
