"""What killed processes leave behind, and its removal where no live process holds it.

Runs and datasets need none of this: the next training takes a dead one's lock over, and the system lets go of a dead
process's file locks. Snakemake's locks have to go before it starts again, and temporary files take room.
"""

import atexit
import base64
import datetime
import math
import os
import re
import socket
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import psutil

from trqam.config.errors import Busy, UserError
from trqam.config.reading import open_regular
from trqam.experiment import lock

TEMPORARY = re.compile(r"\..+\.(?P<pid>[0-9]{1,10})\.tmp")  # see `trqam.experiment.files.temporary_name`
SNAKEMAKE_LOCK = re.compile(r"[0-9]+\.(input|output)\.lock")
GUARD = Path(".snakemake/trqam/lock")  # of the Snakemake that works in a folder: see `guard`
WATCHED = 100  # locks of other hosts that are watched for a sign of life at once
OLD = 3600  # seconds; a younger temporary file may be that of a process on another host


class Leftover(NamedTuple):
    """Files of one kind, and the live process that still has them (None: nobody)."""

    paths: list[Path]
    holder: str | None


def guard(folder: Path) -> None:
    """For a Snakemake that begins to work in ``folder``: removes Snakemake's locks of one that was killed there.

    Those name no process. So each Snakemake of ours takes a lock of `trqam.experiment.lock` beside them, for as long as
    it lives: of several that begin at once one gets it, and while that gives signs of life, here or on another host,
    the others leave everything to Snakemake.
    """
    path, alive = folder / GUARD, ExitStack()
    try:
        known = lock.standing(path)[0] != "free"
        alive.enter_context(lock.held([path]))
        atexit.register(alive.close)
        locks = snakemake_locks(folder, known)
        began = os.stat(path).st_mtime  # by the clock that the locks were written by
        stale = [path for path in locks.paths if os.lstat(path).st_mtime < began]
        if stale and locks.holder is None:
            remove(stale)
            note = "what it had started may still be at work, as `python -m trqam status` shows"
            print(f"trqam: {stale[0].parent}: left by a Snakemake that was killed; removed ({note})", file=sys.stderr)
    except (UserError, OSError):  # somebody else's turn, or not ours to write: Snakemake itself says what is wrong
        return


def snakemake_locks(folder: Path, guarded: bool = False) -> Leftover:
    """Snakemake's locks on a working folder, and the Snakemake that works there and so holds them.

    ``guarded``: this process has taken the lock of `guard` over from the one that took them. What began after them is
    then no holder, and nor is another host. Raises UserError if the folder of the locks cannot be looked into.
    """
    top = folder / ".snakemake"
    paths = [p for p in _listed(top / "locks") if SNAKEMAKE_LOCK.fullmatch(p.name) and not p.is_dir()]
    if not paths:
        return Leftover([], None)
    newest = max((found.st_mtime for path in paths if (found := _status(path))), default=time.time())
    if not guarded:
        state, mark = lock.standing(folder / GUARD)
        ours = state == "held" and mark.here and mark.holder["pid"] == os.getpid()
        if state == "held" and not ours:
            return Leftover(paths, f"Snakemake, {mark.who}")
        host = None if state == "stale" else _snakemake_host(folder, newest)
        if host not in (None, socket.gethostname()):
            return Leftover(paths, f"a Snakemake on {host}, as its log says: look there")
    pids = snakemakes(folder, newest if guarded else math.inf)
    return Leftover(paths, f"Snakemake, process {pids[0]}" if pids else None)


def snakemakes(folder: Path, before: float = math.inf) -> list[int]:
    """This host's processes of Snakemake that work in ``folder`` and began ``before`` then, seconds since 1970.

    This process and its ancestors are left out.
    """
    ours = {os.getpid(), *(process.pid for process in psutil.Process().parents())}
    found = []
    for process in psutil.process_iter(["pid", "cmdline", "cwd", "create_time"]):
        about = process.info  # None for what another user's process does not tell
        words = (about["cmdline"] or [])[:3]  # python, perhaps an option, the script or module
        programs = [Path(word).name for word in words]
        if "snakemake" in programs and "python" in programs[0] and about["pid"] not in ours:
            inside = about["cwd"] and os.path.realpath(about["cwd"]) == os.path.realpath(folder)
            if inside and about["create_time"] < before:
                found.append(about["pid"])
    return sorted(found)


def _listed(folder: Path) -> list[Path]:
    """What lies in a folder of Snakemake's, by name; nothing if it is not there."""
    try:
        return sorted(folder.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"{folder}: cannot be read ({error.strerror}); move it away") from None


def _status(path: Path) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except OSError:
        return None


def _snakemake_host(folder: Path, moment: float) -> str | None:
    """The host of the last Snakemake that began before ``moment``, from the head of its log; None if unknown."""
    limit = datetime.datetime.fromtimestamp(min(max(moment, 0), 1e11)).strftime("%Y-%m-%dT%H%M%S.%f")
    logs = [path for path in _listed(folder / ".snakemake" / "log") if path.suffix == ".log" and path.name <= limit]
    for log in reversed(logs):
        try:
            with open_regular(log) as file:
                head = file.read(2000).decode(errors="replace")
        except OSError:  # no log of Snakemake's
            continue
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
            except ValueError:
                continue  # not one of its names
    return marks


def temporary_files(folders: Iterable[Path]) -> tuple[list[Path], list[Path]]:
    """Half-written files below ``folders``: those that nobody writes any more, and those that someone may."""
    dead, alive = [], []
    for path, pid in _temporary(folders):
        if found := _status(path):
            young = time.time() - found.st_mtime < OLD
            (alive if young or (pid < 2**31 and psutil.pid_exists(pid)) else dead).append(path)
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
    """Deletes files that may have gone already; how many there were. UserError if one cannot be deleted."""
    number = 0
    for path in paths:
        try:
            path.unlink()
            number += 1
        except FileNotFoundError:
            continue
        except OSError as error:
            raise UserError(f"{path}: cannot be deleted ({error.strerror}); delete it by hand") from None
    return number
