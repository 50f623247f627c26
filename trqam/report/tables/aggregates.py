"""Mean and interquartile mean of every compared method, over the tasks that all of them run on."""

from trqam.config.load import Config
from trqam.config.wording import thousands
from trqam.report.collected import Collected, mixed_mark, mixed_note
from trqam.report.measures import (
    RESAMPLES,
    STAGES,
    Runs,
    final_cell,
    final_runs,
    interquartile,
    mark_notes,
    marked,
    scope,
    shared_tasks,
    trust,
    width_note,
)
from trqam.report.selection import compared, data_note
from trqam.report.statistics import round_half_up
from trqam.report.tables import MISSING, Grid


def table(collected: Collected) -> Grid:
    """A row a method; for each stage the paper's mean ± std, the interquartile mean with its interval, and n."""
    config, tasks = collected.config, shared_tasks(collected.config)
    rows = []
    for method in compared(config):
        cells = [text for stage in STAGES for text in _cells(collected, tasks, method, stage)]
        rows.append((marked(config, method) + mixed_mark(collected, tasks, method), *cells, str(len(tasks))))
    header = ("method", *("mean ± std", "IQM [95 %]", "n") * len(STAGES), "tasks")
    groups = (("", 1), *((stage, 3) for stage in STAGES), ("", 1))
    return Grid(_caption(config, rows) + mixed_note(collected), "lrrlrrlr", header, tuple(rows), groups=groups)


def _cells(collected: Collected, tasks: list[str], method: str, stage: str) -> tuple[str, str, str]:
    """Mean ± std, interquartile mean and n of one method after one stage."""
    config = collected.config
    runs, cell = final_runs(collected, method, stage), final_cell(collected.metrics, config, tasks, method, stage)
    if not runs.asked:
        return MISSING, MISSING, MISSING
    mean = MISSING
    if cell:
        mean = round_half_up(cell.mean) + (f" ± {round_half_up(cell.std)}" if cell.n > 1 else "")
    complete = cell.n if cell else 0
    return mean, str(interquartile(collected, method, stage) or MISSING), _n(config, runs, complete, len(tasks))


def _n(config: Config, runs: Runs, complete: int, tasks: int) -> str:
    """`3`; `2 of 3 (5 of 6 runs), 1 DIVERGED` where runs are missing and have diverged."""
    text = str(complete)
    if runs.number < runs.asked:
        text += f" of {config.scale.seeds}"
        text += f" ({thousands(runs.number)} of {thousands(runs.asked)} runs)" if tasks > 1 else ""
    return text + (f", {runs.diverged} DIVERGED" if runs.diverged else "")


def _caption(config: Config, rows: list[tuple[str, ...]]) -> str:
    several = config.scale.seeds > 1
    text = f"Final success in per cent over {scope(config)}. A run is one seed on one task. "
    text += "mean ± std: of the per-seed means" if several else "mean: of the one seed"
    text += "; IQM: interquartile mean, the mean of the middle half of all runs"
    text += " (of fewer than four, of all)" if len(shared_tasks(config)) * config.scale.seeds < 4 else ""
    if several:
        text += f", in brackets its 95 % bootstrap interval (percentiles of {thousands(RESAMPLES)} resamples, seeds "
        text += "drawn within tasks)"
    text += f"; n: seeds that finished every task.{trust(config)}"
    cells = " ".join(text for row in rows for text in row[1:])
    if " of " in cells:
        text += " k of N: runs are missing; the IQM is over those there are."
    text += width_note(rows)
    if "DIVERGED" in cells:
        text += " DIVERGED: so many runs diverged; each counts as success 0."
    if MISSING in cells.split():
        text += f" {MISSING}: no result."
    return text + mark_notes(config) + data_note(config)
