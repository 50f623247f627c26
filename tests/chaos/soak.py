"""``python -m tests.chaos.soak --steps 1000000``: memory and checkpoints of a long training of the tiniest learner."""

import argparse
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import psutil
import torch

from tests.chaos.events import into, markdown
from tests.chaos.world import DOMAIN, METHOD, ROOT, TASK
from trqam.config import load
from trqam.data.generate import generate
from trqam.experiment import checkpoint
from trqam.training.blocks import pretrain, train
from trqam.training.trainer import Trainer

SAVES = 20  # and as many measurements; ten rows of metrics between two
WARM_UP = 0.2  # of the steps: what is imported, compiled or cached once comes before
TINIEST = {"hidden_width": 4, "hidden_layers": 1, "batch_size": 2, "flow_steps": 2, "critics": 2, "seeds": 1}
MB = 1 << 20


@dataclass
class Measured:
    """After a save: resident memory in bytes, checkpoints on disk, seconds since the first."""

    step: int
    resident: int
    checkpoints: int
    seconds: float


def soak(folder: Path, steps: int, stage: str) -> list[Measured]:
    """Trains ``steps`` steps (a multiple of 10 * `SAVES`) of a stage in an empty folder, measuring at every save."""
    for name in ("config", "tests"):
        (folder / name).symlink_to(ROOT / name)
    changes = {**TINIEST, "tasks": [TASK], "data_dir": str(folder / "data"), "ablation_eval_interval": steps}
    changes |= dict.fromkeys(("pretrain_steps", "offline_steps", "online_steps", "eval_interval"), steps)
    changes |= {"checkpoint_interval": steps // SAVES, "log_interval": steps // SAVES // 10}
    if stage == "offline":
        changes["pretrain_steps"] = steps // SAVES // 10
    home, found, original = Path.cwd(), [], Trainer._save
    os.chdir(folder)
    try:
        loaded = load.load("tests/tiny.yaml", changes)
        generate(DOMAIN, folder / "data" / DOMAIN, loaded.scale.transitions, loaded.scale.data_seed)
        if stage == "offline":
            pretrain(loaded, DOMAIN)
        began = time.monotonic()

        def save(trainer: Trainer) -> None:
            original(trainer)
            kept = len(checkpoint.recorded(trainer.cells[0].directory(trainer.stage)))
            found.append(Measured(trainer.step, psutil.Process().memory_info().rss, kept, time.monotonic() - began))

        with mock.patch.object(Trainer, "_save", save):
            if stage == "offline":
                train(loaded, TASK, METHOD, "offline", [0])
            else:
                pretrain(loaded, DOMAIN)
    finally:
        os.chdir(home)
    return found


def growth(measured: list[Measured]) -> float:
    """How much larger the memory was at most than after the warm-up, as a share of it."""
    after = [at.resident for at in measured if at.step >= WARM_UP * measured[-1].step]
    return max(after) / after[0] - 1


def table(measured: list[Measured]) -> list[str]:
    """Markdown: every fifth measurement."""
    rows = [
        (f"{at.step:,}", f"{at.resident / MB:.1f}", str(at.checkpoints), f"{at.step / at.seconds:.0f}")
        for at in measured[SAVES // 5 - 1 :: SAVES // 5]
    ]
    return markdown(("steps", "resident memory, MB", "checkpoints on disk", "steps/s"), rows)


def main() -> None:
    """Runs it; exit code 1 if memory grew by 1 % or more, or more than two checkpoints were kept."""
    top = argparse.ArgumentParser(prog="python -m tests.chaos.soak", description=__doc__)
    top.add_argument("--steps", type=int, default=1_000_000, help="a multiple of 200 (default: %(default)s)")
    top.add_argument("--stage", choices=("pretrain", "offline"), default="pretrain", help="default: %(default)s")
    top.add_argument("--document", type=Path, metavar="FILE", help="put the table into it, too")
    arguments = top.parse_args()
    if arguments.steps <= 0 or arguments.steps % (10 * SAVES):
        top.error(f"--steps {arguments.steps}: must be a multiple of {10 * SAVES}")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="soak") as folder:
        measured = soak(Path(folder), arguments.steps, arguments.stage)
    grown, kept = growth(measured), max(at.checkpoints for at in measured)
    steps = f"{WARM_UP:.0%} of {measured[-1].step:,} steps"
    ended = f"After {steps} memory grew by {grown:.2%}; at most {kept} checkpoints were on disk."
    lines = [f"Stage: {arguments.stage}.", "", *table(measured), "", ended]
    print("\n".join(lines))
    if arguments.document:
        into(arguments.document, "python -m tests.chaos.soak", lines)
    sys.exit(grown >= 0.01 or kept > checkpoint.GENERATIONS)


if __name__ == "__main__":
    main()
