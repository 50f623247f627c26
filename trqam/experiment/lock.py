"""One writer a run: a lock that outlives nobody, whichever host its process was on.

`results/.../run/lock` exists while a process trains the run. It is JSON in one line, written once:

    {"host": "node17", "machine": "boot id/pid namespace", "pid": 4711, "started": 83172, "since": 1790000000.5,
     "token": "32 hexadecimal digits"}

`started` is when the process started, in the kernel's ticks since boot (psutil's time moves with the clock), so that
another process of the same number is not taken for it; `since` is when it took its first lock, in seconds since 1970.
The heartbeat is the file's time of modification, renewed every `HEARTBEAT` seconds and compared with that of a file
just written to the same folder, so that no two clocks are compared.

A lock is **stale** when its process was on this machine and has ended; or was on another and the heartbeat has not
moved for `STALE` seconds, of which whoever wants the lock has watched two heartbeats; or when the file cannot be read
and is older than `UNREADABLE` seconds. A stale lock is taken over, which one line tells; any other is `Busy`.

No file locks of the system are used (on network file systems they cannot be relied on), only two operations that are
atomic there, too: a hard link, which fails if the name exists, and a rename. Whoever takes over a lock links its own
beside it, as `lock.DIGEST` of the stale lock's content: exactly one succeeds. It then renames that over `lock`. If it
dies in between, it is judged and succeeded in the same way: the last of the chain is the holder. A process that was
stopped for longer than `STALE` seconds and taken for dead notices before it saves (`verify`).

Why not `filelock.SoftFileLease` (4.2.11): it takes a lock over by exchanging two names (renameat2), which NFS and SMB
refuse. There a killed process's lock was never taken over, by its own host or another; here after 10 ms, or the lease.
It also takes a dead process that its parent has not waited for to be alive.
"""

import errno
import hashlib
import json
import os
import platform
import re
import stat
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated

import msgspec

from trqam.config.errors import Busy, UserError
from trqam.config.strict import shown
from trqam.experiment.files import UNSUPPORTED, synchronise, writing

HEARTBEAT, STALE, UNREADABLE = 20.0, 180.0, 10.0  # seconds
PATIENCE = 0.5  # seconds between two looks at a lock of another host
NO_LINKS = (*UNSUPPORTED, errno.EPERM, errno.EACCES, errno.EMLINK)
LARGEST = 4096  # bytes; a lock has some 200


class Owner(msgspec.Struct, frozen=True):
    """What a lock says of its process, as in the module's docstring."""

    host: str
    machine: str
    pid: Annotated[int, msgspec.Meta(ge=1, lt=2**31)]
    started: int | None
    since: Annotated[float, msgspec.Meta(ge=0, le=1e11)]

    @property
    def who(self) -> str:
        """For people."""
        return f"process {self.pid} on {shown(self.host)}"

    @property
    def alive(self) -> bool:
        """Whether the process, which was on this machine, is there; one that waits to be buried is not."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:  # there, and somebody else's
            pass
        state, started = _process(self.pid)
        return state not in ("Z", "X") and started in (None, self.started)


@dataclass(frozen=True)
class Mark:
    """A lock file, or what one that takes it over left beside it, as it was read."""

    path: Path
    content: bytes = b""
    touched: float = 0.0  # the last heartbeat, by the file system's clock
    holder: Owner | None = None  # None: it cannot be read

    @property
    def successor(self) -> Path:
        """Where whoever takes this over leaves its own."""
        return self.path.with_name(f"lock.{hashlib.sha256(self.content).hexdigest()[:32]}")

    @property
    def here(self) -> bool:
        """Whether the process was on this machine, since its last start."""
        return self.holder is not None and self.holder.machine == machine()

    @property
    def ended(self) -> bool:
        """Whether the process was on this machine and is gone."""
        return self.holder is not None and self.here and not self.holder.alive

    @property
    def who(self) -> str:
        """For people."""
        return self.holder.who if self.holder else "somebody"


_held: dict[Path, bytes] = {}  # the locks of this process, and what it wrote into them


@contextmanager
def held(paths: list[Path], look: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Exclusive use of what the locks at ``paths`` stand for.

    Raises Busy if a live process has one of them. While a lock of another host is watched, ``look`` is called, which
    may raise, too.
    """
    taken: list[Path] = []
    said: set[str] = set()
    ended = threading.Event()
    heart = threading.Thread(target=_beat, args=(taken, ended), name="lock heartbeat", daemon=True)
    heart.start()
    try:
        for path in sorted(paths):  # so that of two that want the same ones, one gets them
            with writing(path):
                _held[path.absolute()] = _acquire(path, look, said)
                taken.append(path)
        yield
    finally:
        ended.set()
        heart.join()
        for path in reversed(taken):
            with suppress(OSError, UserError):  # it would hide what ended this; what stays is taken over
                if _mine(path):
                    path.unlink(missing_ok=True)
            del _held[path.absolute()]


def verify(path: Path) -> None:
    """Raises Busy if the lock at ``path``, which this process took, has been taken over."""
    if path.absolute() in _held and not _mine(path):
        who = (_chain(path) or [Mark(path)])[-1].who
        raise Busy(f"{path}: taken over by {who}, since this process gave no sign of life; it may go on instead")


def standing(path: Path) -> tuple[str, Mark]:
    """ "free", "held" or "stale", and what is there, found without touching or watching anything.

    Raises UserError if something lies there that no process of ours wrote.
    """
    if not (chain := _chain(path)):
        return "free", Mark(path)
    last = chain[-1]
    late = time.time() - last.touched > (STALE if last.holder else UNREADABLE)
    return "stale" if (last.ended if last.here else late) else "held", last


def machine() -> str:
    """This machine since its last start, and what its process numbers are counted in."""
    try:
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return platform.node()


def _mine(path: Path) -> bool:
    """Whether nobody has taken over a lock of this process."""
    chain = _chain(path)
    return len(chain) == 1 and chain[0].content == _held[path.absolute()]


def _beat(paths: list[Path], ended: threading.Event) -> None:
    """Renews the heartbeat of locks until ``ended``."""
    while not ended.wait(HEARTBEAT):
        for path in list(paths):
            with suppress(OSError, UserError):  # a file system that fails for a while; the next beat tells
                if _mine(path):
                    os.utime(path)


def _acquire(path: Path, look: Callable[[], None], said: set[str]) -> bytes:
    """Takes the lock at ``path``, or raises Busy; what it wrote. ``said`` are processes whose end has been told."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = _signature()
    watched: dict[bytes, tuple[float, float]] = {}  # content: since when, and the heartbeat then
    while True:
        with _written(path, content) as (temporary, now):
            if _link(temporary, path):
                break
            if not (chain := _chain(path)):
                continue
            last = chain[-1]
            since, heartbeat = watched.setdefault(last.content, (time.monotonic(), last.touched))
            seconds = time.monotonic() - since
            why = _verdict(last, heartbeat, now - last.touched, seconds)
            if why and _link(temporary, last.successor):
                present = _read(path)
                if present and present.content == chain[0].content and _rename(last.successor, path):
                    if last.who not in said:
                        print(f"{path}: {last.who} {why}; its lock is taken over", file=sys.stderr)
                        said.add(last.who)
                    break
                last.successor.unlink(missing_ok=True)  # the lock is another by now
                continue
            if seconds < PATIENCE and not why and last.holder:
                print(f"{path}: {last.who} has it; watching for its sign of life", file=sys.stderr)
        look()
        time.sleep(PATIENCE)
    _sweep(path)
    return content


def _verdict(last: Mark, heartbeat: float, age: float, watched: float) -> str:
    """Why a lock is stale; empty if that is not known yet. Raises Busy if it is not."""
    if last.ended:
        return "has ended"
    if last.here or last.touched != heartbeat:
        sign = f"last sign of life {max(age, 0.0):.0f} s ago"
        lock = last.path.with_name("lock")
        raise Busy(f"{lock}: another process is training this run, {last.who} ({sign}); wait for it or stop it")
    if not last.holder:
        return "left something unreadable" if age > UNREADABLE else ""
    return f"has given no sign of life for {age:.0f} s" if age > STALE and watched > 2 * HEARTBEAT else ""


def _process(pid: int) -> tuple[str, int | None]:
    """State and start of a process; unknown where the system does not tell."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "", None
    return fields[0], int(fields[19])


def _signature() -> bytes:
    """What this process writes into a lock; another one each time."""
    holder = {"host": platform.node(), "machine": machine(), "pid": os.getpid(), "started": _process(os.getpid())[1]}
    return json.dumps({**holder, "since": _since(os.getpid()), "token": uuid.uuid4().hex}).encode() + b"\n"


@cache
def _since(pid: int) -> float:
    """When this process, which is ``pid``, first asked."""
    return time.time()


def _read(path: Path) -> Mark | None:
    """The lock at ``path``; None if there is none, UserError if what is there is no file of a lock's size."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST:
                what = f"{status.st_size} bytes, or no regular file"
                raise UserError(f"{path}: not a lock of ours ({what}); delete it")
            content = os.read(descriptor, LARGEST)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); make it readable, or delete it") from None
    try:
        holder = msgspec.json.decode(content, type=Owner)
    except (msgspec.DecodeError, RecursionError):
        holder = None
    return Mark(path, content, status.st_mtime, holder)


def _chain(path: Path) -> list[Mark]:
    """The lock, who took it over without having renamed its own yet, who took that over, ...: the last one counts."""
    chain: list[Mark] = []
    while mark := _read(chain[-1].successor if chain else path):
        chain.append(mark)
    return chain


@contextmanager
def _written(path: Path, content: bytes) -> Iterator[tuple[Path, float]]:
    """What the lock will hold in a temporary file, and the file system's time."""
    temporary = path.with_name(f".lock.{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            synchronise(file.fileno())
        yield temporary, temporary.stat().st_mtime
    finally:
        temporary.unlink(missing_ok=True)


def _link(temporary: Path, path: Path) -> bool:
    """Gives the temporary file the name ``path`` as well, if that is free: exactly one process succeeds."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        return os.stat(temporary).st_nlink == 2  # a network's lost answer to what was done
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        try:
            with open(path, "xb") as file:
                file.write(temporary.read_bytes())
        except FileExistsError:
            return False
    return True


def _rename(source: Path, path: Path) -> bool:
    try:
        os.replace(source, path)
    except FileNotFoundError:  # taken for dead meanwhile
        return False
    return True


def _sweep(lock: Path) -> None:
    """Deletes what processes left that died while they took the lock, or found another one there."""
    own = _read(lock)
    for path in sorted(lock.parent.iterdir()):
        if re.fullmatch(r"lock\.[0-9a-f]{32}", path.name):
            if own is not None and path != own.successor:
                path.unlink(missing_ok=True)
        elif re.fullmatch(r"\.lock\.[0-9a-f]{32}\.tmp", path.name):
            mark = _read(path)
            if mark is not None and (time.time() - mark.touched > STALE or mark.ended):
                path.unlink(missing_ok=True)
