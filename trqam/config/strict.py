"""Plain values, from YAML or JSON, as typed structs; a mistake is one line: where, what was found, and what to write.

msgspec says ``Expected `int`, got `str` - at `$.domains[...]` ``; a reader of YAML knows neither these types nor which
entry is meant. So the values are walked beside the type, and the first that does not fit is described.
"""

import os
import re
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, dataclass_transform, get_args, get_type_hints

import msgspec
from msgspec import inspect

from trqam.config.errors import UserError
from trqam.config.reading import read_json, shown

T = TypeVar("T")


@dataclass_transform(frozen_default=True, kw_only_default=True)  # for type checkers: subclasses inherit it
class Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A struct that refuses unknown keys and wrong types."""


def convert(values: Any, wanted: type[T], where: str, fix: str = "") -> T:
    """``values`` as ``wanted``; a mismatch is a UserError with the key and what to write, or ``fix``."""
    try:
        return msgspec.convert(values, wanted)
    except (msgspec.ValidationError, RecursionError):
        line = _mistake(values, wanted, where) or f"{where}: not as it should be; compare it with a file that works"
        raise UserError(f"{line.partition('; ')[0]}; {fix}" if fix else line) from None


def check(values: Any, wanted: type, where: str, fix: str) -> None:
    """A UserError that ends in ``fix`` if ``values``, from a file that a program wrote, do not fit ``wanted``."""
    convert(values, wanted, where, fix)


def read_record(path: str | Path, wanted: type, fix: str) -> dict[str, Any]:
    """A JSON file that a program of ours wrote, as far as ``wanted`` says how it must be; it may hold more.

    Every file of our own is read through here, for somebody else may have touched it: a UserError of one line that
    names the file and key and ends in ``fix``.
    """
    record: Any = read_json(path)
    check(record, wanted, str(path), fix)
    return record


def check_key(value: Any, struct: type, key: str, where: str) -> None:
    """A UserError if ``value`` alone does not fit the field ``key`` of ``struct``."""
    convert(value, get_type_hints(struct, include_extras=True)[key], where)


def at_home(path: str) -> str:
    """``path`` with a leading `~` replaced by the home folder; ValueError, which says why, if it is no path."""
    expanded = os.path.expanduser(path)
    if not expanded or len(os.fsencode(expanded)) > 4000 or any(len(os.fsencode(p)) > 255 for p in expanded.split("/")):
        raise ValueError("is no path: a file system takes 1 to 255 bytes a name")
    if expanded.startswith("~") and not os.path.lexists(expanded):
        raise ValueError("names no home folder that is known")
    return expanded


# --- mistakes in words ----------------------------------------------------------------------------------------------


def _mistake(value: Any, wanted: Any, key: str) -> str | None:
    """The first mistake of ``value``, at ``key``, if it does not fit ``wanted``: `KEY: what; fix`."""
    if _fits(value, wanted):
        return None
    kind = _bare(inspect.type_info(wanted))
    if isinstance(kind, inspect.StructType) and isinstance(value, dict):
        problem = _of_struct(value, kind, key)
    elif isinstance(kind, inspect.DictType) and isinstance(value, dict):
        names, entries = get_args(_origin(wanted))
        problem = next((_line(key, k, names) for k in value if not _fits(k, names)), None)
        problem = problem or _first((v, entries, _joined(key, k)) for k, v in value.items())
    elif isinstance(kind, inspect.ListType | inspect.VarTupleType) and isinstance(value, list):
        entries = get_args(_origin(wanted))[0]
        problem = _first((v, entries, f"{key}: entry {place}") for place, v in enumerate(value, start=1))
    else:
        problem = None
    return problem or _line(key, value, wanted)


def _first(parts: Iterable[tuple[Any, Any, str]]) -> str | None:
    return next((problem for part in parts if (problem := _mistake(*part))), None)


def _of_struct(values: dict, kind: inspect.StructType, key: str) -> str | None:
    """An unknown key, a missing one, or the first mistake in a value."""
    fields = kind.cls.__struct_fields__
    unknown = [name for name in values if name not in fields] if kind.forbid_unknown_fields else []
    if unknown:
        known = ", ".join(fields)
        otherwise = f"known keys: {known}" if 0 < len(known) < 200 else "leave it out"
        return f"{_joined(key, unknown[0])}: unknown key; {instead(unknown[0], fields, otherwise)}"
    if missing := [field.name for field in kind.fields if field.required and field.name not in values]:
        explained = " (config/config.yaml explains each key)" if kind.cls.__name__ == "Scale" else ""
        return f"{_joined(key, missing[0])}: missing; add it{explained}"
    hints = get_type_hints(kind.cls, include_extras=True)
    return _first((values[name], hints[name], _joined(key, name)) for name in fields if name in values)


def instead(unknown: Any, known: Iterable[str], otherwise: str, spelt: bool = False) -> str:
    """What may have been meant, or ``otherwise``, as where it is ``spelt`` right."""
    close = [] if spelt else get_close_matches(str(unknown), list(known), 1, 0.75)
    return f"did you mean {close[0]}?" if close else otherwise


def _line(key: str, value: Any, wanted: Any) -> str:
    """`KEY: found this; write that`."""
    return f"{key}: found {_found(value)}; write {_number_meant(value, wanted) or _text_meant(value, wanted)}"


def _found(value: Any) -> str:
    """``value`` as YAML has it, in a few words."""
    if value is None:
        return "nothing"
    if isinstance(value, dict | list):
        return f"{'a' if value else 'an empty'} {'mapping' if isinstance(value, dict) else 'list'}"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f"{shown(value)!r}" if value else "an empty text"
    return shown(str(value)) if isinstance(value, int | float) else f"a {type(value).__name__}"


def _number_meant(value: Any, wanted: Any) -> str | None:
    """What to write for "3e-4", which the quotation marks make text."""
    if not isinstance(value, str) or not re.fullmatch(r"[+-]?[0-9.]+([eE][+-]?[0-9]+)?", value):
        return None
    for number in (int, float):
        try:
            meant = number(float(value))
        except (ValueError, OverflowError):
            continue
        if meant == float(value) and _fits(meant, wanted):
            return f"{meant!r}, without quotation marks"
    return None


def _text_meant(value: Any, wanted: Any) -> str:
    """What is wanted; of a text that is none without quotation marks, such as the name 2024, also how to write it."""
    is_text = isinstance(_bare(inspect.type_info(wanted)), inspect.StrType)
    marks = " in quotation marks" if is_text and not isinstance(value, str | dict | list | None) else ""
    return _described(inspect.type_info(wanted)) + marks


def _described(kind: inspect.Type) -> str:
    """A type in words, such as `a whole number of at least 1`."""
    if isinstance(kind, inspect.Metadata):
        said = (kind.extra_json_schema or {}).get("description")
        return said or _described(kind.type)
    if isinstance(kind, inspect.UnionType):
        parts = [_described(part) for part in kind.types]
        return " or ".join([*(part for part in parts if part != "null"), *(["null"] if "null" in parts else [])])
    if isinstance(kind, inspect.LiteralType):
        *others, last = map(str, kind.values)
        return f"{', '.join(others)} or {last}" if others else last
    if isinstance(kind, inspect.IntType | inspect.FloatType):
        return ("a whole number" if isinstance(kind, inspect.IntType) else "a number") + _bounds(kind)
    if isinstance(kind, inspect.ListType | inspect.VarTupleType):
        return f"a list{', at least one entry' if kind.min_length else ''}, each {_described(kind.item_type)}"
    if isinstance(kind, inspect.DictType):
        return f"a mapping{' of at least one entry' if kind.min_length else ''}"
    if isinstance(kind, inspect.StructType):
        return f"a mapping with the keys {', '.join(kind.cls.__struct_fields__) or '(none)'}"
    words = {inspect.StrType: "text", inspect.BoolType: "true or false", inspect.NoneType: "null"}
    return words.get(type(kind), "something else")


def _bounds(kind: inspect.IntType | inspect.FloatType) -> str:
    if kind.ge is not None and kind.le is not None:
        return f" from {kind.ge:,} to {kind.le:,}"
    words = (("of at least", kind.ge), ("above", kind.gt), ("at most", kind.le), ("below", kind.lt))
    within = " and ".join(f"{word} {bound:,}" for word, bound in words if bound is not None)
    return within and f" {within}"


def _fits(value: Any, wanted: Any) -> bool:
    try:
        msgspec.convert(value, wanted)
    except (msgspec.ValidationError, RecursionError):
        return False
    return True


def _bare(kind: inspect.Type) -> inspect.Type:
    return kind.type if isinstance(kind, inspect.Metadata) else kind


def _origin(wanted: Any) -> Any:
    """The type within `Annotated`."""
    return get_args(wanted)[0] if hasattr(wanted, "__metadata__") else wanted


def _joined(key: str, name: Any) -> str:
    name = shown(name) if isinstance(name, str) else _found(name)
    return f"{key}: {name}"
