"""What takes long says how far it is."""

import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trqam.config.errors import UserError

if TYPE_CHECKING:
    from tqdm import tqdm

BLOCK = 1 << 20


def watch(label: str, total: int | None, unit: str, initial: int = 0) -> "tqdm":
    """A bar on a terminal; in a log a line every half minute, and none for what is quicker."""
    from tqdm import tqdm  # only here: the benchmark of a GPU runs with PyTorch alone

    terminal = sys.stderr.isatty()
    return tqdm(
        desc=label,
        total=total,
        initial=initial,
        unit=unit,
        unit_scale=True,
        leave=False,
        delay=0.5 if terminal else 30,
        mininterval=0.2 if terminal else 30,
    )


def sums(paths: Sequence[Path], label: str) -> list[str]:
    """The hexadecimal SHA-256 of each file; a UserError if one cannot be read."""
    found = []
    with watch(label, sum(path.stat().st_size for path in paths), "B") as bar:
        for path in paths:
            digest = hashlib.sha256()
            try:
                with open(path, "rb") as file:
                    while block := file.read(BLOCK):
                        digest.update(block)
                        bar.update(len(block))
            except OSError as error:
                raise UserError(f"{path}: cannot be read ({error.strerror}); correct its permissions") from error
            found.append(digest.hexdigest())
    return found
