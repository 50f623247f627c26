"""A restricted unpickler: reads a dict of arrays of numbers, and runs nothing that the file says.

A pickle is a program for a small stack machine. `pickletools.genops` only decodes it; the machine below knows the
instructions that a dict of arrays needs and no other, and what a pickle calls a global is one of a few stand-ins: the
real function or class is never looked up, let alone called. Everything else is refused by name, as a UserError of one
line. An array's bytes must lie in the file in full, so that nothing can declare itself large.
"""

import math
import pickletools
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

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
MARK = object()


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
        return _arrays(Machine().run(content))
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


class Global(NamedTuple):
    """A name that a pickle may call, what stands for it, and the numbers of arguments that it takes."""

    stand_in: Callable
    arguments: tuple[int, ...] = ()


GLOBALS = {
    "numpy.ndarray": Global(Array),
    "numpy.dtype": Global(Dtype, (1, 2, 3)),
    "_codecs.encode": Global(_encoded, (2,)),
}
for _core in ("numpy.core", "numpy._core"):
    GLOBALS[f"{_core}.multiarray._reconstruct"] = Global(_empty, (3,))
    GLOBALS[f"{_core}.multiarray.scalar"] = Global(_scalar, (2,))
    GLOBALS[f"{_core}.numeric._frombuffer"] = Global(_from_buffer, (4, 5))


class Machine:
    """The stack machine. An instruction that is not in `INSTRUCTION` is refused."""

    def __init__(self) -> None:
        """Empty."""
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.bytes = 0  # in all arrays and encoded strings, some of which a file may repeat by reference

    def run(self, content: bytes) -> Any:
        """The object that the pickle leaves; raises Refused."""
        end = 0
        try:
            for number, (opcode, argument, position) in enumerate(pickletools.genops(content)):
                if number == INSTRUCTIONS:
                    raise Refused(f"holds more than {INSTRUCTIONS} instructions")
                if opcode.name not in INSTRUCTION:
                    named = f" of {shown(str(argument))}" if argument is not None else ""
                    raise Refused(f"holds the instruction {opcode.name}{named}, which no array needs")
                INSTRUCTION[opcode.name](self, argument)
                end = (position or 0) + 1
        except (ValueError, OverflowError, struct.error) as error:
            raise Refused(f"damaged or no pickle ({shown(str(error))})") from None
        if end != len(content):
            raise Refused(f"{len(content) - end} bytes follow the first object")
        found = self.pop()
        if self.stack:
            raise Refused("damaged (more than one object)")
        return found

    def pop(self) -> Any:
        """The topmost value."""
        if not self.stack or self.stack[-1] is MARK:
            raise Refused("damaged (a value is missing)")
        return self.stack.pop()

    def pop_mark(self) -> list[Any]:
        """The values above the last mark, which goes too."""
        for depth in range(len(self.stack) - 1, -1, -1):
            if self.stack[depth] is MARK:
                values = self.stack[depth + 1 :]
                del self.stack[depth:]
                return values
        raise Refused("damaged (a mark is missing)")

    def push(self, value: Any) -> None:
        """Onto the stack."""
        self.stack.append(value)

    def tuple_of(self, count: int) -> None:
        """A tuple of the topmost values."""
        self.push(tuple(reversed([self.pop() for _ in range(count)])))

    def put(self, index: int | None) -> None:
        """Remember the topmost value."""
        value = self.pop()
        self.push(value)
        self.memo[len(self.memo) if index is None else index] = value

    def get(self, index: int) -> None:
        """Push a remembered value."""
        if index not in self.memo:
            raise Refused("damaged (a remembered value is missing)")
        self.push(self.memo[index])

    def set_items(self, values: list[Any]) -> None:
        """Keys and values into the dict beneath them; keys are pairs of strings, each once."""
        target = self.stack[-1] if self.stack else None
        if not isinstance(target, dict) or len(values) % 2:
            raise Refused("damaged (keys without a dict)")
        for key, value in zip(values[::2], values[1::2], strict=True):
            if not isinstance(key, tuple) or len(key) != 2 or not all(isinstance(name, str) for name in key):
                raise Refused(f"holds a key that is {kind(key)}, not a pair of strings")
            if key in target:
                raise Refused(f"holds the key {shown(key)} twice")
            target[key] = value

    def dictionary(self) -> None:
        """A dict of the values above the mark."""
        values = self.pop_mark()
        self.push({})
        self.set_items(values)

    def set_item(self) -> None:
        """One key and value."""
        value, key = self.pop(), self.pop()
        self.set_items([key, value])

    def find(self, name: str) -> None:
        """A stand-in, by its dotted name."""
        if name not in GLOBALS:
            raise Refused(f"asks for {shown(name)}, which is no part of an array")
        entry = GLOBALS[name]
        self.push(entry if entry.arguments else entry.stand_in)

    def find_on_stack(self) -> None:
        """A stand-in whose module and name lie on the stack."""
        name, module = self.pop(), self.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise Refused("damaged (a name is no string)")
        self.find(f"{module}.{name}")

    def call(self) -> None:
        """A stand-in with its arguments."""
        arguments, function = self.pop(), self.pop()
        if not isinstance(function, Global) or not isinstance(arguments, tuple):
            raise Refused(f"calls {kind(function)} with {kind(arguments)}")
        if len(arguments) not in function.arguments:
            raise Refused(f"calls a part of an array with {len(arguments)} arguments")
        self.push(function.stand_in(*arguments))
        self.account()

    def build(self) -> None:
        """The state of an array or a dtype."""
        state, target = self.pop(), self.pop()
        if not isinstance(target, Array | Dtype):
            raise Refused(f"sets the state of {kind(target)}")
        target.build(state)
        self.push(target)
        self.account()

    def account(self) -> None:
        """Count what was just made: a small file must not become a large one by repetition."""
        made = self.stack[-1].values if isinstance(self.stack[-1], Array) else self.stack[-1]
        self.bytes += made.nbytes if isinstance(made, np.ndarray) else len(made) if isinstance(made, bytes) else 0
        if self.bytes > 2 * LARGEST:  # twice: protocols before 3 have each array's bytes as a string and as bytes
            raise Refused(f"unpacks to more than {2 * LARGEST >> 20} MiB")


LITERALS = (
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE "
    "BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8"
)
INSTRUCTION: dict[str, Callable[[Machine, Any], Any]] = {
    **{name: Machine.push for name in LITERALS.split()},
    **{name: Machine.put for name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE")},
    **{name: Machine.get for name in ("GET", "BINGET", "LONG_BINGET")},
    **{name: lambda machine, _: None for name in ("PROTO", "FRAME", "STOP")},
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "MARK": lambda machine, _: machine.push(MARK),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.pop_mark())),
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "DICT": lambda machine, _: machine.dictionary(),
    "SETITEM": lambda machine, _: machine.set_item(),
    "SETITEMS": lambda machine, _: machine.set_items(machine.pop_mark()),
    "POP": lambda machine, _: machine.pop(),
    "POP_MARK": lambda machine, _: machine.pop_mark(),
    "GLOBAL": lambda machine, name: machine.find(name.replace(" ", ".")),
    "STACK_GLOBAL": lambda machine, _: machine.find_on_stack(),
    "REDUCE": lambda machine, _: machine.call(),
    "BUILD": lambda machine, _: machine.build(),
}  # fmt: skip
