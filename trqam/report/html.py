"""report.html: one page that needs no network, from the verdicts down to the manifest of every run.

The parts are templates in paper/templates (report*.j2). Pictures are data URLs and the runs are JSON, from which the
page's own script makes a list: each distinct value stands there once, so that 5,000 runs stay below a megabyte.
"""

import base64
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from trqam.config.errors import UserError
from trqam.config.reading import read_bytes
from trqam.config.strict import read_record
from trqam.config.wording import method_label, task_label, words
from trqam.experiment.files import write_atomically
from trqam.report import facts, figures, tables
from trqam.report.captions import captions
from trqam.report.claims import judge, statements
from trqam.report.collected import Collected, mixed_mark
from trqam.report.selection import PAPER, TABLES, Strip, lists_single_tasks, rollout_tasks

ENVIRONMENT = jinja2.Environment(
    loader=jinja2.FileSystemLoader(PAPER / "templates"),
    undefined=jinja2.StrictUndefined,
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
)
KEPT = ("task", "method", "seed", "stage", "status", "digest", "environment")
BEFORE_RESULTS = ("imported", "toy", "theory")  # figures
KINDS = {"l": "text", "c": "centre", "r": "number", "p": "prose"}  # of columns
MEASURED = ("wall_time_s", "updates_per_s")  # shown to three digits at most


def render(collected: Collected, folder: str | Path, out: str | Path) -> None:
    """Writes the page; ``folder`` holds figures/NAME.png, drawn before, toy.txt, theory.txt, and perhaps rollouts."""
    config, folder = collected.config, Path(folder)
    pictures = _figures(collected, folder / "figures")
    judged, stated = judge.claims(collected), statements.load(collected.claims)
    made = {part["name"]: part for part in _tables(collected)}
    text = ENVIRONMENT.get_template("report.html.j2").render(
        paper=stated.paper,
        intervals=tables.said("intervals", stated.interval),
        facts=facts.facts(collected),
        claims=judged,
        counted=judge.counted(judged),
        tally=Counter(verdict.verdict for verdict in judged),
        kinds=judge.VERDICTS,
        others=made.pop("others"),
        compute=made.pop("compute", None),
        results=[part for name, part in made.items() if not name.startswith("settings_")],
        settings=[part for name, part in made.items() if name.startswith("settings_")],
        figures=pictures,
        rollouts=_rollouts(folder / "rollouts", rollout_tasks(config)),
        generated=config.scale.data_source == "generated",
        rebuild=collected.manifests["command"],
        runs=Markup(json.dumps(run_list(collected), separators=(",", ":")).replace("<", "\\u003c")),  # no `<` ends it
    )
    write_atomically(out, text)


def _tables(collected: Collected) -> list[dict[str, Any]]:
    """The tables with something to show; the verdicts head the page, and single tasks may be in the first table."""
    config, parts = collected.config, []
    above = {"claims", "success_tasks"} if lists_single_tasks(config) else {"claims"}
    for name in TABLES:
        table = tables.make(name, collected) if name not in above else None
        if isinstance(table, tables.SuccessTable) and table.methods:
            blocks = [(title, units(rows)) for title, rows in table.blocks]
            parts.append({"name": name, **vars(table), "blocks": blocks})
        elif isinstance(table, tables.Grid) and table.rows:
            parts.append({"name": name, **vars(table), "kinds": [KINDS[letter] for letter in table.columns]})
    return parts


def units(rows: tuple[tables.Row, ...]) -> list[list[tables.Row]]:
    """A domain with its published numbers and its tasks; `all` with its own; a task that no domain precedes, alone."""
    grouped: list[list[tables.Row]] = []
    for row in rows:
        hangs = row.kind == "published" or (row.kind == "task" and grouped and grouped[-1][0].kind == "domain")
        if hangs and grouped:
            grouped[-1].append(row)
        else:
            grouped.append([row])
    return grouped


def _figures(collected: Collected, folder: Path) -> list[tuple[str, str, str]]:
    """Name, caption and picture of each figure, in the PDF's order."""
    pictures = {name: _inline(folder / f"{name}.png") for name in in_order(figures.names(collected))}
    texts = captions(collected)
    for name in ("toy", "theory"):
        path = folder.parent / f"{name}.txt"
        try:
            texts[name] = read_bytes(path, fix=f"run `trqam render {name}`").decode().strip()
        except UnicodeDecodeError:
            raise UserError(f"{path}: damaged; delete it and run `trqam render {name}`") from None
    return [(name, texts[name], picture) for name, picture in pictures.items()]


def in_order(names: Iterable[str]) -> list[str]:
    """These figures, the toy and the theory as main.tex has them: those before its results are first."""
    return sorted([*names, "toy", "theory"], key=lambda name: (*BEFORE_RESULTS, name).index(name))


def _rollouts(folder: Path, tasks: list[str]) -> list[dict[str, Any]]:
    """What `trqam rollouts` left: of each task its caption and picture, which is none where nothing renders."""
    strips = []
    for task in tasks:
        if (folder / f"{task}.json").is_file():
            record = read_record(folder / f"{task}.json", Strip, f"delete it and run `trqam rollouts {task}`")
            drawn = record["rendered"] and (folder / f"{task}.png").is_file()
            strips.append({**record, "image": _inline(folder / f"{task}.png") if drawn else None})
    return strips


def _inline(path: Path) -> str:
    """A picture as a data URL."""
    content = read_bytes(path, fix="draw the figures first")
    return f"data:image/{path.suffix[1:]};base64,{base64.b64encode(content).decode()}"


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
    """A row of runs.csv; in the commands, what only repeats the run's identity is written `{cell}` and `{trained}`."""
    config, task, method = collected.config, str(row["task"]), str(row["method"])
    return {
        **{key: None if pd.isna(row[key]) else row[key] for key in KEPT},
        **{key: None if pd.isna(row[key]) else round(float(row[key]), 1) for key in MEASURED},
        "label": task_label(config, task) if task in config.tasks else task,
        "methodLabel": method_label(config, method) + mixed_mark(collected, [task], method),
        "command": str(row["command"]).replace(f"{task}/{method}/seed{row['seed']}/{row['stage']}", "{cell}"),
        "train": str(row.get("train", "")).replace(f"{task} {method} --stage {row['stage']}", "{trained}"),
    }


def _flat(configuration: dict[str, Any]) -> dict[str, Any]:
    """A configuration as printed: keys in words, and what is nested among the rest."""
    pairs: dict[str, Any] = {}
    for key, value in configuration.items():
        pairs |= _flat(value) if isinstance(value, dict) else {words(key): value}
    return pairs
