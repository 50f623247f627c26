"""Training a block of seeds through one stage: pretrain, offline or online.

Seeds of a block are stacked; those that have finished are published unchanged, not trained, so that a job that is run
again, for whatever reason, loses nothing.
"""

import sys

from trqam.agents import make_agent
from trqam.config.errors import Stopped, UserError
from trqam.config.load import Config, Run
from trqam.data.dataset import Dataset
from trqam.experiment import checkpoint
from trqam.experiment.files import sweep, writing
from trqam.experiment.progress import forget
from trqam.experiment.published import publish, publish_base
from trqam.experiment.run import Cell, RunFolder, cell_of, locked, pretraining_cell
from trqam.networks.replicas import device_of, keep_freed_memory, replicas_at_once
from trqam.training.experience import REPLAY, check_saved
from trqam.training.profiling import Request
from trqam.training.stop import Stop
from trqam.training.trainer import Trainer, title


def pretrain(config: Config, name: str, stop: Stop | None = None, profile: Request | None = None) -> None:
    """Behaviour cloning of one domain; publishes its velocity field as ``base.safetensors``."""
    _train_block(config, config.pretraining(name), "pretrain", [pretraining_cell(config, name)], stop, profile)


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
    _train_block(config, run, stage, [cell_of(config, task, method, seed) for seed in seeds], stop, profile)


def _train_block(
    config: Config, run: Run, stage: str, cells: list[Cell], stop: Stop | None, profile: Request | None
) -> None:
    stop = stop or Stop()
    keep_freed_memory()

    def look() -> None:
        if stop.due():
            fix = "run the same command to go on, with more time if this comes again"
            raise Stopped(f"{title(run, stage)}: not begun ({stop.reason}); {fix}")

    with locked(cells, look):
        folders = [RunFolder(cell, run, stage) for cell in cells]
        for folder in folders:
            for path in (folder.cell.path, folder.cell.path / "run", folder.directory):
                sweep(path)
            forget([folder.directory])  # of a training that was killed
        left = _unfinished(folders)
        if skipped := [folder.cell.seed for folder in folders if folder not in left]:
            print(f"{title(run, stage)}: seeds {skipped} have finished; not trained again", file=sys.stderr)
        at_once = replicas_at_once(config.scale.replicas, run, device_of(config.scale.device))
        for group, start in _groups(left, at_once):
            look()
            if start is None:  # nothing is there, but perhaps of a save that was killed
                for folder in group:
                    checkpoint.prune(folder.directory, step=-1, keep=0)
            Trainer(config, group, start, stop, profile).train()
        for folder in [RunFolder(old.cell, run, stage) if old in left else old for old in folders]:
            _publish(config, folder)
        if config.scale.keep == "policy" and stage != "pretrain" and stage == config.stages(run.method)[-1]:
            for cell in cells:
                _keep_policy(config, run, cell)


def _publish(config: Config, folder: RunFolder) -> None:
    """The files of a stage that has ended; the older generation has then done its work."""
    cell, record = folder.cell, folder.finished
    assert record is not None
    if folder.stage == "pretrain":
        if folder.diverged:
            fix = f"lower learning_rate and run {config.command('clean', folder.run.cloned)}"
            raise UserError(f"{cell.diverged}: behaviour cloning diverged; {fix}")
        record["base_sha256"] = publish_base(cell, folder.checkpoints.load(folder.total)[0])
    publish(cell, folder.run, folder.stage, record)
    if not cell.diverged.exists():
        checkpoint.prune(folder.directory, folder.total, keep=1)


def _keep_policy(config: Config, run: Run, cell: Cell) -> None:
    """Reduces the last checkpoints of a finished cell to what its policy acts with; the metrics stay whole."""
    if cell.diverged.exists():
        return  # as it was when it diverged, for whoever wants to know why
    sizes = Dataset.open(config.data_directory(run.domain), run.task).card["shapes"]
    for stage in config.stages(run.method):
        saved = checkpoint.Checkpoints(cell.directory(stage))
        for step in saved.steps[:1]:
            if (record := saved.record(step)).get("kept") != "policy":
                agent = make_agent(run.at(stage), sizes["observations"][1], sizes["actions"][1])
                kept = agent.acting_part(saved.load(step)[0])
                checkpoint.save(saved.directory, step, kept, {**record, "kept": "policy", "experience": {}}, keep=1)
        with writing(replay := saved.directory / REPLAY):
            replay.unlink(missing_ok=True)


def _unfinished(folders: list[RunFolder]) -> list[RunFolder]:
    """Seeds that have not ended, and those that have beside one that was stacked with them and has not.

    Those were killed amid the stage's last save. They go back to a step that they share: what a seed alone computes
    differs in the last bit from what it does in its stack.
    """
    left = [folder for folder in folders if folder.finished is None]
    saved = [folder.places(check_saved) for folder in left]
    for folder in folders:
        if folder in left or folder.cell.diverged.exists():
            continue
        mates = [places for block, places in saved if folder.cell.seed in block]
        if mates and set(folder.places(check_saved)[1]).intersection(*mates):
            left.append(folder)
    return [folder for folder in folders if folder in left]


def _groups(folders: list[RunFolder], at_once: int) -> list[tuple[list[RunFolder], int | None]]:
    """Seeds that can be stacked, each group with the newest step that all its members have saved (None: the start).

    Seeds that were stacked before stay together, at a step both of whose generations still hold; seeds that cannot
    agree on a step go on alone, each from its own; those that have not begun are stacked ``at_once`` a group.
    """
    saved = {folder: folder.places(check_saved) for folder in folders}
    reached = {folder: max(places)[0] if places else 0 for folder, (_, places) in saved.items()}
    early = [saved[folder][0] for folder in folders if 0 < reached[folder] <= folder.run.checkpoint_interval]
    blocks: dict[tuple[int, ...], list[RunFolder]] = {}
    for folder, (block, _) in saved.items():  # killed amid its first save, a block begins again together
        block = block or next((block for block in early if folder.cell.seed in block), ())
        blocks.setdefault(block, []).append(folder)
    groups: list[tuple[list[RunFolder], int | None]] = []
    for block, members in blocks.items():
        common = set.intersection(*(set(saved[folder][1]) for folder in members))
        if not block:
            groups += [(members[first : first + at_once], None) for first in range(0, len(members), at_once)]
        elif common:
            groups.append((members, max(common)[0]))
        elif max(reached[folder] for folder in members) <= members[0].run.checkpoint_interval:
            groups.append((members, None))
        else:
            groups += [([folder], reached[folder] or None) for folder in members]
    return groups
