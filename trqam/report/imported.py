"""Curves that others published, as `trqam import` left them: tables like metrics.csv, each with a record."""

import io
from pathlib import Path
from typing import Annotated

import msgspec
import pandas as pd

from trqam.config.errors import UserError
from trqam.config.load import Config
from trqam.config.reading import read_bytes
from trqam.config.strict import read_record, shown
from trqam.report.selection import IMPORTED, imported_tables

TEXT = ("task", "domain", "method", "stage", "status", "source")
NUMBERS = ("seed", "step", "total_step", "success")
COLUMNS = ["task", "domain", "method", "seed", "stage", "step", "total_step", "status", "success", "source"]
ALL = "all"
AGAIN = "delete it, or import it again"
PROTOCOL = 200  # characters, at most
NOT_STATED = "protocol not stated"


class Record(msgspec.Struct):
    """What is read of the record beside a table: the SHA-256 of the file that was imported, and of the table, and by
    which protocol its curves were made, in words."""

    source: str
    sha256: str
    table: str = ""
    protocol: Annotated[str, msgspec.Meta(max_length=PROTOCOL)] = ""


def load(folder: str | Path = IMPORTED) -> pd.DataFrame:
    """All imported curves, `COLUMNS` and their ``protocol``, which is empty where nobody stated it.

    A row of a whole domain has an empty task, and one of everything the domain `all`.
    """
    tables = [read(path).assign(protocol=_protocol(path)) for path in imported_tables(folder)]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=[*COLUMNS, "protocol"])


def protocols(curves: pd.DataFrame) -> dict[str, str]:
    """Of each source the protocol as it is printed, in the order of their names."""
    stated = curves.assign(protocol=curves.get("protocol", "")).drop_duplicates("source").sort_values("source")
    return {row.source: f"protocol: {row.protocol}" if row.protocol else NOT_STATED for row in stated.itertuples()}


def methods_of(config: Config, curves: pd.DataFrame) -> list[str]:
    """The methods in the order of methods.yaml, and what it does not know last, in the order of the files."""
    methods = list(dict.fromkeys(curves.method))
    return sorted(methods, key=[*config.methods, *methods].index)


def _protocol(path: Path) -> str:
    record = path.with_suffix(".json")
    return read_record(record, Record, AGAIN).get("protocol", "") if record.is_file() else ""


def read(path: Path) -> pd.DataFrame:
    """One table; a UserError unless it is what an import writes under this name."""
    content = io.BytesIO(read_bytes(path, fix=AGAIN))
    try:
        text = dict.fromkeys(TEXT, str)
        table = pd.read_csv(content, dtype=text, keep_default_na=False, na_values={"success": [""]})
    except ValueError:
        raise UserError(f"{path}: damaged, not a table; {AGAIN}") from None
    if list(table) != COLUMNS:
        raise UserError(f"{path}: not an imported table; {AGAIN}")
    if not all(pd.api.types.is_numeric_dtype(table[column]) for column in NUMBERS):
        raise UserError(f"{path}: seed, step or success: holds what is no number; {AGAIN}")
    if other := sorted(set(table.source) - {path.stem}):  # a copy beside it would count twice
        raise UserError(f"{path}: source: holds the curves of {shown(other[0])!r}, not of its name; {AGAIN}")
    return table
