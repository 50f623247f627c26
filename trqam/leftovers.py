"""What killed processes leave behind, and its removal where no live process holds it.

Runs and datasets need none of this: the next training takes a dead one's lock over, and the system lets go of a dead
process's file locks. Snakemake's locks have to go before it starts again, and temporary files take room.
"""

import base64
import binascii
import datetime
import os
import re
import socket
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from trqam import lock
from trqam.errors import Busy

TEMPORARY = re.compile(r"\..+\.(?P<pid>\d+)\.tmp")  # see `trqam.artefacts.temporary_name`
WATCHED = 100  # locks of other hosts that are watched for a sign of life at once
OLD = 3600  # seconds; a younger temporary file may be that of a process on another host


class Leftover(NamedTuple):
    """Files of one kind, and the live process that still has them (None: nobody)."""

    paths: list[Path]
    holder: str | None


def snakemake_locks(folder: Path) -> Leftover:
    """Snakemake's locks on a working folder, which name no process: one of Snakemake's that works there holds them."""
    paths = sorted((folder / ".snakemake" / "locks").glob("*.lock"))
    if not paths:
        return Leftover([], None)
    host = _snakemake_host(folder, paths[0].stat().st_mtime)
    if host not in (None, socket.gethostname()):
        return Leftover(paths, f"a Snakemake on {host}, as its log says: look there")
    pids = snakemakes(folder)
    return Leftover(paths, f"Snakemake, process {pids[0]}" if pids else None)


def snakemakes(folder: Path) -> list[int]:
    """This host's processes of Snakemake that work in ``folder``, this one's own ancestors left out."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            inside = (entry / "cwd").resolve(strict=True) == folder.resolve()
        except OSError:  # it has ended, or is another user's
            continue
        programs = [Path(word).name for word in words[:3]]  # python, an option or none, and then the script or module
        if inside and "snakemake" in programs and "python" in programs[0]:
            found.append(int(entry.name))
    return sorted(found)


def _snakemake_host(folder: Path, moment: float) -> str | None:
    """The host of the last Snakemake that began before ``moment``, from the head of its log; None if unknown."""
    limit = datetime.datetime.fromtimestamp(moment).strftime("%Y-%m-%dT%H%M%S.%f")
    logs = sorted(path for path in (folder / ".snakemake" / "log").glob("*.log") if path.name <= limit)
    for log in reversed(logs):
        head = log.read_bytes()[:2000].decode(errors="replace")
        if found := re.search(r"^\s*Host: (\S+)$", head, re.MULTILINE):
            return found[1]
    return None


def incomplete_outputs(folder: Path) -> dict[Path, str]:
    """Snakemake's marks of outputs that it was making, each with the output's name."""
    marks, top = {}, folder / ".snakemake" / "incomplete"
    for path in sorted(top.rglob("*")):
        if path.is_file():
            encoded = "".join(part.removeprefix("@") for part in path.relative_to(top).parts)
            try:
                marks[path] = base64.urlsafe_b64decode(encoded).decode()
            except (binascii.Error, UnicodeDecodeError):
                continue  # not one of its names
    return marks


def temporary_files(folders: Iterable[Path]) -> tuple[list[Path], list[Path]]:
    """Half-written files below ``folders``: those that nobody writes any more, and those that someone may."""
    dead, alive = [], []
    for path, pid in _temporary(folders):
        try:
            age = time.time() - path.stat().st_mtime
        except FileNotFoundError:
            continue
        (alive if Path(f"/proc/{pid}").exists() or age < OLD else dead).append(path)
    return dead, alive


def _temporary(folders: Iterable[Path]) -> Iterator[tuple[Path, int]]:
    for folder in folders:
        for top, _, names in os.walk(folder):
            for name in names:
                if found := TEMPORARY.fullmatch(name):
                    yield Path(top) / name, int(found["pid"])


def flock_holder(path: Path) -> int | None:
    """The process of this host that holds the system's file lock at ``path``, from Linux's table of locks.

    Trying the lock would tell as much, and for that moment keep out whoever wants it.
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
            return int(words[words.index(wanted) - 1])
    return None


def release(locks: Iterable[Path]) -> int:
    """Takes over runs' locks that are stale, as a training would, and lets go of them; how many there were."""
    with ThreadPoolExecutor(WATCHED) as pool:
        return sum(pool.map(_released, locks))


def _released(path: Path) -> bool:
    try:
        with lock.held([path]):
            return True
    except Busy:  # it has given a sign of life
        return False


def remove(paths: Iterable[Path]) -> int:
    """Deletes files that may have gone already; how many there were."""
    number = 0
    for path in paths:
        try:
            path.unlink()
            number += 1
        except FileNotFoundError:
            continue
    return number
