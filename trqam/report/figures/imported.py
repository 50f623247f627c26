"""Curves that others published, in panels of their own: what another protocol gave is not drawn among our results.

They are drawn as published, a source with its protocol over its panels. A domain's curve is the domain's own, because a
file's seed columns need not be the same seeds in two tasks; without one it is the mean of all its tasks.
"""

import re
import textwrap
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from trqam.config.load import Config, tasks_of
from trqam.config.wording import method_label
from trqam.report import panels
from trqam.report.drawing import WIDTH, keys
from trqam.report.imported import ALL, methods_of, protocols
from trqam.report.panels import SUCCESS
from trqam.report.runs import Runs

COLUMNS = 4  # panels side by side: wider than ours, for many methods
PANELS, METHODS = 20, 20  # of a source, and of all, at most
LETTERS = 95  # of a source's title, in a line


def draw(runs: Runs) -> Figure:
    """A band of panels a source, a panel a domain, and one legend."""
    config, curves = runs.config, runs.collected.imported
    looks = _looks(config, methods_of(config, curves)[:METHODS])
    panels_of = {source: dict(list(places(config, rows).items())[:PANELS]) for source, rows in curves.groupby("source")}
    titles = {name: textwrap.wrap(f"{name}, {text}", LETTERS) for name, text in protocols(curves).items()}
    bands = {name: max(1, -(-len(of) // COLUMNS)) for name, of in panels_of.items()}
    heights = [1.3 * bands[name] + 0.15 * len(titles[name]) for name in bands]
    figure = plt.figure(figsize=(WIDTH, sum(heights) + 0.3 + 0.15 * -(-len(looks) // 5)))
    parts = figure.subfigures(len(bands), 1, squeeze=False, height_ratios=heights)
    for part, (name, shown) in zip(parts.flat, panels_of.items(), strict=True):
        part.suptitle("\n".join(titles[name]), fontsize=8, x=0.01, ha="left")
        grid = part.subplots(bands[name], COLUMNS, squeeze=False, sharex=True, sharey=True)
        for axes in grid.flat[len(shown) :]:
            axes.set_visible(False)
        for axes, (title, rows) in zip(grid.flat, shown.items(), strict=False):
            _panel(axes, title, rows, looks)
            own = curves[curves.source == name]
            offline = max(own[own.stage == "offline"].total_step, default=0)
            panels.ground(axes, int(offline), int(own.total_step.max()), 1e6)
        for axes in grid.flat[max(0, len(shown) - COLUMNS) : len(shown)]:
            axes.tick_params(labelbottom=True)
    figure.supylabel(SUCCESS, fontsize=8)
    figure.supxlabel("training step, as published (millions)", fontsize=8)
    keys(figure, [Line2D([], [], label=method_label(config, method), **look) for method, look in looks.items()])
    return figure


def places(config: Config, rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The panels of a source: of each domain, and of everything, the mean over seeds in per cent, by method and step.

    A domain without any such mean has a panel for each of its tasks.
    """
    rows = rows.assign(task=rows.task.fillna(""), success=100 * rows.success.astype(float)).dropna(subset=["success"])
    means = rows.groupby(["domain", "task", "method", "total_step"]).success.mean().reset_index()
    known = [domain for domain in config.domains if (means.domain == domain).any()]
    found: dict[str, pd.DataFrame] = {}
    for domain in [*known, *sorted({*means.domain} - {*known, ALL}), ALL]:
        of, label = means[means.domain == domain], config.domains[domain].label if domain in known else domain
        own, tasks = of[of.task == ""], of[of.task.isin(tasks_of(domain))]
        averaged = tasks.groupby(["method", "total_step"]).success.agg(["mean", "size"])
        averaged = averaged[averaged["size"] == len(tasks_of(domain))]["mean"]
        averaged = averaged.rename("success").reset_index()
        whole = pd.concat([own, averaged[~averaged.method.isin(own.method)]])
        if len(whole):
            found[label] = whole
        else:
            for task, part in of.groupby("task"):
                number = re.search(r"-task(\d+)", task)
                found[f"{label}\n{f'task {number[1]}' if number else 'default task'}"] = part
    return found


def _panel(axes: Axes, title: str, rows: pd.DataFrame, looks: dict[str, dict[str, Any]]) -> None:
    for place, (method, look) in enumerate(looks.items()):
        own = rows[rows.method == method].sort_values("total_step")
        every = max(1, len(own) // 4)
        axes.plot(own.total_step, own.success, markevery=(place * every // len(looks), every), linewidth=0.9, **look)
    lines = [line for part in title.splitlines() for line in textwrap.wrap(part, 26)[:2]]
    axes.set_title("\n".join(lines), fontsize=7)
    panels.success_axis(axes)


def _looks(config: Config, methods: list[str]) -> dict[str, dict[str, Any]]:
    """A known method has its own colour and marker; others are dashed, with hollow markers, and dark and light in turn
    around the wheel of hues."""
    others = [method for method in methods if method not in config.methods]
    dark, light = (sns.husl_palette(len(others), l=lightness) for lightness in (0.35, 0.65))
    looks: dict[str, dict[str, Any]] = {}
    for method in methods:
        if method in config.methods:
            looks[method] = panels.look(config, method)
        else:
            number = others.index(method)
            marker = panels.MARKERS[number % len(panels.MARKERS)]
            looks[method] = {"color": (light if number % 2 else dark)[number], "linestyle": (0, (4, 1.5))}
            looks[method] |= {"marker": marker, "markersize": 3.2, "markerfacecolor": "white", "markeredgewidth": 0.6}
    return looks


FIGURES = {"imported": draw}
