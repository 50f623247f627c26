"""What is wrong with plain values that do not fit a type, in words: where, what was found, and what to write.

msgspec says ``Expected `int`, got `str` - at `$.domains[...]` ``; a reader of YAML knows neither these types nor which
entry is meant. So the values are walked beside the type, and the first that does not fit is described.
"""

import re
from difflib import get_close_matches
from typing import Any, get_args, get_type_hints

import msgspec
from msgspec import inspect

from trqam.config.strict import shown


def mistake(value: Any, wanted: Any, key: str) -> str:
    """The first mistake of ``value``, at ``key``, which does not fit ``wanted``: `KEY: what; fix`."""
    return _mistake(value, wanted, key) or f"{key}: not as it should be; compare it with a file that works"


def _mistake(value: Any, wanted: Any, key: str) -> str | None:
    if _fits(value, wanted):
        return None
    kind = _bare(inspect.type_info(wanted))
    if isinstance(kind, inspect.StructType) and isinstance(value, dict):
        found = _of_struct(value, kind, key)
    elif isinstance(kind, inspect.DictType) and isinstance(value, dict):
        names, entries = get_args(_origin(wanted))
        found = next((_line(key, k, names) for k in value if not _fits(k, names)), None)
        found = found or _first((v, entries, _joined(key, k)) for k, v in value.items())
    elif isinstance(kind, inspect.ListType | inspect.VarTupleType) and isinstance(value, list):
        entries = get_args(_origin(wanted))[0]
        found = _first((v, entries, f"{key}: entry {place}") for place, v in enumerate(value, start=1))
    else:
        found = None
    return found or _line(key, value, wanted)


def _first(parts) -> str | None:
    return next((found for part in parts if (found := _mistake(*part))), None)


def _of_struct(values: dict, kind: inspect.StructType, key: str) -> str | None:
    """An unknown key, a missing one, or the first mistake in a value."""
    fields = kind.cls.__struct_fields__
    unknown = [name for name in values if name not in fields] if kind.forbid_unknown_fields else []
    if unknown:
        return f"{_joined(key, unknown[0])}: unknown key; {_instead(unknown[0], fields)}"
    if missing := [field.name for field in kind.fields if field.required and field.name not in values]:
        explained = " (config/config.yaml explains each key)" if kind.cls.__name__ == "Scale" else ""
        return f"{_joined(key, missing[0])}: missing; add it{explained}"
    hints = get_type_hints(kind.cls, include_extras=True)
    return _first((values[name], hints[name], _joined(key, name)) for name in fields if name in values)


def _instead(unknown: Any, fields: tuple[str, ...]) -> str:
    """What may have been meant."""
    if close := get_close_matches(str(unknown), fields, 1, 0.75):
        return f"did you mean {close[0]}?"
    known = ", ".join(fields)
    return f"known keys: {known}" if 0 < len(known) < 200 else "leave it out"


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
    return described(wanted) + marks


def described(wanted: Any) -> str:
    """A type in words, such as `a whole number of at least 1`."""
    return _described(inspect.type_info(wanted))


def _described(kind: inspect.Type) -> str:
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
    low = f"of at least {kind.ge:,}" if kind.ge is not None else f"above {kind.gt:g}" if kind.gt is not None else ""
    high = f"at most {kind.le:,}" if kind.le is not None else f"below {kind.lt:g}" if kind.lt is not None else ""
    if kind.ge is not None and kind.le is not None:
        return f" from {kind.ge:,} to {kind.le:,}"
    return f" {' and '.join(filter(None, (low, high)))}" if low or high else ""


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
