"""What no line of text can hold: each function changes one file of the user's folder, or makes it, in place."""

import hashlib
import json
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch


class Touch:
    """Unpickled, it makes a file that the check of the folder finds."""

    def __reduce__(self):
        return os.system, ("touch canary",)


# --- any file ---------------------------------------------------------------------------------------------------


def truncate(path: Path, keep: float | int) -> None:
    """The first ``keep`` bytes, or that share of them."""
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if isinstance(keep, float) else keep])


def flip(path: Path, place: float) -> None:
    """One bit at ``place`` of the whole."""
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 1
    path.write_bytes(bytes(content))


def folder(path: Path, _: bool) -> None:
    """A folder of the same name."""
    path.unlink(missing_ok=True)
    path.mkdir()


def fifo(path: Path, _: bool) -> None:
    """A pipe that nobody writes to: whoever opens it to read waits for ever."""
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def device(path: Path, target: str) -> None:
    """A link to a device, such as one without an end."""
    path.unlink(missing_ok=True)
    path.symlink_to(target)


PLAIN = {
    "drop": lambda path, _: path.unlink(),
    "loop": lambda path, _: device(path, path.name),  # a link to itself
    "lines": lambda path, count: path.write_text("".join(path.read_text().splitlines(keepends=True)[:count])),
    "noise": lambda path, size: path.write_bytes(bytes((i * 7919 + 128) % 256 for i in range(size))),
    "sparse": lambda path, size: os.truncate(path, size),  # nothing, for very long; takes no room on disk
    "brackets": lambda path, depth: path.write_text("[" * depth + "]" * depth),  # JSON, a list in a list in a list
    # The text in another encoding, with a letter in it that UTF-8 writes otherwise.
    "encode": lambda path, encoding: path.write_bytes(("# é\n" + path.read_text()).encode(encoding)),
}


def pickled(path: Path, protocol: int) -> None:
    """A pickle that would run a command."""
    path.write_bytes(pickle.dumps({("task", "method"): Touch()}, protocol))


# --- YAML -------------------------------------------------------------------------------------------------------


def _replaced(path: Path, line: str, new: str) -> None:
    text = path.read_text()
    assert line in text
    path.write_text(text.replace(line, new, 1))


def digits(path: Path, line: str, number: int = 5000) -> None:
    """A number of very many digits."""
    _replaced(path, line, f"{line.partition(':')[0]}: {'9' * number}")


def long(path: Path, line: str) -> None:
    """The value, a thousand times."""
    key, _, value = line.partition(": ")
    _replaced(path, line, f"{key}: {value * 1000}")


def nested(path: Path, line: str) -> None:
    """A list in a list in a list, ten thousand deep."""
    _replaced(path, line, f"{line.partition(':')[0]}: {'[' * 10_000}{']' * 10_000}")


def laughs(path: Path, line: str) -> None:
    """Nine aliases of nine aliases of nine: a billion, if they were written out."""
    lists = [f"&a{level} [{', '.join([f'*a{level - 1}'] * 9)}]" for level in range(1, 10)]
    _replaced(path, line, f"{line.partition(':')[0]}: [&a0 [lol, lol], {', '.join(lists)}]")


# --- arrays -----------------------------------------------------------------------------------------------------

ARRAYS = {
    "float64": lambda array: array.astype(np.float64),
    "integers": lambda array: array.astype(np.int32),
    "transposed": lambda array: np.ascontiguousarray(array.T),
    "short": lambda array: array[:-3],
    "flat": lambda array: array.ravel(),
    "text": lambda array: array.astype(str),
    "scalar": lambda array: np.float32(1),
    "objects": lambda array: np.array([Touch()], dtype=object),
    "records": lambda array: np.zeros(len(array), dtype=[("a", "<f4")]),
    "nan": lambda array: np.full(array.shape, np.nan, np.float32),
    "zeros": np.zeros_like,
    "complex": lambda array: array.astype(np.complex64),
    "column": lambda array: array[:, None],
    "enormous": lambda array: array.astype(np.float64) * 1e300,
}


def npy(path: Path, kind: str) -> None:
    """An array that is not what it should be."""
    np.save(path, ARRAYS[kind](np.load(path)), allow_pickle=True)


def put(path: Path, place: int, value: float) -> None:
    """An array with one other number, or with `inf` or `nan`."""
    np.load(path, mmap_mode="r+").flat[place] = float(value)


def swap(path: Path, other: str) -> None:
    """Two files of a folder under each other's name."""
    first, second = path.read_bytes(), path.with_name(other).read_bytes()
    path.write_bytes(second)
    path.with_name(other).write_bytes(first)


def header(path: Path, text: str) -> None:
    """An `.npy` file with another header, such as one that declares an enormous array."""
    content = text.encode("latin-1").ljust(117) + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(content)) + content + b"\0" * 64)


def _arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def npz(path: Path, key: str, kind: str) -> None:
    """An npz file, one of whose arrays is not what it should be, or `missing`."""
    arrays = _arrays(path)
    array = arrays.pop(key)
    np.savez(path, **arrays, **({} if kind == "missing" else {key: ARRAYS[kind](array)}))


def meta(path: Path, key: str, value: Any) -> None:
    """A reference file whose description says something else; the key `.` is all of it."""
    arrays = _arrays(path)
    content = json.loads(str(arrays["meta"]))
    *parents, last = key.split("/")
    inner = content
    for name in parents:
        inner = inner[name]
    inner[last] = value
    arrays["meta"] = np.array(json.dumps(value if key == "." else content))
    np.savez(path, **arrays)


# --- checkpoints ------------------------------------------------------------------------------------------------


def seal(path: Path, key: str, value: Any) -> None:
    """A record of a checkpoint with another value, or `drop`, under a right seal; the key `.` is all of it."""
    content = json.loads(path.read_text())
    if key == ".":
        content["record"] = value
    else:
        *parents, last = key.split("/")
        inner = content["record"]
        for name in parents:
            inner = inner[name]
        inner[last] = value
        if value == "drop":
            del inner[last]
    content["seal"] = hashlib.sha256(json.dumps(content["record"], sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps(content))


def _each(function):
    return lambda content: safetensors.torch.save({k: function(t) for k, t in safetensors.torch.load(content).items()})


TENSORS = {
    "huge header": lambda content: struct.pack("<Q", 2**62) + content[8:],
    "no header": lambda content: b"\0" * 4,
    "header of no JSON": lambda content: content[:8] + b"x" * 200 + content[208:],
    "offsets beyond the end": lambda content: content[: -(len(content) // 4)],
    "pickle": lambda content: pickle.dumps(Touch()),
    "others": lambda content: safetensors.torch.save({"other": torch.zeros(3)}),
    "empty": lambda content: safetensors.torch.save({}),
    "nan": _each(lambda tensor: torch.full_like(tensor, torch.nan) if tensor.ndim else tensor),
    "shapes": _each(lambda tensor: tensor.reshape(-1, 1)),
    "integers": _each(lambda tensor: tensor.to(torch.int32)),
}


def tensors(path: Path, kind: str) -> None:
    """Weights that are not those of the run; the sum in the record beside them, or in the manifest, is right."""
    content = TENSORS[kind](path.read_bytes())
    path.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    if (sealed := path.with_suffix(".json")).exists():
        sealed.write_text(json.dumps(json.loads(sealed.read_text()) | {"tensors": digest}))
    if (manifest := path.with_name("pretrain.json")).exists():
        published(manifest, "base_sha256", digest)


def published(path: Path, key: str, value: Any) -> None:
    """A manifest with another value, or `drop`, under a right seal."""
    content = json.loads(path.read_text())
    content[key] = value
    if value == "drop":
        del content[key]
    del content["seal"]
    content["seal"] = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps(content))


def metrics(path: Path, old: str, new: str) -> None:
    """Other metrics, published as if they were right."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    published(path.with_suffix(".json"), "metrics_sha256", hashlib.sha256(path.read_bytes()).hexdigest())


# --- published curves -------------------------------------------------------------------------------------------

GOOD = np.full((30, 2), 0.5)
CURVES = {
    "list": [GOOD],
    "empty": {},
    "flat keys": {"qam": GOOD},
    "integers": {("all", "QAM"): np.ones((30, 2), int)},
    "objects": {("all", "QAM"): np.array([Touch()], dtype=object)},
    "infinite": {("all", "QAM"): np.full((30, 2), np.inf)},
    "beyond 100 %": {("all", "QAM"): np.full((30, 2), 250.0)},
    "negative": {("all", "QAM"): np.full((30, 2), -0.5)},
    "rows": {("all", "QAM"): np.full((17, 2), 0.5)},
    "ragged": {("all", "QAM"): np.full((28, 2), 0.5), ("all", "FQL"): np.full((29, 2), 0.5)},
    "units": {("all", "QAM"): 100 * GOOD, ("all", "FQL"): GOOD},
    "swapped": {("QAM", "cube-double-play"): GOOD},
    "flat": {("all", "QAM"): np.full(30, 0.5)},
    "line break": {("\\input{/etc/passwd}\n", "QAM"): GOOD},
    "same": {("all", "QAM"): GOOD, ("ALL", "qam"): GOOD},
    "nested": {("all", "QAM"): {"a": GOOD}},
}


def curves(path: Path, kind: str) -> None:
    """A pickle in the release format, with something wrong in it."""
    path.write_bytes(pickle.dumps(CURVES[kind]))
