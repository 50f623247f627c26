"""Stand-ins for packages that the arithmetic does not need, for a machine that has only PyTorch and NumPy.

`install` puts an empty module in the place of each that is missing, with as much in it as importing `trqam`'s
learners asks for: structs that are not validated, a YAML loader that cannot load, environments that cannot be made.
Call it before anything of `trqam` is imported.
"""

import importlib.util
import inspect
import sys
from types import ModuleType, SimpleNamespace
from typing import Any


class Struct:
    """msgspec's, without validation: fields are annotations, values come by keyword."""

    __struct_fields__: tuple[str, ...] = ()

    def __init_subclass__(cls, **options: Any):
        super().__init_subclass__()
        named = (name for name in inspect.get_annotations(cls) if not name.startswith("__"))
        cls.__struct_fields__ = tuple(dict.fromkeys((*cls.__struct_fields__, *named)))

    def __init__(self, **values: Any):
        for name in self.__struct_fields__:
            if name not in values and not hasattr(type(self), name):
                raise TypeError(f"{type(self).__name__}: {name}: missing")
        if unknown := values.keys() - set(self.__struct_fields__):
            raise TypeError(f"{type(self).__name__}: {', '.join(sorted(unknown))}: unknown")
        vars(self).update(values)


def _values(struct: Any) -> Any:
    """A struct as a dict."""
    return {name: getattr(struct, name) for name in struct.__struct_fields__}


def _replaced(struct: Struct, **changes: Any) -> Struct:
    return type(struct)(**{**_values(struct), **changes})


class Types:
    """msgspec.inspect's, which only annotations name."""

    def __getattr__(self, name: str) -> type:
        return object


def _msgspec() -> dict[str, Any]:
    return {
        "Struct": Struct,
        "Meta": lambda **constraints: None,
        "ValidationError": type("ValidationError", (ValueError,), {}),
        "convert": lambda values, struct, **options: struct(**values),
        "to_builtins": _values,
        "structs": SimpleNamespace(replace=_replaced),
        "inspect": Types(),
    }


def _yaml() -> dict[str, Any]:
    names = ("add_constructor", "add_implicit_resolver")
    loader = type("SafeLoader", (), {name: classmethod(lambda cls, *arguments: None) for name in names})
    return {"SafeLoader": loader, "YAMLError": type("YAMLError", (ValueError,), {})}


def _gymnasium() -> dict[str, Any]:
    return {"Env": object}


STAND_INS = {"msgspec": _msgspec, "yaml": _yaml, "gymnasium": _gymnasium}


def install() -> list[str]:
    """Fills the gaps; the names of the packages that are missing."""
    missing = [name for name in STAND_INS if importlib.util.find_spec(name) is None]
    for name in missing:
        module = ModuleType(name, "A stand-in of benchmarks/bare.py.")
        vars(module).update(STAND_INS[name]())
        sys.modules[name] = module
    return missing
