"""report.html: one page that needs no network, with the paper's tables, figures and facts, and a list of all runs."""

import base64
from pathlib import Path

import jinja2
import pandas as pd

from trqam.artefacts import write_atomically
from trqam.config import Config
from trqam.errors import UserError
from trqam.report import PAPER, claims, facts, figures, lists_single_tasks, table_names, tables, task_label
from trqam.report.collected import Collected

ENVIRONMENT = jinja2.Environment(
    loader=jinja2.FileSystemLoader(PAPER / "templates"),
    undefined=jinja2.StrictUndefined,
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
)


def render(collected: Collected, figures_dir: str | Path, out: str | Path) -> None:
    """Writes the page; the figures are the PNG files that `figures.draw` left in ``figures_dir``."""
    config = collected.config
    made = {name: tables.make(name, collected) for name in table_names(config)}
    if lists_single_tasks(config):
        del made["success_tasks"]
    captions = figures.captions(collected)
    text = ENVIRONMENT.get_template("report.html.j2").render(
        facts=facts.facts(collected),
        claims=claims.claims(collected),
        success=[table for table in made.values() if isinstance(table, tables.SuccessTable)],
        figures=[(name, captions[name], _inline(Path(figures_dir) / f"{name}.png")) for name in captions],
        grids=[table for table in made.values() if isinstance(table, tables.Grid)],
        runs=[_run(config, row) for row in collected.runs.to_dict("records")],
    )
    write_atomically(out, text)


def _run(config: Config, row: dict) -> dict[str, str]:
    """A row of runs.csv as printed; behaviour cloning's pretraining may name a domain as its task."""
    task, method = str(row["task"]), str(row["method"])
    return {
        **{key: tables.MISSING if pd.isna(value) else str(value) for key, value in row.items()},
        "task": task_label(config, task) if task in config.tasks else task,
        "method": config.methods[method].label if method in config.methods else method,
        "wall_time_s": tables.MISSING if pd.isna(row["wall_time_s"]) else f"{row['wall_time_s']:.0f}",
        "updates_per_s": tables.MISSING if pd.isna(row["updates_per_s"]) else f"{row['updates_per_s']:.1f}",
    }


def _inline(path: Path) -> str:
    """A PNG as a data URL."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); draw the figures first") from None
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"
