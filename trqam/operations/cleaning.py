"""What is deleted: runs that are to train anew, by `trqam clean`, and what killed processes leave behind.

`trqam clean` says what goes, and asks before it deletes what others depend on. Of what killed processes leave, runs and
datasets need nothing: the next training takes a dead one's lock over, and the system lets go of a dead process's file
locks. Snakemake's locks have to go before it starts again, and temporary files take room.
"""

import atexit
import math
import os
import re
import shutil
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil

from trqam.config.errors import Busy, UserError
from trqam.config.load import Config
from trqam.config.wording import count, thousands
from trqam.experiment import lock, verdict
from trqam.experiment.files import writing
from trqam.experiment.run import Cell, cell_of, locked, pretraining_cell, refuse_strangers

SNAKEMAKE_LOCK = re.compile(r"[0-9]+\.(input|output)\.lock")
TEMPORARY = re.compile(r"\..+\.([0-9]{1,10})\.tmp")  # see `trqam.experiment.files.temporary_name`
GUARD = Path(".snakemake/trqam/lock")  # of the Snakemake that works in a folder: see `guard`
WATCHED = 100  # locks of other hosts that are watched for a sign of life at once
OLD = 3600  # seconds; a younger temporary file may be that of a process on another host


def clean_runs(config: Config, task: str, method: str, seed: int | None, yes: bool) -> None:
    """Deletes the runs of a task and method, all of the scale's seeds or one; on a terminal it asks first."""
    config.run(task, method)
    seeds = range(config.scale.seeds) if seed is None else [seed]
    cells = [cell_of(config, task, method, seed) for seed in seeds]
    for cell in cells:  # before any goes
        refuse_strangers(cell)
    if (there := [cell.path for cell in cells if cell.path.exists()]) and sys.stdin.isatty() and not yes:
        print(*there, sep="\n")
        _ask()
    for cell in cells:
        _delete_cell(cell)


def clean_pretraining(config: Config, name: str, yes: bool) -> None:
    """Deletes a cloned policy; on a terminal it asks first, if runs began from it."""
    config.pretraining(name)
    cell = pretraining_cell(config, name)
    users = [names for names in config.cells if "pretrain" in config.methods[names[1]].stages]
    users = [names for names in users if config.run(*names).cloned == name]
    runs = [cell_of(config, *names, seed) for names in users for seed in range(config.scale.seeds)]
    if begun := sum(run.path.exists() for run in runs):
        print(f"{cell.path}: {count(begun, 'run')} began from it and will stay as they are; new ones will begin anew")
        if cell.path.exists() and sys.stdin.isatty() and not yes:
            _ask()
    _delete_cell(cell)


def clean_outdated(config: Config, yes: bool) -> None:
    """Lists what keeps today's paper from being made, and deletes it: told to by ``yes``, or on a terminal.

    Raises UserError, with nothing deleted, if it was not told to.
    """
    found = list(verdict.outdated(config))
    for run in found:
        stages = " and ".join(run.stages)
        print(f"{run.cell.path}: {stages}, {count(run.steps, 'step')}: {run.reason}")
    if not found:
        print(f"{config.results}: nothing is outdated")
        return
    steps = thousands(sum(run.steps for run in found))
    print(f"{count(len(found), 'run')} to train anew, {steps} steps in all", flush=True)
    if not yes:
        if not sys.stdin.isatty():
            again = config.command("clean", "--outdated", "--yes")
            raise UserError(f"{config.results}: nothing is deleted, as nobody can be asked here; run {again}")
        _ask()
    for run in found:
        refuse_strangers(run.cell)
    with locked([run.cell for run in found]):
        if list(verdict.outdated(config)) != found:
            raise UserError(f"{config.results}: runs have changed since they were listed; run the same command again")
        for run in found:
            for path in run.paths:
                _delete(path)
    print(f"{config.results}: deleted; what is asked for will train anew")


def _ask() -> None:
    """UserError unless the user types yes."""
    try:
        answer = input("Delete? Type yes: ")
    except EOFError:
        answer = ""
    if answer.strip() != "yes":
        raise UserError("clean: nothing is deleted; type yes, or add --yes, to delete it")


def _delete_cell(cell: Cell) -> None:
    if not cell.path.exists():
        print(f"{cell.path}: nothing to clean")
        return
    refuse_strangers(cell)
    stages = [path.name for path in sorted((cell.path / "run").glob("*")) if path.is_dir()]
    with locked([cell]):
        _delete(cell.path)
    what = f" ({', '.join(stages)})" if stages else ""
    print(f"{cell.path}: deleted{what}; its targets will train anew")


def _delete(path: Path) -> None:
    with writing(path):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


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
        with suppress(UserError, OSError):
            if holder := snakemake_holder(folder):
                print(f"trqam: {holder}, is at work here; if a LockException follows, wait for it", file=sys.stderr)


def snakemake_locks(folder: Path) -> list[Path]:
    """Snakemake's locks on a working folder: what `snakemake --unlock` deletes, if the configuration is sound."""
    locks = folder / ".snakemake/locks"
    return [path for path in sorted(locks.iterdir()) if SNAKEMAKE_LOCK.fullmatch(path.name)] if locks.is_dir() else []


def snakemake_holder(folder: Path) -> str | None:
    """The live Snakemake that works in ``folder``, here or on another host."""
    state, mark = lock.standing(folder / GUARD)
    if state == "held":
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
        if found:
            with suppress(FileNotFoundError):  # it was renamed or deleted meanwhile
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
        _delete(path)
    return len(there)
