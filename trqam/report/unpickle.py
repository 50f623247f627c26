"""A restricted unpickler: reads a dict of arrays of numbers, and runs nothing that the file says.

Python's own unpickler with the instructions that a dict of arrays needs and no other; what a pickle calls a global is
one of a few stand-ins, so that the real function or class is never looked up, let alone called. Everything else is
refused by name, as a UserError of one line. An array's bytes must lie in the file in full, so that nothing can declare
itself large. It is the implementation in Python: that in C hashes a key before anybody can look at it, which a file
of 300 bytes keeps busy for ever, and allots memory for numbers that a file merely names.
"""

import io
import math
import pickle
import pickletools
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from trqam.config.errors import UserError
from trqam.config.reading import read_bytes

LARGEST = 64 * 2**20  # bytes; the paper's curves are about one million
INSTRUCTIONS = 200_000  # an array takes about thirty, the paper's curves 13 000
MAGIC = {
    b"\x1f\x8b": "compressed by gzip; unpack it first",
    b"BZh": "compressed by bzip2; unpack it first",
    b"\xfd7zXZ": "compressed by xz; unpack it first",
    b"PK": "a zip or npz file; give the pickle itself",
    b"\x93NUMPY": "an npy file; give a pickle of one dict",
}


class Refused(Exception):
    """What the file holds and may not, or lacks; the reader of a file adds the file's name and the fix."""


def read_arrays(path: str | Path) -> dict[tuple[str, str], np.ndarray]:
    """The file's dict, keyed by pairs of strings, of numpy arrays of real numbers of any shape.

    Raises UserError for anything else, with nothing executed.
    """
    content = read_bytes(path, LARGEST, "give a pickle of curves alone")
    problem = next((text for magic, text in MAGIC.items() if content.startswith(magic)), None)
    if problem := problem or (not content and "empty; give a pickle"):
        raise UserError(f"{path}: {problem}")
    try:
        return _arrays(unpickled(content))
    except Refused as error:
        fix = "give a pickle of one dict {(task, method): array of (evaluations, seeds)}"
        raise UserError(f"{path}: {error}; nothing of it was run: {fix}") from None


def _arrays(found: Any) -> dict[tuple[str, str], np.ndarray]:
    if not isinstance(found, dict):
        raise Refused(f"holds {kind(found)}, not a dict")
    for (task, method), value in found.items():
        if not isinstance(value, Array) or value.values is None:
            raise Refused(f"{shown((task, method))} holds {kind(value)}, not an array of numbers")
        if value.values.dtype.kind not in "fiu":
            raise Refused(f"{shown((task, method))} holds an array of {value.values.dtype}, not of numbers")
    return {key: value.values for key, value in found.items()}


def shown(value: str | tuple[str, ...], length: int = 120) -> str:
    """A name from the file as one printable line of bounded length."""
    text = value if isinstance(value, str) and value.isprintable() else ascii(value)
    return text if len(text) <= length else text[: length - 3] + "..."


def kind(value: Any) -> str:
    """What a value is, in words; never the value itself, which may be nested without end."""
    names = {dict: "a dict", tuple: "a tuple", str: "a string", bytes: "bytes", int: "an integer", float: "a number"}
    names |= {Array: "an unfinished array", Dtype: "a dtype", Global: "a function", type: "a class", type(None): "None"}
    return names.get(type(value), f"a {type(value).__name__}")


class Dtype:
    """Stands for `numpy.dtype`: a type of fixed size, which holds numbers or text and no objects."""

    def __init__(self, code: Any, align: Any = False, copy: Any = False):
        """``code`` is numpy's, such as `f8`."""
        plain = ("f2", "f4", "f8", "b1", *(f"{sign}{size}" for sign in "iu" for size in (1, 2, 4, 8)))
        text = isinstance(code, str) and re.fullmatch(r"U[1-9][0-9]{0,3}", code)
        if code not in plain and not text:
            raise Refused(f"holds an array of dtype {shown(code) if isinstance(code, str) else kind(code)}")
        self.dtype = np.dtype(code)

    def build(self, state: Any) -> None:
        """``state`` is (version, byte order, ...); all that makes a dtype structured must be None."""
        if not isinstance(state, tuple) or len(state) < 5 or state[1] not in ("<", ">", "=", "|"):
            raise Refused("holds a damaged dtype")
        if any(part is not None for part in state[2:5]):
            raise Refused("holds a structured dtype")
        self.dtype = self.dtype.newbyteorder(state[1])


class Array:
    """Stands for an array that is being put together."""

    values: np.ndarray | None = None

    def build(self, state: Any) -> None:
        """``state`` is (version, shape, dtype, whether Fortran's order, bytes)."""
        if not isinstance(state, tuple) or len(state) != 5:
            raise Refused("holds a damaged array")
        _, shape, dtype, fortran, content = state
        self.values = _filled(content, dtype, shape, "F" if fortran is True else "C")


def _filled(content: Any, dtype: Any, shape: Any, order: str) -> np.ndarray:
    """An array of exactly the bytes that the file holds for it."""
    if isinstance(content, str):  # of Python 2
        content = _encoded(content, "latin1")
    if not isinstance(dtype, Dtype) or not isinstance(content, bytes | bytearray):
        raise Refused(f"holds an array whose content is {kind(content)} of {kind(dtype)}")
    if not isinstance(shape, tuple) or len(shape) > 32 or not all(type(n) is int and n >= 0 for n in shape):
        raise Refused("holds an array without a shape")
    if math.prod(shape) * dtype.dtype.itemsize != len(content):
        raise Refused(f"declares an array of other size than its {len(content)} bytes")
    return np.frombuffer(content, dtype.dtype).reshape(shape, order=order) if content else np.empty(shape, dtype.dtype)


def _empty(subtype: Any, shape: Any, code: Any) -> Array:
    """Stands for numpy's `_reconstruct`, whose arguments are the same for every array."""
    if subtype is not Array:
        raise Refused(f"reconstructs {kind(subtype)}, not an array")
    return Array()


def _from_buffer(content: Any, dtype: Any, shape: Any, order: Any, axes: Any = None) -> Array:
    """Stands for numpy's `_frombuffer` (protocol 5); ``axes`` is a permutation where the order is `K`."""
    array = Array()
    array.values = _filled(content, dtype, shape, "F" if order == "F" else "C")
    if axes is not None:
        if not isinstance(axes, tuple) or not all(type(n) is int for n in axes) or sorted(axes) != [*range(len(shape))]:
            raise Refused("holds a damaged array")
        array.values = array.values.transpose(axes)
    return array


def _scalar(dtype: Any, content: Any) -> str | float | int | bool:
    """Stands for numpy's `scalar`: `numpy.str_` and the like, as the plain value."""
    return _filled(content, dtype, (), "C").item()


def _encoded(text: Any, encoding: Any) -> bytes:
    """Stands for `_codecs.encode`, by which protocols before 3 write bytes: latin-1 alone, no other codec runs."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise Refused("holds bytes in another form than latin1")
    return text.encode("latin-1")


class Global:
    """A function that a pickle may call: what stands for it, and the numbers of arguments that it takes."""

    def __init__(self, stand_in: Callable, *counts: int):
        self._stand_in, self._counts = stand_in, counts

    def __call__(self, *arguments: Any) -> Any:
        """What the stand-in makes of them."""
        if len(arguments) not in self._counts:
            raise Refused(f"calls a part of an array with {len(arguments)} arguments")
        return self._stand_in(*arguments)


GLOBALS: dict[str, Any] = {
    "numpy.ndarray": Array,
    "numpy.dtype": Global(Dtype, 1, 2, 3),
    "_codecs.encode": Global(_encoded, 2),
}
for _core in ("numpy.core", "numpy._core"):
    GLOBALS[f"{_core}.multiarray._reconstruct"] = Global(_empty, 3)
    GLOBALS[f"{_core}.multiarray.scalar"] = Global(_scalar, 2)
    GLOBALS[f"{_core}.numeric._frombuffer"] = Global(_from_buffer, 4, 5)

NAMES = (
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE "
    "SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8 PUT BINPUT LONG_BINPUT MEMOIZE GET "
    "BINGET LONG_BINGET PROTO FRAME STOP NONE NEWTRUE NEWFALSE MARK EMPTY_TUPLE EMPTY_DICT TUPLE TUPLE1 TUPLE2 TUPLE3 "
    "DICT SETITEM SETITEMS POP POP_MARK GLOBAL STACK_GLOBAL REDUCE BUILD"
)
ALLOWED = frozenset(NAMES.split())


class Instructions(dict):
    """What an unpickler does, by the number of the instruction; counts them, and refuses what is not there."""

    seen = 0

    def __getitem__(self, number: int) -> Callable:
        self.seen += 1
        if self.seen > INSTRUCTIONS:
            raise Refused(f"holds more than {INSTRUCTIONS} instructions")
        return super().__getitem__(number)

    def __missing__(self, number: int) -> Callable:
        opcode = pickletools.code2op.get(chr(number))
        if opcode is None:
            raise Refused("damaged or no pickle (an unknown instruction)")
        raise Refused(f"holds the instruction {opcode.name}, which no array needs")


class Reader(pickle._Unpickler):  # type: ignore[name-defined, misc]
    """Reads one object of stand-ins; `load` raises Refused, or one of `DAMAGE`."""

    def __init__(self, content: bytes):
        self.file = io.BytesIO(content)
        super().__init__(self.file, encoding="latin-1")
        own = {"SETITEM": Reader.set_item, "SETITEMS": Reader.set_items, "DICT": Reader.make_dict}
        own |= {"REDUCE": Reader.call, "BUILD": Reader.build, "BYTEARRAY8": pickle._Unpickler.load_binbytes8}  # type: ignore[attr-defined]
        numbers = {op.name: ord(op.code) for op in pickletools.opcodes if op.name in ALLOWED}
        self.dispatch = Instructions({n: own.get(name, self.dispatch[n]) for name, n in numbers.items()})
        self.bytes = 0  # in all arrays and encoded strings, some of which a file may repeat by reference

    def find_class(self, module: str, name: str) -> Any:
        """A stand-in."""
        if f"{module}.{name}" not in GLOBALS:
            raise Refused(f"asks for {shown(f'{module}.{name}')}, which is no part of an array")
        return GLOBALS[f"{module}.{name}"]

    def call(self) -> None:
        """A stand-in with its arguments."""
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, Global) or not isinstance(arguments, tuple):
            raise Refused(f"calls {kind(function)} with {kind(arguments)}")
        self._made(function(*arguments))

    def build(self) -> None:
        """The state of an array or a dtype."""
        state, target = self.stack.pop(), self.stack.pop()
        if not isinstance(target, Array | Dtype):
            raise Refused(f"sets the state of {kind(target)}")
        target.build(state)
        self._made(target)

    def set_item(self) -> None:
        """One key and value."""
        value, key = self.stack.pop(), self.stack.pop()
        self._fill([key, value])

    def set_items(self) -> None:
        """Those above the mark."""
        self._fill(self.pop_mark())

    def make_dict(self) -> None:
        """A dict of what is above the mark."""
        items = self.pop_mark()
        self.append({})
        self._fill(items)

    def _fill(self, items: list[Any]) -> None:
        """Keys and values into the dict beneath them; keys are pairs of strings, each once."""
        target = self.stack[-1]
        if not isinstance(target, dict) or len(items) % 2:
            raise Refused("damaged (keys without a dict)")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, tuple) or len(key) != 2 or not all(isinstance(name, str) for name in key):
                size = f" of {len(key)}" if isinstance(key, tuple) else ""
                raise Refused(f"holds a key that is {kind(key)}{size}, not a pair of strings")
            if key in target:
                raise Refused(f"holds the key {shown(key)} twice")
            target[key] = value

    def _made(self, value: Any) -> None:
        """Onto the stack, counted: a small file must not become a large one by repetition."""
        self.append(value)
        made = value.values if isinstance(value, Array) else value
        self.bytes += made.nbytes if isinstance(made, np.ndarray) else len(made) if isinstance(made, bytes) else 0
        if self.bytes > 2 * LARGEST:  # twice: protocols before 3 have each array's bytes as a string and as bytes
            raise Refused(f"unpacks to more than {2 * LARGEST >> 20} MiB")


# What the unpickler ends in where a file is no pickle, or not all of one.
DAMAGE = (pickle.UnpicklingError, IndexError, KeyError, ValueError, TypeError, EOFError, OverflowError, struct.error)


def unpickled(content: bytes) -> Any:
    """The object that the pickle leaves; raises Refused."""
    reader = Reader(content)
    try:
        found = reader.load()
    except DAMAGE as error:
        missing = isinstance(error, IndexError | KeyError | EOFError)
        raise Refused(f"damaged or no pickle ({'a value is missing' if missing else shown(str(error))})") from None
    if left := len(content) - reader.file.tell():
        raise Refused(f"{left} bytes follow the first object")
    return found
