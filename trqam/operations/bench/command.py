"""The command: measure or read, print, save."""

import argparse
from functools import partial
from pathlib import Path

from trqam.config.errors import UserError
from trqam.config.load import Config
from trqam.config.reading import read_bytes
from trqam.experiment.files import refuse_foreign, write_atomically
from trqam.operations.bench import record, tables
from trqam.operations.bench.measure import measure
from trqam.operations.bench.options import chosen
from trqam.operations.bench.record import Record

BEGIN, END = "<!-- begin: trqam bench -->", "<!-- end: trqam bench -->"


def run(arguments: argparse.Namespace, config: Config) -> None:
    """All that was asked for; what a mistake would stop is read before anything is measured."""
    before = record.load(arguments.compare) if arguments.compare else None
    if arguments.into:
        insert("", arguments.into, check=True)
    found = record.load(arguments.show) if arguments.show else _measured(arguments, config)
    text = tables.described(found)
    print(text)
    if before:
        print("", tables.compared(before, found), sep="\n")
    if arguments.into:
        insert(text, arguments.into)


def _measured(arguments: argparse.Namespace, config: Config) -> Record:
    """Saved under a name that is free, or that --force frees."""
    kind = "quick" if arguments.quick else "full" if arguments.full else ""
    out = arguments.out or record.default_path(kind)
    refuse_foreign(out, record.load, "record of a benchmark", "give another --out")
    if out.exists() and not arguments.force:
        raise UserError(f"{out}: exists; read it with --show {out}, measure again with --force, or give another --out")
    found = measure(config, chosen(arguments), save=partial(record.save, path=out))
    record.say(f"saved as {out}")
    return found


def insert(text: str, path: Path, check: bool = False) -> None:
    """Replaces what stands between two marks in a Markdown file; with ``check`` only looks whether they are there."""
    before, begin, rest = read_bytes(path, fix="give an existing file").partition(BEGIN.encode())
    _, end, after = rest.partition(END.encode())
    if not begin or not end:
        raise UserError(f"{path}: no marks; add the lines {BEGIN} and {END} where the table shall stand")
    if not check:
        write_atomically(path.resolve(), before + f"{BEGIN}\n{text}\n{END}".encode() + after)
