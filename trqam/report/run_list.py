"""Every run with its manifest as JSON for the page, each distinct value once: 5,000 runs stay below a megabyte."""

import json
from typing import Any

import pandas as pd

from trqam.config.wording import task_label, words
from trqam.report.collected import Collected, mixed_mark

KEPT = ("task", "method", "seed", "stage", "status", "digest", "environment")
MEASURED = ("wall_time_s", "updates_per_s")  # shown to three digits at most


def run_list(collected: Collected) -> dict[str, Any]:
    """``runs`` and ``configurations`` (by their digest) as `packed` tables, ``environments`` by their own digest."""
    resolved = [{"digest": d, **_flat(values)} for d, values in collected.manifests["configurations"].items()]
    return {
        "runs": packed([_run(collected, row) for row in collected.runs.to_dict("records")]),
        "configurations": packed(resolved),
        "environments": collected.manifests["environments"],
    }


def packed(records: list[dict[str, Any]]) -> dict[str, Any]:
    """The records column by column: each column's distinct ``values``, and ``at`` which of them each record is.

    A key that a record lacks is at -1.
    """
    columns: dict[str, dict[str, list]] = {}
    for key in dict.fromkeys(key for record in records for key in record):
        places: dict[str, int] = {}  # by their JSON, in which true is not 1
        texts = [json.dumps(record[key]) if key in record else None for record in records]
        at = [-1 if text is None else places.setdefault(text, len(places)) for text in texts]
        columns[key] = {"values": [json.loads(text) for text in places], "at": at}
    return {"length": len(records), "columns": columns}


def _run(collected: Collected, row: dict[str, Any]) -> dict[str, Any]:
    """A row of runs.csv; in the command, what only repeats the run's identity is written `{cell}`."""
    config, task, method = collected.config, str(row["task"]), str(row["method"])
    label = config.methods[method].label if method in config.methods else method
    return {
        **{key: None if pd.isna(row[key]) else row[key] for key in KEPT},
        **{key: None if pd.isna(row[key]) else round(float(row[key]), 1) for key in MEASURED},
        "label": task_label(config, task) if task in config.tasks else task,
        "methodLabel": label + mixed_mark(collected, [task], method),
        "command": str(row["command"]).replace(f"{task}/{method}/seed{row['seed']}/{row['stage']}", "{cell}"),
    }


def _flat(configuration: dict[str, Any]) -> dict[str, Any]:
    """A configuration as printed: keys in words, and what is nested among the rest."""
    pairs: dict[str, Any] = {}
    for key, value in configuration.items():
        pairs |= _flat(value) if isinstance(value, dict) else {words(key): value}
    return pairs
