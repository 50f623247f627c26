"""What killed processes leave behind, and its removal where no live process holds it.

Runs and datasets need none of this: the next training takes a dead one's lock over, and the system lets go of a dead
process's file locks. Snakemake's locks have to go before it starts again, and temporary files take room.
"""

import atexit
import math
import os
import re
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import psutil

from trqam.config.errors import Busy, UserError
from trqam.experiment import lock

TEMPORARY = re.compile(r"\..+\.([0-9]{1,10})\.tmp")  # see `trqam.experiment.files.temporary_name`
GUARD = Path(".snakemake/trqam/lock")  # of the Snakemake that works in a folder: see `guard`
WATCHED = 100  # locks of other hosts that are watched for a sign of life at once
OLD = 3600  # seconds; a younger temporary file may be that of a process on another host


def guard(folder: Path) -> None:
    """For a Snakemake that begins to work in ``folder``: removes Snakemake's locks of one that was killed there.

    Those name no process. So each Snakemake of ours takes a lock of `trqam.experiment.lock` beside them, for as long as
    it lives: of several that begin at once one gets it, and while that gives signs of life, here or on another host,
    the others leave everything to Snakemake.
    """
    path, alive = folder / GUARD, ExitStack()
    try:
        known = lock.standing(path)[0] != "free"  # by the one that was killed; else it may have had none
        alive.enter_context(lock.held([path]))
        atexit.register(alive.close)
        locks = {path: path.lstat().st_mtime for path in snakemake_locks(folder)}
        began = path.stat().st_mtime  # by the clock that the locks were written by
        stale = [path for path, written in locks.items() if written < began]
        # One beside which others have begun, as this one has, did not wait for them to take its locks.
        if stale and not snakemakes(folder, max(locks.values()) if known else math.inf):
            remove(stale)
            note = "what it had started may still be at work, as `python -m trqam status` shows"
            print(f"trqam: {stale[0].parent}: left by a Snakemake that was killed; removed ({note})", file=sys.stderr)
    except (UserError, OSError):  # somebody else's turn, or not ours to write: Snakemake itself says what is wrong
        return


def snakemake_locks(folder: Path) -> list[Path]:
    """Snakemake's locks on a working folder: what `snakemake --unlock` deletes, if the configuration is sound."""
    return [path for path in sorted((folder / ".snakemake/locks").glob("*.lock")) if not path.is_dir()]


def snakemake_holder(folder: Path) -> str | None:
    """The live Snakemake that works in ``folder``, here or on another host."""
    state, mark = lock.standing(folder / GUARD)
    if state == "held" and mark:
        return f"Snakemake, {mark.who}"
    pids = snakemakes(folder)
    return f"Snakemake, process {pids[0]}" if pids else None


def snakemakes(folder: Path, before: float = math.inf) -> list[int]:
    """This host's processes of Snakemake that work in ``folder`` and began ``before`` then, seconds since 1970.

    This process and its ancestors are left out.
    """
    ours = {os.getpid(), *(process.pid for process in psutil.Process().parents())}
    found = []
    for process in psutil.process_iter(["pid", "cmdline", "cwd", "create_time"]):
        about = process.info  # None for what another user's process does not tell
        programs = [Path(word).name for word in (about["cmdline"] or [])[:3]]  # python, an option, script or module
        if "snakemake" in programs and "python" in programs[0] and about["pid"] not in ours:
            inside = about["cwd"] and os.path.realpath(about["cwd"]) == os.path.realpath(folder)
            if inside and about["create_time"] < before:
                found.append(about["pid"])
    return sorted(found)


def temporary_files(folders: Iterable[Path]) -> tuple[list[Path], list[Path]]:
    """Half-written files below ``folders``: those that nobody writes any more, and those that someone may."""
    dead: list[Path] = []
    alive: list[Path] = []
    named = ((top, name) for folder in folders for top, _, names in os.walk(folder) for name in names)
    for top, name in named:
        path, found = Path(top, name), TEMPORARY.fullmatch(name)
        if found and os.path.lexists(path):
            pid, young = int(found[1]), time.time() - path.lstat().st_mtime < OLD
            (alive if young or (pid < 2**31 and psutil.pid_exists(pid)) else dead).append(path)
    return dead, alive


def is_stale(path: Path) -> bool:
    """Whether the run's lock at ``path`` is that of a dead process."""
    try:
        return lock.standing(path)[0] == "stale"
    except UserError:  # no lock of ours, which the survey says of a run that is not finished
        return False


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
    there = [path for path in paths if os.path.lexists(path)]
    for path in there:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise UserError(f"{path}: cannot be deleted ({error.strerror}); delete it by hand") from None
    return len(there)
