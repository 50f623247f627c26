"""What `trqam collect` gathered, read once: all that a table, a figure, a claim or a page is made of."""

import io
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd

from trqam.config.errors import UserError
from trqam.config.load import Config
from trqam.config.reading import read_bytes, read_json
from trqam.config.strict import check, read_record, shown
from trqam.report import collection
from trqam.report import imported as published
from trqam.report.selection import CLAIMS, IMPORTED, PAPER

REPORTED = PAPER / "reported.csv"
REPORTED_COLUMNS = {"domain", "method", "phase", "mean", "std", "n_seeds", "source"}
RUN = {"task", "method", "seed", "stage", "status"}  # columns that nothing can be made without
WRITTEN = (
    "metrics.csv", "runs.csv", "datasets.json", "manifests.json", "collected.json", "claims.json", "facts.tex",
    "theory_facts.tex", "paper.pdf", "report.html", "figures", "tables", "latex",
)  # fmt: skip
NUMBERS = {"seed", "step", "total_step", "success", "mean", "std", "n_seeds"}
METRICS = RUN | {"domain", "step", "total_step", "success"}


@dataclass(frozen=True, eq=False)  # by identity, so that what is computed of it can be remembered
class Collected:
    """Results with the configuration that they belong to.

    ``metrics`` is tidy: a row a logged step of a run; ``runs`` has a row a run; ``datasets`` are the cards, by domain;
    ``manifests`` holds what the runs' manifests share (`trqam.report.collect.collect`); ``imported`` are curves that
    others published, in the layout of ``metrics`` and with their ``source``, where a row of a whole domain has no task;
    ``reported`` are the numbers that the authors print, and ``claims`` is the file that states what they claim.
    """

    config: Config
    metrics: pd.DataFrame
    runs: pd.DataFrame
    datasets: dict[str, Any]
    manifests: dict[str, Any]
    imported: pd.DataFrame
    reported: pd.DataFrame
    claims: Path = CLAIMS

    @cached_property
    def cells(self) -> dict[tuple[str, str], pd.DataFrame]:
        """The metrics of each (task, method) that has any."""
        return dict(iter(self.metrics.groupby(["task", "method"], sort=False)))

    @cached_property
    def mixed(self) -> dict[tuple[str, str], str]:
        """The (task, method) whose runs do not belong together, and why."""
        return {(cell["task"], cell["method"]): cell["reason"] for cell in self.manifests.get("mixed", [])}

    @classmethod
    def load(
        cls,
        config: Config,
        folder: str | Path,
        imported: str | Path = IMPORTED,
        reported: str | Path = REPORTED,
        claims: str | Path = CLAIMS,
    ) -> "Collected":
        """Reads ``folder``, where `trqam collect` wrote to, and the curves in ``imported``; UserError if it did not."""
        folder = Path(folder)
        names = collection.TABLES
        if missing := [folder / name for name in (*names, collection.RECORD) if not (folder / name).is_file()]:
            raise UserError(f"{missing[0]}: missing; run `trqam collect` first")
        tables = [read_table(folder / name, columns) for name, columns in zip(names[:2], (METRICS, RUN), strict=True)]
        _check_metrics(tables[0], config, folder / names[0])
        records = [read_json(folder / name) for name in names[2:]]
        for record, kind, name in zip(records, (dict[str, dict[str, Any]], Manifests), names[2:], strict=True):
            check(record, kind, str(folder / name), "run `trqam collect` again")
        collection.check(config, folder)
        return cls(config, *tables, *records, published.load(imported), read_reported(reported), Path(claims))


class Manifests(msgspec.Struct):
    """What is read of manifests.json."""

    configurations: dict[str, dict[str, Any]]
    environments: dict[str, dict[str, Any]]


def refuse_foreign(folder: Path) -> None:
    """A UserError if ``folder`` has what collecting and rendering write, and was not filled by `trqam collect`."""
    for name in WRITTEN:
        if os.path.lexists(folder / name):
            what = f"and {folder} holds no results that `trqam collect` gathered; give another --folder"
            try:
                read_record(folder / "manifests.json", Manifests, "")
            except UserError:
                raise UserError(f"{folder / name}: exists, {what}") from None


def read_table(path: Path, columns: set[str], again: str = "run `trqam collect` again") -> pd.DataFrame:
    """A table of `trqam collect` with at least these columns; a UserError ends in ``again``."""
    content = io.BytesIO(read_bytes(path, fix=again))
    try:
        table = pd.read_csv(content)
    except ValueError:  # of pandas' errors, too
        raise UserError(f"{path}: damaged, not a table; {again}") from None
    if lacking := columns - set(table):
        raise UserError(f"{path}: {sorted(lacking)[0]}: column missing; {again}")
    for column in NUMBERS & set(table):
        if not pd.api.types.is_numeric_dtype(table[column]) or table[column].dtype == bool:
            raise UserError(f"{path}: {column}: holds what is no number; {again}")
    return table


def _check_metrics(metrics: pd.DataFrame, config: Config, path: Path) -> None:
    """A UserError unless every row belongs to the configuration, and success is a fraction."""
    again = "run `trqam collect` again"
    for column, known in (("task", config.tasks), ("method", [*config.compared, *config.ablated])):
        if unknown := [name for name in metrics[column].unique() if name not in known]:
            raise UserError(f"{path}: {column}: {shown(str(unknown[0]))!r} is not of {config.path}; {again}")
    if not metrics["success"].dropna().between(0, 1).all():
        raise UserError(f"{path}: success: is not from 0 to 1 in every row; {again}")


def read_reported(path: str | Path = REPORTED) -> pd.DataFrame:
    """The published numbers: domain, method, phase, step, mean, std, n_seeds, source."""
    return read_table(Path(path), REPORTED_COLUMNS, "restore the file from git")
