"""Whether the budget holds state by state: TRQAM with a multiplier for each state, beside TRQAM with one for all.

Unlike elsewhere a band is no spread of seeds: it runs over states, from 5 to 95 % of a batch.
"""

from functools import partial

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from trqam.report import panels
from trqam.report.collected import Collected
from trqam.report.drawing import INK, dashed, log_axis
from trqam.report.figures import Drawing
from trqam.report.figures.curves import QUANTITIES, budget_line
from trqam.report.measures import final_success, realised_kl
from trqam.report.runs import Runs, by_seed
from trqam.report.selection import by_state, tasks_run
from trqam.report.statistics import ratio, round_half_up

QUANTILES = ("p05", "median", "p95")  # in the names of the columns that the two methods log


def _both(collected: Collected) -> Runs:
    """The two methods, on the tasks that both run on."""
    methods = by_state(collected.config)
    return Runs(collected, methods, tasks_run(collected.config, *methods))


def _draw(runs: Runs) -> Figure:
    """A row a task: path KL over states, multiplier over states, success."""
    places = panels.groups(runs.config, runs.tasks)
    figure, grid = panels.grid(len(places), 3, min(1.5 * len(places) + 0.7, 7.5), sharex=True)
    for row, (title, tasks) in zip(grid, places.items(), strict=True):
        for method in runs.methods_on(tasks):
            _over_states(row[0], runs, tasks, method, "kl")
            _over_states(row[1], runs, tasks, method, "multiplier")
            panels.curve(row[2], runs, tasks, method)
        budget_line(row[0], runs, tasks[0])
        for axes, label in zip(row, (panels.PATH_KL, QUANTITIES["multiplier"], panels.SUCCESS), strict=True):
            axes.set(xlabel="", ylabel=label)
            panels.stages(axes, runs)
        _logarithmic(row[0], len(row[0].lines) > 1)  # the budget is one
        _logarithmic(row[1], bool(row[1].lines))
        panels.success_axis(row[2])
        row[0].set_title(title, loc="left", fontsize=8)
    figure.align_ylabels()
    panels.legend(figure, runs, [dashed("KL budget")])
    return figure


def _over_states(axes: Axes, runs: Runs, tasks: list[str], method: str, name: str) -> None:
    """The median over states, and a band from 5 to 95 %, each a mean over seeds; or one number for all states."""
    rows = runs.of(tuple(tasks), method)
    columns = [f"{name}_{quantile}" for quantile in QUANTILES]
    logged = [column for column in columns if column in rows and rows[column].notna().any()]
    if logged != columns:
        columns = [name] * 3 if name in rows else []
    lines = [by_seed(rows, column, len(tasks)).groupby("total_step")[column].mean() for column in columns]
    if lines and len(lines[1]):
        low, _, high = lines
        colour = runs.config.methods[method].colour
        axes.plot(lines[1].index, lines[1], color=colour)
        band = pd.concat([low, high], axis=1).dropna()
        axes.fill_between(band.index, band.iloc[:, 0], band.iloc[:, 1], color=colour, alpha=0.2, linewidth=0)


def _logarithmic(axes: Axes, drawn: bool) -> None:
    if drawn:
        log_axis(axes)
    else:
        axes.annotate("no values", (0.5, 0.5), xycoords="axes fraction", ha="center", fontsize=7, color=INK)


def told(runs: Runs) -> str:
    """What each came to, in numbers, where it has any."""
    config, metrics = runs.config, runs.collected.metrics
    if not {f"kl_{quantile}" for quantile in QUANTILES} <= set(metrics):
        return ""
    parts = []
    for label, method in zip(runs.labels, runs.methods, strict=True):
        share = partial(realised_kl, metrics, config, runs.tasks, method, relative=True)
        low, middle, high = (share(column=f"kl_{quantile}") for quantile in QUANTILES)
        success = final_success(metrics, config, runs.tasks, method)
        if middle.empty or success.empty:
            continue
        one, *others = (ratio(values.mean()) for values in (middle, low, high, share()))
        kl = "{} ({} to {}; mean {})".format(one, *others)
        parts.append(f"{label} {kl}, with a success of {round_half_up(success.mean())} %")
    if not parts:
        return ""
    return (
        " Over the last fifth of the offline stage the path KL of a state, over the budget, was in the median (5 to "
        f"95 %): {'; '.join(parts)} at its end."
    )


def _caption(runs: Runs) -> str:
    return (
        f"The budget state by state ({'; '.join(runs.labels)}){panels.parted(runs.tasks, 'row')}. Left: path "
        "KL of the states of a batch, on one path each; look for the band that lies closer about the dashed budget. "
        "Middle: their multipliers; both are logarithmic. Lines: median over states; bands: 5 to 95 % of the states; "
        f"both are means over seeds. Right: success. {panels.MEAN}; {panels.BAND} ({runs.seeds(' a task')}). "
        f"{panels.GROUND}{told(runs)}"
    )


FIGURES = {"per_state": Drawing(_both, _draw, _caption)}
