"""Training a block of seeds through one stage: pretrain, offline or online.

Seeds of a block are stacked; those that have finished are published unchanged, not trained, so that a job that is run
again, for whatever reason, loses nothing.
"""

import sys

import safetensors.torch

from trqam.agents import make_agent
from trqam.config.errors import Stopped, UserError
from trqam.config.load import Config, Run
from trqam.config.reading import sha256
from trqam.data.dataset import Dataset
from trqam.experiment import checkpoint
from trqam.experiment.files import sweep, write_atomically, writing
from trqam.experiment.progress import forget
from trqam.experiment.run import (
    Cell,
    cell_of,
    check_place,
    check_same,
    finished,
    locked,
    pretraining_cell,
    publish,
)
from trqam.networks.replicas import device_of, keep_freed_memory, replicas_at_once
from trqam.training.experience import REPLAY, check_saved
from trqam.training.profiling import Request
from trqam.training.stop import Stop
from trqam.training.trainer import Trainer, title

# A step, and whether it was saved with its logging interval ended, or before that (in an evaluation).
Place = tuple[int, bool]


def pretrain(config: Config, domain: str, stop: Stop | None = None, profile: Request | None = None) -> None:
    """Behaviour cloning of one domain; publishes its velocity field as ``base.safetensors``."""
    run, cell = config.pretraining(domain), pretraining_cell(config, domain)
    _train_block(config, run, "pretrain", run.pretrain_steps, [cell], stop, profile)


def train(
    config: Config,
    task: str,
    method: str,
    stage: str,
    seeds: list[int],
    stop: Stop | None = None,
    profile: Request | None = None,
) -> None:
    """The offline or online stage of some seeds of one cell; Stopped when ``stop`` was due before all had finished."""
    run = config.run(task, method)
    if stage not in config.stages(method):
        where = "ablation_stages" if method in config.ablated else f"{config.scale.methods_file}: {method}: stages"
        raise UserError(f"{config.path}: {where}: {stage!r} is not listed, so {method} has none; add it there")
    total = run.offline_steps if stage == "offline" else run.online_steps
    _train_block(config, run, stage, total, [cell_of(config, task, method, seed) for seed in seeds], stop, profile)


def _train_block(
    config: Config, run: Run, stage: str, total: int, cells: list[Cell], stop: Stop | None, profile: Request | None
) -> None:
    stop = stop or Stop()
    keep_freed_memory()

    def look() -> None:
        if stop.due():
            fix = "run the same command to go on, with more time if this comes again"
            raise Stopped(f"{title(run, stage)}: not begun ({stop.reason}); {fix}")

    with locked(cells, look):
        for cell in cells:
            for folder in (cell.path, cell.path / "run", cell.directory(stage)):
                sweep(folder)
            forget([cell.directory(stage)])  # of a training that was killed
        left = _unfinished(cells, run, stage, total)
        if skipped := [cell.seed for cell in cells if cell not in left]:
            print(f"{title(run, stage)}: seeds {skipped} have finished; not trained again", file=sys.stderr)
        device = device_of(config.scale.device)
        for group, start in _groups(left, run, stage, replicas_at_once(config.scale.replicas, run, device)):
            look()
            if start is None:  # nothing is there, but perhaps of a save that was killed
                for cell in group:
                    checkpoint.prune(cell.directory(stage), step=-1, keep=0)
            Trainer(config, run, stage, total, group, start, stop, profile).train()
        for cell in cells:
            record = finished(cell, run, stage, total)
            if stage == "pretrain":
                record |= {"base_sha256": _publish_base(cell, run)}
            publish(cell, run, stage, record)
            if not cell.diverged.exists():  # the older generation has done its work: all have ended
                checkpoint.prune(cell.directory(stage), total, keep=1)
        if config.scale.keep == "policy" and stage != "pretrain" and stage == config.stages(run.method)[-1]:
            for cell in cells:
                _keep_policy(config, run, cell)


def _keep_policy(config: Config, run: Run, cell: Cell) -> None:
    """Reduces the last checkpoints of a finished cell to what its policy acts with; the metrics stay whole."""
    if cell.diverged.exists():
        return  # as it was when it diverged, for whoever wants to know why
    sizes = Dataset.open(config.data_directory(run.domain), run.task).card["shapes"]
    for stage in config.stages(run.method):
        directory = cell.directory(stage)
        for step in checkpoint.steps(directory)[:1]:
            tensors, record = checkpoint.load(directory, step)
            if record.get("kept") != "policy":
                agent = make_agent(run.at(stage), sizes["observations"][1], sizes["actions"][1])
                kept = agent.acting_part(tensors)
                checkpoint.save(directory, step, kept, {**record, "kept": "policy", "experience": {}}, keep=1)
        with writing(replay := directory / REPLAY):
            replay.unlink(missing_ok=True)


def _publish_base(cell: Cell, run: Run) -> str:
    """Writes the cloned velocity field beside the manifest that will carry this checksum."""
    if cell.diverged.exists():
        raise UserError(
            f"{cell.diverged}: behaviour cloning diverged; lower learning_rate and `trqam clean {run.domain}`"
        )
    tensors, _ = checkpoint.load(cell.directory("pretrain"), run.pretrain_steps)
    base = {name.removeprefix("online/base/"): t for name, t in tensors.items() if name.startswith("online/base/")}
    path = cell.path / "base.safetensors"
    write_atomically(path, safetensors.torch.save(base))
    return sha256(path)


def _unfinished(cells: list[Cell], run: Run, stage: str, total: int) -> list[Cell]:
    """Cells that have not ended, and those that have beside one that was stacked with them and has not.

    Those were killed amid the stage's last save. They go back to a step that they share: what a seed alone computes
    differs in the last bit from what it does in its stack.
    """
    left = [cell for cell in cells if finished(cell, run, stage, total) is None]
    saved = {cell: _saved(cell, run, stage) for cell in left}
    for cell in cells:
        if cell in left or cell.diverged.exists():
            continue
        mates = [steps for block, steps in saved.values() if cell.seed in block]
        if mates and set(_saved(cell, run, stage)[1]).intersection(*mates):
            left.append(cell)
    return [cell for cell in cells if cell in left]


def _saved(cell: Cell, run: Run, stage: str) -> tuple[tuple[int, ...], list[Place]]:
    """The block in which a cell was trained, and the places that it can go on from, newest first."""
    directory, steps, problem = cell.directory(stage), [], None
    for step in checkpoint.steps(directory):
        record = checkpoint.record(directory, step)
        check_place(record, cell, stage, directory)
        check_same(record, run, stage, directory)
        try:
            check_saved(record, directory)
            steps.append((step, "interval" not in record))
        except UserError as error:
            problem = error
            checkpoint.warn(f"warning: {error}; the checkpoint before it is used")
    if problem and not steps:
        raise problem
    return tuple(record["block"]) if steps else (), steps


def _groups(cells: list[Cell], run: Run, stage: str, at_once: int) -> list[tuple[list[Cell], int | None]]:
    """Cells that can be stacked, each group with the newest step that all its members have saved (None: the start).

    Seeds that were stacked before stay together, at a step both of whose generations still hold; seeds that cannot
    agree on a step go on alone, each from its own; those that have not begun are stacked ``at_once`` a group.
    """
    saved = {cell: _saved(cell, run, stage) for cell in cells}
    reached = {cell: max(places)[0] if places else 0 for cell, (_, places) in saved.items()}
    early = [saved[cell][0] for cell in cells if 0 < reached[cell] <= run.checkpoint_interval]
    blocks: dict[tuple[int, ...], list[Cell]] = {}
    for cell, (block, _) in saved.items():  # killed amid its first save, a block begins again together
        block = block or next((block for block in early if cell.seed in block), ())
        blocks.setdefault(block, []).append(cell)
    groups: list[tuple[list[Cell], int | None]] = []
    for block, members in blocks.items():
        common = set.intersection(*(set(saved[cell][1]) for cell in members))
        if not block:
            groups += [(members[first : first + at_once], None) for first in range(0, len(members), at_once)]
        elif common:
            groups.append((members, max(common)[0]))
        elif max(reached[cell] for cell in members) <= run.checkpoint_interval:
            groups.append((members, None))
        else:
            groups += [([cell], reached[cell] or None) for cell in members]
    return groups
