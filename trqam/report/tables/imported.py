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
        _block(config, curves[(curves.source == source) & (curves.stage == stage)], source, stage, methods, own_all)
        for source in sorted(set(curves.source))
        for stage in STAGES
    ]
    about = [config.methods.get(method) for method in methods]
    labels = tuple(known.label if known else method for known, method in zip(about, methods, strict=True))
    kinds = groupby(known.group if known else "Other" for known in about)
    groups = tuple((kind, len(list(members))) for kind, members in kinds)
    caption = "Published curves, summed up with our statistics. No result of this run."
    return SuccessTable(caption, labels, groups, tuple(blocks), tuple(_notes(blocks, own_all)))


def _by_group(config: Config, methods: list[str]) -> list[str]:
    """The order of methods.yaml, a group's together, and what it does not know last."""
    known = [method for method in config.methods if method in methods]
    groups = list(dict.fromkeys(config.methods[method].group for method in known))
    known.sort(key=lambda method: groups.index(config.methods[method].group))
    return known + [method for method in methods if method not in known]


def _block(
    config: Config, curves: pd.DataFrame, source: str, stage: str, methods: list[str], own_all: bool
) -> tuple[str, tuple[Row, ...]]:
    """The last evaluation of a stage, a row a domain (those that domains.yaml does not know last) and then `all`."""
    last = curves[curves.step == curves.step.max()]
    named = [domain for domain in dict.fromkeys(curves.domain) if domain != ALL]
    rows = []
    for domain in sorted(named, key=lambda d: [*config.domains, *named].index(d)):
        own = last[last.domain == domain]
        entries = [_entry(own[own.method == method], domain) for method in methods]
        label = config.domains[domain].label if domain in config.domains else domain
        rows.append(Row(label, "domain", tuple(mark_best(entries))))
    own = last[last.domain == ALL]
    if len(rows) > 1 or len(own):
        rows.append(_all(rows, [own[own.method == method] for method in methods], own_all))
    seeds = sorted(set(curves.groupby("method").seed.nunique()))
    step = f" at step {thousands(int(last.step.iloc[0]))} (n = {' or '.join(map(str, seeds))})" if rows else ""
    return f"{source}, {stage}{step or ': no evaluation'}", tuple(rows)


def _entry(last: pd.DataFrame, domain: str) -> Entry:
    """Of one method at one step: from the domain's own row of seeds, else from all five tasks, without a spread."""
    own = last[last.task == ""]
    success = 100 * (own.success if len(own) else _mean_of_tasks(last, domain)).dropna()
    if success.empty:
        return Entry(MISSING)
    mean, std = mean_and_std(success)
    text = round_half_up(mean)
    marks = [] if len(own) else [LOOSE]
    marks += [f"n={len(success)}"] if len(own) > len(success) else []
    return Entry(text if len(success) == 1 else f"{text} ± {round_half_up(std)}", int(text), marks=tuple(marks))


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
    more = {
        "Bold: best printed mean of the row, with its ties.": any(entry.best for entry in entries),
        f"{LOOSE}: the mean of the five tasks; the file has no curve of the domain, and seeds of different tasks "
        "cannot be matched, so the spread is not known.": LOOSE in marks,
        "n=k: only k seeds were evaluated.": bool(marks - {LOOSE, OF_MEANS}),
        f"{MISSING}: no curve.": any(entry.text == MISSING for entry in entries),
    }
    return notes + [note for note, needed in more.items() if needed]
