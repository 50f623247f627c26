"""Files are read whole only if they are regular and of bounded size; JSON and YAML, with their mistakes as one line."""

import errno
import hashlib
import json
import lzma
import math
import os
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import yaml

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


def read_json(path: Path | str, fix: str = "delete it and make it again") -> object:
    """Read JSON; a UserError of one line if the file is missing, damaged or not a regular file (see `read_bytes`).

    ``fix`` says what to do about a damaged one.
    """
    content = read_bytes(path)
    try:
        return json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:  # JSONDecodeError and UnicodeDecodeError; ten thousand brackets
        problem = getattr(
            error, "msg", "nested too deeply" if isinstance(error, RecursionError) else "no text in UTF-8"
        )
        line = f", line {error.lineno}" if hasattr(error, "lineno") else ""
        raise UserError(f"{path}: damaged, not JSON ({problem}{line}); {fix}") from error


def sha256(path: Path | str) -> str:
    """The hexadecimal SHA-256 of a regular file, read in blocks; an OSError if it is none."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]  # BinaryIO lacks readinto


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


def shown(value: str, length: int = 60) -> str:
    """Somebody's text as one printable line of bounded length."""
    text = value if value.isprintable() else ascii(value)[1:-1]
    return text if len(text) <= length else text[: length - 3] + "..."


class StrictLoader(yaml.SafeLoader):
    """YAML whose numbers are those of YAML 1.2 or of Python, without the traps of YAML 1.1: `5e-5` is text in it, `010`
    eight, `1:30` ninety, .nan a number, and of two equal keys one is lost."""

    def construct_yaml_int(self, node):
        """Any base with its prefix, `_` between digits."""
        if re.fullmatch(r"[+-]?0[\d_]+", node.value):
            raise _refused(node, "would be octal")
        digits = _not_sexagesimal(node).value.replace("_", "")
        return int(digits, {"0b": 2, "0o": 8, "0x": 16}.get(digits.lstrip("+-")[:2].lower(), 10))

    def construct_yaml_float(self, node):
        """Finite; a whole number where it is written as 1e6 is, so that steps can be given like that."""
        value = super().construct_yaml_float(_not_sexagesimal(node))
        if not math.isfinite(value):
            raise _refused(node, "is not a finite number")
        exact = "e" in node.value.lower() and value.is_integer() and 1 <= abs(value) < 2**53
        return int(value) if exact else value

    def construct_mapping(self, node, deep=False):
        """No key twice."""
        keys = [key.value for key, _ in node.value if isinstance(key.value, str)]
        if len(set(keys)) < len(keys):
            doubled = next(key for key in keys if keys.count(key) > 1)
            raise yaml.constructor.ConstructorError(None, None, f"{doubled} is given twice", node.start_mark)
        return super().construct_mapping(node, deep)


def _refused(node, why: str) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, f"{node.value} {why}", node.start_mark)


def _not_sexagesimal(node):
    if ":" in node.value:
        raise _refused(node, "would be base 60")
    return node


# What YAML 1.1 takes for text; 08 is read as a number so that it can be refused.
_INT = r"[-+]?0(?:[oO][0-7_]+|[xX][0-9a-fA-F_]+|[bB][01_]+|[0-9_]+)"
_FLOAT = r"[-+]?(?:\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?|[0-9][0-9_]*(?:\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[eE][-+]?[0-9]+))"
StrictLoader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(f"^(?:{_INT})$"), list("-+0"))
StrictLoader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(f"^(?:{_FLOAT})$"), list("-+.0123456789"))
StrictLoader.add_constructor("tag:yaml.org,2002:int", StrictLoader.construct_yaml_int)
StrictLoader.add_constructor("tag:yaml.org,2002:float", StrictLoader.construct_yaml_float)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """A YAML file that holds a mapping with keys of text."""
    try:
        text = read_bytes(path, 2**20, "give the path of a configuration file").decode("utf-8")
    except UnicodeDecodeError:
        raise UserError(f"{path}: not valid YAML (not text in UTF-8); save it as UTF-8") from None
    values = parse_yaml(text, str(path))
    if not isinstance(values, dict):
        raise UserError(f"{path}: holds no mapping; write keys such as `scale: small`")
    return values


def parse_yaml(text: str, where: str) -> Any:
    """YAML from a file or the command line; a mistake is one line that begins with ``where``."""
    try:
        return yaml.load(text, StrictLoader)  # a SafeLoader: tags construct nothing
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}:" if mark else ""
        problem = shown(getattr(error, "problem", None) or "a character that is no text", 160)
        raise UserError(f"{where}:{line} not valid YAML ({problem}); mend the syntax") from None
    except RecursionError:
        raise UserError(f"{where}: not valid YAML (nested too deeply); mend the syntax") from None
    except (ValueError, LookupError, AttributeError, OverflowError):  # no such date, `!!bool maybe`, 5000 digits
        raise UserError(f"{where}: not valid YAML (a value that its tag cannot read); write plain values") from None
