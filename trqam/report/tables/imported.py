"""The published tables, rebuilt from imported curves with our statistics: for each source the end of either stage.

A file's seed columns need not match between tasks, so a domain's mean ± std is that of the domain's own array. Where
there is none, the mean of its tasks is the mean all the same, but no spread can be known. The column `all` is of the
file's own curve of everything, where it has one, and else the mean of the printed means.
"""

import numpy as np
import pandas as pd

from trqam.config.load import Config, tasks_of
from trqam.config.wording import method_label, thousands
from trqam.report.collected import Collected
from trqam.report.imported import ALL, methods_of, protocols
from trqam.report.selection import STAGES
from trqam.report.statistics import mean_and_std
from trqam.report.tables import MISSING, Entry, Row, SuccessTable, grouped, kinds_of, printed, said
from trqam.report.tables.success import mark_best, mean_of_domains

LOOSE = "*"  # a mean without a spread
ROWS = 20  # methods, at most, whose two stages share a page
OF_MEANS = "†"  # of a method without an `all` of its own, where others have one


def table(collected: Collected) -> SuccessTable:
    """Methods by domains, for there are more methods in a file than columns in a page; two blocks a source, offline and
    online, and no block where nothing was imported.
    """
    config, curves = collected.config, collected.imported
    curves = curves.assign(task=curves.task.fillna(""))
    found = [domain for domain in dict.fromkeys(curves.domain) if domain != ALL]
    domains = sorted(found, key=[*config.domains, *found].index)
    own_all = bool((curves.domain == ALL).any())
    columns = [*domains, ALL] if own_all or len(domains) > 1 else domains
    blocks, most = [], 0
    for source, rows in curves.groupby("source"):
        methods = methods_of(config, rows)
        most = max(most, len(methods))
        for stage in STAGES:
            blocks.append(_block(config, rows[rows.stage == stage], f"{source}, {stage}", methods, columns, own_all))
    labels = [config.domains[domain].label if domain in config.domains else domain for domain in columns]
    heads = [label.partition("-")[::2] if "-" in label else ("", label) for label in labels]
    groups = grouped(family for family, _ in heads)
    caption = "Published curves, summed up with our statistics. No result of this run."
    about = {"ALL": ALL, "LOOSE": LOOSE, "OF_MEANS": OF_MEANS}
    notes = said("imported", protocols(curves), *kinds_of(blocks), columns, own_all, **about)
    together = 2 if most <= ROWS else 1
    return SuccessTable(caption, tuple(head for _, head in heads), groups, blocks, notes, together)


def _block(
    config: Config, curves: pd.DataFrame, title: str, methods: list[str], columns: list[str], own_all: bool
) -> tuple[str, tuple[Row, ...]]:
    """The last evaluation of a stage, a row a method; nothing in the columns of what this source does not have."""
    last = curves[curves.step == curves.step.max()]
    own = {(domain, method): rows for (domain, method), rows in last.groupby(["domain", "method"])}
    parts = []
    for domain in columns:
        if domain != ALL and (curves.domain == domain).any():
            entries = [entry(own.get((domain, method), last.iloc[:0]), domain) for method in methods]
            parts.append(Row(domain, "domain", tuple(mark_best(entries))))
    if ALL in columns and len(curves):
        parts.append(_all(parts, [own.get((ALL, method), last.iloc[:0]) for method in methods], own_all))
    cells = {part.label: part.entries for part in parts}
    none = (Entry(MISSING),) * len(methods)
    labels = [method_label(config, method) for method in methods]
    cells_of = zip(*(cells.get(domain, none) for domain in columns), strict=True)
    seeds = sorted(set(curves.groupby("method").seed.nunique()))
    step = f" at step {thousands(int(last.step.iloc[0]))} (n = {' or '.join(map(str, seeds))})" if len(last) else ""
    rows = tuple(Row(label, "method", row) for label, row in zip(labels, cells_of, strict=True))
    return f"{title}{step or ': no evaluation'}", rows if len(last) else ()


def entry(last: pd.DataFrame, domain: str) -> Entry:
    """Of one method at one step: from the domain's own row of seeds, else from all of its tasks, without a spread."""
    own = last[last.task == ""]
    success = 100 * (own.success if len(own) else _mean_of_tasks(last, domain)).dropna()
    if success.empty:
        return Entry(MISSING)
    marks = [] if len(own) else [LOOSE]
    marks += [f"n={len(success)}"] if len(own) > len(success) else []
    return printed(*mean_and_std(success), *marks)


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
            marks = [f"n={len(success)}"] if len(success) < len(curve) else []
            entries.append(printed(success.mean(), np.nan, *marks))
    return Row("all", "all", tuple(mark_best(entries)))


def _mean_of_tasks(last: pd.DataFrame, domain: str) -> pd.Series:
    """One number, over tasks of means over seeds; nan unless all of its tasks are there."""
    means = last.groupby("task").success.mean().reindex(tasks_of(domain))
    return pd.Series([means.mean(skipna=False)])
