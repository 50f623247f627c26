"""Reported, reproduced, re-run by others: whose numbers there are of each domain or task, never ranked together.

Places that this run has come first: domains of which it has every task, single tasks where its scale names some or
somebody reports them. What is printed or reported of other places follows.
"""

from dataclasses import dataclass

import pandas as pd

from trqam.config.load import Config, tasks_of
from trqam.config.wording import enumerated, method_label, task_label
from trqam.report.collected import Collected, mixed_mark, mixed_note, read_context
from trqam.report.imported import ALL, protocols
from trqam.report.measures import final_cell
from trqam.report.selection import STAGES, compared, lists_single_tasks, tasks_run
from trqam.report.tables import MISSING, Blocks, Entry, Row, SuccessTable, grouped, kinds_of, printed, said
from trqam.report.tables import imported as curves
from trqam.report.tables.success import KNOWN, entry_of, mean_of_domains

WHY = {
    "r": "not reported",
    "h": "not run here",
    "f": "not finished here",
    "o": "not of this source",
    "x": "nobody, as far as we know",
}
ROWS = 40  # at most, that share a page
Cells = dict[str, Entry]  # by the method's label


@dataclass(frozen=True)
class Source:
    """Somebody's runs: by which protocol, in words, and their cells, by place (a task, a domain or `all`) and stage."""

    protocol: str
    cells: dict[tuple[str, str], Cells]


def table(collected: Collected) -> SuccessTable:
    """Places by methods; of each what this run has, what the paper prints, and a row for everybody else."""
    config, context = collected.config, read_context()
    methods, groups = _methods(collected, context)
    sources = {chr(ord("A") + number): source for number, source in enumerate(_sources(collected, context))}
    paper = _paper(collected)
    everybody = [paper, *(source.cells for source in sources.values())]
    reported = dict.fromkeys(place for cells in everybody for place, _ in cells)
    here = _here(config, list(reported))

    def rows(place: str, stage: str) -> list[Row]:
        parts = {"this run": _ours(collected, place, methods, stage)} if place in here else {}
        parts["the paper prints"] = _filled(paper.get((place, stage), {}), methods, "r")
        found = {f"others, {letter}": source.cells.get((place, stage)) for letter, source in sources.items()}
        parts |= {who: _filled(cells, methods, "o") for who, cells in found.items() if cells}
        if place in here and not any(found.values()):
            parts["others"] = _filled({}, methods, "x")
        (who, first), *more = parts.items()
        known = [Row(who, "published", entries) for who, entries in more if _any(entries)]
        lacks = [f"{who}: {MISSING} ({WHY[entries[0].marks[0]]})" for who, entries in more if not _any(entries)]
        missing = [Row("; ".join(lacks), "published", ())] if lacks else []
        return [Row(f"{_label(config, place)}: {who}", "domain", first), *known, *missing]

    blocks = [(f"Run here, {stage}", tuple(row for place in here for row in rows(place, stage))) for stage in STAGES]
    for stage in STAGES:
        known = {place for cells in everybody for place, reached in cells if reached == stage}
        elsewhere = [place for place in reported if place in known and place not in here]
        blocks.append((f"Not run here, {stage}", tuple(row for place in elsewhere for row in rows(place, stage))))
    blocks = [(title, made) for title, made in blocks if made]
    caption = "Whose success there is of each domain or task: this run's, the paper's and others'. Rows differ in "
    caption += "protocol, steps and data, so that nothing is ranked or averaged across them."
    together = 1 if sum(len(made) for _, made in blocks) > ROWS else len(blocks)
    return SuccessTable(caption, tuple(methods), groups, blocks, _notes(collected, context, blocks, sources), together)


def _any(entries: tuple[Entry, ...]) -> bool:
    return any(entry.text != MISSING for entry in entries)


def _methods(collected: Collected, context: pd.DataFrame) -> tuple[list[str], tuple[tuple[str, int], ...]]:
    """The labels of the compared methods, then of those that others report, and their groups."""
    config = collected.config
    group = {about.label: about.group for about in config.methods.values()}
    ours = [config.methods[m].label for m in compared(config)]
    labels = list(dict.fromkeys([*ours, *collected.reported.method, *context.method]))
    order, places = list(dict.fromkeys([*group.values(), ""])), [*group, *labels]
    labels.sort(key=lambda label: (order.index(group.get(label, "")), places.index(label)))
    return labels, grouped(group.get(label, "") for label in labels)


def _here(config: Config, reported: list[str]) -> list[str]:
    """The places of this run: domains that are whole, all of the paper's together, and single tasks."""
    whole = [domain for domain in config.task_domains if set(tasks_of(domain)) <= set(config.tasks)]
    together = [ALL] if set(config.tasks) == {*_papers(config)} else []
    single = [task for task in config.tasks if lists_single_tasks(config) or task in reported]
    return [*whole, *together, *single]


def _papers(config: Config) -> list[str]:
    """The tasks that the paper's `all` is over."""
    return [task for name, domain in config.domains.items() if domain.in_paper for task in tasks_of(name)]


def _label(config: Config, place: str) -> str:
    if place == ALL:
        return f"all {len(_papers(config))} tasks"
    if "-singletask-" in place:
        return task_label(config, place)
    return config.domains[place].label if place in config.domains else place


def _filled(cells: Cells, methods: list[str], why: str) -> tuple[Entry, ...]:
    return tuple(cells.get(label, Entry(MISSING, marks=(why,))) for label in methods)


def _ours(collected: Collected, place: str, labels: list[str], stage: str) -> tuple[Entry, ...]:
    """Of this run; `all` is the mean of the printed means, as in the table of success."""
    config, cells = collected.config, {}
    if place == ALL:
        parts = [Row(d, "domain", _ours(collected, d, labels, stage)) for d in config.task_domains]
        means, columns = mean_of_domains(parts).entries, zip(*(part.entries for part in parts), strict=True)
        lacking = [[entry for entry in column if entry.value is None] for column in columns]
        plain = [Entry(mean.text, mean.value) for mean in means]
        return tuple(lacks[0] if lacks else mean for lacks, mean in zip(lacking, plain, strict=True))
    tasks = [place] if "-singletask-" in place else tasks_of(place)
    for method in compared(config):
        label, cell = config.methods[method].label, final_cell(collected, tasks, method, stage)
        if cell:
            cells[label] = entry_of(config, method, cell, mixed_mark(collected, tasks, method))
        elif set(tasks) <= set(tasks_run(config, method)) and stage in config.stages(method):
            cells[label] = Entry(MISSING, marks=("f",))
    return _filled(cells, labels, "h")


def _paper(collected: Collected) -> dict[tuple[str, str], Cells]:
    """What paper/reported.csv has, by place and stage."""
    cells: dict[tuple[str, str], Cells] = {}
    for _, row in collected.reported.iterrows():
        cells.setdefault((row.domain, row.phase), {})[row.method] = printed(row["mean"], row["std"])
    return cells


def _sources(collected: Collected, context: pd.DataFrame) -> list[Source]:
    """Who else reports: paper/context.csv, then imported curves."""
    config, sources = collected.config, []
    places = {_label(config, place): place for domain in config.domains for place in (domain, *tasks_of(domain))}
    places[_label(config, ALL).removeprefix("all ")] = ALL
    for (protocol, source), lines in context.dropna(subset=["mean"]).groupby(["protocol", "source"], sort=False):
        cells: dict[tuple[str, str], Cells] = {}
        said = [f"{protocol}; {source}"]
        for line in lines.to_dict("records"):
            where, _, stage = line["where"].rpartition(", ")
            spread = "" if pd.isna(line["std"]) else f" ± {line['std']:g}"
            cells.setdefault((places.get(where, where), stage), {})[line["method"]] = Entry(f"{line['mean']:g}{spread}")
        seeds = lines.n_seeds.dropna().unique()
        said += [f"n = {enumerated([f'{n:g}' for n in seeds])}"] if len(seeds) else ["n not stated"]
        noted = lines.dropna(subset=["note"]).to_dict("records")
        said += [f"{line['method']} on {line['where'].rpartition(', ')[0]}: {line['note']}" for line in noted]
        sources.append(Source("; ".join(said), cells))
    stated = protocols(collected.imported)
    for source, rows in collected.imported.assign(task=collected.imported.task.fillna("")).groupby("source"):
        sources.append(Source(f"{stated[source]}; imported curves, {source}", _of_curves(config, rows)))
    return sources


def _of_curves(config: Config, rows: pd.DataFrame) -> dict[tuple[str, str], Cells]:
    """The ends of both stages: of domains and `all`, and of the tasks that this scale names."""
    cells: dict[tuple[str, str], Cells] = {}
    named = set(config.tasks) if lists_single_tasks(config) else set()
    for (stage, method), part in rows.groupby(["stage", "method"]):
        last = part[part.step == rows[rows.stage == stage].step.max()]
        places = {domain: last[last.domain == domain] for domain in last.domain.unique()}
        places |= {task: last[last.task == task].assign(task="") for task in named & set(last.task)}
        for place, own in places.items():
            if (entry := curves.entry(own, place)).text != MISSING:
                cells.setdefault((place, stage), {})[method_label(config, method)] = entry
    return cells


def _notes(collected: Collected, context: pd.DataFrame, blocks: Blocks, sources: dict[str, Source]) -> str:
    """Whose numbers, by which protocol, of how many seeds; and why what is missing is."""
    reported, (marks, _) = collected.reported, kinds_of(blocks)
    said_by = {
        "by_source": [f"{enumerated([*part.method])}: {source}" for source, part in reported.groupby("source")],
        "n": [str(n) for n in sorted(reported.n_seeds.unique())],
    }
    why = [f"{mark}: {reason}" for mark, reason in WHY.items() if mark in marks]
    protocol = [*context[context["mean"].isna()].protocol]
    known = {**KNOWN, "LOOSE": curves.LOOSE}
    return said("others", collected.config, marks, said_by, protocol, sources, why, **known) + mixed_note(collected)
