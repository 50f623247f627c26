"""Strict reading of YAML into typed structs: every mistake is one line that names file, key and fix."""

import math
import os
import re
from pathlib import Path
from typing import Any, get_type_hints

import msgspec
import yaml

from trqam.config.errors import UserError
from trqam.config.reading import read_bytes, read_json

LARGEST = 2**20  # bytes of a configuration file; ours have some 10 000


class Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A struct that refuses unknown keys and wrong types."""


class StrictLoader(yaml.SafeLoader):
    """YAML whose numbers are those of YAML 1.2 or of Python, without the traps of YAML 1.1: `5e-5` is text in it, `010`
    eight, `1:30` ninety, .nan a number, and of two equal keys one is lost."""

    def construct_yaml_int(self, node):
        """Any base with its prefix, `_` between digits."""
        if re.fullmatch(r"[+-]?0[\d_]+", node.value):
            raise yaml.constructor.ConstructorError(None, None, f"{node.value} would be octal", node.start_mark)
        sign, digits = re.fullmatch(r"([+-]?)(.*)", _not_sexagesimal(node).value.replace("_", "")).groups()
        return int(sign + digits, {"0b": 2, "0o": 8, "0x": 16}.get(digits[:2].lower(), 10))

    def construct_yaml_float(self, node):
        """Finite; a whole number where it is written as 1e6 is, so that steps can be given like that."""
        value = super().construct_yaml_float(_not_sexagesimal(node))
        if not math.isfinite(value):
            raise yaml.constructor.ConstructorError(None, None, f"{node.value} is not a finite number", node.start_mark)
        exact = "e" in node.value.lower() and value.is_integer() and 1 <= abs(value) < 2**53
        return int(value) if exact else value

    def construct_mapping(self, node, deep=False):
        """No key twice."""
        keys = [key.value for key, _ in node.value if isinstance(key.value, str)]
        if len(set(keys)) < len(keys):
            doubled = next(key for key in keys if keys.count(key) > 1)
            raise yaml.constructor.ConstructorError(None, None, f"{doubled} is given twice", node.start_mark)
        return super().construct_mapping(node, deep)


def _not_sexagesimal(node):
    if ":" in node.value:
        raise yaml.constructor.ConstructorError(None, None, f"{node.value} would be base 60", node.start_mark)
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
        text = read_bytes(path, LARGEST, "give the path of a configuration file").decode("utf-8")
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


def convert(values: Any, struct: type, where: str) -> Any:
    """``values`` as ``struct``; a mismatch is one line with the key and what to write."""
    try:
        return msgspec.convert(values, struct)
    except (msgspec.ValidationError, RecursionError):
        from trqam.config.mistakes import mistake  # only now: most files have none

        raise UserError(mistake(values, struct, where)) from None


def check(values: Any, struct: type, where: str, fix: str) -> None:
    """A UserError that ends in ``fix`` if ``values``, from a file that a program wrote, do not fit ``struct``."""
    try:
        msgspec.convert(values, struct)
    except (msgspec.ValidationError, RecursionError):
        from trqam.config.mistakes import mistake

        raise UserError(f"{mistake(values, struct, where).partition('; ')[0]}; {fix}") from None


def read_record(path: str | Path, struct: type, fix: str) -> dict[str, Any]:
    """A JSON file that a program of ours wrote, as far as ``struct`` says how it must be; it may hold more.

    Every file of our own is read through here, for somebody else may have touched it: a UserError of one line that
    names the file and key and ends in ``fix``.
    """
    record = read_json(path)
    check(record, struct, str(path), fix)
    return record


def check_key(value: Any, struct: type, key: str, where: str) -> None:
    """A UserError if ``value`` alone does not fit the field ``key`` of ``struct``."""
    wanted = get_type_hints(struct, include_extras=True)[key]
    try:
        msgspec.convert(value, wanted)
    except (msgspec.ValidationError, RecursionError):
        from trqam.config.mistakes import mistake

        raise UserError(mistake(value, wanted, where)) from None


def shown(value: str, length: int = 60) -> str:
    """Somebody's text as one printable line of bounded length."""
    text = value if value.isprintable() else ascii(value)[1:-1]
    return text if len(text) <= length else text[: length - 3] + "..."


def at_home(path: str) -> str:
    """``path`` with a leading `~` replaced by the home folder; ValueError, which says why, if it is no path."""
    found = os.path.expanduser(path)
    if not found or len(os.fsencode(found)) > 4000 or any(len(os.fsencode(p)) > 255 for p in found.split("/")):
        raise ValueError("is no path: a file system takes 1 to 255 bytes a name")
    if found.startswith("~") and not os.path.lexists(found):
        raise ValueError("names no home folder that is known")
    return found
