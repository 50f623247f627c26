"""Tables as plain data, from which the LaTeX and the HTML templates print the same words and numbers.

The success tables follow the paper's Table 1: domains by methods, mean and sample standard deviation over seeds, the
best of a row marked, with the published numbers beneath a domain wherever there are any. What is missing prints as
`--`. The settings tables print the very configuration that trained.
"""

from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import pandas as pd

from trqam.config import Config, Method, domain_of
from trqam.errors import UserError
from trqam.report import (
    BEYOND,
    compared,
    count,
    enumerated,
    latex,
    shown,
    task_label,
    tasks_label,
    tasks_run,
    thousands,
    words,
)
from trqam.report.statistics import STAGES, Cell, final_cell, is_pretraining, round_half_up

MISSING = "--"
NOT_SETTINGS = (
    "scale", "domains_file", "methods_file", "tasks", "methods", "baselines", "baseline_tasks", "ablations", "budgets",
    "ablation_tasks", "ablation_stages", "data_dir", "seeds_per_job",
)  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One printed value; ``marks`` are superscripts that the table's notes explain."""

    text: str
    value: int | None = None
    best: bool = False
    marks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """``kind`` is domain, task, all or published (the paper's numbers, for the row above)."""

    label: str
    kind: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class SuccessTable:
    """``groups`` are (group, number of methods) from left to right; ``blocks`` are (title, rows), one a stage."""

    methods: tuple[str, ...]
    groups: tuple[tuple[str, int], ...]
    blocks: tuple[tuple[str, tuple[Row, ...]], ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Grid:
    """A plain table: ``columns`` is LaTeX's column specification."""

    caption: str
    columns: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    lead: str = ""


def lists_single_tasks(config: Config) -> bool:
    """Whether the scale names single tasks rather than whole domains only."""
    return any("-singletask-" in task for task in config.scale.tasks)


def read_reported(path: str | Path) -> pd.DataFrame:
    """The published numbers: domain, method, phase, step, mean, std, n_seeds, source."""
    try:
        reported = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({type(error).__name__}); restore the file from git") from None
    if lacking := {"domain", "method", "phase", "mean", "std", "n_seeds", "source"} - set(reported):
        raise UserError(f"{path}: {sorted(lacking)[0]}: column missing; restore the file from git")
    return reported


def success_table(metrics: pd.DataFrame, config: Config, reported: pd.DataFrame, every_task=False) -> SuccessTable:
    """Domains (and the single tasks that a scale lists) by methods; ``every_task`` gives tasks alone, all of them."""
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
                rows.append(_row(config, config.domains[domain].label, "domain", methods, cells))
                if config.domains[domain].in_paper:
                    rows += _published(config, reported, domain, methods, stage)
            if every_task or lists_single_tasks(config):
                for task in tasks:
                    cells = [final_cell(metrics, config, [task], m, stage) for m in methods]
                    rows.append(_row(config, task_label(config, task), "task", methods, cells))
        if len(config.task_domains) > 1 and not every_task:
            rows.append(_mean_of_domains(rows))
            if set(config.task_domains) == set(reported.domain) - {"all"}:
                rows += _published(config, reported, "all", methods, stage)
        blocks.append((steps[stage], tuple(rows)))
    groups = [(group, len(list(members))) for group, members in groupby(config.methods[m].group for m in methods)]
    labels = tuple(config.methods[m].label + "§" * (config.methods[m].group == BEYOND) for m in methods)
    return SuccessTable(labels, tuple(groups), tuple(blocks), tuple(_notes(config, methods, blocks, reported)))


def by_group(config: Config) -> list[str]:
    """The compared methods in the order of methods.yaml, a group's together."""
    methods = compared(config)
    grouped = list(dict.fromkeys(config.methods[m].group for m in methods))
    return sorted(methods, key=lambda m: grouped.index(config.methods[m].group))


def _row(config: Config, label: str, kind: str, methods: list[str], cells: list[Cell | None]) -> Row:
    entries = [_entry(config, method, cell) for method, cell in zip(methods, cells, strict=True)]
    return Row(label, kind, tuple(_mark_best(entries)))


def _entry(config: Config, method: str, cell: Cell | None) -> Entry:
    if cell is None:
        return Entry(MISSING)
    mean = round_half_up(cell.mean)
    marks = ["‡"] if is_pretraining(config, method) and cell.n > 1 else []
    marks += [f"†{cell.diverged}"] if cell.diverged else []
    marks += [f"n={cell.n}"] if cell.n != config.scale.seeds else []
    return Entry(mean if cell.n == 1 else f"{mean} ± {round_half_up(cell.std)}", int(mean), marks=tuple(marks))


def _mark_best(entries: list[Entry]) -> list[Entry]:
    """Marks the highest printed value and its ties, unless every value is the same and nothing is best."""
    values = [entry.value for entry in entries if entry.value is not None]
    if len(set(values)) < 2:
        return entries
    return [Entry(e.text, e.value, e.value == max(values), e.marks) for e in entries]


def _published(config: Config, reported: pd.DataFrame, domain: str, methods: list[str], stage: str) -> list[Row]:
    """The row of published numbers, or none where the paper has nothing for these methods and this stage."""
    rows = reported[(reported.domain == domain) & (reported.phase == stage)].set_index("method")
    labels = [config.methods[m].label for m in methods]
    entries = tuple(_printed(rows.loc[name]) if name in rows.index else Entry(MISSING) for name in labels)
    return [Row("published", "published", entries)] if any(e.value is not None for e in entries) else []


def _printed(row: pd.Series) -> Entry:
    mean = round_half_up(row["mean"])
    return Entry(mean if pd.isna(row["std"]) else f"{mean} ± {round_half_up(row['std'])}", int(mean))


def _mean_of_domains(rows: list[Row]) -> Row:
    """The paper's `all`: the mean of the printed domain means, rounded half up; missing where a domain is."""
    entries = []
    for column in zip(*(row.entries for row in rows if row.kind == "domain"), strict=True):
        values = [entry.value for entry in column]
        mean = MISSING if None in values else round_half_up(sum(values) / len(values))
        entries.append(Entry(mean, None if mean == MISSING else int(mean)))
    return Row("all", "all", tuple(_mark_best(entries)))


def _notes(config: Config, methods: list[str], blocks, reported: pd.DataFrame) -> list[str]:
    """The sentences that this table needs, and no other."""
    entries = [entry for _, rows in blocks for row in rows for entry in row.entries]
    marks = {mark[0] for entry in entries for mark in entry.marks}
    seeds = config.scale.seeds
    spread = "mean ± sample standard deviation over" if seeds > 1 else "values of"
    notes = [f"Success in per cent at the stage's last evaluation: {spread} {count(seeds, 'seed')} (n = {seeds})."]
    notes[0] += f" {count(config.scale.eval_episodes, 'episode')} a task and seed."
    if any(entry.best for entry in entries):
        notes.append("Bold: best printed mean of the row, with its ties.")
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


def _partial(config: Config, methods: list[str]) -> dict[tuple[str, ...], str]:
    """The methods that do not run on all tasks, by the tasks that they do run on."""
    ran = {method: tuple(tasks_run(config, method)) for method in methods}
    fewer = dict.fromkeys(tasks for tasks in ran.values() if tasks != tuple(config.tasks))
    return {tasks: enumerated([config.methods[m].label for m in methods if ran[m] == tasks]) for tasks in fewer}


def published_table(reported: pd.DataFrame) -> Grid:
    """The authors' Table 1 as they print it, every row of the file."""
    methods, domains = list(dict.fromkeys(reported.method)), list(dict.fromkeys(reported.domain))
    cells = reported.set_index(["domain", "method"])
    rows = [
        (d, *(_printed(cells.loc[(d, m)]).text if (d, m) in cells.index else MISSING for m in methods)) for d in domains
    ]
    overall = [f"{row.method} {round_half_up(row.mean)} %" for row in reported[reported.domain == "all"].itertuples()]
    sources = [f"{', '.join(dict.fromkeys(part.method))}: {source}" for source, part in reported.groupby("source")]
    seeds = ", ".join(str(n) for n in sorted(reported.n_seeds.unique()))
    caption = f"Published offline success in per cent, mean ± standard deviation over {seeds} seeds; no result of "
    caption += f"this run. {'; '.join(sources)}."
    lead = f"Over all domains the published success is {', '.join(overall)}." if overall else ""
    return Grid(caption, "l" + "r" * len(methods), ("domain", *methods), tuple(rows), lead)


def settings_common(config: Config) -> Grid:
    """Every value of the scale file that training or evaluation reads."""
    fields = [key for key in config.scale.__struct_fields__ if key not in NOT_SETTINGS]
    rows = [(words(key), shown(getattr(config.scale, key))) for key in fields]
    half = -(-len(rows) // 2)
    pairs = [(*rows[i], *(rows[i + half] if i + half < len(rows) else ("", ""))) for i in range(half)]
    caption = f"Settings that all runs share, from {config.path}; 'default' leaves a value to the domain."
    return Grid(caption, "lr@{\\hspace{2em}}lr", ("setting", "value", "setting", "value"), tuple(pairs))


def settings_domains(config: Config) -> Grid:
    """What differs between domains; an assumed value, one that the authors do not publish, carries an asterisk."""
    fields = ("horizon", "hidden_width", "hidden_layers", "actor_layer_norm", "discount", "pessimism", "kl_budget")
    rows = []
    for name in config.task_domains:
        domain = config.domains[name]
        values = {key: getattr(config.scale, key, None) or getattr(domain, key) for key in fields}
        rows.append((domain.label, *(shown(v) + "*" * (key in domain.assumed) for key, v in values.items())))
    caption = f"Settings of each domain, from {config.scale.domains_file}. *: assumed, since not published."
    return Grid(caption, "l" + "r" * len(fields), ("domain", *map(words, fields)), tuple(rows))


def settings_methods(config: Config) -> Grid:
    """The parameters of each method, where a domain of this scale overrides them, and what an ablation changes."""
    rows = []
    for name in [*by_group(config), *config.scale.ablations]:
        method, base = config.methods[name], _base(config, name)
        same = config.methods[base].parameters if base else {}
        own = {key: value for key, value in method.parameters.items() if same.get(key, ...) != value}
        own = {words(key): shown(value) for key, value in own.items()}
        parts = [f"as {config.methods[base].label}"] if base else []
        parts += ["no behaviour cloning first"] if base and "pretrain" not in method.stages else []
        parts += [f"{key} {value}" for key, value in own.items()] or ([] if base else ["none"])
        alike = base is not None and method.domains == config.methods[base].domains
        rows.append((method.label, ", ".join(parts), "" if alike else _overrides(config, method)))
    caption = f"Parameters of each method, from {config.scale.methods_file}; a KL budget not named is the domain's."
    if config.budget_sweep:
        budgets = enumerated([f"{budget:g}" for budget in config.budget_sweep])
        caption += f" The budget sweep is TRQAM with {budgets} in its place."
    header = ("method", "parameters", "instead, in these domains")
    wide = ">{\\raggedright\\arraybackslash}"
    if not any(row[2] for row in rows):
        return Grid(caption, f"l{wide}p{{0.7\\linewidth}}", header[:2], tuple(row[:2] for row in rows))
    columns = f"{wide}p{{0.17\\linewidth}}{wide}p{{0.3\\linewidth}}{wide}p{{0.5\\linewidth}}"
    return Grid(caption, columns, header, tuple(rows))


def _base(config: Config, name: str) -> str | None:
    """The compared method that the ablation ``name`` has its agent from."""
    alike = [m for m in config.compared if config.methods[m].agent == config.methods[name].agent]
    return alike[0] if alike and name in config.scale.ablations else None


def _overrides(config: Config, method: Method) -> str:
    """`inverse temperature: scene 3, cube-double 1; edit scale: scene 0`."""
    places: dict[str, list[str]] = {}
    for domain in config.task_domains:
        for key, value in method.domains.get(domain, {}).items():
            places.setdefault(words(key), []).append(f"{config.domains[domain].label} {shown(value)}")
    return "; ".join(f"{key}: {', '.join(where)}" for key, where in places.items())


CAPTIONS = {
    "success": "Success after each stage. Compare along a row.",
    "success_tasks": "Success after each stage, task by task.",
}
GRIDS = {
    "published": lambda config, reported: published_table(reported),
    "settings_common": lambda config, reported: settings_common(config),
    "settings_domains": lambda config, reported: settings_domains(config),
    "settings_methods": lambda config, reported: settings_methods(config),
}
NAMES = (*CAPTIONS, *GRIDS)


def render(name: str, metrics: pd.DataFrame, config: Config, reported_csv: str | Path, out: str | Path) -> None:
    """Writes the table ``name`` as a LaTeX float."""
    if name not in NAMES:
        raise UserError(f"render: unknown table {name!r}; use one of {', '.join(NAMES)}")
    reported = read_reported(reported_csv)
    if name in GRIDS:
        latex.render("grid.tex.j2", out, name=name, grid=GRIDS[name](config, reported))
    else:
        table = success_table(metrics, config, reported, every_task=name == "success_tasks")
        # fifty tasks fill a page: one float a stage
        split = [replace(table, blocks=(block,)) for block in table.blocks] if name == "success_tasks" else [table]
        latex.render("success.tex.j2", out, name=name, tables=split, caption=CAPTIONS[name])
