"""Whether what is trained belongs together and to today's configuration: one verdict, whoever asks.

`trqam collect` asks of what is published, Snakemake before its first job and `trqam status` also of what has begun and
of what would be trained now, and `trqam clean --outdated` deletes what stands in the way. Nothing here trains, and no
table is read: a manifest and the checksum of its metrics are enough.
"""

import hashlib
import json
import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from trqam.config.errors import UserError
from trqam.config.load import STAGES, Config
from trqam.config.reading import read_bytes
from trqam.config.schema import Run, Scale
from trqam.config.strict import convert, read_record, read_yaml
from trqam.experiment import checkpoint
from trqam.experiment.folder import Cell, cell_of, pretraining_cell, step_file
from trqam.experiment.mixing import SHAPE, TODAY, made_by, mixture
from trqam.experiment.provenance import provenance
from trqam.experiment.published import Environment, verify_run
from trqam.experiment.run import RESTORE, Diverged, changes, check_same
from trqam.experiment.sources import code_digest


@dataclass(frozen=True)
class Part:
    """A stage of a run that has ended or begun: its record, and the file that it is from."""

    cell: Cell
    run: Run
    stage: str
    where: Path
    record: dict[str, Any]
    step: int
    ended: bool
    published: bool


class Begun(Environment, kw_only=True):
    """What is read of a checkpoint's record; the rest is skipped, which is many times as fast."""

    configuration: dict[str, Any]
    seed: int
    stage: str
    resumed: tuple[Environment, ...] = ()
    kept: str = ""
    interval: Any = None


class Sealed(msgspec.Struct):
    """A checkpoint's file."""

    record: Begun


def parts(config: Config, task: str, method: str) -> list[Part]:
    """What there is of a cell's runs: of every stage and seed, and last of the pretraining that they begin from.

    Raises UserError if a published file is not what was published in its place.
    """
    run = config.run(task, method)
    found = [
        part_of(cell_of(config, task, method, seed), run, stage)
        for stage in config.stages(method)
        for seed in range(config.scale.seeds)
    ]
    if "pretrain" in config.methods[method].stages:
        found.append(part_of(pretraining_cell(config, run.domain), run, "pretrain"))
    return [part for part in found if part]


def part_of(cell: Cell, run: Run, stage: str) -> Part | None:
    """One stage of one seed: as it is published, else as its newest checkpoint or divergence says; None if neither.

    Raises UserError if a file is damaged, or a folder may not be looked into.
    """
    try:
        return _part_of(cell, run, stage)
    except OSError as error:
        raise UserError(f"{error.filename}: cannot be read ({error.strerror}); make it readable") from None


def _part_of(cell: Cell, run: Run, stage: str) -> Part | None:
    total, manifest = getattr(run, f"{stage}_steps"), cell.path / f"{stage}.json"
    if manifest.exists() and (cell.path / f"{stage}.csv").exists():
        record = verify_run(cell, run, stage)
        trained = record["configuration"].get(f"{stage}_steps", total)
        return Part(cell, run, stage, manifest, record, trained, ended=True, published=True)
    if cell.diverged.exists():
        record = read_record(cell.diverged, Diverged, RESTORE)
        if (at := STAGES.index(record["stage"])) <= STAGES.index(stage):
            return Part(cell, run, STAGES[at], cell.diverged, record, record["rows"][-1]["step"], True, False)
    if newest := _newest(cell, stage):
        step, record = newest
        where = cell.directory(stage) / step_file(step)
        ended = step == total and record.interval is None
        return Part(cell, run, stage, where, msgspec.to_builtins(record), step, ended, published=False)
    return None


def _newest(cell: Cell, stage: str) -> tuple[int, Begun] | None:
    """Step and record of the newest checkpoint; None if there is none, or it is damaged: its training will say so."""
    try:
        for step in checkpoint.recorded(cell.directory(stage))[:1]:
            content = read_bytes(cell.directory(stage) / step_file(step))
            return step, msgspec.json.decode(content, type=Sealed).record
    except (UserError, msgspec.DecodeError, RecursionError):
        pass
    return None


def mixed_because(config: Config, found: list[Part], accepted: bool, ahead: bool) -> str:
    """Why the parts of a cell do not belong together, or nothing; UserError unless that is ``accepted`` and can be.

    With ``ahead`` what is still to be trained counts, as it would be made by today's code and packages.
    """
    if not found:
        return ""
    run = found[0].run
    changed = [(part, change) for part in found for change in changes(part.record, run, part.stage)]
    for part, change in changed:
        if not accepted or change.key in SHAPE:
            check_same(part.record, run, part.stage, part.where, command(config, "clean", "--outdated"))
    made = [(part.where, part.record) for part in found]
    if ahead and not _complete(config, found):
        made.append((TODAY, _today(run.agent)))
    reason = mixture(made, [(part.where, change) for part, change in changed])
    if reason and not accepted:
        raise UserError(reason.refusal(run.task, run.method, command(config, "clean", "--outdated")))
    return reason.reason if reason else ""


def _complete(config: Config, found: list[Part]) -> bool:
    """Whether nothing of a cell is left to train."""
    asked = len(config.stages(found[0].run.method)) * config.scale.seeds
    return sum(part.ended for part in found if part.stage != "pretrain") == asked


def _today(agent: str) -> dict[str, Any]:
    """What would make a run now, as far as it is compared."""
    return {"stage": None, "code": code_digest(agent), "versions": provenance()["versions"]}


def check_pretraining(config: Config, domain: str) -> None:
    """A UserError unless the cloned policy, where there is one, is that of its manifest, and of today's values."""
    cell, run = pretraining_cell(config, domain), config.pretraining(domain)
    part, base = part_of(cell, run, "pretrain"), cell.path / "base.safetensors"
    if part and part.published and base.exists():
        fix = f"delete it and run {command(config, 'pretrain', domain)}"
        if hashlib.sha256(read_bytes(base, fix=fix)).hexdigest() == part.record.get("base_sha256"):
            return
        raise UserError(f"{base}: damaged (checksum differs from pretrain.json); {fix}")


def check_everything(config: Config) -> list[Part]:
    """All parts of a scale; the UserError that keeps them from being trained to the end and collected, if any."""
    found = []
    for domain in config.task_domains:
        check_pretraining(config, domain)
    for task, method in config.cells:
        here = parts(config, task, method)
        mixed_because(config, here, config.scale.mixed, ahead=True)
        found += here
    return found


def refusal(config: Config) -> str | None:
    """The line in which `trqam collect` and Snakemake would refuse what there is; None if they would not."""
    try:
        check_everything(config)
    except UserError as error:
        return str(error)
    return None


def check_asked(config: Config, task: str, method: str, stage: str, seeds: list[int]) -> None:
    """A UserError, which says what there is, unless the scale has these runs."""
    config.run(task, method)
    if stage not in config.stages(method):
        where = "ablation_stages" if method in config.ablated else f"{config.scale.methods_file}: {method}: stages"
        has = f"{method} has {' and '.join(config.stages(method))}"
        raise UserError(f"{config.path}: {where}: {stage!r} is not listed, so {has}; add it there")
    if beyond := [seed for seed in seeds if seed >= config.scale.seeds]:
        has = f"has {config.scale.seeds}, from 0 to {config.scale.seeds - 1}, and no seed {beyond[0]}"
        fix = f"write seeds={beyond[0] + 1} after --config of snakemake (--set of trqam)"
        raise UserError(f"{config.path}: seeds: {has}; {fix}")


def check_before(config: Config, task: str, method: str, stage: str, seeds: list[int]) -> None:
    """A UserError unless the scale has these runs, and what there is of them is whole and of today's values."""
    check_asked(config, task, method, stage, seeds)
    run = config.run(task, method)
    for seed in seeds:
        part = part_of(cell_of(config, task, method, seed), run, stage)
        for change in changes(part.record, run, stage) if part else ():
            if not config.scale.mixed or change.key in SHAPE:
                check_same(part.record, run, stage, part.where, command(config, "clean", "--outdated"))


@dataclass(frozen=True)
class Outdated:
    """A run of which some stages are to be trained anew: why, the steps that are lost with it, and what to delete."""

    cell: Cell
    stages: list[str]
    reason: str
    steps: int
    paths: list[Path]


def outdated(config: Config) -> Iterator[Outdated]:
    """The runs that keep today's paper from being made: those of another configuration, and those of other code or
    packages than today's in a cell that they would make a mixture of."""
    seen = set()
    for task, method in config.cells:
        if not (found := parts(config, task, method)):
            continue
        run, made = found[0].run, [(part.where, part.record) for part in found]
        today = _today(run.agent)
        accepted = config.scale.mixed  # as far as runs can share a table
        mixed = not accepted and mixture(made if _complete(config, found) else [*made, (TODAY, today)], [])
        reasons = {}
        for part in found:
            reasons[part.where] = _differences(part, run, accepted)
            if mixed and not reasons[part.where] and (differing := set(made_by(part.record)) - set(made_by(today))):
                reasons[part.where] = f"made by other {min(differing)[0]}"
        for cell in dict.fromkeys(part.cell for part in found if part.cell not in seen):
            seen.add(cell)
            yield from _outdated([part for part in found if part.cell == cell], reasons)


def _differences(part: Part, run: Run, accepted: bool) -> str:
    changed = [change for change in changes(part.record, run, part.stage) if not accepted or change.key in SHAPE]
    return ", ".join(f"{key} {old!r}, now {new!r}" for key, old, new in changed[:3])


def _outdated(found: list[Part], reasons: dict[Path, str]) -> Iterator[Outdated]:
    """Of one run, whose parts are ``found`` in the order of their stages: the first that is outdated, and what follows.

    An online stage goes alone, for the offline stage before it may have cost days; but not where that has kept its
    policy only, from which nothing can be trained.
    """
    late = [position for position, part in enumerate(found) if reasons[part.where]]
    if not late:
        return
    first, cell = late[0], found[0].cell
    if first and (newest := _newest(cell, found[0].stage)) and newest[1].kept == "policy":
        first = 0
    going, paths = list({part.where: part for part in found[first:]}.values()), [cell.path]
    if first:
        stage = going[0].stage
        paths = [cell.directory(stage), cell.path / f"{stage}.csv", cell.path / f"{stage}.json"]
        paths += [cell.diverged] if going[0].where == cell.diverged else []
    reason, steps = reasons[found[late[0]].where], sum(part.step for part in going)
    yield Outdated(cell, [part.stage for part in going], reason, steps, paths)


def command(config: Config, *words: str) -> str:
    """A command line of ours for this very configuration, with what was changed of its file."""
    given = msgspec.to_builtins(config.scale)
    written = msgspec.to_builtins(convert(read_yaml(config.path), Scale, config.path))
    path = os.path.relpath(config.path)
    options = [] if path == "config/config.yaml" else ["--config", path]
    for key, value in given.items():
        if value != written[key]:
            options += ["--set", f"{key}={json.dumps(value)}"]
    return f"`{shlex.join(['python', '-m', 'trqam', *options, *words])}`"
