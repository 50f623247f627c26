"""Where a run lies on disk; free of torch, so that what only looks at runs starts in a moment."""

from dataclasses import dataclass
from pathlib import Path

from trqam.config import Config


@dataclass(frozen=True)
class Cell:
    """The folder of one seed of one task and method (or of a domain's pretraining)."""

    path: Path
    seed: int

    def directory(self, stage: str) -> Path:
        """The undeclared run directory of a stage."""
        return self.path / "run" / stage

    @property
    def lock(self) -> Path:
        """The lock of whoever trains the run (`trqam.lock`)."""
        return self.path / "run" / "lock"

    @property
    def diverged(self) -> Path:
        """Where a stage leaves its record when the seed diverged."""
        return self.path / "run" / "diverged.json"


def cell_of(config: Config, task: str, method: str, seed: int) -> Cell:
    """The cell of a task, method and seed."""
    return Cell(config.results / task / method / f"seed{seed}", seed)


def pretraining_cell(config: Config, domain: str) -> Cell:
    """The cell of a domain's behaviour cloning, which has one seed."""
    return Cell(config.results / "pretrained" / domain, 0)
