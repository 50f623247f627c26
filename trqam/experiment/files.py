"""Files that are either complete or absent: atomic writes, JSON, checksums."""

import errno
import json
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from trqam.config.errors import Unwritable, UserError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FORBIDDEN = (errno.EROFS, errno.EACCES, errno.EPERM)
# What a share says to a request that it does not know: VirtualBox's, old CIFS, some of FUSE.
UNSUPPORTED = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)


@contextmanager
def writing(path: Path | str) -> Iterator[None]:
    """Turns a failure of the system to write ``path`` into an Unwritable of one line: the file, why, what to do."""
    try:
        yield
    except OSError as error:
        fix = "make it writable" if error.errno in FORBIDDEN else "look after the disk"
        if error.errno in FULL:
            fix = "make room on the disk"
        problem = f"{path}: cannot be written ({error.strerror})"
        raise Unwritable(f"{problem}; {fix}, then run the same command again") from error


def check_refused(path: Path | str, said: str) -> None:
    """The Unwritable of ``path``, if what a program said as it failed names a reason why the system refuses to write.

    ``said`` is in English, as of a program that ran with LC_ALL=C.
    """
    for number in (*FULL, *FORBIDDEN):
        if os.strerror(number) in said:
            with writing(path):
                raise OSError(number, os.strerror(number))


def write_atomically(path: Path | str, content: bytes | str) -> None:
    """Write ``content`` (text as UTF-8) to ``path``, creating its folder; a reader sees the old file or the new one.

    The temporary file lies in the same folder, because a rename is atomic only within one file system. A UserError
    if the system refuses (see `writing`); then the old file is as it was.
    """
    path = Path(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_name(path)
        try:
            temporary.write_bytes(content.encode() if isinstance(content, str) else content)
            publish(temporary, path)
        except BaseException:  # also an interrupt; a failure to clean up would hide what happened
            with suppress(OSError):
                temporary.unlink()
            raise


def temporary_name(path: Path) -> Path:
    """A hidden name in the folder of ``path``, this process's own."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def sweep(directory: Path) -> None:
    """Deletes the temporary files that killed processes left in ``directory``; for whoever alone writes there."""
    for path in directory.glob(".*.tmp"):
        if re.fullmatch(r"\..+\.\d+\.tmp", path.name):
            with writing(path):
                path.unlink(missing_ok=True)


def publish(temporary: Path | str, path: Path | str) -> None:
    """Give a finished temporary file its final name, durably where the file system can: contents first, then name.

    A UserError if the name is that of a device or pipe, such as /dev/null, which is not ours to replace.
    """
    with suppress(FileNotFoundError):
        if not stat.S_ISREG(mode := os.stat(path).st_mode) and not stat.S_ISDIR(mode):
            raise UserError(f"{path}: a device or pipe, and no file to be replaced; name another")
    with open(temporary, "rb") as file:
        synchronise(file.fileno())
    os.replace(temporary, path)
    _synchronise_folder(Path(path).parent)


def refuse_foreign(path: Path | str, ours: Callable[[Path], object], what: str, fix: str) -> None:
    """A UserError unless ``path`` is free, or is itself (no link) what ``ours`` reads and finds to be our own.

    For every file that a command replaces under a name that it was given: ``ours`` raises UserError or is false if it
    is not ``what`` this package writes there.
    """
    path = Path(path)
    if os.path.lexists(path):
        known = False
        with suppress(UserError):
            known = not path.is_symlink() and bool(ours(path))
        if not known:
            raise UserError(f"{path}: exists and is no {what}; {fix}")


def write_json(path: Path | str, content: object) -> None:
    """Write JSON atomically; equal objects give equal bytes."""
    write_atomically(path, json.dumps(content, sort_keys=True, indent=1) + "\n")


def synchronise(descriptor: int) -> None:
    """Waits until what was written is on the disk, where the file system knows such a request."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise


def _synchronise_folder(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:  # not to be read, or not as a file: the name is given, and nobody can wait for it
        return
    try:
        synchronise(descriptor)
    except OSError as error:
        if error.errno != errno.EBADF:  # as some shares say of a folder
            raise
    finally:
        os.close(descriptor)
