"""From per-seed files to one tidy table, refusing to mix results of different configurations."""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import pandas

from trqam.artefacts import read_json, write_atomically, write_json
from trqam.config import Config, domain_of
from trqam.runs import COLUMNS, Cell, cell_of, check_same

RUN_COLUMNS = [
    "task",
    "method",
    "seed",
    "stage",
    "status",
    "digest",
    "environment",
    "wall_time_s",
    "updates_per_s",
    "git_commit",
    "cpu",
    "command",
]


def collect(config: Config, out: Path) -> None:
    """Writes ``metrics.csv`` (tidy), ``runs.csv`` (a line a run), ``datasets.json`` (the cards) and ``manifests.json``.

    The last holds what manifests share, each once: the configurations by their digest, and the environments (commit,
    versions, hardware) by theirs, both of which a line of runs.csv names.

    Raises UserError if a run was trained with another configuration than today's. A seed whose files are missing is
    named on stderr and left out, which reduces n; a diverged seed counts as success 0 at every later evaluation.
    """
    tables, runs = [], []
    manifests: dict[str, dict] = {"configurations": {}, "environments": {}}
    for task, method in config.cells:
        for stage in config.stages(method):
            for seed in range(config.scale.seeds):
                cell = cell_of(config, task, method, seed)
                if not (cell.path / f"{stage}.csv").exists():
                    print(f"warning: {cell.path}/{stage}.csv is missing; its seed is left out", file=sys.stderr)
                    continue
                tables.append(_read(config, cell, task, method, stage))
                runs.append(_run(config, cell, task, method, stage, manifests))
    metrics = pandas.concat(tables, ignore_index=True)
    cards = {domain: _card(config.data_directory(domain)) for domain in config.task_domains}
    write_json(out / "datasets.json", cards)
    write_json(out / "manifests.json", manifests)
    write_atomically(out / "runs.csv", pandas.DataFrame(runs, columns=RUN_COLUMNS).to_csv(index=False))
    write_atomically(out / "metrics.csv", metrics.to_csv(index=False))


def _read(config: Config, cell: Cell, task: str, method: str, stage: str) -> pandas.DataFrame:
    """One run's rows with its identity, and the evaluations that a diverged seed did not live to see, as success 0."""
    run = config.run(task, method)
    check_same(read_json(cell.path / f"{stage}.json"), run, stage, cell.path / f"{stage}.json")
    table = pandas.read_csv(
        cell.path / f"{stage}.csv", dtype={c: float for c in COLUMNS if c not in ("step", "status")}
    )
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
    manifest = read_json(cell.path / f"{stage}.json")
    environment = {key: manifest[key] for key in ("git_commit", "git_changes", "versions", "hardware")}
    named = hashlib.sha256(json.dumps(environment, sort_keys=True).encode()).hexdigest()[:16]
    manifests["configurations"][manifest["digest"]] = manifest["configuration"]
    manifests["environments"][named] = environment
    timing = pandas.read_csv(cell.path / "timing.csv")
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


def _card(directory: Path) -> dict[str, Any]:
    """A dataset's card without what only a machine reads."""
    card, inward = read_json(directory / "card.json"), ("sha256", "shapes", "shards")
    return {key: value for key, value in card.items() if key not in inward}
