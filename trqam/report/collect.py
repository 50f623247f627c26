"""From per-seed files to one tidy table, refusing to mix results of different configurations."""

import sys
from pathlib import Path
from typing import Any

import pandas

from trqam.config.errors import UserError
from trqam.config.load import Config, domain_of
from trqam.config.reading import seal
from trqam.data.card import read
from trqam.experiment import verdict
from trqam.experiment.files import write_atomically, write_json
from trqam.experiment.folder import Cell, cell_of
from trqam.experiment.published import read_run
from trqam.experiment.verdict import unknown
from trqam.report import collection

RUN_COLUMNS = [
    "task",
    "method",
    "seed",
    "stage",
    "status",
    "digest",
    "environment",
    "mixed",
    "wall_time_s",
    "updates_per_s",
    "git_commit",
    "cpu",
    "command",
]


def collect(config: Config, out: Path, mixed: bool = False) -> None:
    """Writes ``metrics.csv`` (tidy), ``runs.csv`` (a line a run), ``datasets.json`` (the cards) and ``manifests.json``.

    The last holds what manifests share, each once: the configurations by their digest, and the environments (commit,
    versions, hardware) by theirs, both of which a line of runs.csv names. ``collected.json``, written after them, says
    what they were made from and for which configuration (`trqam.report.collection`).

    Raises UserError if a file is not what was published in its place, a run was trained with another configuration than
    today's, or the runs of a cell by different code or versions; with ``mixed`` the last two are accepted where they
    can share a table, and marked in both files. A seed whose files are missing is named on stderr and left out, which
    reduces n; a diverged seed counts as success 0 at every later evaluation.
    """
    tables, runs, silent, lacking, read = [], [], [], [], []
    manifests: dict[str, Any] = {"configurations": {}, "environments": {}, "mixed": []}
    for domain in config.task_domains:
        verdict.check_pretraining(config, domain)
    for task, method in config.cells:
        found = [part for part in verdict.parts(config, task, method) if part.published]
        silent += unknown([(part.where, part.record) for part in found])
        reason = verdict.mixed_because(config, found, mixed, ahead=False)
        read += found
        if reason:
            manifests["mixed"].append({"task": task, "method": method, "reason": reason})
        for stage in config.stages(method):
            for seed in range(config.scale.seeds):
                cell = cell_of(config, task, method, seed)
                if not (cell.path / f"{stage}.csv").exists():
                    lacking.append(f"warning: {cell.path}/{stage}.csv is missing; its seed is left out")
                    continue
                manifest, table = read_run(cell, config.run(task, method), stage)
                tables.append(_tidy(config, cell, task, method, stage, table))
                runs.append({**_run(config, cell, task, method, stage, manifest, manifests), "mixed": reason})
    if not tables:
        fix = f"run `snakemake --cores all paper --configfile {config.path}`"
        raise UserError(f"{config.results}: no run of {config.path} has ended; {fix}")
    for line in lacking:
        print(line, file=sys.stderr)
    if silent:
        what = f"{len(silent)} manifests, such as {silent[0]}"
        print(f"warning: {what}: code: not recorded (older than this check); not compared", file=sys.stderr)
    metrics = pandas.concat(tables, ignore_index=True)
    cards = {domain: _card(config.data_directory(domain) / "card.json", domain) for domain in config.task_domains}
    write_json(out / "datasets.json", cards)
    write_json(out / "manifests.json", manifests)
    write_atomically(out / "runs.csv", pandas.DataFrame(runs, columns=RUN_COLUMNS).to_csv(index=False))
    write_atomically(out / "metrics.csv", metrics.to_csv(index=False))
    collection.record(config, out, collection.made_from(config, read))


def _tidy(config: Config, cell: Cell, task: str, method: str, stage: str, table: pandas.DataFrame) -> pandas.DataFrame:
    """One run's rows with its identity, and the evaluations that a diverged seed did not live to see, as success 0."""
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


def _run(
    config: Config, cell: Cell, task: str, method: str, stage: str, manifest: dict[str, Any], manifests: dict
) -> dict[str, Any]:
    """One line about a run: what it was and how long it took; what it shares with others goes to ``manifests``."""
    known = ("git_commit", "git_changes", "versions", "hardware", "code", "resumed")
    environment = {key: manifest[key] for key in known if key in manifest}
    named = seal(environment)[:16]
    manifests["configurations"][manifest["digest"]] = manifest["configuration"]
    manifests["environments"][named] = environment
    return {
        "task": task,
        "method": method,
        "seed": cell.seed,
        "stage": stage,
        "status": manifest["status"],
        "digest": manifest["digest"],
        "environment": named,
        "wall_time_s": manifest["seconds"] / len(manifest["block"]),  # its share of the job's time
        "updates_per_s": manifest["updates_per_second"],
        "git_commit": manifest["git_commit"],
        "cpu": manifest["hardware"]["cpu"],
        "command": f"snakemake --cores all {cell.path}/{stage}.csv --configfile {config.path}",
    }


def _card(path: Path, domain: str) -> dict[str, Any]:
    """A dataset's card without what only a machine reads."""
    inward = ("sha256", "shapes", "shards")
    card = read(path, domain, f"run `trqam generate {domain}` (or convert the official files) again")
    return {key: value for key, value in card.items() if key not in inward}
