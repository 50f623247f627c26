"""The published tables, rebuilt from imported curves with our statistics: for each source the end of either stage.

A file's seed columns need not match between tasks, so a domain's mean ± std is that of the domain's own array. Where
there is none, the mean of its tasks is the mean all the same, but no spread can be known. The row `all` is the file's
own curve of everything, where it has one, and else the mean of the printed means.
"""

from itertools import groupby

import pandas as pd

from trqam.config.load import Config, tasks_of
from trqam.config.wording import thousands
from trqam.report.collected import Collected
from trqam.report.imported import ALL
from trqam.report.measures import STAGES
from trqam.report.statistics import mean_and_std, round_half_up
from trqam.report.tables import MISSING, Entry, Row, SuccessTable
from trqam.report.tables.success import mark_best, mean_of_domains

LOOSE = "*"  # a mean without a spread
OF_MEANS = "†"  # of a method without an `all` of its own, where others have one


def table(collected: Collected) -> SuccessTable:
    """Domains by methods; two blocks a source, offline and online, and no block where nothing was imported."""
    config, curves = collected.config, collected.imported
    curves = curves.assign(task=curves.task.fillna(""))
    methods = _by_group(config, list(dict.fromkeys(curves.method)))
    own_all = bool((curves.domain == ALL).any())
    blocks = [
        _block(config, curves[curves.source == source], source, stage, methods, own_all)
        for source in sorted(set(curves.source))
        for stage in STAGES
    ]
    known = [method in config.methods for method in methods]
    labels = [config.methods[m].label if k else m for m, k in zip(methods, known, strict=True)]
    kinds = [config.methods[m].group if k else "Other" for m, k in zip(methods, known, strict=True)]
    groups = tuple((kind, len(list(members))) for kind, members in groupby(kinds))
    caption = "Published curves, summed up with our statistics. No result of this run."
    return SuccessTable(caption, tuple(labels), groups, tuple(blocks), tuple(_notes(blocks, own_all)))


def _by_group(config: Config, methods: list[str]) -> list[str]:
    """The order of methods.yaml, a group's together, and what it does not know last."""
    known = [method for method in config.methods if method in methods]
    groups = list(dict.fromkeys(config.methods[method].group for method in known))
    known.sort(key=lambda method: groups.index(config.methods[method].group))
    return known + [method for method in methods if method not in known]


def _block(
    config: Config, curves: pd.DataFrame, source: str, stage: str, methods: list[str], own_all: bool
) -> tuple[str, tuple]:
    """The last evaluation of a stage, a row a domain and then `all`."""
    rows, curves = [], curves[curves.stage == stage]
    last = curves.step.max()
    for domain in _domains(config, curves):
        own = curves[(curves.domain == domain) & (curves.step == last)]
        entries = [_entry(own[own.method == method], domain) for method in methods]
        label = config.domains[domain].label if domain in config.domains else domain
        rows.append(Row(label, "domain", tuple(mark_best(entries))))
    own = curves[(curves.domain == ALL) & (curves.step == last)]
    if len(rows) > 1 or len(own):
        rows.append(_all(rows, [own[own.method == method] for method in methods], own_all))
    seeds = sorted(set(curves.groupby("method").seed.nunique()))
    end = f" at step {thousands(int(last))} (n = {' or '.join(map(str, seeds))})" if rows else ": no evaluation"
    return f"{source}, {stage}{end}", tuple(rows)


def _domains(config: Config, curves: pd.DataFrame) -> list[str]:
    """The order of domains.yaml, and what it does not know last."""
    found = [domain for domain in dict.fromkeys(curves.domain) if domain != ALL]
    return [d for d in config.domains if d in found] + [d for d in found if d not in config.domains]


def _entry(last: pd.DataFrame, domain: str) -> Entry:
    """Of one method at one step: from the domain's own row of seeds, else from all five tasks, without a spread."""
    own = last[last.task == ""]
    success = 100 * (own.success if len(own) else _mean_of_tasks(last, domain)).dropna()
    if success.empty:
        return Entry(MISSING)
    mean, std = mean_and_std(success)
    text = round_half_up(mean)
    marks = () if len(own) else (LOOSE,)
    marks += (f"n={len(success)}",) if len(own) > len(success) else ()
    return Entry(text if len(success) == 1 else f"{text} ± {round_half_up(std)}", int(text), marks=marks)


def _all(rows: list[Row], own: list[pd.DataFrame], own_all: bool) -> Row:
    """Of each method the mean of the file's own `all`; without one the mean of the printed means of all domains, which
    is marked if any file has its own (``own_all``)."""
    means = mean_of_domains(rows).entries if len(rows) > 1 else [Entry(MISSING)] * len(own)
    entries = []
    for curve, mean in zip(own, means, strict=True):
        success = 100 * curve.success.dropna()
        if success.empty:
            marked = own_all and mean.text != MISSING
            entries.append(Entry(mean.text, mean.value, marks=(OF_MEANS,) if marked else ()))
        else:
            text = round_half_up(success.mean())
            marks = (f"n={len(success)}",) if len(success) < len(curve) else ()
            entries.append(Entry(text, int(text), marks=marks))
    return Row("all", "all", tuple(mark_best(entries)))


def _mean_of_tasks(last: pd.DataFrame, domain: str) -> pd.Series:
    """One number, over tasks of means over seeds; nan unless all five tasks are there."""
    means = last.groupby("task").success.mean().reindex(tasks_of(domain))
    return pd.Series([means.mean(skipna=False)])


def _notes(blocks: list[tuple[str, tuple[Row, ...]]], own_all: bool) -> list[str]:
    """The sentences that this table needs."""
    entries = [entry for _, rows in blocks for row in rows for entry in row.entries]
    marks = {mark for entry in entries for mark in entry.marks}
    notes = ["Success in per cent: mean ± sample standard deviation over the n seeds of a domain's own curve."]
    if any(row.kind == "all" for _, rows in blocks for row in rows):
        means = "the mean of the printed means"
        lacking = f"; {OF_MEANS}: {means}, for the file has none" if OF_MEANS in marks else ""
        notes.append(f"all: the file's own curve of everything{lacking}." if own_all else f"all: {means}.")
    if any(entry.best for entry in entries):
        notes.append("Bold: best printed mean of the row, with its ties.")
    if LOOSE in marks:
        notes.append(
            f"{LOOSE}: the mean of the five tasks; the file has no curve of the domain, and seeds of different tasks "
            "cannot be matched, so the spread is not known."
        )
    if marks - {LOOSE, OF_MEANS}:
        notes.append("n=k: only k seeds were evaluated.")
    if any(entry.text == MISSING for entry in entries):
        notes.append(f"{MISSING}: no curve.")
    return notes
