"""From per-seed files to one tidy table, refusing to mix results of different configurations."""

import hashlib
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trqam.config.errors import UserError
from trqam.config.load import Config, domain_of
from trqam.config.reading import read_bytes, seal
from trqam.config.strict import read_record
from trqam.experiment import verdict
from trqam.experiment.files import write_atomically, write_json
from trqam.experiment.published import read_run
from trqam.experiment.run import Cell, cell_of, pretraining_cell
from trqam.experiment.verdict import Part, unknown
from trqam.report.record import AGAIN, RECORD, Record, asked_for, check, record

if TYPE_CHECKING:  # it takes long to import, and Snakemake needs none
    import pandas

SHARED = (  # by many manifests
    "git_commit", "git_changes", "versions", "hardware", "code", "data_sha256", "base_sha256", "resumed",
)  # fmt: skip
INWARD = ("sha256", "shapes", "shards")  # of a card, for machines alone


def collect(config: Config, out: Path, mixed: bool = False) -> None:
    """Writes ``metrics.csv`` (tidy), ``runs.csv`` (a line a run), ``datasets.json`` (the cards) and ``manifests.json``.

    The last holds what manifests share, each once: the configurations by their digest, and the environments (commit,
    versions, hardware, data, cloned policy) by theirs, both of which a line of runs.csv names; and the seconds that the
    behaviour cloning of each cloned policy took.

    Raises UserError if a file is not what was published in its place, a run was trained with another configuration than
    today's, or the runs of a cell by different code, versions or data; with ``mixed`` the last two are accepted where
    they can share a table, and marked in both files. A seed whose files are missing is named on stderr and left out,
    which reduces n; a diverged seed counts as success 0 at every later evaluation.
    """
    import pandas

    tables, runs, lacking = [], [], []
    parts: list[Part] = []
    manifests: dict[str, Any] = {"configurations": {}, "environments": {}, "mixed": [], "pretrained": {}}
    manifests["command"] = config.snakemake("paper")
    for name in config.pretrainings:
        verdict.check_pretraining(config, name)
    for task, method in config.cells:
        run, here = config.run(task, method), []
        for stage in config.stages(method):
            for cell in (cell_of(config, task, method, seed) for seed in range(config.scale.seeds)):
                if not (cell.path / f"{stage}.csv").exists():
                    lacking.append(f"warning: {cell.path}/{stage}.csv is missing; its seed is left out")
                    continue
                manifest, table = read_run(cell, run, stage)
                step = int(table["step"].iloc[-1])
                tables.append(_tidy(config, cell, task, method, stage, table))
                here.append(Part(cell, run, stage, cell.path / f"{stage}.json", manifest, step, True, True))
        lines = [_line(config, part, manifests) for part in here]
        if "pretrain" in config.methods[method].stages:
            begun_from = verdict.part_of(pretraining_cell(config, run.cloned), run, "pretrain")
            if begun_from and begun_from.published:
                here.append(begun_from)
                manifests["pretrained"][run.cloned] = begun_from.record["seconds"]
        if reason := verdict.mixed_because(config, here, mixed, ahead=False):
            manifests["mixed"].append({"task": task, "method": method, "reason": reason})
        runs += [{**line, "mixed": reason} for line in lines]
        parts += here
    if not tables:
        fix = f"run `{config.snakemake('paper')}`"
        raise UserError(f"{config.results}: no run of {config.path} has ended; {fix}")
    if silent := unknown([(part.where, part.record) for part in parts]):
        first, keys = next(iter(silent.items()))
        what = f"{len(silent)} manifests, such as {first}: {', '.join(keys)}"
        lacking.append(f"warning: {what}: not recorded (older than this check); not compared")
    if lacking:
        print("\n".join(lacking), file=sys.stderr)
    write_json(out / "datasets.json", {domain: _card(config, domain) for domain in config.task_domains})
    write_json(out / "manifests.json", manifests)
    write_atomically(out / "runs.csv", pandas.DataFrame(runs).to_csv(index=False))
    write_atomically(out / "metrics.csv", pandas.concat(tables, ignore_index=True).to_csv(index=False))
    record(config, out, made_from(config, parts))


def _tidy(
    config: Config, cell: Cell, task: str, method: str, stage: str, table: "pandas.DataFrame"
) -> "pandas.DataFrame":
    """One run's rows with its identity, and the evaluations that a diverged seed did not live to see, as success 0."""
    import pandas

    run = config.run(task, method)
    if table["status"].iloc[-1] == "DIVERGED":
        end = int(table["step"].iloc[-1])
        table.loc[table.index[-1], "success"] = 0.0
        total = getattr(run, f"{stage}_steps")
        due = [step for step in range(run.eval_interval, total + 1, run.eval_interval) if step > end]
        lost = pandas.DataFrame({"step": due, "status": "DIVERGED", "success": 0.0})
        table = pandas.concat([table, lost], ignore_index=True)
    identity = {"task": task, "domain": domain_of(task), "method": method, "seed": cell.seed, "stage": stage}
    for position, (name, value) in enumerate(identity.items()):
        table.insert(position, name, value)
    table.insert(6, "total_step", table["step"] + (run.offline_steps if stage == "online" else 0))
    return table


def _line(config: Config, part: Part, manifests: dict[str, Any]) -> dict[str, Any]:
    """One line about a run: what it was and how long it took; what it shares with others goes to ``manifests``."""
    manifest = part.record
    environment = {key: manifest[key] for key in SHARED if key in manifest}
    named = seal(environment)[:16]
    manifests["configurations"][manifest["digest"]] = manifest["configuration"]
    manifests["environments"][named] = environment
    size = config.scale.seeds_per_job
    first = part.cell.seed // size * size  # of the seeds that one job trains
    stack = map(str, range(first, min(first + size, config.scale.seeds)))
    train = config.command("train", part.run.task, part.run.method, "--stage", part.stage, "--seeds", *stack)
    return {
        "task": part.run.task,
        "method": part.run.method,
        "seed": part.cell.seed,
        "stage": part.stage,
        "status": manifest["status"],
        "digest": manifest["digest"],
        "environment": named,
        "mixed": "",
        "wall_time_s": manifest["seconds"] / len(manifest["block"]),  # its share of the job's time
        "updates_per_s": manifest["updates_per_second"],
        "git_commit": manifest["git_commit"],
        "cpu": manifest["hardware"]["cpu"],
        "command": config.snakemake(f"{part.cell.path}/{part.stage}.csv"),  # trains its stack of seeds
        "train": train.strip("`"),
    }


def _card(config: Config, domain: str) -> dict[str, Any]:
    """A dataset's card without what only a machine reads."""
    from trqam.data.card import read

    again = f"run `trqam generate {domain}` (or convert the official files) again"
    card = read(config.data_directory(domain) / "card.json", domain, again)
    return {key: value for key, value in card.items() if key not in INWARD}


def made_from(config: Config, parts: Iterable[Part]) -> str:
    """A fingerprint of published manifests, which hold the checksums of their metrics, and of the datasets' cards."""
    seals = sorted({str(part.where): part.record["seal"] for part in parts if part.published}.items())
    cards = [config.data_directory(domain) / "card.json" for domain in config.task_domains]
    return seal([seals, [hashlib.sha256(read_bytes(card)).hexdigest() if card.is_file() else None for card in cards]])


def outdated_stamp(config: Config, folder: Path, parts: list[Part]) -> list[str]:
    """For Snakemake, which goes by times: none if ``folder`` is what would be collected from ``parts``, else a file in
    the results that is newer than what was collected last, so that it is collected again."""
    stamp, last = config.results / "asked_for.json", folder / RECORD
    try:
        check(config, folder)
        if read_record(last, Record, AGAIN)["made_from"] == made_from(config, parts):
            return []
    except UserError:
        pass  # what is wrong with it, collecting again will mend
    if not last.exists():
        return []
    if not stamp.exists() or stamp.stat().st_mtime_ns <= last.stat().st_mtime_ns:
        try:
            write_json(stamp, {"asked_for": asked_for(config), "written": time.time_ns()})
        except UserError:  # a tree that cannot be written, where Snakemake can only look
            return []
    return [str(stamp)]
