"""Which live process holds a lock, found without touching the lock."""

import os
import socket
import time
from pathlib import Path
from typing import NamedTuple

from trqam.cells import Cell


class Holder(NamedTuple):
    """A process that holds a lock."""

    host: str
    pid: int
    since: float | None  # when the process started, seconds since 1970


def holder_of(cell: Cell) -> Holder | None:
    """Who trains the run of ``cell``."""
    return flock_holder(cell.path / "run" / "lock")


def flock_holder(path: Path) -> Holder | None:
    """The process of this host that holds the file lock at ``path``, from Linux's table of locks.

    Trying the lock would tell as much, and for that moment turn away a training that starts.
    """
    try:
        file = os.stat(path)
        table = Path("/proc/locks").read_text()
    except OSError:
        return None
    wanted = f"{os.major(file.st_dev):02x}:{os.minor(file.st_dev):02x}:{file.st_ino}"
    for line in table.splitlines():
        words = line.split()  # 1: FLOCK ADVISORY WRITE pid device:inode 0 EOF
        if wanted in words and "->" not in words:
            pid = int(words[words.index(wanted) - 1])
            return Holder(socket.gethostname(), pid, started(pid))
    return None


def started(pid: int) -> float | None:
    """When a process of this host started, seconds since 1970; None if there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        uptime = float(Path("/proc/uptime").read_text().split()[0])
    except OSError:
        return None
    return time.time() - uptime + int(fields[19]) / os.sysconf("SC_CLK_TCK")
