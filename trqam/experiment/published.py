"""What runs publish, written and read back: each file proves that it is what was published in this place.

A manifest carries a seal of its own content and the checksum of its metrics, and says of which seed, stage and
configuration it is. So a byte that has changed, a row that is missing or there twice, and a file copied from another
run are found; each mistake is one line.
"""

import csv
import hashlib
import io
import statistics
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from trqam.config.errors import UserError
from trqam.config.load import STAGES, Config, Run
from trqam.config.reading import read_bytes, read_json, seal, sha256
from trqam.config.schema import Natural, digest
from trqam.config.strict import check
from trqam.experiment import checkpoint
from trqam.experiment.files import write_atomically, write_json
from trqam.experiment.run import Block, Cell, Environment, Seconds, check_place, check_same, pretraining_cell

if TYPE_CHECKING:
    import pandas
    from torch import Tensor

PUBLISH = "run the same `snakemake` command, which publishes it again"
AGAIN = f"delete it and {PUBLISH}"
METRICS = [
    "loss", "critic_loss", "flow_loss", "adjoint_loss", "path_kl", "kl_ema", "multiplier", "adjoint_norm",
    "gradient_norm", "q_mean", "q_min", "q_max", "actor_loss", "value_loss", "distill_loss", "entropy", "temperature",
]  # fmt: skip
COLUMNS = ["step", "status", "success", "episode_length", "episode_return", *METRICS]
TIMING_COLUMNS = ["stage", "step", "seconds", "evaluation_seconds", "updates_per_second"]


class Hardware(msgspec.Struct):
    """The machine of a run."""

    cpu: str


class Manifest(Environment, kw_only=True):
    """What is read of a run's manifest; it holds more."""

    configuration: dict[str, Any]
    digest: str
    stage: Literal["pretrain", "offline", "online"]
    seed: Natural
    status: Literal["OK", "DIVERGED"]
    block: Block
    git_commit: str
    git_changes: bool | None
    hardware: Hardware
    resumed: tuple[Environment, ...] = ()
    seconds: Seconds
    updates_per_second: float | None
    metrics_sha256: str
    seal: str


def publish(cell: Cell, run: Run, stage: str, record: dict[str, Any]) -> None:
    """Writes a finished stage's files from its record: the same bytes every time, the manifest last."""
    rows, timing = record["rows"], record["timing"]
    times = _csv(_timing(cell, record), TIMING_COLUMNS)
    if record["stage"] != stage:  # diverged in an earlier stage: this one never began
        rows, timing = [{"step": 0, "status": "DIVERGED"}], []
        record = {**record, "configuration": run.resolved(stage), "digest": run.digest(stage)}
    own = sorted({name for row in rows for name in row}.difference(COLUMNS))  # metrics that only this agent has
    metrics = _csv(rows, [*COLUMNS, *own])
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


def _timing(cell: Cell, record: dict[str, Any]) -> list[dict[str, Any]]:
    """Timing rows of all stages that have a record, whichever of them is published; a lost one must not keep a
    finished stage from its files."""
    rows = []
    for stage in STAGES:
        directory, made = cell.directory(stage), [record] if stage == record["stage"] else []
        try:
            if not made and cell.diverged.exists():
                ended: Any = read_json(cell.diverged)
                made = [ended] if ended["stage"] == stage else []
            made = made or [checkpoint.read(directory, step).record for step in checkpoint.recorded(directory)[:1]]
        except UserError as error:
            checkpoint.warn(f"warning: {error}; timing.csv goes without that stage")
        rows += [{"stage": stage, **row} for part in made for row in part["timing"]]
    return rows


def _csv(rows: list[dict[str, Any]], columns: list[str]) -> str:
    """CSV text; floats with nine significant digits, which is all that float32 holds."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        values = [row.get(column) for column in columns]
        writer.writerow([f"{v:.9g}" if isinstance(v, float) else v for v in values])
    return text.getvalue()


def read_manifest(cell: Cell, run: Run, stage: str) -> dict[str, Any]:
    """What is recorded of a published run; a UserError unless it is whole, and of this place."""
    path = cell.path / f"{stage}.json"
    manifest: Any = read_json(path)
    check(manifest, Manifest, str(path), AGAIN)
    if seal({key: value for key, value in manifest.items() if key != "seal"}) != manifest["seal"]:
        raise UserError(f"{path}: damaged (checksum); {AGAIN}")
    check_place(manifest, cell, stage, path, f"{AGAIN}, or `trqam clean` the run if all of it was copied here")
    recorded, here = manifest["configuration"], run.resolved(stage)
    for key in ("domain", "task", "method"):
        if recorded.get(key) != here.get(key):
            problem = f"{path}: {key}: is of {recorded.get(key)}, in the place of {here.get(key)}"
            raise UserError(f"{problem}; {AGAIN}")
    if digest(recorded) != manifest["digest"]:
        raise UserError(f"{path}: digest: is not that of its configuration; {AGAIN}")
    return manifest


def verify_run(cell: Cell, run: Run, stage: str) -> dict[str, Any]:
    """The manifest of a published run whose metrics are those that were published with it; reads no table."""
    return _verified(cell, run, stage)[0]


def read_run(cell: Cell, run: Run, stage: str) -> tuple[dict[str, Any], "pandas.DataFrame"]:
    """Manifest and metrics (`COLUMNS`, then its agent's own) of a published run.

    A UserError names what is wrong."""
    manifest, content = _verified(cell, run, stage)
    path = cell.path / f"{stage}.csv"
    table = _table(content, path)
    steps = table["step"].tolist()
    whole = table["status"].iloc[-1] == "DIVERGED" or steps[-1] == getattr(run, f"{stage}_steps")
    if steps != sorted(set(steps)) or not whole or table["status"].iloc[-1] != manifest["status"]:
        raise UserError(f"{path}: step or status: a row is missing, doubled or of another run; {AGAIN}")
    return manifest, table


def _verified(cell: Cell, run: Run, stage: str) -> tuple[dict[str, Any], bytes]:
    manifest, path = read_manifest(cell, run, stage), cell.path / f"{stage}.csv"
    content = read_bytes(path, fix=PUBLISH)
    if hashlib.sha256(content).hexdigest() != manifest["metrics_sha256"]:
        raise UserError(f"{path}: not what was published with {stage}.json (checksum); {AGAIN}")
    return manifest, content


def _table(content: bytes, path: Path) -> "pandas.DataFrame":
    """A run's metrics: numbers, but for text in ``status``."""
    import pandas  # only here: it takes long to import, and who only verifies runs needs no table

    types: defaultdict[str, type] = defaultdict(lambda: float, status=str)
    try:
        table = pandas.read_csv(io.BytesIO(content), dtype=types)
    except (ValueError, OverflowError):
        raise UserError(f"{path}: damaged, not a table of numbers; {AGAIN}") from None
    if lacking := [column for column in COLUMNS if column not in table]:
        raise UserError(f"{path}: {lacking[0]}: column missing; {AGAIN}")
    if table.empty:
        raise UserError(f"{path}: holds no row; {AGAIN}")
    if not (table["step"] % 1 == 0).all() or not table["status"].isin(["OK", "DIVERGED"]).all():
        raise UserError(f"{path}: step or status: a row has none; {AGAIN}")
    if not table["success"].dropna().between(0, 1).all():
        raise UserError(f"{path}: success: is not from 0 to 1 in every row; {AGAIN}")
    return table.astype({"step": int})


def publish_base(cell: Cell, tensors: dict[str, "Tensor"]) -> str:
    """Writes the cloned velocity field from a learner's tensors beside the manifest that will carry this checksum."""
    from safetensors.torch import save

    prefix = "online/base/"
    content = save({name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)})
    write_atomically(cell.path / "base.safetensors", content)
    return hashlib.sha256(content).hexdigest()


def load_base(config: Config, run: Run, shapes: dict[str, tuple[int, ...]]) -> tuple[dict[str, "Tensor"], str]:
    """The field cloned for the run's domain, from which methods start, of these ``shapes``; and its SHA-256.

    A UserError if it is not whole, or not today's.
    """
    import safetensors
    from safetensors.torch import load_file

    cell = pretraining_cell(config, run.cloned)
    path, manifest = cell.path / "base.safetensors", cell.path / "pretrain.json"
    again = f"run {config.command('pretrain', run.cloned)} again"
    if not path.is_file():
        raise UserError(f"{path}: no behaviour-cloned policy here; {again}")
    said = read_manifest(cell, run, "pretrain")
    if said.get("base_sha256") != (found := sha256(path)):
        raise UserError(f"{path}: damaged (checksum differs from {manifest.name}); delete it and {again}")
    check_same(said, run, "pretrain", manifest, config.command("clean", run.cloned))
    try:
        tensors = load_file(path)
    except safetensors.SafetensorError:
        raise UserError(f"{path}: damaged, not safetensors; delete it and {again}") from None
    if {name: tuple(tensor.shape) for name, tensor in tensors.items()} != shapes:
        raise UserError(f"{path}: not the networks that the configuration asks for; delete it and {again}")
    if not all(tensor.is_floating_point() and tensor.isfinite().all() for tensor in tensors.values()):
        raise UserError(f"{path}: holds what is not a finite number; delete it and {again}")
    return tensors, found
