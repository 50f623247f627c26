"""Which live process holds a lock, found without touching the lock."""

from typing import NamedTuple

from trqam.experiment.folder import Cell
from trqam.experiment.lock import standing


class Holder(NamedTuple):
    """A process that holds a lock."""

    host: str
    pid: int
    since: float | None  # when it first took a lock, seconds since 1970


def holder_of(cell: Cell) -> Holder | None:
    """Who trains the run of ``cell``."""
    state, mark = standing(cell.lock)
    if state != "held" or mark.holder is None:
        return None
    return Holder(mark.holder["host"], mark.holder["pid"], mark.holder["since"])
