"""The tables as plain data, from which the LaTeX and the HTML templates print the same words and numbers.

What is missing prints as `--`.
"""

import importlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import pandas as pd

from trqam.config.errors import UserError
from trqam.config.load import Config
from trqam.report import latex, prose
from trqam.report.collected import Collected
from trqam.report.selection import TABLES, compared, table_module
from trqam.report.statistics import round_half_up

MISSING = "--"

said = partial(prose.said, "tables", MISSING=MISSING)


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


Blocks = Sequence[tuple[str, tuple[Row, ...]]]


@dataclass(frozen=True)
class SuccessTable:
    """``groups`` are (group, number of methods) from left to right; ``blocks`` are (title, rows), one a stage, and
    ``notes`` sentences.

    Where rows are of kind method, ``methods`` and ``groups`` are domains and their families. In print a float holds so
    many blocks, ``together``.
    """

    caption: str
    methods: tuple[str, ...]
    groups: tuple[tuple[str, int], ...]
    blocks: Blocks
    notes: str
    together: int = 2


@dataclass(frozen=True)
class Grid:
    """A plain table; ``groups`` are (title, columns) above the header.

    ``columns`` has a letter for each: text (l), a symbol (c), a number (r) or prose (p).
    """

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


def grouped(keys: Iterable[str]) -> tuple[tuple[str, int], ...]:
    """Neighbours that are equal, as (key, number)."""
    return tuple((key, len([*members])) for key, members in groupby(keys))


def printed(mean: float, std: float, *marks: str) -> Entry:
    """A mean and its standard deviation, if that is known, as printed."""
    text = round_half_up(mean)
    return Entry(text if pd.isna(std) else f"{text} ± {round_half_up(std)}", int(text), marks=marks)


def kinds_of(blocks: Blocks) -> tuple[set[str], set[str]]:
    """For notes: the first characters of all marks, and which of best, missing and published there are."""
    rows = [row for _, rows in blocks for row in rows]
    entries = [entry for row in rows for entry in row.entries]
    there = {
        "best": any(entry.best for entry in entries),
        "missing": any(entry.text == MISSING for entry in entries),
        "published": any(row.kind == "published" for row in rows),
    }
    return {mark[0] for entry in entries for mark in entry.marks}, {kind for kind, found in there.items() if found}


def make(name: str, collected: Collected) -> Any:
    """The table ``name``."""
    if name not in TABLES:
        raise UserError(f"render: unknown table {name!r}; use one of {', '.join(TABLES)}")
    return getattr(importlib.import_module(table_module(name)), TABLES[name][0].partition(".")[2])(collected)


def render(name: str, collected: Collected, out: str | Path) -> None:
    """Writes the table ``name`` as a LaTeX float."""
    table = make(name, collected)
    latex.render(f"{TABLES[name][1]}.tex.j2", out, name=name, table=table)
