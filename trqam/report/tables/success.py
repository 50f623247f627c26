"""The paper's Table 1: domains by methods, mean and sample standard deviation over seeds, the best of a row marked.

Published numbers stand beneath a domain wherever there are any.
"""

import pandas as pd

from trqam.config.load import Config, domain_of
from trqam.config.wording import task_label, thousands
from trqam.report.collected import Collected, mixed_mark, mixed_note
from trqam.report.measures import Success, final_cell, is_pretraining
from trqam.report.selection import BEYOND, STAGES, compared, data_note, lists_single_tasks, tasks_run
from trqam.report.statistics import round_half_up
from trqam.report.tables import MISSING, Blocks, Entry, Row, SuccessTable, by_group, grouped, kinds_of, printed, said


def success(collected: Collected) -> SuccessTable:
    """Domains, and the single tasks that a scale lists."""
    return _table(collected, "Success after each stage. Compare along a row.")


def success_tasks(collected: Collected) -> SuccessTable:
    """Task by task, all fifty of them at the paper's scale, which fill a page."""
    return _table(collected, "Success after each stage, task by task.", every_task=True)


def _table(collected: Collected, caption: str, every_task: bool = False) -> SuccessTable:
    """Domains (and the single tasks that a scale lists) by methods; ``every_task`` gives tasks alone, all of them."""
    config, reported = collected.config, collected.reported
    methods = by_group(config)
    steps = {
        "offline": f"Offline, after {thousands(config.scale.offline_steps)} gradient steps",
        "online": f"Online, after {thousands(config.scale.online_steps)} further environment steps",
    }

    def row(label: str, kind: str, tasks: list[str], stage: str) -> Row:
        cells = {method: final_cell(collected, tasks, method, stage) for method in methods}
        entries = [entry_of(config, m, cell, mixed_mark(collected, tasks, m)) for m, cell in cells.items()]
        return Row(label, kind, tuple(mark_best(entries)))

    blocks = []
    for stage in STAGES:
        rows = []
        for domain in config.task_domains:
            tasks = [task for task in config.tasks if domain_of(task) == domain]
            if not every_task:
                rows.append(row(config.domains[domain].label, "domain", tasks, stage))
                if config.domains[domain].in_paper:
                    rows += _published(config, reported, domain, methods, stage)
            if every_task or lists_single_tasks(config):
                rows += [row(task_label(config, task), "task", [task], stage) for task in tasks]
        if len(config.task_domains) > 1 and not every_task:
            rows.append(mean_of_domains(rows))
            if set(config.task_domains) == set(reported.domain) - {"all"}:
                rows += _published(config, reported, "all", methods, stage)
        blocks.append((steps[stage], tuple(rows)))
    groups = grouped(config.methods[m].group for m in methods)
    labels = tuple(config.methods[m].label + "§" * (config.methods[m].group == BEYOND) for m in methods)
    notes = _notes(collected, methods, blocks)
    return SuccessTable(caption, labels, groups, blocks, notes, 1 if every_task else 2)


def entry_of(config: Config, method: str, cell: Success | None, mixed: str) -> Entry:
    """A cell as printed, with its marks."""
    if cell is None:
        return Entry(MISSING)
    marks = ["‡"] if is_pretraining(config, method) and cell.n > 1 else []
    marks += [f"†{cell.diverged}"] if cell.diverged else []
    marks += [mixed] if mixed else []
    marks += [f"n={cell.n}"] if cell.n != config.scale.seeds else []
    return printed(cell.mean, cell.std, *marks)


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
    known = {name: printed(rows.loc[name, "mean"], rows.loc[name, "std"]) for name in rows.index}
    entries = tuple(known.get(name, Entry(MISSING)) for name in labels)
    return [Row("published", "published", entries)] if any(e.value is not None for e in entries) else []


def mean_of_domains(rows: list[Row]) -> Row:
    """The paper's `all`: the mean of the printed domain means, rounded half up; missing where a domain is."""
    entries = []
    for column in zip(*(row.entries for row in rows if row.kind == "domain"), strict=True):
        values = [entry.value for entry in column]
        mean = MISSING if None in values else round_half_up(sum(values) / len(values))
        entries.append(Entry(mean, None if mean == MISSING else int(mean)))
    return Row("all", "all", tuple(mark_best(entries)))


def _notes(collected: Collected, methods: list[str], blocks: Blocks) -> str:
    """The sentences that this table needs, and no other."""
    config, reported = collected.config, collected.reported
    ran = {method: tuple(tasks_run(config, method)) for method in methods}
    partial: dict[tuple[str, ...], list[str]] = {}
    for method, tasks in ran.items():
        if tasks != tuple(config.tasks):
            partial.setdefault(tasks, []).append(config.methods[method].label)
    labels = [config.methods[method].label for method in methods if config.methods[method].group == BEYOND]
    beyond = {label: [*reported.loc[reported.method == label, "source"]] for label in labels}
    return said("success", config, *kinds_of(blocks), beyond, partial, **KNOWN) + mixed_note(collected)


def cloned(config: Config) -> str:
    """The label of the method that is cloned and no more."""
    return next(config.methods[method].label for method in compared(config) if is_pretraining(config, method))


KNOWN = {"cloned": cloned, "data_note": data_note}
