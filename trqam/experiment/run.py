"""A run on disk: what lies in its folder is read here, once, and what it means is known here.

results/{scale}/{task}/{method}/seed{n}/run/{stage}/   checkpoints with the complete metrics; never declared to
                                                       Snakemake, which deletes what it was told of
results/{scale}/{task}/{method}/seed{n}/{stage}.csv    metrics, one row a logged step; no clock in it
results/{scale}/{task}/{method}/seed{n}/{stage}.json   manifest, with the metrics' checksum and a seal of its own
results/{scale}/{task}/{method}/seed{n}/timing.csv     seconds and updates per second, of all stages

The last three are written and read back by `trqam.experiment.published`. Nothing here imports torch, so that what only
looks at runs starts in a moment.
"""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import msgspec

from trqam.config.errors import UserError
from trqam.config.load import STAGES, Config, Run
from trqam.config.reading import read_bytes
from trqam.config.schema import Natural
from trqam.config.strict import read_record, shown
from trqam.experiment import checkpoint, lock
from trqam.experiment.checkpoint import Checkpoints, step_file
from trqam.experiment.provenance import environment, provenance

RESTORE = "restore it, or `trqam clean` the run to train it anew"
OF_DATA = ("data_seed", "data_source", "transitions")  # other ones have no place in the same data_dir
BELONGS = "put back what belongs here, or `trqam clean` this run to train it anew"

# What a training writes below a cell.
STAGE = "(pretrain|offline|online)"
OWN = re.compile(
    rf"{STAGE}\.(csv|json)|timing\.csv|base\.safetensors|run/(lock(\.[0-9a-f]+)?|diverged\.json|profile-[^/]+)"
    rf"|run/{STAGE}/(step[0-9]+\.(json|safetensors)|replay\.bin|progress\.json)"
    rf"|(run/({STAGE}/)?)?\.([^/]+\.tmp|DS_Store)"
)

Block = Annotated[list[Natural], msgspec.Meta(min_length=1)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e11)]
# A step, and whether it was saved with its logging interval ended, or before that (in an evaluation).
Place = tuple[int, bool]


@dataclass(frozen=True)
class Cell:
    """The folder of one seed of one task and method (or of a cloned policy)."""

    path: Path
    seed: int

    def directory(self, stage: str) -> Path:
        """The undeclared run directory of a stage."""
        return self.path / "run" / stage

    @property
    def lock(self) -> Path:
        """The lock of whoever trains the run (`trqam.experiment.lock`)."""
        return self.path / "run" / "lock"

    @property
    def diverged(self) -> Path:
        """Where a stage leaves its record when the seed diverged."""
        return self.path / "run" / "diverged.json"


def cell_of(config: Config, task: str, method: str, seed: int) -> Cell:
    """The cell of a task, method and seed."""
    return Cell(config.results / task / method / f"seed{seed}", seed)


def pretraining_cell(config: Config, name: str) -> Cell:
    """The cell of a cloned policy (`Config.pretrainings`), which has one seed."""
    return Cell(config.results / "pretrained" / name, 0)


class Environment(msgspec.Struct, omit_defaults=True):
    """What made a part of a run, as far as it is compared."""

    versions: dict[str, str]
    code: str = ""
    data_sha256: str = ""
    base_sha256: str = ""


class Evaluated(msgspec.Struct, omit_defaults=True):
    """What is read of a row of metrics."""

    step: Natural
    success: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None


class Timing(msgspec.Struct):
    """What is read of a row of timing."""

    step: Natural
    seconds: Seconds


class Record(Environment, kw_only=True):
    """What is read of a checkpoint's record by who only looks; the rest is skipped, which is many times as fast."""

    block: Block
    timing: list[Timing]
    rows: list[Evaluated]
    versions: dict[str, str] = {}
    configuration: dict[str, Any] = {}
    seed: int = -1  # what equals a default is left out of what is made of it, and 0 is a seed
    stage: str = ""
    resumed: tuple[Environment, ...] = ()
    kept: str = ""
    interval: Any = None


class Sealed(msgspec.Struct):
    """A checkpoint's file."""

    record: Record


class Diverged(msgspec.Struct):
    """What is read of the record that a diverged seed leaves."""

    stage: Literal["pretrain", "offline", "online"]
    seed: int
    configuration: dict[str, Any]
    versions: dict[str, str]
    rows: Annotated[list[Evaluated], msgspec.Meta(min_length=1)]


@dataclass(frozen=True)
class Saved:
    """The newest checkpoint that can be read."""

    step: int = 0
    moment: float | None = None  # when it was saved
    record: Record | None = None
    problem: str | None = None  # where there are some, and none can be read
    warning: str | None = None  # of a newer one


class RunFolder:
    """One stage of one seed as it is on disk at one moment: whoever asks, each file is read, and hashed, at most once.

    `finished`, `places` and `checkpoints` look at every byte, for who trains. `newest` and `published` believe what
    they find, for who only looks, perhaps beside a training: all files are replaced atomically, so what is read is
    whole, and what disappears between two looks is looked for again.
    """

    def __init__(self, cell: Cell, run: Run, stage: str):
        self.cell, self.run, self.stage = cell, run, stage
        self.total: int = getattr(run, f"{stage}_steps")
        self.manifest, self.metrics = cell.path / f"{stage}.json", cell.path / f"{stage}.csv"
        self.directory = cell.directory(stage)
        self.checkpoints = Checkpoints(self.directory)
        self._places: tuple[tuple[int, ...], list[Place]] | None = None

    @property
    def published(self) -> bool:
        """Whether manifest and metrics are there, whatever is in them."""
        return is_there(self.manifest) and is_there(self.metrics)

    @cached_property
    def diverged(self) -> dict[str, Any] | None:
        """The record of the divergence that ended this stage, or one before it; a UserError if it is damaged."""
        if not is_there(self.cell.diverged):
            return None
        record = read_record(self.cell.diverged, Diverged, RESTORE)
        return record if STAGES.index(record["stage"]) <= STAGES.index(self.stage) else None

    @cached_property
    def finished(self) -> dict[str, Any] | None:
        """The record of a stage that has ended, by reaching its last step or by diverging; None if it has not."""
        if self.diverged:
            stage, where = self.diverged["stage"], self.cell.diverged
            check_place(self.diverged, self.cell, stage, where)
            check_same(self.diverged, self.run, stage, where)
            return self.diverged
        if self.total not in self.checkpoints.steps:
            return None
        record = self._checked(self.total)
        return None if "interval" in record else record  # stopped in the last evaluation

    def places(self, check: Callable[[dict[str, Any], Path], None]) -> tuple[tuple[int, ...], list[Place]]:
        """The block in which it was trained, and the places that it can go on from, newest first.

        ``check`` raises UserError if what a record leans on beside its own files is not there.
        """
        if self._places is None:
            self._places = self._seek_places(check)
        return self._places

    def _seek_places(self, check: Callable[[dict[str, Any], Path], None]) -> tuple[tuple[int, ...], list[Place]]:
        places: list[Place] = []
        block: tuple[int, ...] = ()
        problem = None
        for step in self.checkpoints.steps:
            record = self._checked(step)
            try:
                check(record, self.directory)
            except UserError as error:
                problem = error
                checkpoint.warn(f"warning: {error}; the checkpoint before it is used")
            else:
                block = tuple(record["block"])
                places.append((step, "interval" not in record))
        if problem and not places:
            raise problem
        return block, places

    @cached_property
    def newest(self) -> Saved:
        """The newest checkpoint by its record; where none can be read, the newest's name tells its step."""
        for _ in range(3):  # a newer one replaces it at any moment
            first = None
            for step in checkpoint.recorded(self.directory):
                path = self.directory / step_file(step)
                try:
                    moment = os.stat(path).st_mtime
                    record = msgspec.json.decode(read_bytes(path), type=Sealed).record
                except (UserError, OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                    if not os.path.lexists(path):
                        break
                    reason = f"{path}: damaged, not a checkpoint's record"
                    reason = str(error).partition("; ")[0] if isinstance(error, UserError) else reason
                    first = first or (step, reason)
                else:
                    warning = f"{first[1]}; the checkpoint before it is used" if first else None
                    return Saved(step, moment, record, warning=warning)
            else:
                return Saved(first[0], problem=f"{first[1]}; {RESTORE}") if first else Saved()
        return Saved()

    def _checked(self, step: int) -> dict[str, Any]:
        """The record of a checkpoint that belongs here, and to today's configuration."""
        record = self.checkpoints.record(step)
        check_place(record, self.cell, self.stage, self.directory)
        check_same(record, self.run, self.stage, self.directory)
        return record


def is_there(path: Path) -> bool:
    """Whether something has this name, if only a link to nothing; a UserError if that cannot be known."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); make it readable") from None
    return True


def refuse_strangers(cell: Cell) -> None:
    """A UserError that names the first file in a cell which no training writes, for who deletes the whole folder."""
    for path in (cell.path, *sorted(cell.path.rglob("*"))):
        name = str(path.relative_to(cell.path))
        ours = path.is_dir() or (path.is_file() and OWN.fullmatch(name)) or not os.path.lexists(path)
        if path.is_symlink() or not ours:
            raise UserError(f"{cell.path}/{shown(name, 120)}: no file of a run; move it away, then clean again")


def refuse_lone(cell: Cell, stage: str) -> None:
    """A UserError if what training would publish of ``stage`` is there without any checkpoint that it can be of."""
    trained = checkpoint.recorded(cell.directory(stage)) or cell.diverged.exists()
    names = [f"{stage}.csv", f"{stage}.json", *(["base.safetensors"] if stage == "pretrain" else [])]
    for name in names:
        if os.path.lexists(cell.path / name) and not trained:
            fix = "move it away, or `trqam clean` the run"
            raise UserError(f"{cell.path / name}: is there without checkpoints, and training would replace it; {fix}")


@contextmanager
def locked(cells: list[Cell], look: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Exclusive use of the run directories; `Busy` if another process, even an orphaned one, is writing there.

    ``look`` is called while a lock that may be stale is watched (`trqam.experiment.lock`).
    """
    with lock.held([cell.lock for cell in cells], look):
        yield


class Changed(NamedTuple):
    """A key in which two configurations differ."""

    key: str
    old: Any
    new: Any


def changes(record: dict[str, Any], run: Run, stage: str) -> list[Changed]:
    """Where a recorded configuration differs from ``run``, each of the agent's parameters by itself."""
    old, new = _flat(record["configuration"]), _flat(run.resolved(stage))
    keys = sorted(old.keys() | new.keys())
    return [Changed(key, old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key)]


def _flat(configuration: dict[str, Any]) -> dict[str, Any]:
    own = configuration.get("parameters")
    rest = {key: value for key, value in configuration.items() if key != "parameters"}
    return rest | own if isinstance(own, dict) else configuration


def check_same(record: dict[str, Any], run: Run, stage: str, where: Path, clean: str | None = None) -> None:
    """A UserError that names the first key in which a recorded configuration differs from ``run``.

    ``clean`` is the command that the line names, if another than the one for this run alone.
    """
    for key, old, new in changes(record, run, stage):
        single = run.cloned if stage == "pretrain" else f"{run.task} {run.method} --seed {record['seed']}"
        clean = clean or f"`python -m trqam clean {single}`, with the --config and --set given here,"
        fix = f"run {clean} to train anew"
        if key in OF_DATA:
            fix = "give other data a scale and data_dir of their own, such as scale=mine data_dir=data/mine"
        message = f"{where}: {key}: trained with {old!r}, the configuration now says {new!r}"
        raise UserError(f"{message}; restore it, or {fix}")


def check_place(record: dict[str, Any], cell: Cell, stage: str, where: Path, fix: str = BELONGS) -> None:
    """A UserError if a record is of another seed or stage than the place where it lies: files were copied or moved."""
    for key, here in (("seed", cell.seed), ("stage", stage)):
        if record.get(key) != here:
            raise UserError(f"{where}: {key}: is of {key} {record.get(key)}, in the place of {key} {here}; {fix}")


def new_record(run: Run, stage: str, seed: int, block: list[int], **sums: str) -> dict[str, Any]:
    """The part of a record that does not change while training: what the manifest will say.

    ``sums``: ``data_sha256`` of the data (`trqam.experiment.provenance.data_sum`) and, where the run begins from a
    cloned policy, ``base_sha256`` of its base.safetensors.
    """
    return {
        "configuration": run.resolved(stage),
        "digest": run.digest(stage),
        "stage": stage,
        "seed": seed,
        "block": block,
        "command": provenance()["command"],
        **environment(run.agent, run.domain),
        **sums,
    }


def note_environment(record: dict[str, Any], run: Run, step: int, **sums: str) -> None:
    """Adds to the record what makes the run from ``step`` on, where that is not what made it before."""
    now = environment(run.agent, run.domain) | sums
    before = [record, *record.get("resumed", [])][-1]
    if any(before.get(key) != value for key, value in now.items()):
        record["resumed"] = [*record.get("resumed", []), {"step": step, **now}]
