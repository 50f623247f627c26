"""Checkpoints of one seed: two generations, each a safetensors file and a JSON record that seals it.

    run/{stage}/step000001000.safetensors   every tensor of the learner's state, and of the environment's position
    run/{stage}/step000001000.json          what else is needed to go on, the complete metrics so far, checksums

The record is written last, atomically, so a pair is whole or ignored; the generation before is deleted only after that.
A damaged pair is reported in one line and the one before it is used. Where there is none, that is an error: to begin at
step 0 what had begun is for people to decide.
"""

import hashlib
import os
import sys
from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import safetensors

from trqam.config.errors import UserError
from trqam.config.reading import read_json, seal, sha256
from trqam.experiment.files import write_atomically, write_json, writing
from trqam.experiment.folder import step_file, step_of

if TYPE_CHECKING:
    from torch import Tensor

GENERATIONS = 2


class Sealed(msgspec.Struct):
    """A checkpoint's record file; ``tensors`` are one or two sums."""

    tensors: str
    seal: str
    record: dict[str, Any]


def save(
    directory: Path,
    step: int,
    tensors: dict[str, "Tensor"],
    record: dict[str, Any],
    keep: int = GENERATIONS,
    abandoned: Collection[int] = (),
) -> None:
    """Writes the checkpoint of ``step`` and then deletes all but the newest ``keep``.

    Deletes also the ``abandoned``, and those of later steps: who saves this one has gone back behind them, and means
    to come there again.
    """
    from safetensors.torch import save as serialise  # PyTorch takes long to import, and most that look need no tensor

    weights, sealed = _paths(directory, step)
    content = serialise({name: tensor.contiguous() for name, tensor in tensors.items()})
    new = {"tensors": hashlib.sha256(content).hexdigest(), "seal": seal(record), "record": record}
    if old := _replaced(sealed, new):  # a kill between the next two writes must not part a record from its tensors
        write_json(sealed, {**old, "tensors": f"{old['tensors']} {new['tensors']}"})
    write_atomically(weights, content)
    write_json(sealed, new)
    prune(directory, step, keep, abandoned)


def prune(directory: Path, step: int, keep: int, abandoned: Collection[int] = ()) -> None:
    """Deletes all checkpoints but that of ``step`` and the ``keep`` - 1 before it that are not ``abandoned``.

    Also tensors without a record, which is what a kill leaves of a save or of this.
    """
    found = recorded(directory)
    lasting = [other for other in found if other == step or (other < step and other not in abandoned)][:keep]
    for other in sorted({*found, *_named(directory, ".safetensors")}):
        if other not in lasting:
            for path in reversed(_paths(directory, other)):  # first the record, which makes it count
                with writing(path):
                    if path.is_symlink() or not path.is_dir():  # a folder is not ours
                        path.unlink(missing_ok=True)


def steps(directory: Path) -> list[int]:
    """The steps of the undamaged checkpoints, newest first; a damaged one is reported on stderr, once.

    A UserError if there are checkpoints and all are damaged.
    """
    found = recorded(directory)
    problems = {step: problem for step in found if (problem := _damage(directory, step))}
    if problems and len(problems) == len(found):
        fix = "restore one, or `trqam clean` the run to train it anew"
        raise UserError(f"{problems[found[0]]}; no undamaged checkpoint is left in {directory}; {fix}")
    for problem in problems.values():
        warn(f"warning: {problem}; the checkpoint before it is used")
    return [step for step in found if step not in problems]


@cache
def warn(line: str) -> None:
    """Says it once, however often the folder is looked at."""
    print(line, file=sys.stderr)


def record(directory: Path, step: int) -> dict[str, Any]:
    """The record of an undamaged checkpoint."""
    return read_json(_paths(directory, step)[1])["record"]


def verify(directory: Path, step: int) -> None:
    """A UserError if the checkpoint is damaged."""
    if problem := _damage(directory, step):
        raise UserError(f"{problem}; `trqam clean` the run and train it again")


def load(directory: Path, step: int) -> tuple[dict[str, "Tensor"], dict[str, Any]]:
    """Tensors and record of one checkpoint; a UserError if it is damaged."""
    verify(directory, step)
    from safetensors.torch import load_file

    try:
        return load_file(_paths(directory, step)[0]), record(directory, step)
    except safetensors.SafetensorError:
        raise UserError(f"{_paths(directory, step)[0]}: damaged, not safetensors; `trqam clean` the run") from None


def _paths(directory: Path, step: int) -> tuple[Path, Path]:
    return directory / step_file(step, ".safetensors"), directory / step_file(step)


def recorded(directory: Path) -> list[int]:
    """Steps that have a record, newest first, damaged or not. A UserError if ``directory`` cannot be looked into."""
    return sorted(_named(directory, ".json"), reverse=True)


def _named(directory: Path, suffix: str) -> list[int]:
    """Steps that have a file with this suffix."""
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return []
    except OSError as error:
        fix = "restore it, or `trqam clean` the run"
        raise UserError(f"{directory}: cannot be read ({error.strerror}); {fix}") from None
    return [step for name in names if (step := step_of(name, suffix)) is not None]


def _replaced(sealed: Path, new: dict[str, Any]) -> dict[str, Any] | None:
    """The record that is in the way of ``new``, if it has other tensors."""
    if not sealed.exists():
        return None
    try:
        old = read_json(sealed)
        return old if old["tensors"] != new["tensors"] else None
    except (UserError, KeyError, TypeError):  # damaged: nothing to keep
        return None


def _damage(directory: Path, step: int) -> str | None:
    """What is wrong with a checkpoint, naming the file; None if nothing is."""
    weights, sealed = _paths(directory, step)
    try:
        content = read_json(sealed)
        msgspec.convert(content, Sealed)
        if content["seal"] != seal(content["record"]):
            return f"{sealed}: damaged (checksum)"
        if sha256(weights) not in content["tensors"].split():
            return f"{weights}: damaged (checksum)"
    except UserError as error:
        return str(error).partition("; ")[0]  # the fix depends on what there is beside it
    except OSError as error:
        return f"{weights}: damaged ({error.strerror})"
    except (msgspec.ValidationError, RecursionError):
        return f"{sealed}: damaged (not a checkpoint's record)"
    return None
