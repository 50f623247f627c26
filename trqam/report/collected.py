"""What `trqam collect` gathered, read once: all that a table, a figure, a claim or a page is made of."""

import io
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pandas as pd

from trqam.config.errors import UserError
from trqam.config.load import Config
from trqam.config.reading import read_bytes
from trqam.config.strict import shown
from trqam.config.wording import method_label, task_label
from trqam.report import imported as published
from trqam.report.record import AGAIN, check
from trqam.report.selection import CLAIMS, IMPORTED, PAPER

REPORTED = PAPER / "reported.csv"
CONTEXT = PAPER / "context.csv"  # part of the text, as templates are: no archive carries it
CONTEXT_COLUMNS = {"protocol", "source", "where", "method", "mean", "std", "n_seeds", "note"}
REPORTED_COLUMNS = {"domain", "method", "phase", "mean", "std", "n_seeds", "source"}
RUN = {"task", "method", "seed", "stage", "status"}  # columns that nothing can be made without
METRICS = RUN | {"domain", "step", "total_step", "success"}
NUMBERS = {"seed", "step", "total_step", "success", "mean", "std", "n_seeds"}
MARK = "¶"  # of cells whose runs do not belong together (`trqam.experiment.verdict`)
RESTORE = "restore the file from git"
T = TypeVar("T")


class Manifests(msgspec.Struct):
    """manifests.json."""

    configurations: dict[str, dict[str, Any]]
    environments: dict[str, dict[str, Any]]
    mixed: list[dict[str, str]] = []
    pretrained: dict[str, float] = {}
    command: str = ""  # that makes the paper


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
        """Reads ``folder``, where `trqam collect` wrote to, and the curves in ``imported``; UserError if it did not.

        That the tables are whole does not say that they are ours: an archive from elsewhere may hold any.
        """
        folder = Path(folder)
        contents = {folder / name: content for name, content in check(config, folder).items()}
        metrics, runs, datasets, manifests = contents
        return cls(
            config,
            _of_scale(_table(contents[metrics], metrics, METRICS, AGAIN), config, metrics),
            _table(contents[runs], runs, RUN, AGAIN),
            _record(contents[datasets], datasets, dict[str, dict[str, Any]]),
            msgspec.to_builtins(_record(contents[manifests], manifests, Manifests)),
            published.load(imported),
            read_reported(reported),
            Path(claims),
        )


def read_reported(path: str | Path = REPORTED) -> pd.DataFrame:
    """The published numbers: domain, method, phase, step, mean, std, n_seeds, source."""
    return _table(read_bytes(path, fix=RESTORE), Path(path), REPORTED_COLUMNS, RESTORE)


def read_context() -> pd.DataFrame:
    """What others report under other protocols; a row without a mean stands in `read_reported`, as domain `all`."""
    return _table(read_bytes(CONTEXT, fix=RESTORE), CONTEXT, CONTEXT_COLUMNS, RESTORE)


def _table(content: bytes, path: Path, columns: set[str], again: str) -> pd.DataFrame:
    """A table with at least these columns, whose `NUMBERS` are numbers."""
    try:
        table = pd.read_csv(io.BytesIO(content))
    except ValueError:  # of pandas' errors, too
        raise UserError(f"{path}: damaged, not a table; {again}") from None
    if lacking := columns - set(table):
        raise UserError(f"{path}: {min(lacking)}: column missing; {again}")
    for column in NUMBERS & set(table):
        if not pd.api.types.is_numeric_dtype(table[column]) or table[column].dtype == bool:
            raise UserError(f"{path}: {column}: holds what is no number; {again}")
    return table


def _of_scale(metrics: pd.DataFrame, config: Config, path: Path) -> pd.DataFrame:
    """The same; a UserError unless every row belongs to the configuration, and success is a fraction.

    Success becomes the share of the configured episodes that it is: older files hold three of five as 0.600000024, and
    any file a third with nine digits, and a mean of such numbers could be printed a point too low.
    """
    for column, known in (("task", config.tasks), ("method", [*config.compared, *config.ablated])):
        if unknown := [name for name in metrics[column].unique() if name not in known]:
            raise UserError(f"{path}: {column}: {shown(str(unknown[0]))!r} is not of {config.path}; {AGAIN}")
    if not metrics["success"].dropna().between(0, 1).all():
        raise UserError(f"{path}: success: is not from 0 to 1 in every row; {AGAIN}")
    shares = (metrics["success"] * config.scale.eval_episodes).round() / config.scale.eval_episodes
    close = (shares - metrics["success"]).abs() < 1e-7  # twice what a float32 loses
    return metrics.assign(success=shares.where(close, metrics["success"]))


def _record(content: bytes, path: Path, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.DecodeError, RecursionError):
        raise UserError(f"{path}: damaged, not what `trqam collect` writes; {AGAIN}") from None


def mixed_mark(collected: Collected, tasks: list[str], method: str) -> str:
    """The mark, if one of the cells of ``method`` on ``tasks`` is a mixture."""
    return MARK if any((task, method) in collected.mixed for task in tasks) else ""


def mixed_note(collected: Collected) -> str:
    """What the mark means, as captions say it; empty if nothing is mixed."""
    return f" {MARK} mixed runs, listed where the runs are counted." if collected.mixed else ""


def mixed_list(collected: Collected) -> str:
    """What is mixed and why; empty if nothing is."""
    config, parts = collected.config, []
    for (task, method), reason in collected.mixed.items():
        parts.append(f"{method_label(config, method)} on {task_label(config, task)} ({reason})")
    what = "not all made by the same code, versions, data and configuration"
    return f" {MARK} mixed: {what}: {'; '.join(parts)}." if parts else ""
