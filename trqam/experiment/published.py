"""What runs have published, read back: each file proves that it is what was published in this place.


A manifest carries a seal of its own content and the checksum of its metrics, and says of which seed, stage and
configuration it is. So a byte that has changed, a row that is missing or there twice, and a file copied from another
run are found; each mistake is one line.
"""

import hashlib
import io
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from trqam.config.errors import UserError
from trqam.config.load import Run
from trqam.config.reading import read_bytes, read_json, seal
from trqam.config.schema import Natural, digest
from trqam.config.strict import check
from trqam.experiment.folder import Cell
from trqam.experiment.run import COLUMNS, check_place

if TYPE_CHECKING:
    import pandas

PUBLISH = "run the same `snakemake` command, which publishes it again"
AGAIN = f"delete it and {PUBLISH}"


class Hardware(msgspec.Struct):
    """The machine of a run."""

    cpu: str


class Environment(msgspec.Struct, omit_defaults=True):
    """What made a part of a run, as far as it is compared."""

    versions: dict[str, str]
    code: str = ""


class Manifest(Environment, kw_only=True):
    """What is read of a run's manifest; it holds more."""

    configuration: dict[str, Any]
    digest: str
    stage: Literal["pretrain", "offline", "online"]
    seed: Natural
    status: Literal["OK", "DIVERGED"]
    block: Annotated[list[Natural], msgspec.Meta(min_length=1)]
    git_commit: str
    git_changes: bool | None
    hardware: Hardware
    resumed: list[Environment] = []
    seconds: Annotated[float, msgspec.Meta(ge=0)]
    updates_per_second: float | None
    metrics_sha256: str
    seal: str
    base_sha256: str = ""


def read_manifest(cell: Cell, run: Run, stage: str) -> dict[str, Any]:
    """What is recorded of a published run; a UserError unless it is whole, and of this place."""
    path = cell.path / f"{stage}.json"
    manifest = read_json(path)
    if isinstance(manifest, dict) and "digest" in manifest and "seal" not in manifest:
        older = f"{_scale(cell)}/pretrained/*/pretrain.json {_scale(cell)}/*/*/seed*/o*line.json"
        fix = f"delete all such files (rm {older}) and {PUBLISH}"
        raise UserError(f"{path}: seal: missing, as this file is older than seals; {fix}")
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


def _scale(cell: Cell) -> Path:
    """The results of the scale that a run belongs to."""
    return cell.path.parents[1 if cell.path.parent.name == "pretrained" else 2]


def verify_run(cell: Cell, run: Run, stage: str) -> dict[str, Any]:
    """The manifest of a published run whose metrics are those that were published with it; reads no table."""
    return _verified(cell, run, stage)[0]


def read_run(cell: Cell, run: Run, stage: str) -> tuple[dict[str, Any], "pandas.DataFrame"]:
    """Manifest and metrics (columns `run.COLUMNS`, then its agent's own) of a published run.

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

    try:
        table = pandas.read_csv(io.BytesIO(content), dtype=defaultdict(lambda: float, status=str))
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
