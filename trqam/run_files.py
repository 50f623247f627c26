"""What runs have published, read back: manifests and tables, whose mistakes are one line."""

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pandas

from trqam.artefacts import read_json
from trqam.errors import UserError
from trqam.schema import Natural
from trqam.strict import check

PUBLISH = "run the same `snakemake` command, which publishes it again"
AGAIN = f"delete it and {PUBLISH}"


class Hardware(msgspec.Struct):
    """The machine of a run."""

    cpu: str


class Manifest(msgspec.Struct):
    """What is read of a run's manifest; it holds more."""

    configuration: dict[str, Any]
    digest: str
    seed: Natural
    status: Literal["OK", "DIVERGED"]
    block: Annotated[list[Natural], msgspec.Meta(min_length=1)]
    git_commit: str
    git_changes: bool | None
    versions: dict[str, str]
    hardware: Hardware


def read_manifest(path: Path) -> dict[str, Any]:
    """What is recorded of a run."""
    manifest = read_json(path)
    check(manifest, Manifest, str(path), AGAIN)
    return manifest


def read_table(path: Path, columns: list[str]) -> pandas.DataFrame:
    """A table that a run has published: numbers, but for text in ``status`` and ``stage``."""
    try:
        table = pandas.read_csv(path, dtype={c: str if c in ("status", "stage") else float for c in columns})
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); {PUBLISH}") from None
    except (ValueError, OverflowError):
        raise UserError(f"{path}: damaged, not a table of numbers; {AGAIN}") from None
    if lacking := [column for column in columns if column not in table]:
        raise UserError(f"{path}: {lacking[0]}: column missing; {AGAIN}")
    if table.empty:
        raise UserError(f"{path}: holds no row; {AGAIN}")
    if not (table["step"] % 1 == 0).all() or ("status" in table and not table["status"].isin(["OK", "DIVERGED"]).all()):
        raise UserError(f"{path}: step or status: a row has none; {AGAIN}")
    if "success" in table and not table["success"].dropna().between(0, 1).all():
        raise UserError(f"{path}: success: is not from 0 to 1 in every row; {AGAIN}")
    return table.astype({"step": int})
