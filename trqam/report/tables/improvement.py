"""How probable it is that TRQAM succeeds more than each other compared method."""

from trqam.config.load import Config
from trqam.config.wording import count, thousands
from trqam.report.collected import Collected, mixed_mark, mixed_note
from trqam.report.measures import (
    FEW,
    RESAMPLES,
    STAGES,
    final_runs,
    improvement,
    mark_notes,
    marked,
    ours,
    scope,
    shared_tasks,
    width_note,
)
from trqam.report.selection import compared, data_note
from trqam.report.tables import MISSING, Grid


def table(collected: Collected) -> Grid:
    """A row a rival; for each stage the probability with its interval, and the runs of both."""
    config, own = collected.config, ours(collected.config)
    rivals = [method for method in compared(config) if method != own]
    if own is None or not rivals:
        return Grid("Probability of improvement: there is no method to compare TRQAM with.", "l", (MISSING,), ())
    tasks, rows = shared_tasks(config), []
    for rival in rivals:
        cells = []
        for stage in STAGES:
            gain = improvement(collected, own, rival, stage)
            cells += [str(gain), _runs(collected, own, rival, stage)] if gain else [MISSING, MISSING]
        rows.append((marked(config, rival) + mixed_mark(collected, tasks, rival), *cells, str(len(tasks))))
    over = f"{marked(config, own)}{mixed_mark(collected, tasks, own)} over"
    header = (over, *("% [95 %]", "runs") * len(STAGES), "tasks")
    groups = (("", 1), *((stage, 2) for stage in STAGES), ("", 1))
    return Grid(_caption(config, own, rows) + mixed_note(collected), "lrrrrr", header, tuple(rows), groups=groups)


def _runs(collected: Collected, own: str, rival: str, stage: str) -> str:
    """`24 : 24` runs, `21 : 24 on 7 tasks` where one of them lacks a task."""
    left, right = (final_runs(collected, method, stage).scores for method in (own, rival))
    tasks = [task for task in left if task in right]
    mine, theirs = (thousands(sum(len(side[task]) for task in tasks)) for side in (left, right))
    fewer = len(tasks) < len(shared_tasks(collected.config))
    return f"{mine} : {theirs}" + (f" on {count(len(tasks), 'task')}" if fewer else "")


def _caption(config: Config, own: str, rows: list[tuple[str, ...]]) -> str:
    label, n = config.methods[own].label, config.scale.seeds
    text = f"Probability in per cent that a run of {label} succeeds more than a run of the other method on the same "
    text += f"task, ties counting one half, the mean over {scope(config)} (Mann-Whitney U over the number of pairs). "
    text += "50 %: neither is better. runs: those of either, one seed on one task each; a diverged run counts as "
    text += "success 0, a missing one is left out."
    if n > 1:
        text += f" In brackets the 95 % bootstrap interval (percentiles of {thousands(RESAMPLES)} resamples, seeds of "
        text += "both drawn within tasks)."
    if 1 < n < FEW:
        text += f" Below {FEW} seeds it is too narrow."
    text += width_note(rows)
    if any(MISSING in row for row in rows):
        text += f" {MISSING}: no result."
    return text + mark_notes(config) + data_note(config)
