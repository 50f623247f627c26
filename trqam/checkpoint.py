"""Checkpoints of one seed: two generations, each a safetensors file and a JSON record that seals it.

    run/{stage}/step000001000.safetensors   every tensor of the learner's state, and of the environment's position
    run/{stage}/step000001000.json          what else is needed to go on, the complete metrics so far, checksums

The record is written last, atomically, so a pair is whole or ignored; the generation before is deleted only after that.
A damaged pair is reported in one line and the one before it is used.
"""

import hashlib
import json
import sys
from functools import cache
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from trqam.artefacts import read_json, sha256, write_atomically, write_json
from trqam.errors import UserError

GENERATIONS = 2


def save(
    directory: Path, step: int, tensors: dict[str, Tensor], record: dict[str, Any], keep: int = GENERATIONS
) -> None:
    """Writes the checkpoint of ``step`` and then deletes all but the newest ``keep``."""
    weights, sealed = _paths(directory, step)
    content = safetensors.torch.save({name: tensor.contiguous() for name, tensor in tensors.items()})
    write_atomically(weights, content)
    write_json(sealed, {"tensors": hashlib.sha256(content).hexdigest(), "seal": _seal(record), "record": record})
    for old in _recorded(directory)[keep:]:
        for path in reversed(_paths(directory, old)):
            path.unlink(missing_ok=True)


def steps(directory: Path) -> list[int]:
    """The steps of the undamaged checkpoints, newest first; a damaged one is reported on stderr."""
    found = []
    for step in _recorded(directory):
        if problem := _damage(directory, step):
            _warn(f"warning: {problem}; the checkpoint before it is used")
        else:
            found.append(step)
    return found


@cache
def _warn(line: str) -> None:
    """Says it once, however often the folder is looked at."""
    print(line, file=sys.stderr)


def load(directory: Path, step: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and record of one checkpoint; a UserError if it is damaged."""
    if problem := _damage(directory, step):
        raise UserError(f"{problem}; `trqam clean` the run and train it again")
    weights, sealed = _paths(directory, step)
    return safetensors.torch.load_file(weights), read_json(sealed)["record"]


def _paths(directory: Path, step: int) -> tuple[Path, Path]:
    return directory / f"step{step:09d}.safetensors", directory / f"step{step:09d}.json"


def _recorded(directory: Path) -> list[int]:
    """Steps that have a record, newest first, damaged or not."""
    return sorted((int(path.stem[4:]) for path in directory.glob("step*.json")), reverse=True)


def _seal(record: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def _damage(directory: Path, step: int) -> str | None:
    """What is wrong with a checkpoint, naming the file; None if nothing is."""
    weights, sealed = _paths(directory, step)
    try:
        content = read_json(sealed)
        if content["seal"] != _seal(content["record"]):
            return f"{sealed}: damaged (checksum)"
        if content["tensors"] != sha256(weights):
            return f"{weights}: damaged (checksum)"
    except (UserError, OSError, KeyError, TypeError) as error:
        return str(error) if isinstance(error, UserError) else f"{weights}: damaged ({error})"
    return None
