"""Types for argparse, and a parser whose errors are one line."""

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from trqam.config.strict import at_home, shown

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
