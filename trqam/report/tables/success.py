"""The paper's Table 1: domains by methods, mean and sample standard deviation over seeds, the best of a row marked.

Published numbers stand beneath a domain wherever there are any.
"""

from itertools import groupby

import pandas as pd

from trqam.config.load import Config, domain_of
from trqam.config.wording import count, enumerated, task_label, tasks_label, thousands
from trqam.report.collected import Collected, mixed_mark, mixed_note
from trqam.report.measures import STAGES, Success, final_cell, is_pretraining
from trqam.report.selection import BEYOND, data_note, lists_single_tasks, tasks_run
from trqam.report.statistics import round_half_up
from trqam.report.tables import MISSING, Entry, Row, SuccessTable, by_group, printed


def success(collected: Collected) -> SuccessTable:
    """Domains, and the single tasks that a scale lists."""
    return _table(collected, "Success after each stage. Compare along a row.")


def success_tasks(collected: Collected) -> SuccessTable:
    """Task by task, all fifty of them at the paper's scale, which fill a page."""
    return _table(collected, "Success after each stage, task by task.", every_task=True)


def _table(collected: Collected, caption: str, every_task: bool = False) -> SuccessTable:
    """Domains (and the single tasks that a scale lists) by methods; ``every_task`` gives tasks alone, all of them."""
    config, metrics, reported = collected.config, collected.metrics, collected.reported
    methods = by_group(config)
    steps = {
        "offline": f"Offline, after {thousands(config.scale.offline_steps)} gradient steps",
        "online": f"Online, after {thousands(config.scale.online_steps)} further environment steps",
    }
    blocks = []
    for stage in STAGES:
        rows = []
        for domain in config.task_domains:
            tasks = [task for task in config.tasks if domain_of(task) == domain]
            cells = [final_cell(metrics, config, tasks, m, stage) for m in methods]
            if not every_task:
                rows.append(_row(collected, config.domains[domain].label, "domain", methods, tasks, cells))
                if config.domains[domain].in_paper:
                    rows += _published(config, reported, domain, methods, stage)
            if every_task or lists_single_tasks(config):
                for task in tasks:
                    cells = [final_cell(metrics, config, [task], m, stage) for m in methods]
                    rows.append(_row(collected, task_label(config, task), "task", methods, [task], cells))
        if len(config.task_domains) > 1 and not every_task:
            rows.append(mean_of_domains(rows))
            if set(config.task_domains) == set(reported.domain) - {"all"}:
                rows += _published(config, reported, "all", methods, stage)
        blocks.append((steps[stage], tuple(rows)))
    groups = [(group, len(list(members))) for group, members in groupby(config.methods[m].group for m in methods)]
    notes = [*_notes(config, methods, blocks, reported), *([mixed_note(collected).strip()] if collected.mixed else [])]
    labels = tuple(config.methods[m].label + "§" * (config.methods[m].group == BEYOND) for m in methods)
    together = 1 if every_task else 2
    return SuccessTable(caption, labels, tuple(groups), tuple(blocks), tuple(notes), together)


def _row(
    collected: Collected, label: str, kind: str, methods: list[str], tasks: list[str], cells: list[Success | None]
) -> Row:
    entries = [
        entry_of(collected.config, method, cell, mixed_mark(collected, tasks, method))
        for method, cell in zip(methods, cells, strict=True)
    ]
    return Row(label, kind, tuple(mark_best(entries)))


def entry_of(config: Config, method: str, cell: Success | None, mixed: str) -> Entry:
    """A cell as printed, with its marks."""
    if cell is None:
        return Entry(MISSING)
    mean = round_half_up(cell.mean)
    marks = ["‡"] if is_pretraining(config, method) and cell.n > 1 else []
    marks += [f"†{cell.diverged}"] if cell.diverged else []
    marks += [mixed] if mixed else []
    marks += [f"n={cell.n}"] if cell.n != config.scale.seeds else []
    return Entry(mean if cell.n == 1 else f"{mean} ± {round_half_up(cell.std)}", int(mean), marks=tuple(marks))


def mark_best(entries: list[Entry]) -> list[Entry]:
    """Marks the highest printed value and its ties, unless every value is the same and nothing is best."""
    values = [entry.value for entry in entries if entry.value is not None]
    if len(set(values)) < 2:
        return entries
    return [Entry(e.text, e.value, e.value == max(values), e.marks) for e in entries]


def _published(config: Config, reported: pd.DataFrame, domain: str, methods: list[str], stage: str) -> list[Row]:
    """The row of published numbers, or none where the paper has nothing for these methods and this stage."""
    rows = reported[(reported.domain == domain) & (reported.phase == stage)].set_index("method")
    labels = [config.methods[m].label for m in methods]
    entries = tuple(printed(rows.loc[name]) if name in rows.index else Entry(MISSING) for name in labels)
    return [Row("published", "published", entries)] if any(e.value is not None for e in entries) else []


def mean_of_domains(rows: list[Row]) -> Row:
    """The paper's `all`: the mean of the printed domain means, rounded half up; missing where a domain is."""
    entries = []
    for column in zip(*(row.entries for row in rows if row.kind == "domain"), strict=True):
        values = [entry.value for entry in column]
        mean = MISSING if None in values else round_half_up(sum(values) / len(values))
        entries.append(Entry(mean, None if mean == MISSING else int(mean)))
    return Row("all", "all", tuple(mark_best(entries)))


def _notes(config: Config, methods: list[str], blocks, reported: pd.DataFrame) -> list[str]:
    """The sentences that this table needs, and no other."""
    entries = [entry for _, rows in blocks for row in rows for entry in row.entries]
    notes = basic_notes(config, methods, entries)
    if any(entry.best for entry in entries):
        notes.append("Bold: best printed mean of the row, with its ties.")
    if any(row.kind == "published" for _, rows in blocks for row in rows):
        notes.append("published: the numbers that the authors print, at their own scale.")
    for method in (m for m in methods if config.methods[m].group == BEYOND):
        label = config.methods[method].label
        sources = enumerated([*reported.loc[reported.method == label, "source"]] or ["nowhere that we read"])
        notes.append(f"§ {label} is beyond the paper; its published numbers are from {sources}.")
    if any(entry.text == MISSING for entry in entries):
        notes.append(f"{MISSING}: no result.")
    for tasks, labels in _partial(config, methods).items():
        where = tasks_label(config, [*tasks]) or "no task"
        notes.append(f"{labels} run on {where} alone, and a row with other tasks has no entry for them.")
    return notes


def basic_notes(config: Config, methods: list[str], entries: list[Entry]) -> list[str]:
    """What a cell of ours is, and what its marks mean, as far as there are any."""
    marks = {mark[0] for entry in entries for mark in entry.marks}
    seeds = config.scale.seeds
    spread = "mean ± sample standard deviation over" if seeds > 1 else "values of"
    notes = [f"Success in per cent at the stage's last evaluation: {spread} {count(seeds, 'seed')} (n = {seeds})."]
    notes[0] += f" {count(config.scale.eval_episodes, 'episode')} a task and seed.{data_note(config)}"
    if "‡" in marks:
        label = next(config.methods[m].label for m in methods if is_pretraining(config, m))
        notes.append(
            f"‡ {label} has one training seed; its ± is an evaluation spread, over the evaluation streams of each "
            "seed, not a spread over training runs."
        )
    if "†" in marks:
        notes.append("†k: k seeds diverged; they count with success 0 from then on.")
    if "n" in marks:
        notes.append("n=k: only k seeds have finished every task of the row.")
    return notes


def _partial(config: Config, methods: list[str]) -> dict[tuple[str, ...], str]:
    """The methods that do not run on all tasks, by the tasks that they do run on."""
    ran = {method: tuple(tasks_run(config, method)) for method in methods}
    fewer = dict.fromkeys(tasks for tasks in ran.values() if tasks != tuple(config.tasks))
    return {tasks: enumerated([config.methods[m].label for m in methods if ran[m] == tasks]) for tasks in fewer}
