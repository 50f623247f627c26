"""Files that are either complete or absent: atomic writes, JSON, checksums."""

import hashlib
import json
import os
from pathlib import Path

from trqam.errors import UserError


def write_atomically(path: Path | str, content: bytes | str) -> None:
    """Write ``content`` (text as UTF-8) to ``path``, creating its folder; a reader sees the old file or the new one.

    The temporary file lies in the same folder, because a rename is atomic only within one file system.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(path)
    try:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
        publish(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)  # nothing is left of it after a success


def temporary_name(path: Path) -> Path:
    """A hidden name in the folder of ``path``, this process's own."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def publish(temporary: Path | str, path: Path | str) -> None:
    """Give a finished temporary file its final name, durably: contents first, then the name."""
    _synchronise(temporary)
    os.replace(temporary, path)
    _synchronise(Path(path).parent)


def write_json(path: Path | str, content: object) -> None:
    """Write JSON atomically; equal objects give equal bytes."""
    write_atomically(path, json.dumps(content, sort_keys=True, indent=1) + "\n")


def read_json(path: Path | str) -> object:
    """Read JSON; a UserError of one line if the file is missing or damaged."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); make it again or correct the path") from error
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError
        raise UserError(f"{path}: damaged, not JSON ({error}); delete it and make it again") from error


def sha256(path: Path | str) -> str:
    """The hexadecimal SHA-256 of a file, read in blocks."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _synchronise(path: Path | str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
