"""One process at a time, by a lock of the system's that a killed process lets go of."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from trqam.config.errors import UserError


@contextmanager
def exclusive(lock: Path, waiting: str, fix: str | None) -> Iterator[None]:
    """Holds ``lock``, whose folder is made; says ``waiting`` if another process has it.

    A UserError that ends in ``fix`` if the folder cannot be written; without a ``fix`` it goes on without the lock.
    """
    held = filelock.FileLock(lock)
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        try:
            held.acquire(timeout=0)
        except filelock.Timeout:
            print(waiting, file=sys.stderr, flush=True)
            held.acquire()
    except (OSError, NotImplementedError) as error:  # NotImplementedError: a file system without locks
        if fix is not None:
            why = getattr(error, "strerror", None) or "it has no locks"
            raise UserError(f"{lock.parent}: cannot be written ({why}); {fix}") from error
    try:
        yield
    finally:
        held.release()
