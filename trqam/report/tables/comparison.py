"""The compared methods after either stage, over the tasks that all of them run on, each number with its interval."""

import re
from collections.abc import Callable, Iterable, Sequence

from trqam.config.wording import count, thousands
from trqam.report.collected import Collected, mixed_mark, mixed_note
from trqam.report.conventions import BEST, CONVENTIONS, FINAL, LAST, MEAN_OF_LAST, summaries
from trqam.report.measures import (
    FEW,
    RESAMPLES,
    final,
    final_cell,
    final_scores,
    improvement,
    interquartile,
    mark_notes,
    marked,
    ours,
    scope,
    shared_tasks,
)
from trqam.report.selection import STAGES, compared, data_note
from trqam.report.statistics import round_half_up
from trqam.report.tables import MISSING, Grid, said

Cells = Callable[[str, str], Sequence[str]]  # of a method and stage


def aggregates_table(collected: Collected) -> Grid:
    """A row a method; for each stage the paper's mean ± std, the interquartile mean with its interval, and n."""
    config, tasks = collected.config, shared_tasks(collected.config)

    def cells(method: str, stage: str) -> Sequence[str]:
        if stage not in config.stages(method) or not tasks:
            return MISSING, MISSING, MISSING
        cell, middle = final_cell(collected, tasks, method, stage), interquartile(collected, method, stage)
        return str(cell or MISSING), str(middle or MISSING), _n(collected, method, stage, cell.n if cell else 0)

    return _grid(collected, "aggregates", "method", compared(config), ("mean ± std", "IQM [95 %]", "n"), "rrl", cells)


def _n(collected: Collected, method: str, stage: str, complete: int) -> str:
    """`3`; `2 of 3 (5 of 6 runs), 1 DIVERGED` where runs are missing and have diverged."""
    seeds, tasks, ends = collected.config.scale.seeds, shared_tasks(collected.config), final(collected, stage)
    runs, asked = ends[(ends.method == method) & ends.task.isin(tasks)], len(tasks) * seeds
    lost, text = (runs.status == "DIVERGED").sum(), str(complete)
    if len(runs) < asked:
        text += f" of {seeds}"
        text += f" ({thousands(len(runs))} of {thousands(asked)} runs)" if len(tasks) > 1 else ""
    return text + (f", {lost} DIVERGED" if lost else "")


def improvement_table(collected: Collected) -> Grid:
    """A row a rival; for each stage the probability that TRQAM succeeds more, its interval, and the runs of both."""
    config, own = collected.config, ours(collected.config)
    rivals = [method for method in compared(config) if method != own]
    if own is None or not rivals:
        return Grid("Probability of improvement: there is no method to compare TRQAM with.", "l", (MISSING,), ())

    def cells(rival: str, stage: str) -> Sequence[str]:
        gain = improvement(collected, own, rival, stage)
        return (str(gain), _runs(collected, own, rival, stage)) if gain else (MISSING, MISSING)

    over = f"{marked(config, own)}{mixed_mark(collected, shared_tasks(config), own)} over"
    return _grid(collected, "improvement", over, rivals, ("% [95 %]", "runs"), "rr", cells)


def _runs(collected: Collected, own: str, rival: str, stage: str) -> str:
    """`24 : 24` runs, `21 : 24 on 7 tasks` where one of them lacks a task."""
    left, right = (final_scores(collected, method, stage) for method in (own, rival))
    tasks = [task for task in left if task in right]
    mine, theirs = (thousands(sum(len(side[task]) for task in tasks)) for side in (left, right))
    fewer = len(tasks) < len(shared_tasks(collected.config))
    return f"{mine} : {theirs}" + (f" on {count(len(tasks), 'task')}" if fewer else "")


def conventions_table(collected: Collected) -> Grid:
    """A row a method; for each stage its success by each of `CONVENTIONS`, with its interval, and n."""
    config, tasks = collected.config, shared_tasks(collected.config)

    def cells(method: str, stage: str) -> Sequence[str]:
        found = summaries(collected, tasks, method, stage)
        values = (str(found[name].estimate) if name in found else MISSING for name in CONVENTIONS)
        return (*values, str(found[FINAL].n) if found else MISSING)

    return _grid(collected, "conventions", "method", compared(config), (*CONVENTIONS, "n"), "rrrr", cells)


def points(episodes: int) -> str:
    """`12.6 to 15.8 points`: how far so few episodes leave a success uncertain, whatever the training did, which is the
    binomial deviation at 20 or 80 %, and at 50 %."""
    low, high = (round_half_up(100 * (p * (1 - p) / episodes) ** 0.5, 1) for p in (0.2, 0.5))
    return f"{low} to {high} points"


def without_width(rows: Iterable[Sequence[str]]) -> bool:
    """Whether one of the printed intervals begins where it ends."""
    return any(re.search(r"\[([\d.]+), \1\]", text) for row in rows for text in row)


KNOWN = {
    function.__name__: function
    for function in (data_note, mark_notes, ours, points, scope, shared_tasks, without_width)
} | {"BEST": BEST, "FEW": FEW, "FINAL": FINAL, "LAST": LAST, "MEAN_OF_LAST": MEAN_OF_LAST, "RESAMPLES": RESAMPLES}


def _grid(
    collected: Collected, name: str, head: str, methods: list[str], columns: tuple[str, ...], kinds: str, cells: Cells
) -> Grid:
    """The table ``name``: a row a method, its ``cells`` a stage, and the number of tasks."""
    config, tasks = collected.config, shared_tasks(collected.config)
    rows = []
    for method in methods:
        label = marked(config, method) + mixed_mark(collected, tasks, method)
        rows.append((label, *(text for stage in STAGES for text in cells(method, stage)), str(len(tasks))))
    printed = {word for row in rows for text in row[1:] for word in text.split(" ")}
    caption = said(name, config, rows, printed, **KNOWN) + mixed_note(collected)
    groups = (("", 1), *((stage, len(columns)) for stage in STAGES), ("", 1))
    header = (head, *columns * len(STAGES), "tasks")
    return Grid(caption, f"l{kinds * len(STAGES)}r", header, tuple(rows), groups=groups)
