"""A restricted unpickler: reads a dict of arrays of numbers, and runs nothing that the file says.

`find_class` gives stand-ins for the few functions that an array is made of, so that the real function or class is never
looked up, let alone called; all else is refused by name, as a UserError of one line. Python's unpickler in C is of no
use: it hashes a key before anybody can look at it, which a file of 300 bytes keeps busy for ever and one of 150 kB
crashes, and allots memory for numbers that a file merely names. That in Python puts a dict of ours in the place of
its own, and nothing can declare itself large: an array's bytes must lie in the file in full.
"""

import io
import math
import pickle
import pickletools
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from trqam.config.errors import UserError
from trqam.config.reading import read_bytes
from trqam.config.strict import shown

LARGEST = 64 * 2**20  # bytes; the paper's curves are about one million
INSTRUCTIONS = 200_000  # an array takes about thirty, the paper's curves 13 000
MAGIC = {
    b"\x1f\x8b": "compressed by gzip; unpack it first",
    b"BZh": "compressed by bzip2; unpack it first",
    b"\xfd7zXZ": "compressed by xz; unpack it first",
    b"PK": "a zip or npz file; give the pickle itself",
    b"\x93NUMPY": "an npy file; give a pickle of one dict",
}
NEEDED = (  # instructions, by a dict of arrays
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE "
    "SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8 PUT BINPUT LONG_BINPUT MEMOIZE GET "
    "BINGET LONG_BINGET PROTO FRAME STOP NONE NEWTRUE NEWFALSE MARK EMPTY_TUPLE EMPTY_DICT TUPLE TUPLE1 TUPLE2 TUPLE3 "
    "DICT SETITEM SETITEMS GLOBAL STACK_GLOBAL REDUCE BUILD"
)
TYPES = re.compile("[iu][1248]|f[248]|b1|U[1-9][0-9]{0,2}")  # of an array, as numpy calls them: no objects
# What the unpickler ends in where a file is no pickle, or not all of one.
DAMAGE = (
    pickle.UnpicklingError, LookupError, AttributeError, ValueError, TypeError, EOFError, SystemError, struct.error,
)  # fmt: skip


class Refused(Exception):
    """What the file holds and may not, or lacks; the reader of a file adds the file's name and the fix."""


def read_arrays(path: str | Path) -> dict[tuple[str, str], np.ndarray]:
    """The file's dict, keyed by pairs of strings, of numpy arrays of real numbers of any shape.

    Raises UserError for anything else, with nothing executed.
    """
    content = read_bytes(path, LARGEST, "give a pickle of curves alone")
    problem = next((text for magic, text in MAGIC.items() if content.startswith(magic)), "")
    if problem or not content:
        raise UserError(f"{path}: {problem or 'empty; give a pickle'}")
    try:
        curves = unpickled(content)
        if not isinstance(curves, Curves):
            raise Refused(f"holds {kind(curves)}, not a dict")
        for key, value in curves.items():
            if not isinstance(value, Array) or value.values.dtype.kind not in "fiu":
                what = f"an array of {value.values.dtype}" if isinstance(value, Array) else kind(value)
                raise Refused(f"{named(key)} holds {what}, not an array of numbers")
        return {key: value.values for key, value in curves.items()}
    except Refused as error:
        fix = "give a pickle of one dict {(task, method): array of (evaluations, seeds)}"
        raise UserError(f"{path}: {error}; nothing of it was run: {fix}") from None


def unpickled(content: bytes) -> Any:
    """The object of stand-ins that the pickle leaves; raises Refused."""
    file, needed = io.BytesIO(content), frozenset(NEEDED.split())
    try:
        for number, (opcode, _, _) in enumerate(pickletools.genops(content)):
            if opcode.name not in needed:
                what = " (a list, or an array of objects)" if "LIST" in opcode.name else ""
                raise Refused(f"holds the instruction {opcode.name}{what}, which no array needs")
            if number >= INSTRUCTIONS:
                raise Refused(f"holds more than {INSTRUCTIONS} instructions")
        loaded = Reader(file).load()
    except DAMAGE:
        raise Refused("damaged or no pickle") from None
    if left := len(content) - file.tell():
        raise Refused(f"{left} bytes follow the first object")
    return loaded


def named(key: tuple[str, str]) -> str:
    """A key as one printable line of bounded length."""
    return shown(str(key), 120)


def kind(value: Any) -> str:
    """What a value is, in words; never the value itself, which may be nested without end."""
    names = {Curves: "a dict", str: "a string", bytes: "bytes", int: "an integer", float: "a number"}
    names |= {Array: "an array", type(None): "nothing"}
    return names.get(type(value), f"a {type(value).__name__.lower()}")


class Curves(dict[tuple[str, str], Any]):
    """Stands for any dict: its keys are pairs of strings, each once, which are looked at before they are hashed."""

    def __setitem__(self, key: Any, value: Any) -> None:
        if not isinstance(key, tuple) or [type(name) for name in key[:3]] != [str, str]:
            raise Refused(f"holds a key that is {kind(key)}, not a pair of strings")
        if key in self:
            raise Refused(f"holds the key {named(key)} twice")
        super().__setitem__(key, value)


class Dtype:
    """Stands for `numpy.dtype`: a type of fixed size, which holds numbers or text and no objects."""

    def __init__(self, code: Any, align: Any = False, copy: Any = False):
        """``code`` is numpy's, such as `f8`."""
        if not isinstance(code, str) or not TYPES.fullmatch(code):
            raise Refused(f"holds an array of dtype {shown(code) if isinstance(code, str) else kind(code)}")
        self.dtype = np.dtype(code)

    def build(self, version: Any, order: Any, subarray: Any, names: Any, fields: Any, *_: Any) -> None:
        """All that makes a dtype structured must be None."""
        if (subarray, names, fields) != (None, None, None) or not isinstance(order, str):
            raise Refused("holds a structured dtype")
        self.dtype = self.dtype.newbyteorder(order)  # type: ignore[arg-type]  # a ValueError if it is none


class Array:
    """Stands for an array, which is an empty one of no numbers until it is built."""

    values: np.ndarray = np.empty(0, bool)

    def build(self, version: Any, shape: Any, dtype: Any, fortran: Any, content: Any) -> None:
        """An array of exactly the bytes that the file holds for it."""
        if not isinstance(dtype, Dtype) or not isinstance(content, bytes | bytearray):
            raise Refused(f"holds an array whose content is {kind(content)} of {kind(dtype)}")
        if not isinstance(shape, tuple) or not all(type(n) is int and 0 <= n <= LARGEST for n in shape[:32]):
            raise Refused("holds an array without a shape")
        if math.prod(shape[:32]) * dtype.dtype.itemsize != len(content):
            raise Refused(f"declares an array of other size than its {len(content)} bytes")
        flat = np.frombuffer(content, dtype.dtype) if content else np.empty(0, dtype.dtype)
        self.values = flat.reshape(shape, order="F" if fortran is True else "C")


def _reconstruct(subtype: Any, shape: Any, code: Any) -> Array:
    """Stands for numpy's function of that name, whose arguments are the same for every array."""
    return Array()


def _from_buffer(content: Any, dtype: Any, shape: Any, order: Any, axes: Any = None) -> Array:
    """Stands for numpy's `_frombuffer` (protocol 5); ``axes`` is a permutation where the order is `K`."""
    array = Array()
    array.build(1, shape, dtype, order == "F", content)
    if axes is not None:
        array.values = array.values.transpose(axes)
    return array


def _scalar(dtype: Any, content: Any) -> str | float | int | bool:
    """Stands for numpy's `scalar`: `numpy.str_` and the like, as the plain value."""
    array = Array()
    array.build(1, (), dtype, False, content)
    return array.values.item()


class Reader(pickle._Unpickler):
    """Reads one object of stand-ins; `load` raises Refused, or one of `DAMAGE`."""

    stack: list[Any]
    append: Callable[[Any], None]
    pop_mark: Callable[[], list[Any]]

    def __init__(self, file: io.BytesIO):
        super().__init__(file, encoding="latin-1")
        self.encoded = 0  # characters
        core: dict[str, Any] = {"multiarray._reconstruct": _reconstruct, "multiarray.scalar": _scalar}
        core |= {"numeric._frombuffer": _from_buffer}
        self.known = {f"numpy.{name}.{place}": core[place] for name in ("core", "_core") for place in core}
        self.known |= {"numpy.ndarray": "a class", "numpy.dtype": Dtype, "_codecs.encode": self.encode}

    def find_class(self, module: str, name: str) -> Any:
        """A stand-in."""
        if f"{module}.{name}" not in self.known:
            raise Refused(f"asks for {shown(f'{module}.{name}', 120)}, which is no part of an array")
        return self.known[f"{module}.{name}"]

    def encode(self, text: Any, encoding: Any = "latin1") -> bytes:
        """Stands for `_codecs.encode`, by which protocols before 3 write bytes: latin-1 alone, no other codec runs."""
        if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
            raise Refused("holds bytes in another form than latin1")
        self.encoded += len(text)
        if self.encoded > LARGEST:  # of one text again and again
            raise Refused(f"unpacks to more than {LARGEST >> 20} MiB")
        return text.encode("latin-1")

    def load_reduce(self) -> None:
        """A stand-in with its arguments."""
        arguments, function = self.stack.pop(), self.stack.pop()
        if not callable(function) or not isinstance(arguments, tuple):
            raise Refused(f"calls {kind(function)} with {kind(arguments)}")
        self.append(function(*arguments))

    def load_build(self) -> None:
        """The state of an array, whose bytes Python 2 wrote as a string, or of a dtype."""
        state, target = self.stack.pop(), self.stack[-1]
        if not isinstance(target, Array | Dtype) or not isinstance(state, tuple):
            raise Refused(f"sets the state of {kind(target)} to {kind(state)}")
        if isinstance(target, Array) and isinstance(state[-1], str):
            state = (*state[:-1], self.encode(state[-1]))
        target.build(*state)

    def load_empty_dict(self) -> None:
        """A dict, of protocols from 1 on."""
        self.append(Curves())

    def load_dict(self) -> None:
        """A dict, of protocol 0, which never puts anything into it at once."""
        if self.pop_mark():
            raise Refused("holds a dict in an unknown form")
        self.append(Curves())

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {
        **pickle._Unpickler.dispatch,
        pickle.REDUCE[0]: load_reduce,
        pickle.BUILD[0]: load_build,
        pickle.EMPTY_DICT[0]: load_empty_dict,
        pickle.DICT[0]: load_dict,
    }
