"""report.html: one page that needs no network, from the verdicts down to the manifest of every run.

The parts are templates in paper/templates (report*.j2). Pictures are data URLs and the runs are JSON, from which the
page's own script makes a list, so that thousands of runs stay small.
"""

import base64
import json
import re
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from trqam.config.reading import read_bytes
from trqam.config.strict import read_record
from trqam.experiment.files import write_atomically
from trqam.report import facts, figures, run_list, tables
from trqam.report.claims import judge, statements
from trqam.report.collected import Collected
from trqam.report.selection import PAPER, Strip, figure_names, lists_single_tasks, rollout_tasks, table_names

ENVIRONMENT = jinja2.Environment(
    loader=jinja2.FileSystemLoader(PAPER / "templates"),
    undefined=jinja2.StrictUndefined,
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
)
SECTIONS = {
    "claims": "Claims",
    "results": "Results",
    "figures": "Figures",
    "policies": "What the policies do",
    "made": "How it was made",
    "runs": "Runs",
}


def render(collected: Collected, folder: str | Path, out: str | Path) -> None:
    """Writes the page; ``folder`` holds figures/NAME.png, drawn before, and perhaps rollouts/TASK.json and .png."""
    config, folder = collected.config, Path(folder)
    pictures = _figures(collected, folder / "figures")
    judged, stated = judge.claims(collected), statements.load(collected.claims)
    made = _tables(collected)
    text = ENVIRONMENT.get_template("report.html.j2").render(
        sections=SECTIONS.items(),
        paper=stated.paper,
        intervals=_intervals(stated.interval),
        facts=facts.facts(collected),
        claims=judged,
        tally=[(kind, sum(verdict.verdict == kind for verdict in judged)) for kind in judge.VERDICTS],
        results=[part for part in made if not part["name"].startswith("settings_")],
        settings=[part for part in made if part["name"].startswith("settings_")],
        figures=pictures,
        rollouts=_rollouts(folder / "rollouts", rollout_tasks(config)),
        generated=config.scale.data_source == "generated",
        rebuild=f"snakemake --cores all paper --configfile {config.path}",
        runs=_json(run_list.run_list(collected)),
    )
    write_atomically(out, text)


def _intervals(interval: statements.Interval) -> str:
    """How the numbers of a verdict are to be read."""
    few = interval.narrow_below.text
    return (
        "Every rule was fixed before any result of the paper's scale existed. Brackets are "
        f"{100 * interval.level:g} % intervals: a bootstrap over seeds, stratified by task. With fewer than {few} "
        "such an interval is too narrow, and a rule looks at the range over seeds as well."
    )


def _tables(collected: Collected) -> list[dict[str, Any]]:
    """The tables with something to show; the verdicts head the page, and single tasks may be in the first table."""
    config, parts = collected.config, []
    above = {"claims", "success_tasks"} if lists_single_tasks(config) else {"claims"}
    for name in table_names(config):
        table = tables.make(name, collected) if name not in above else None
        if isinstance(table, tables.SuccessTable) and table.methods:
            blocks = [(title, units(rows)) for title, rows in table.blocks]
            parts.append({"name": name, **vars(table), "blocks": blocks})
        elif isinstance(table, tables.Grid) and table.rows:
            parts.append({"name": name, **vars(table), "kinds": kinds(table.columns, len(table.header))})
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


def kinds(columns: str, count: int) -> list[str]:
    """What each column holds, from LaTeX's column specification: text (l), a symbol (c), number (r) or prose (p)."""
    plain = re.sub(r"[@>]\{(?:[^{}]|\{[^{}]*\})*\}", "", columns)
    found = [
        {"l": "text", "c": "centre", "p": "prose"}.get(letter, "number")
        for letter in re.findall(r"([lcrp])(?:\{[^{}]*\})?", plain)
    ]
    return found if len(found) == count else ["text"] + ["number"] * (count - 1)


def _figures(collected: Collected, folder: Path) -> list[tuple[str, str, str]]:
    """Name, caption and picture of each figure; the theory's is last."""
    pictures = {name: _inline(folder / f"{name}.png") for name in (*figure_names(collected.config), "theory")}
    from trqam.report import theory_figure  # imports PyTorch: what is missing is said before

    captions = {**figures.captions(collected), "theory": theory_figure.caption()}
    return [(name, captions[name], picture) for name, picture in pictures.items()]


def _rollouts(folder: Path, tasks: list[str]) -> list[dict[str, Any]]:
    """What `trqam rollouts` left: of each task its caption and pictures, which where nothing renders are none."""
    found = []
    for task in tasks:
        if (folder / f"{task}.json").is_file():
            record = read_record(folder / f"{task}.json", Strip, f"delete it and run `trqam rollouts {task}`")
            pictures = [folder / f"{task}{suffix}" for suffix in (".gif", ".png")] if record["rendered"] else []
            found.append({**record, "images": [_inline(path) for path in pictures if path.is_file()]})
    return found


def _inline(path: Path) -> str:
    """A picture as a data URL."""
    content = read_bytes(path, fix="draw the figures first")
    return f"data:image/{path.suffix[1:]};base64,{base64.b64encode(content).decode()}"


def _json(values: Any) -> Markup:
    """JSON that can stand in an element of a page: no `<` ends it early."""
    return Markup(json.dumps(values, separators=(",", ":")).replace("<", "\\u003c"))
