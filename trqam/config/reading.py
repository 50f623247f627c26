"""Files are read whole only if they are regular and of bounded size; JSON, with its mistakes as one line."""

import errno
import hashlib
import json
import lzma
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from trqam.config.errors import UserError

# What a damaged zip file raises as it is read; RuntimeError if it is encrypted, or packed in an unknown way.
DAMAGED_ZIP = (
    ValueError, OverflowError, EOFError, RuntimeError, struct.error, zlib.error, lzma.LZMAError, zipfile.BadZipFile,
)  # fmt: skip
LARGEST = 2**30  # bytes of a file that is read whole; the largest of ours, a checkpoint's record, has some 10 MB

IRREGULAR = "not a regular file"


def read_bytes(path: Path | str, most: int = LARGEST, fix: str = "make it again or correct the path") -> bytes:
    """The content of a regular file of at most ``most`` bytes.

    Raises UserError, one line that ends in ``fix``, if it is missing, cannot be read, is larger, or is a folder, pipe
    or device, which reading might never come to the end of.
    """
    with opened(path, most, fix) as file:
        return file.read()


@contextmanager
def opened(path: Path | str, most: int = LARGEST, fix: str = "make it again or correct the path") -> Iterator[BinaryIO]:
    """The same file, open for reading; a failure of the system to read it in the block is the same UserError."""
    try:
        with open_regular(path) as file:
            if os.fstat(file.fileno()).st_size > most:
                raise UserError(f"{path}: larger than {most >> 20} MiB; {fix}")
            yield file
    except OSError as error:
        why = error.strerror or str(error)
        raise UserError(f"{path}: {why if why == IRREGULAR else f'cannot be read ({why})'}; {fix}") from None


def read_json(path: Path | str, most: int = LARGEST) -> object:
    """Read JSON; a UserError of one line if the file is missing, damaged or not a regular file (see `read_bytes`)."""
    content = read_bytes(path, most)
    try:
        return json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:  # JSONDecodeError and UnicodeDecodeError; ten thousand brackets
        problem = getattr(
            error, "msg", "nested too deeply" if isinstance(error, RecursionError) else "no text in UTF-8"
        )
        line = f", line {error.lineno}" if hasattr(error, "lineno") else ""
        raise UserError(f"{path}: damaged, not JSON ({problem}{line}); delete it and make it again") from error


def sha256(path: Path | str) -> str:
    """The hexadecimal SHA-256 of a regular file, read in blocks; an OSError if it is none."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def seal(content: object) -> str:
    """The SHA-256 of what JSON can hold, whatever the order of its keys; records carry that of their content."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def open_regular(path: Path | str) -> BinaryIO:
    """A regular file, open for reading; an OSError if it is none, without waiting for a pipe's writer."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except ValueError as error:  # a zero byte in the name
        raise OSError(errno.EINVAL, str(error), str(path)) from None
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "Is a directory" if stat.S_ISDIR(mode) else IRREGULAR, str(path))
    return os.fdopen(descriptor, "rb")
