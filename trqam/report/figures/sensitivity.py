"""What a method's success depends on: TRQAM's budget, QAM's temperature, and the scale of the rewards for both.

Above the success, below the path KL, at the end of the offline stage, side by side for the sweeps that the scale has.
"""

from functools import partial

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from trqam.config.load import Config, expanded
from trqam.config.sweeps import SWEEPS
from trqam.config.wording import enumerated, tasks_label
from trqam.report import panels
from trqam.report.collected import Collected
from trqam.report.drawing import DASHED, INK, dashed, keys, log_axis, plain
from trqam.report.figures import Drawing
from trqam.report.measures import final_success, realised_kl
from trqam.report.runs import Runs


def _sweeps(config: Config) -> dict[str, dict[str, dict[float, str]]]:
    """By key and method, value to the method that has it, of the sweeps that the scale has."""
    found = {key: {m: values for m in s.methods if (values := config.swept(key, m))} for key, s in SWEEPS.items()}
    return {key: sweeps for key, sweeps in found.items() if sweeps}


def _all(collected: Collected) -> Runs:
    """Every method of every sweep."""
    methods = [name for sweeps in _sweeps(collected.config).values() for s in sweeps.values() for name in s.values()]
    tasks = expanded(collected.config.scale.ablation_tasks)
    return Runs(collected, list(dict.fromkeys(methods)), tasks, ("offline",))


def _draw(runs: Runs) -> Figure:
    """A column a sweep; two rows a panel's tasks: success, and path KL."""
    config, metrics = runs.config, runs.collected.metrics
    sweeps, places = _sweeps(config), panels.groups(config, runs.tasks)
    height = 2.6 * len(places) + 0.5
    figure, grid = panels.grid(2 * len(places), len(sweeps), height, sharex="col", sharey="row")
    for number, (label, tasks) in enumerate(places.items()):
        for row, measure in ((2 * number, final_success), (2 * number + 1, realised_kl)):
            for axes, (key, sides) in zip(grid[row], sweeps.items(), strict=True):
                for method, sweep in sides.items():
                    swept = Runs(runs.collected, [*sweep.values()], tasks, ("offline",))
                    rows = swept.at_the_end(tasks, partial(measure, metrics, config, tasks))
                    rows["at"] = rows.method.map({name: value for value, name in sweep.items()}).astype(float)
                    _line(axes, rows, config.methods[method].colour, method)
                axes.set(xscale="log", xlabel="", ylabel="")
                ticks = sorted({value for sweep in sides.values() for value in sweep})
                axes.set_xticks(ticks, [plain(tick) for tick in ticks])
                axes.xaxis.minorticks_off()
                if measure is realised_kl and key == "budgets":
                    axes.plot(ticks, ticks, zorder=1, **DASHED)
        panels.success_axis(grid[2 * number, 0])
        log_axis(grid[2 * number + 1, 0])
        grid[2 * number, 0].set_ylabel(panels.SUCCESS if len(places) == 1 else f"{label}\n{panels.SUCCESS}")
        grid[2 * number + 1, 0].set_ylabel(panels.PATH_KL)
    for axes, key in zip(grid[-1], sweeps, strict=True):
        axes.set_xlabel(f"{SWEEPS[key].quantity} ({SWEEPS[key].unit})")
    figure.align_ylabels()
    shown = dict.fromkeys(method for sides in sweeps.values() for method in sides)
    lines = [
        Line2D([], [], label=config.methods[m].label, color=config.methods[m].colour, marker="o", ms=3.5) for m in shown
    ]
    own = Line2D([], [], label="the method's own setting", marker="o", mfc="white", mec=INK, ms=5, linestyle="")
    equal = [dashed("KL budget")] * ("budgets" in sweeps)
    keys(figure, [*lines, own, *equal, *panels.others(runs)])
    return figure


def _line(axes, rows: pd.DataFrame, colour: str, method: str) -> None:
    """The mean over seeds with its range, and a hollow mark at the method's own setting."""
    kept = rows.dropna(subset=["value"])
    if kept.empty:
        return
    look = {"color": colour, "marker": "o", "markersize": 3.5, "markeredgewidth": 0}
    sns.lineplot(kept, x="at", y="value", ax=axes, errorbar=("pi", 100), err_kws={"alpha": 0.2, "linewidth": 0}, **look)
    own = kept[kept.method == method]
    if len(own):
        mark = {"marker": "o", "markersize": 5, "markerfacecolor": "white", "markeredgecolor": colour, "zorder": 5}
        axes.plot([own["at"].iloc[0]], [own.value.mean()], linestyle="", **mark)


def _caption(runs: Runs) -> str:
    sweeps = _sweeps(runs.config)
    varied = enumerated([SWEEPS[key].quantity for key in sweeps])
    return (
        f"What the result depends on, on {tasks_label(runs.config, runs.tasks)}: {varied}. Above: success at the end "
        "of the offline stage; look for a line that stays high. Below: path KL over the last fifth of "
        f"that stage. {panels.MEAN}; {panels.BAND} ({runs.seeds(' a task')}). All axes but success are logarithmic."
    )


FIGURES = {"sensitivity": Drawing(_all, _draw, _caption)}
