"""Whether what is trained belongs together and to today's configuration: one verdict, whoever asks.

`trqam collect` asks of what is published, Snakemake before its first job and `trqam status` also of what has begun and
of what would be trained now, and `trqam clean --outdated` deletes what stands in the way. Nothing here trains, and no
table is read: a manifest and the checksum of its metrics are enough.

The runs of a cell (a task and method, over stages and seeds) belong together if the same code
(`trqam.experiment.provenance`), versions of packages and configuration made all of them, of the same data and from
the same cloned policy; of the pretraining that they begin from the versions and the data count. The policy has to be
the one that lies there today, and so have the data where there are any: those of all methods of a domain are thereby
the same. A run that went on under another environment says so in its record, and is a mixture by itself. Commits and
hardware are recorded and not compared: a commit may concern prose alone, and what the hardware changes is in the last
bits.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from trqam.config.errors import UserError
from trqam.config.load import Config
from trqam.config.reading import read_bytes
from trqam.config.schema import Run
from trqam.config.strict import read_record
from trqam.experiment.checkpoint import step_file
from trqam.experiment.provenance import code_digest, data_sum, versions
from trqam.experiment.published import verify_run
from trqam.experiment.run import Cell, Changed, RunFolder, cell_of, changes, check_same, is_there, pretraining_cell

# Keys that decide which steps have rows: runs that differ in one make no common table.
SHAPE = ("task", "method", "agent", "offline_steps", "online_steps", "eval_interval", "log_interval")
TODAY = Path("today")  # stands for what would be trained now
SUMS = ("base_sha256", "data_sha256")  # in this order: a policy cloned anew from other data differs in both


class Sums(msgspec.Struct):
    """What is read of a dataset's card: the sums of its arrays."""

    sha256: dict[str, str]


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


@dataclass(frozen=True)
class Mixture:
    """The first difference found in a cell: the manifests, the key and its two values."""

    key: str
    one: Any
    other: Any
    where: Path
    than: Path

    @property
    def reason(self) -> str:
        """For the tables."""
        return f"{self.key}: {_shown(self.one)} and {_shown(self.other)}"

    def refusal(self, config: Config, task: str, method: str) -> str:
        """The line that says what to do about it."""
        differs = f"{self.than} has {_shown(self.other)}"
        if self.where == self.than:
            differs = f"later in the same run {_shown(self.other)}"
        elif self.than == TODAY:
            differs = f"what is left to train would have {_shown(self.other)}"
        of_policy = "pretrain.json" in (self.where.name, self.than.name)
        cloning = of_policy and self.key != "base_sha256"  # there the run is what is older
        run = [config.run(task, method).cloned] if cloning else [task, method, "--seed", "N"]
        one, every = config.command("clean", *run), config.command("clean", "--outdated")
        fix = f"train anew what is older ({one}, or {every} for all)"
        told = f"accept and mark it: {config.command('collect', '--mixed')}, or `--config mixed=true` of snakemake"
        return f"{self.where}: {self.key}: trained under {_shown(self.one)}, {differs}; {fix}, or {told}"


def _shown(value: Any) -> str:
    return value[:16] if isinstance(value, str) and len(value) == 64 else str(value)


def mixture(manifests: list[tuple[Path, dict[str, Any]]], changed: list[tuple[Path, Changed]]) -> Mixture | None:
    """What is mixed in a cell, of which these are the manifests; ``changed``: those of another configuration."""
    for where, change in changed:
        return Mixture(change.key, change.old, f"{_shown(change.new)} today", where, where)
    seen: dict[str, tuple[Path, Any]] = {}
    for where, manifest in manifests:
        for key, value in _made_by(manifest):
            than, first = seen.setdefault(key, (where, value))
            if value != first:
                return Mixture(key, first, value, than, where)
    return None


def _made_by(manifest: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """What made a run, as far as it is compared: at its beginning, and after each change."""
    for environment in (manifest, *manifest.get("resumed", [])):
        yield from ((f"versions.{name}", version) for name, version in environment["versions"].items())
        if "code" in environment and manifest["stage"] != "pretrain":  # another agent's
            yield "code", environment["code"]
        yield from ((key, environment[key]) for key in SUMS if key in environment)


def unknown(manifests: list[tuple[Path, dict[str, Any]]]) -> dict[Path, list[str]]:
    """The manifests that say nothing of the code or the data, for they are older than that check; and of which."""
    silent = {where: [key for key in ("code", "data_sha256") if key not in record] for where, record in manifests}
    return {where: keys for where, keys in silent.items() if keys}


def parts(config: Config, task: str, method: str) -> list[Part]:
    """What there is of a cell's runs: of every stage and seed, and last of the pretraining that they begin from.

    Raises UserError if a file is damaged or not what was published in its place, or a folder may not be looked into.
    """
    run, seeds = config.run(task, method), range(config.scale.seeds)
    asked = [(cell_of(config, task, method, seed), stage) for stage in config.stages(method) for seed in seeds]
    if "pretrain" in config.methods[method].stages:
        asked.append((pretraining_cell(config, run.cloned), "pretrain"))
    return [part for cell, stage in asked if (part := part_of(cell, run, stage))]


def part_of(cell: Cell, run: Run, stage: str) -> Part | None:
    """One stage of one seed: as it is published, else as its newest checkpoint or divergence says; None if neither."""
    folder = RunFolder(cell, run, stage)
    if folder.published:
        record = verify_run(cell, run, stage)
        trained = record["configuration"].get(f"{stage}_steps", folder.total)
        return Part(cell, run, stage, folder.manifest, record, trained, ended=True, published=True)
    if ended := folder.diverged:
        return Part(cell, run, ended["stage"], cell.diverged, ended, ended["rows"][-1]["step"], True, False)
    saved = folder.newest
    if saved.record and saved.record.configuration and saved.record.versions and saved.record.stage:
        where, record = folder.directory / step_file(saved.step), msgspec.to_builtins(saved.record)
        reached = saved.step == folder.total and saved.record.interval is None
        return Part(cell, run, stage, where, record, saved.step, reached, published=False)
    return None


def mixed_because(config: Config, here: list[Part], accepted: bool, ahead: bool) -> str:
    """Why the parts of a cell do not belong together, or nothing; UserError unless that is ``accepted`` and can be.

    With ``ahead`` what is still to be trained counts, as it would be made by today's code and packages.
    """
    if not here:
        return ""
    run = here[0].run
    for part in here:
        _check(config, part, accepted)
    made = _made(config, here, ahead)
    reason = mixture(made, [(part.where, change) for part in here for change in _changed(part, accepted=False)])
    if reason and not accepted:
        raise UserError(reason.refusal(config, run.task, run.method))
    return reason.reason if reason else ""


def _made(config: Config, here: list[Part], ahead: bool) -> list[tuple[Path, dict[str, Any]]]:
    """What is compared: the parts of a cell, the data that are there, and with ``ahead`` what is left to train."""
    made = [(part.where, part.record) for part in here]
    if there := _data_there(config, here[0].run.domain):
        made.append((config.data_directory(here[0].run.domain) / "card.json", {"versions": {}, **there}))
    if ahead and not _complete(config, here):
        made.append((TODAY, _today(config, here)))
    return made


def _data_there(config: Config, domain: str) -> dict[str, str]:
    """The sum of the domain's data; empty where there are none, or their card cannot be read, which is said by those
    who need them."""
    try:
        card = read_record(config.data_directory(domain) / "card.json", Sums, "")
    except UserError:
        return {}
    return {"data_sha256": data_sum(card)}


def _changed(part: Part, accepted: bool) -> list[Changed]:
    """Where a part differs from today's configuration; if that is ``accepted``, where it still matters."""
    differing = changes(part.record, part.run, part.stage)
    return [change for change in differing if not accepted or change.key in SHAPE]


def _check(config: Config, part: Part, accepted: bool) -> None:
    """A UserError if a part differs."""
    if _changed(part, accepted):
        check_same(part.record, part.run, part.stage, part.where, config.command("clean", "--outdated"))


def _complete(config: Config, here: list[Part]) -> bool:
    """Whether nothing of a cell is left to train."""
    asked = len(config.stages(here[0].run.method)) * config.scale.seeds
    return sum(part.ended for part in here if part.stage != "pretrain") == asked


def _today(config: Config, here: list[Part]) -> dict[str, Any]:
    """What would make a run of the cell of ``here`` now, as far as it is compared."""
    run, cloned = here[0].run, [part.record for part in here if part.stage == "pretrain"]
    begins = {key: record[key] for record in cloned for key in SUMS if key in record}
    begins |= _data_there(config, run.domain)
    return {"stage": None, "code": code_digest(run.agent), "versions": versions(run.domain), **begins}


def check_pretraining(config: Config, name: str) -> None:
    """A UserError unless the cloned policy, where there is one, is that of its manifest, and of today's values."""
    cell, run = pretraining_cell(config, name), config.pretraining(name)
    part, base = part_of(cell, run, "pretrain"), cell.path / "base.safetensors"
    if part and part.published and is_there(base):
        fix = f"delete it and run {config.command('pretrain', name)}"
        if hashlib.sha256(read_bytes(base, fix=fix)).hexdigest() == part.record.get("base_sha256"):
            return
        raise UserError(f"{base}: damaged (checksum differs from pretrain.json); {fix}")


def check_everything(config: Config) -> list[Part]:
    """All parts of a scale; the UserError that keeps them from being trained to the end and collected, if any."""
    everything = []
    for name in config.pretrainings:
        check_pretraining(config, name)
    for task, method in config.cells:
        here = parts(config, task, method)
        mixed_because(config, here, config.scale.mixed, ahead=True)
        everything += here
    return everything


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
        if part := part_of(cell_of(config, task, method, seed), run, stage):
            _check(config, part, config.scale.mixed)


@dataclass(frozen=True)
class Outdated:
    """A run of which some stages are to be trained anew: why, the steps that are lost with it, and what to delete."""

    cell: Cell
    stages: list[str]
    reason: str
    steps: int
    paths: list[Path]


def outdated(config: Config) -> Iterator[Outdated]:
    """The runs that keep today's paper from being made: those of another configuration, and those of other code,
    packages, data or cloned policy than today's in a cell that they would make a mixture of."""
    seen = set()
    for task, method in config.cells:
        if not (here := parts(config, task, method)):
            continue
        today = dict(_made_by(_today(config, here)))
        accepted = config.scale.mixed  # as far as runs can share a table
        mixed = not accepted and mixture(_made(config, here, ahead=True), [])
        reasons = {}
        for part in here:
            differing = _changed(part, accepted)[:3]
            reasons[part.where] = ", ".join(f"{key} {old!r}, now {new!r}" for key, old, new in differing)
            others = {key for key, value in _made_by(part.record) if today.get(key, value) != value}
            if mixed and not differing and others:
                reasons[part.where] = f"made by other {min(others)}"
        for cell in dict.fromkeys(part.cell for part in here if part.cell not in seen):
            seen.add(cell)
            yield from _outdated([part for part in here if part.cell == cell], reasons)


def _outdated(here: list[Part], reasons: dict[Path, str]) -> Iterator[Outdated]:
    """Of one run, whose parts are ``here`` in the order of their stages: the first that is outdated, and what follows.

    An online stage goes alone, for the offline stage before it may have cost days; but not where that has kept its
    policy only, from which nothing can be trained.
    """
    late = [position for position, part in enumerate(here) if reasons[part.where]]
    if not late:
        return
    first, cell = late[0], here[0].cell
    kept = RunFolder(cell, here[0].run, here[0].stage).newest.record
    if kept and kept.kept == "policy":
        first = 0
    going, paths = list({part.where: part for part in here[first:]}.values()), [cell.path]
    if first:
        stage = going[0].stage
        paths = [cell.directory(stage), cell.path / f"{stage}.csv", cell.path / f"{stage}.json"]
        paths += [cell.diverged] if going[0].where == cell.diverged else []
    reason, steps = reasons[here[late[0]].where], sum(part.step for part in going)
    yield Outdated(cell, [part.stage for part in going], reason, steps, paths)
