"""report.html: one page that needs no network, with the paper's tables, figures and facts, and a list of all runs."""

import base64
from pathlib import Path

import jinja2
import pandas as pd

from trqam.artefacts import write_atomically
from trqam.config import Config
from trqam.errors import UserError
from trqam.report import PAPER, claims, figures, latex, tables, task_label

ENVIRONMENT = jinja2.Environment(
    loader=jinja2.FileSystemLoader(PAPER / "templates"),
    undefined=jinja2.StrictUndefined,
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
)


def render(
    config: Config,
    metrics: pd.DataFrame,
    runs: pd.DataFrame,
    datasets: dict,
    figures_dir: str | Path,
    reported_csv: str | Path,
    out: str | Path,
) -> None:
    """Writes the page; the figures are the PNG files that `figures.draw` left in ``figures_dir``."""
    reported = tables.read_reported(reported_csv)
    success = [("Success", tables.success_table(metrics, config, reported))]
    if not tables.lists_single_tasks(config):
        success.append(("Success, task by task", tables.success_table(metrics, config, reported, every_task=True)))
    captions = figures.captions(config, metrics)
    text = ENVIRONMENT.get_template("report.html.j2").render(
        facts=latex.facts(config, metrics, runs, datasets),
        claims=claims.claims(metrics, config).values(),
        success=success,
        figures=[(name, captions[name], _inline(Path(figures_dir) / f"{name}.png")) for name in figures.names(config)],
        grids=[make(config, reported) for make in tables.GRIDS.values()],
        runs=[_run(config, row) for row in runs.to_dict("records")],
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
