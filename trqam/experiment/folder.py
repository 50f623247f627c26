"""Where a run lies on disk; free of torch, so that what only looks at runs starts in a moment."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from trqam.config.errors import UserError
from trqam.config.load import Config
from trqam.config.strict import shown
from trqam.experiment import checkpoint


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


# What a training writes below a cell.
STAGE = "(pretrain|offline|online)"
OWN = re.compile(
    rf"{STAGE}\.(csv|json)|timing\.csv|base\.safetensors|run/(lock(\.[0-9a-f]+)?|diverged\.json|profile-[^/]+)"
    rf"|run/{STAGE}/(step[0-9]+\.(json|safetensors)|replay\.bin|progress\.json)"
    rf"|(run/({STAGE}/)?)?\.([^/]+\.tmp|DS_Store)"
)


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


def cell_of(config: Config, task: str, method: str, seed: int) -> Cell:
    """The cell of a task, method and seed."""
    return Cell(config.results / task / method / f"seed{seed}", seed)


def pretraining_cell(config: Config, name: str) -> Cell:
    """The cell of a cloned policy (`Config.pretrainings`), which has one seed."""
    return Cell(config.results / "pretrained" / name, 0)
