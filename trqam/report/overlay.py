"""Imported curves beside ours: in the method's colour, thin and dashed, where their steps are the scale's.

They are drawn as published, never stretched: a source whose stages end at other steps than the scale's is left out,
and the caption says so. The curve of a domain comes from the domain's own rows, because a file's seed columns need not
be the same seeds in two tasks.
"""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from trqam.config.load import Config, domain_of, tasks_of
from trqam.config.wording import enumerated, thousands
from trqam.report.drawing import INK
from trqam.report.runs import Runs

DASHES = ((0, (4, 2)), (0, (1.5, 1.5)), (0, (4, 1.5, 1, 1.5)))  # a source, in the order of their names
THIN = 0.8


def sources(imported: pd.DataFrame, config: Config) -> dict[str, bool]:
    """Every source, and whether its stages end where the scale's do; one without an online stage may."""
    return {name: _same_steps(rows, config) for name, rows in imported.groupby("source")}


def _same_steps(rows: pd.DataFrame, config: Config) -> bool:
    scale, last = config.scale, rows.groupby("stage").total_step.max()
    online = scale.offline_steps + scale.online_steps
    return last.get("offline") == scale.offline_steps and last.get("online", online) == online


def drawn(runs: Runs) -> pd.DataFrame:
    """The imported rows that some panel of these runs may show, success in per cent, an empty task for a domain."""
    imported = runs.collected.imported
    imported = imported.assign(task=imported.task.fillna(""))
    fitting = [name for name, same in sources(imported, runs.config).items() if same]
    wholes = [d for d in {domain_of(task) for task in runs.tasks} if set(tasks_of(d)) <= set(runs.tasks)]
    place = imported.task.isin(runs.tasks) | ((imported.task == "") & imported.domain.isin(wholes))
    rows = imported[place & imported.method.isin(runs.methods) & imported.source.isin(fitting)]
    return rows.assign(success=100 * rows.success.astype(float)).dropna(subset=["success"])


def draw(axes: Axes, rows: pd.DataFrame, config: Config, tasks: list[str]) -> None:
    """The mean over seeds of each source and method on a task, or on a whole domain; nothing on a part of one."""
    domain = domain_of(tasks[0])
    if len(tasks) == 1:
        rows = rows[rows.task == tasks[0]]
    elif set(tasks) == set(tasks_of(domain)):
        rows = rows[(rows.task == "") & (rows.domain == domain)]
    else:
        return
    looks = _dashes(rows)
    for (name, method), own in rows.groupby(["source", "method"]):
        mean = own.groupby("total_step").success.mean()
        colour = config.methods[method].colour
        axes.plot(mean.index, mean, color=colour, linestyle=looks[name], linewidth=THIN, zorder=1.8)


def _dashes(rows: pd.DataFrame) -> dict[str, tuple]:
    return {name: DASHES[place % len(DASHES)] for place, name in enumerate(sorted(rows.source.unique()))}


def handles(rows: pd.DataFrame) -> list[Line2D]:
    """For a legend: one entry a source."""
    named = {f"{name} (imported)": style for name, style in _dashes(rows).items()}
    return [Line2D([], [], label=label, linestyle=s, color=INK, linewidth=THIN) for label, s in named.items()]


def note(runs: Runs) -> str:
    """What captions say of imported curves: which are drawn, of how many seeds, and which are left out and why."""
    imported, config = runs.collected.imported, runs.config
    rows, sentences = drawn(runs), []
    if len(rows):
        seeds = rows.groupby(["source", "method", "task", "domain"]).seed.nunique()
        ranges = seeds.groupby("source").agg(["min", "max"]).itertuples()
        named = [f"{name} (n = {low}{f' to {high}' if high > low else ''})" for name, low, high in ranges]
        sentences.append(f" Thin dashes: means over the seeds of curves imported from {enumerated(named)}.")
    if other := [name for name, same in sources(imported, config).items() if not same]:
        end = thousands(config.scale.offline_steps + config.scale.online_steps)
        offline = thousands(config.scale.offline_steps)
        why = f"their stages do not end at this scale's {offline} and {end} steps"
        sentences.append(f" Curves imported from {enumerated(other)} are left out: {why}.")
    return "".join(sentences)
