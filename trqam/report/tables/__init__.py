"""The tables as plain data, from which the LaTeX and the HTML templates print the same words and numbers.

What is missing prints as `--`.
"""

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from trqam.config.errors import UserError
from trqam.config.load import Config
from trqam.report import latex
from trqam.report.collected import Collected
from trqam.report.selection import TABLES, compared, table_module
from trqam.report.statistics import round_half_up

MISSING = "--"


@dataclass(frozen=True)
class Entry:
    """One printed value; ``marks`` are superscripts that the table's notes explain."""

    text: str
    value: int | None = None
    best: bool = False
    marks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """``kind`` is domain, task, method, all or published (others' numbers, for the row above); a row without entries
    says of them why."""

    label: str
    kind: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class SuccessTable:
    """``groups`` are (group, number of methods) from left to right; ``blocks`` are (title, rows), one a stage.

    Where rows are of kind method, ``methods`` and ``groups`` are domains and their families. In print a float holds so
    many blocks, ``together``.
    """

    caption: str
    methods: tuple[str, ...]
    groups: tuple[tuple[str, int], ...]
    blocks: tuple[tuple[str, tuple[Row, ...]], ...]
    notes: tuple[str, ...]
    together: int = 2


@dataclass(frozen=True)
class Grid:
    """A plain table: ``columns`` is LaTeX's column specification, ``groups`` are (title, columns) above the header."""

    caption: str
    columns: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    groups: tuple[tuple[str, int], ...] = ()


def by_group(config: Config) -> list[str]:
    """The compared methods in the order of methods.yaml, a group's together."""
    methods = compared(config)
    grouped = list(dict.fromkeys(config.methods[m].group for m in methods))
    return sorted(methods, key=lambda m: grouped.index(config.methods[m].group))


def printed(row: pd.Series) -> Entry:
    mean = round_half_up(row["mean"])
    return Entry(mean if pd.isna(row["std"]) else f"{mean} ± {round_half_up(row['std'])}", int(mean))


def make(name: str, collected: Collected) -> Any:
    """The table ``name``."""
    if name not in TABLES:
        raise UserError(f"render: unknown table {name!r}; use one of {', '.join(TABLES)}")
    return getattr(importlib.import_module(table_module(name)), TABLES[name][0].partition(".")[2])(collected)


def render(name: str, collected: Collected, out: str | Path) -> None:
    """Writes the table ``name`` as a LaTeX float."""
    table = make(name, collected)
    latex.render(f"{TABLES[name][1]}.tex.j2", out, name=name, table=table)
