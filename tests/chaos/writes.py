"""Writes that the system refuses, at every write of a save: full disk, file size, read-only, no permission.

Nothing is simulated but the moment: just before the chosen write a fork fills its disk, lowers its own limit, makes
the folder read-only or gives up its rights, and the write itself fails as the kernel has it. The first two of these
need the right to mount; without it they are left out, and the table says so.
"""

import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache, partial
from pathlib import Path

from tests.chaos.damage import victim
from tests.chaos.events import Event
from tests.chaos.world import World, difference, directories, newest
from trqam.config.errors import UserError
from trqam.data.replay import Replay
from trqam.experiment import files

STAGE = "online"  # whose saves have every kind of file
PAGE = 4096
DISK = 8 << 20  # bytes
NOBODY = 65534
SAVE = 6  # writes of a save: replay, tensors and record, of two seeds
WRITES = 42  # of what the victim has left of the stage: six saves, the last one twice, and what is published
KINDS = {
    "full": "disk full",
    "read-only": "folder read-only",
    "limit": "file size limit",
    "permission": "no permission",
}
REASONS = {
    "full": "No space left on device",
    "read-only": "Read-only file system",
    "limit": "File too large",
    "permission": "Permission denied",
}


@cache
def may_mount() -> bool:
    """Whether this process has the right, tried on a folder of its own."""
    with tempfile.TemporaryDirectory() as place:
        if (
            os.geteuid()
            or not shutil.which("mount")
            or subprocess.run(["mount", "-t", "tmpfs", "none", place], capture_output=True).returncode
        ):
            return False
        subprocess.run(["umount", place], check=True)
    return True


def writes(world: World, count: int) -> Iterator[Event]:
    """Of every kind that is possible here ``count`` refused writes: from the start, at each of a save, and beyond."""
    for how, kind in KINDS.items():
        if how in ("full", "read-only") and not may_mount():
            print(f"{kind}: left out, this needs the right to mount", file=sys.stderr)
            continue
        last = WRITES - SAVE if how == "read-only" else WRITES
        for number in range(count):
            write = number if number <= SAVE else SAVE + (number - SAVE) * (last - SAVE) // (count - 1 - SAVE)
            room = 0 if number % 2 else int(world.rng(f"writes/{how}", number).integers(10 * PAGE))
            event = _refused(world, how, write, room) or _refused(world, how, write, 0)
            if event is None:
                raise RuntimeError(f"{how}: write {write} was never made")
            yield event


def _refused(world: World, how: str, write: int, room: int) -> Event | None:
    """One refusal and what came of it; None if there was enough ``room`` (bytes) for all that was left to write."""
    place = world.place()
    with _mounted(place, how, write, victim(world, STAGE)) as folders:
        before = newest(place, STAGE)
        event = Event(KINDS[how], {"write": write, "room": room})
        refuse = partial(REFUSALS[how], folders, room)
        ended = world.start(place, STAGE, prepare=partial(_at_write, write, refuse)).wait()
        _allow(folders, how)
        if ended.code == 0:
            return None
        durable = max(before, world.marks["saved"])
        errors, litter = ended.containing("trqam: error: "), [str(path) for path in folders[0].rglob(".*")]
        kept = newest(place, STAGE)
        again = world.start(place, STAGE).wait()
        began = world.marks["start"]
        event.lost = max(0, durable - began) if began >= 0 else 0
        refused = ended.code == UserError.exit_code and len(errors) == 1 and REASONS[how] in errors[0]
        event.survived = refused and not litter and kept >= before and again.code == 0
        wrong = difference(place, world.reference(STAGE))
        event.identical = not wrong
        if not event.good:
            event.why = f"exit code {ended.code}, {ended.lines[-3:]}, {litter}, {kept}, {again.lines[-3:]}, {wrong}"
    return event


@contextmanager
def _mounted(place: Path, how: str, write: int, like: Path) -> Iterator[list[Path]]:
    """The results of ``like`` in ``place``, on a disk or under folders whose writing can be refused; those folders."""
    results = place / "results"
    results.mkdir()
    with ExitStack() as stack:
        if how == "full":
            _mount(stack, "-t", "tmpfs", "-o", f"size={DISK}", "none", results)
        shutil.copytree(like / "results", results, dirs_exist_ok=True)
        folders = directories(place, STAGE) if how == "read-only" and write else [results]
        if how == "read-only":
            for folder in folders:
                _mount(stack, "--bind", folder, folder)
        yield folders


def _mount(stack: ExitStack, *arguments: str | Path) -> None:
    subprocess.run(["mount", *arguments], check=True)
    stack.callback(subprocess.run, ["umount", arguments[-1]], check=True)


def _at_write(number: int, refuse: Callable[[], None]) -> None:
    """In a fork: calls ``refuse`` just before a write; 0: before everything."""
    calls = 0

    def counted(original: Callable) -> Callable:
        def write(*arguments):
            nonlocal calls
            calls += 1
            if calls == number:
                refuse()
            return original(*arguments)

        return write

    files.temporary_name = counted(files.temporary_name)
    Replay.flush = counted(Replay.flush)
    if number == 0:
        refuse()


def _fill(folders: list[Path], room: int) -> None:
    """Fills the disk up to some bytes."""
    with open(folders[0] / "ballast", "wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(PAGE))
    size = (folders[0] / "ballast").stat().st_size
    os.truncate(folders[0] / "ballast", max(0, size - room))


def _freeze(folders: list[Path], _: int) -> None:
    """Makes the folders read-only."""
    for folder in folders:
        subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)


def _limit(_: list[Path], room: int) -> None:
    """No file may grow beyond some bytes; not those that exist either."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))


def _forbid(folders: list[Path], _: int) -> None:
    """Gives up root's rights; a user who has none makes what is there unwritable."""
    if os.geteuid() == 0:
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        return
    for path in folders[0].rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)


REFUSALS = {"full": _fill, "read-only": _freeze, "limit": _limit, "permission": _forbid}


def _allow(folders: list[Path], how: str) -> None:
    """Whoever is in charge has made room, or given the rights back."""
    if how == "full":
        (folders[0] / "ballast").unlink()
    if how == "read-only":
        for folder in folders:
            subprocess.run(["mount", "-o", "remount,bind,rw", folder], check=True)
    if how == "permission" and os.geteuid():
        for path in folders[0].rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
