"""Checkpoints of one seed: two generations, each a safetensors file and a JSON record that seals it.

    run/{stage}/step000001000.safetensors   every tensor of the learner's state, and of the environment's position
    run/{stage}/step000001000.json          what else is needed to go on, the complete metrics so far, checksums

The record is written last, atomically, so a pair is whole or ignored; the generation before is deleted only after that.
A damaged pair is reported in one line and the one before it is used. Where there is none, that is an error: to begin at
step 0 what had begun is for people to decide.
"""

import hashlib
import os
import re
import sys
from collections.abc import Collection
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import safetensors

from trqam.config.errors import UserError
from trqam.config.reading import read_json, seal, sha256
from trqam.config.strict import read_record
from trqam.experiment.files import write_atomically, write_json, writing

if TYPE_CHECKING:
    from torch import Tensor

GENERATIONS = 2
NAME = re.compile(r"step([0-9]{9,13})(\.json|\.safetensors)")


class Sealed(msgspec.Struct):
    """A checkpoint's record file; ``tensors`` are one or two sums."""

    tensors: str
    seal: str
    record: dict[str, Any]


class Checkpoints:
    """The checkpoints in a directory at one moment: each of their files is read, and hashed, at most once."""

    def __init__(self, directory: Path):
        self.directory = directory
        self._records: dict[int, dict[str, Any]] = {}  # of those that are whole

    @cached_property
    def steps(self) -> list[int]:
        """The steps of the undamaged ones, newest first; a damaged one is reported on stderr, once.

        A UserError if there are some and all are damaged.
        """
        all_steps = recorded(self.directory)
        problems = {step: problem for step in all_steps if (problem := self._damage(step))}
        if problems and len(problems) == len(all_steps):
            fix = "restore one, or `trqam clean` the run to train it anew"
            raise UserError(f"{problems[all_steps[0]]}; no undamaged checkpoint is left in {self.directory}; {fix}")
        for problem in problems.values():
            warn(f"warning: {problem}; the checkpoint before it is used")
        return [step for step in all_steps if step not in problems]

    def record(self, step: int) -> dict[str, Any]:
        """What is recorded of a step; a UserError if its checkpoint is damaged."""
        if step not in self._records and (problem := self._damage(step)):
            raise UserError(f"{problem}; `trqam clean` the run and train it again")
        return self._records[step]

    def load(self, step: int) -> tuple[dict[str, "Tensor"], dict[str, Any]]:
        """Tensors and record of a step; a UserError if its checkpoint is damaged."""
        record, path = self.record(step), _paths(self.directory, step)[0]
        from safetensors.torch import load_file

        try:
            return load_file(path), record
        except safetensors.SafetensorError:
            raise UserError(f"{path}: damaged, not safetensors; `trqam clean` the run") from None

    def _damage(self, step: int) -> str | None:
        """What is wrong with a checkpoint, naming the file; None if nothing is."""
        weights = _paths(self.directory, step)[0]
        try:
            sealed = read(self.directory, step)
            if sha256(weights) not in sealed.tensors.split():
                return f"{weights}: damaged (checksum)"
        except UserError as error:
            return str(error).partition("; ")[0]  # the fix depends on what there is beside it
        except OSError as error:
            return f"{weights}: damaged ({error.strerror})"
        self._records[step] = sealed.record
        return None


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
    steps = recorded(directory)
    lasting = [other for other in steps if other == step or (other < step and other not in abandoned)][:keep]
    for other in sorted({*steps, *recorded(directory, ".safetensors")}):
        if other not in lasting:
            for path in reversed(_paths(directory, other)):  # first the record, which makes it count
                with writing(path):
                    if path.is_symlink() or not path.is_dir():  # a folder is not ours
                        path.unlink(missing_ok=True)


def read(directory: Path, step: int) -> Sealed:
    """The record file of a checkpoint, by itself whole; a UserError if it is not."""
    path = _paths(directory, step)[1]
    try:
        sealed = msgspec.convert(read_json(path), Sealed)
        if sealed.seal == seal(sealed.record):
            return sealed
    except (msgspec.ValidationError, RecursionError):
        raise UserError(f"{path}: damaged (not a checkpoint's record); restore it") from None
    raise UserError(f"{path}: damaged (checksum); restore it")


@cache
def warn(line: str) -> None:
    """Says it once, however often the folder is looked at."""
    print(line, file=sys.stderr)


def step_file(step: int, suffix: str = ".json") -> str:
    """The name of a checkpoint's record (`.json`) or tensors (`.safetensors`)."""
    return f"step{step:09d}{suffix}"


def recorded(directory: Path, suffix: str = ".json") -> list[int]:
    """Steps that have a record, newest first, damaged or not. A UserError if ``directory`` cannot be looked into.

    By exact names: what a synchroniser, an editor or a file manager left beside them is not ours.
    """
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return []
    except OSError as error:
        fix = "restore it, or `trqam clean` the run"
        raise UserError(f"{directory}: cannot be read ({error.strerror}); {fix}") from None
    steps = [int(match[1]) for name in names if (match := NAME.fullmatch(name))]
    return sorted({step for step in steps if step_file(step, suffix) in names}, reverse=True)


def _paths(directory: Path, step: int) -> tuple[Path, Path]:
    return directory / step_file(step, ".safetensors"), directory / step_file(step)


def _replaced(path: Path, new: dict[str, Any]) -> dict[str, Any] | None:
    """The record file that is in the way of ``new``, if it is of other tensors."""
    if not path.exists():
        return None
    try:
        old = read_record(path, Sealed, "")
    except UserError:  # damaged: nothing to keep
        return None
    return old if old["tensors"] != new["tensors"] else None
