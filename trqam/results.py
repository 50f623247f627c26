"""From per-seed files to one tidy table, refusing to mix results of different configurations."""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import pandas

from trqam.artefacts import write_atomically, write_json
from trqam.config import Config, domain_of
from trqam.data.card import read
from trqam.errors import UserError
from trqam.mixing import SHAPE, mixture, unknown
from trqam.run_files import read_manifest, read_table
from trqam.runs import COLUMNS, TIMING_COLUMNS, Cell, Changed, cell_of, changes, check_same, pretraining_cell

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
    versions, hardware) by theirs, both of which a line of runs.csv names.

    Raises UserError if a run was trained with another configuration than today's, or the runs of a cell by different
    code or versions; with ``mixed`` they are accepted where they can share a table, and marked in both files. A seed
    whose files are missing is named on stderr and left out, which reduces n; a diverged seed counts as success 0 at
    every later evaluation.
    """
    tables, runs, silent, lacking = [], [], [], []
    manifests: dict[str, Any] = {"configurations": {}, "environments": {}, "mixed": []}
    for task, method in config.cells:
        made, changed = _made(config, task, method)
        silent += unknown(made)
        reason = _mixture(config, task, method, made, changed, mixed)
        if reason:
            manifests["mixed"].append({"task": task, "method": method, "reason": reason})
        for stage in config.stages(method):
            for seed in range(config.scale.seeds):
                cell = cell_of(config, task, method, seed)
                if not (cell.path / f"{stage}.csv").exists():
                    lacking.append(f"warning: {cell.path}/{stage}.csv is missing; its seed is left out")
                    continue
                tables.append(_read(config, cell, task, method, stage))
                runs.append({**_run(config, cell, task, method, stage, manifests), "mixed": reason})
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


def _made(
    config: Config, task: str, method: str
) -> tuple[list[tuple[Path, dict[str, Any]]], list[tuple[Path, Changed]]]:
    """The manifests of a cell, its pretraining's last; and those keys in which one differs from the configuration."""
    run, made, changed = config.run(task, method), [], []
    for stage in config.stages(method):
        for seed in range(config.scale.seeds):
            folder = cell_of(config, task, method, seed).path
            if (folder / f"{stage}.csv").exists():
                where = folder / f"{stage}.json"
                made.append((where, read_manifest(where)))
                changed += [(where, change) for change in changes(made[-1][1], run, stage)]
    pretraining = pretraining_cell(config, run.domain).path / "pretrain.json"
    if made and "pretrain" in config.methods[method].stages and pretraining.is_file():
        made.append((pretraining, read_manifest(pretraining)))
    return made, changed


def _mixture(config: Config, task: str, method: str, made: list, changed: list, accepted: bool) -> str:
    """Why the runs of a cell do not belong together, or nothing; UserError unless that is ``accepted`` and can be."""
    by_path = dict(made)
    for where, change in changed:
        if not accepted or change.key in SHAPE:
            check_same(by_path[where], config.run(task, method), by_path[where]["stage"], where)
    found = mixture(made, changed)
    if found and not accepted:
        raise UserError(found.refusal(task, method))
    return found.reason if found else ""


def _read(config: Config, cell: Cell, task: str, method: str, stage: str) -> pandas.DataFrame:
    """One run's rows with its identity, and the evaluations that a diverged seed did not live to see, as success 0."""
    run = config.run(task, method)
    table = read_table(cell.path / f"{stage}.csv", COLUMNS)
    total = run.offline_steps if stage == "offline" else run.online_steps
    if table["status"].iloc[-1] == "DIVERGED":
        end = int(table["step"].iloc[-1])
        table.loc[table.index[-1], "success"] = 0.0
        due = [step for step in range(run.eval_interval, total + 1, run.eval_interval) if step > end]
        lost = pandas.DataFrame({"step": due, "status": "DIVERGED", "success": 0.0})
        table = pandas.concat([table, lost], ignore_index=True)
    identity = {"task": task, "domain": domain_of(task), "method": method, "seed": cell.seed, "stage": stage}
    for position, (name, value) in enumerate(identity.items()):
        table.insert(position, name, value)
    table.insert(6, "total_step", table["step"] + (run.offline_steps if stage == "online" else 0))
    return table


def _run(config: Config, cell: Cell, task: str, method: str, stage: str, manifests: dict) -> dict[str, Any]:
    """One line about a run: what it was and how long it took; what it shares with others goes to ``manifests``."""
    manifest = read_manifest(cell.path / f"{stage}.json")
    known = ("git_commit", "git_changes", "versions", "hardware", "code", "resumed")
    environment = {key: manifest[key] for key in known if key in manifest}
    named = hashlib.sha256(json.dumps(environment, sort_keys=True).encode()).hexdigest()[:16]
    manifests["configurations"][manifest["digest"]] = manifest["configuration"]
    manifests["environments"][named] = environment
    timing = read_table(cell.path / "timing.csv", TIMING_COLUMNS)
    timing = timing[timing["stage"] == stage]
    speeds = timing.loc[timing["updates_per_second"] > 0, "updates_per_second"]
    return {
        "task": task,
        "method": method,
        "seed": cell.seed,
        "stage": stage,
        "status": manifest["status"],
        "digest": manifest["digest"],
        "environment": named,
        "wall_time_s": timing["seconds"].max() / len(manifest["block"]),  # its share of the job's time
        "updates_per_s": speeds.median(),
        "git_commit": manifest["git_commit"],
        "cpu": manifest["hardware"]["cpu"],
        "command": f"snakemake --cores all {cell.path}/{stage}.csv --configfile {config.path}",
    }


def _card(path: Path, domain: str) -> dict[str, Any]:
    """A dataset's card without what only a machine reads."""
    inward = ("sha256", "shapes", "shards")
    card = read(path, domain, f"run `trqam generate {domain}` (or convert the official files) again")
    return {key: value for key, value in card.items() if key not in inward}
