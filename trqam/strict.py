"""Strict reading of YAML into typed structs: every mistake is one line that names file, key and fix."""

import math
import re
from pathlib import Path
from typing import Any

import msgspec
import yaml

from trqam.errors import UserError


class Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A struct that refuses unknown keys and wrong types."""


class StrictLoader(yaml.SafeLoader):
    """YAML 1.1 without its traps: `010` is eight, .nan a number, and the first of two equal keys dropped in silence."""

    def construct_yaml_int(self, node):
        if re.fullmatch(r"[+-]?0\d+", node.value):
            raise yaml.constructor.ConstructorError(None, None, f"{node.value} would be octal", node.start_mark)
        return super().construct_yaml_int(node)

    def construct_yaml_float(self, node):
        value = super().construct_yaml_float(node)
        if not math.isfinite(value):
            raise yaml.constructor.ConstructorError(None, None, f"{node.value} is not a finite number", node.start_mark)
        return value

    def construct_mapping(self, node, deep=False):
        keys = [key.value for key, _ in node.value]
        if doubled := [key for key in keys if keys.count(key) > 1]:
            raise yaml.constructor.ConstructorError(None, None, f"{doubled[0]} is given twice", node.start_mark)
        return super().construct_mapping(node, deep)


StrictLoader.add_constructor("tag:yaml.org,2002:int", StrictLoader.construct_yaml_int)
StrictLoader.add_constructor("tag:yaml.org,2002:float", StrictLoader.construct_yaml_float)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """A YAML file that holds a mapping."""
    try:
        text = Path(path).read_text()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give the path of a configuration file") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not valid YAML (not text); mend the syntax") from None
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
        problem = getattr(error, "problem", None) or "not text"
        raise UserError(f"{where}:{line} not valid YAML ({problem}); mend the syntax") from None


def convert(values: Any, struct: type, where: str) -> Any:
    """``values`` as ``struct``; a mismatch is one line with the key and what to write."""
    if isinstance(values, dict) and (unknown := [k for k in values if k not in struct.__struct_fields__]):
        known = ", ".join(struct.__struct_fields__) or "none"
        raise UserError(f"{where}: {unknown[0]}: unknown key; known keys: {known}")
    try:
        return msgspec.convert(values, struct)
    except msgspec.ValidationError as error:
        message = str(error)
        missing = re.fullmatch(r"Object missing required field `(\w+)`", message)
        if missing:
            raise UserError(f"{where}: {missing[1]}: missing; add it (config/config.yaml explains each key)") from None
        problem, _, key = message.partition(" - at `$")
        key = key.rstrip("`").lstrip(".") or "(whole)"
        found = _lookup(values, key)
        hint = ""
        if isinstance(found, str) and re.fullmatch(r"[+-]?\d+[eE][+-]?\d+", found):
            hint = f"; YAML reads {found} as text: write {float(found)!r}"
        shown = "" if isinstance(found, dict | list) or found is None else f", found {found!r}"
        raise UserError(f"{where}: {key}: {problem[0].lower() + problem[1:]}{shown}{hint}") from None


def _lookup(values: Any, key: str) -> Any:
    """The offending value, for the message; None where the key is not a simple one."""
    return values.get(key) if isinstance(values, dict) else None
