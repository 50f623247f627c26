"""What a command line means: argparse's types, a parser whose errors are one line, and the configuration behind
`--config` and `--set` of `trqam` or Snakemake's options for the same."""

import argparse
import json
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from trqam.config import schema
from trqam.config.errors import UserError
from trqam.config.load import DEFAULT, Config, load
from trqam.config.parameters import OF_AGENT
from trqam.config.reading import parse_yaml, read_yaml, shown
from trqam.config.schema import Domain, Scale
from trqam.config.strict import at_home, check_key, instead

SEEDS = 2**32 - 1  # the largest
MOST = 10**12  # of what is counted in steps, as in a scale file
MANY = 10_000  # of what takes a process, a file or hours each


class Parser(argparse.ArgumentParser):
    """argparse whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Exits with code 2."""
        self.exit(2, f"{self.prog}: error: {shown(message, 400)}; see `{self.prog} --help`\n")


def whole(least: int, most: int) -> Callable[[str], int]:
    """A type for argparse: whole numbers from ``least`` to ``most``."""

    def number(text: str) -> int:
        if not re.fullmatch("[0-9]{1,30}", text) or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{shown(text)!r} is not a whole number from {least} to {most}")
        return int(text)

    return number


def real(most: float) -> Callable[[str], float]:
    """A type for argparse: numbers from 0 to ``most``."""

    def number(text: str) -> float:
        try:
            if 0 <= (number := float(text)) <= most:  # nan is not
                return number
        except ValueError:
            pass
        raise argparse.ArgumentTypeError(f"{shown(text)!r} is not a number from 0 to {most:g}, such as 1e-9")

    return number


def path(text: str) -> Path:
    """A type for argparse: a path, whose leading `~` the shell leaves in `--out=~/x`."""
    try:
        return Path(at_home(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{shown(text)!r} {error}; write it in full") from None


def parse_override(text: str, option: str = "--set") -> tuple[str, Any]:
    """``key=value`` of the command line: text as it stands where the key wants text, and else read as YAML."""
    key, separator, value = text.partition("=")
    for table, blocks in (("domains", [Domain]), ("methods", OF_AGENT.values())):
        if key not in Scale.__struct_fields__ and any(key in block.__struct_fields__ for block in blocks):
            fix = f"change it in a copy of {table}.yaml, and give {table}_file=COPY"
            raise UserError(f"{option} {key}: a key of {table}.yaml, not of the scale file; {fix}")
    if not separator or key not in Scale.__struct_fields__:
        fix = instead(key, Scale.__struct_fields__, "write such as seeds=5", key in Scale.__struct_fields__)
        raise UserError(f"{option} {shown(text)}: not a key of the scale file and its value; {fix}")
    plain = key in schema.TEXTS and not value.startswith(("'", '"'))  # a name such as 2024, a path with a `#`
    parsed = value if plain else parse_yaml(value, f"{option} {key}")
    check_key(parsed, Scale, key, f"{option} {key}")
    return key, parsed


def from_command(file: str | Path, entries: Sequence[str]) -> Config:
    """The scale of ``file`` with the changes ``key=value`` that `--set` was given."""
    changes = dict(parse_override(text) for text in entries)
    return load(file, changes, {key: f"--set {key}" for key in changes})


def from_snakemake(files: Sequence[str | Path], entries: Sequence[str]) -> tuple[Config, list[str]]:
    """The scale of Snakemake's `--configfile FILES` and `--config ENTRIES`, and the options of `trqam` that mean it.

    The last file counts; a key that it lacks is that of the one before, at last of the default. Snakemake's own
    reading of both is not used: it makes 10 of 010, text of true, and a list of texts of a list of numbers.
    """
    default = [] if files and not os.path.exists(DEFAULT) else [DEFAULT]
    path, *others = (os.path.relpath(file) for file in reversed([*default, *files]))
    written, changed, origins = read_yaml(path), {}, {}
    for other in others:
        for key, value in read_yaml(other).items():
            if key not in written and key not in changed:
                changed[key], origins[key] = value, f"{other}: {key}"
                if key in Scale.__struct_fields__:
                    check_key(value, Scale, key, origins[key])
    for key, value in (parse_override(text, "--config") for text in entries):
        if key not in written or value != written[key]:
            changed[key], origins[key] = value, f"--config {key}"
    config = load(path, changed, origins)
    for key in schema.PATHS:
        if re.search("[{}]", value := getattr(config.scale, key)):
            raise UserError(
                f"{config.where(key)}: {shown(value)!r} has braces, wildcards to Snakemake; rename the folder"
            )
    options = [text for key, value in changed.items() for text in ("--set", f"{key}={_yaml(value)}")]
    return config, ["--config", path, *options]


def _yaml(value: Any) -> str:
    """``value`` in ASCII characters, such that `parse_override` reads the same, whatever the locale."""
    return re.sub("[^ -~]", lambda match: f"\\U{ord(match[0]):08x}", json.dumps(value, ensure_ascii=False))
