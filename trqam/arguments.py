"""Types for argparse, and a parser whose errors are one line."""

import argparse
import math
import re
from collections.abc import Callable
from typing import NoReturn

from trqam.strict import shown

SEEDS = 2**32 - 1  # the largest


class Parser(argparse.ArgumentParser):
    """argparse whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Exits with code 2."""
        self.exit(2, f"{self.prog}: error: {shown(message, 400)}; see `{self.prog} --help`\n")


def whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """A type for argparse: whole numbers from ``least`` on, to ``most``."""

    def number(text: str) -> int:
        if not re.fullmatch("[0-9]{1,30}", text) or int(text) < least or (most is not None and int(text) > most):
            end = "on" if most is None else f"to {most}"
            raise argparse.ArgumentTypeError(f"{shown(text)!r} is not a whole number from {least} {end}")
        return int(text)

    return number


def tolerance(text: str) -> float:
    """A type for argparse: finite numbers from 0 on."""
    try:
        if 0 <= (number := float(text)) < math.inf:
            return number
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{shown(text)!r} is not a number from 0 on, such as 1e-9")
