"""The idea in one picture: where QAM goes as its temperature falls, and where a budget stops TRQAM.

`toy_experiment` makes the numbers.
"""

from collections.abc import Iterable
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from trqam.config.wording import count, enumerated
from trqam.experiment.files import write_atomically
from trqam.report import prose
from trqam.report.drawing import DASHED, INK, WIDTH, log_axis, save
from trqam.report.latex import escape
from trqam.report.toy_experiment import NOISE, REWARDED, STEPS, Policies, Toy, table, true_return

SEEDS = 10
TEMPERATURES = (0.3, 1.0, 3.0, 10.0, 30.0)  # inverse, of QAM
BUDGETS = (0.1, 0.25, 0.5, 1.0, 2.0)  # nats, of TRQAM
SHOWN = (0, 2, 4)  # of either, as samples
HEIGHT = 5.0  # inches
SIDE, RESOLUTION = 1.05, 80  # of the plane that is shown, and its points along an axis
QAM_COLOUR, TRQAM_COLOUR = "#0072b2", "#d55e00"  # as in config/methods.yaml
VALUES: dict[str, Any] = {"cmap": "cividis", "vmin": -0.5, "vmax": 1.5, "shading": "gouraud", "rasterized": True}


class Measured(NamedTuple):
    """The trained policies, and of each method, setting and seed a row of ``rows`` (see `toy_experiment.table`)."""

    toy: Toy
    qam: Policies
    trqam: Policies
    rows: pd.DataFrame


@cache
def measure() -> Measured:
    """All trainings, once a process (under a minute)."""
    toy = Toy(range(SEEDS))
    qam, trqam = toy.qam(TEMPERATURES), toy.trqam(BUDGETS)
    parts = {"cloning": table(toy.cloned(), [0.0]), "qam": table(qam, TEMPERATURES), "trqam": table(trqam, BUDGETS)}
    rows = pd.concat([part.assign(method=method) for method, part in parts.items()], ignore_index=True)
    return Measured(toy, qam, trqam, rows)


def write(folder: str | Path) -> None:
    """Writes figures/toy.pdf and .png, the data, toy.csv, and the caption: toy_facts.tex and, for the page, toy.txt.

    All have the same bytes each time.
    """
    measured, folder = measure(), Path(folder)
    save(partial(_figure, measured), folder / "figures" / "toy.pdf")
    write_atomically(folder / "toy.csv", measured.rows.to_csv(index=False, float_format="%.6g"))
    text = caption(measured.rows)
    macro = f"% Written by `trqam render toy`.\n\\newcommand{{\\factCaptionToy}}{{{escape(text)}}}\n"
    write_atomically(folder / "toy_facts.tex", macro)
    write_atomically(folder / "toy.txt", text + "\n")


def caption(rows: pd.DataFrame) -> str:
    """What the figure shows, in the numbers of its ``rows``."""
    means = rows.groupby(["method", "setting"])[["return", "path_kl"]].mean()
    known = {"NOISE": f"{NOISE:g}", "REWARDED": REWARDED, "STEPS": STEPS, "from_to": _from_to, "listed": _listed}
    cloned = _number(means.loc["cloning", "return"].item())
    seeds = count(rows.seed.nunique(), "seed")
    return prose.said("toy", "caption", seeds, cloned, means.loc["qam"], means.loc["trqam"], **known)


def _listed(settings: Iterable[float]) -> str:
    return enumerated([f"{setting:g}" for setting in settings])


def _from_to(values: pd.Series) -> str:
    """`from 0.39 to 0.07 (highest 0.45)`."""
    ends = f"from {_number(values.iloc[0])} to {_number(values.iloc[-1])}"
    return ends if values.is_monotonic_increasing else f"{ends} (highest {_number(values.max())})"


def _number(value: float) -> str:
    """Two digits after the point, one from ten on."""
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _figure(measured: Measured) -> Figure:
    figure = plt.figure(figsize=(WIDTH, HEIGHT))
    grid = figure.subplot_mosaic(
        [["data", *(f"qam{i}" for i in SHOWN)], ["value", *(f"trqam{i}" for i in SHOWN)], ["rt", "kt", "rb", "kb"]],
        height_ratios=(1, 1, 0.9),
    )
    toy = measured.toy
    plane = np.stack(np.meshgrid(*[np.linspace(-SIDE, SIDE, RESOLUTION)] * 2), -1)
    for name in ("data", "value", *(f"{kind}{i}" for kind in ("qam", "trqam") for i in SHOWN)):
        _plane(grid[name], plane)
    style: dict[str, Any] = {"s": 3, "linewidth": 0, "alpha": 0.6}
    grid["data"].scatter(*toy.cloned().actions[0, 0].T, color="#555555", **style)
    x, y = toy.rewarded[0].T
    grid["data"].scatter(x, y, c=toy.rewards[0], cmap="cividis", vmin=-0.5, vmax=1.5, s=9, linewidth=0)
    grid["data"].set_title("data and cloned policy")
    assert measured.qam.value is not None
    value = measured.qam.value(plane.reshape(-1, 2)).reshape(plane.shape[:2])
    grid["value"].pcolormesh(plane[..., 0], plane[..., 1], value, zorder=0, **VALUES)
    grid["value"].set_title("learned value")
    for i in SHOWN:
        grid[f"qam{i}"].scatter(*measured.qam.actions[i, 0].T, color=QAM_COLOUR, **style)
        grid[f"qam{i}"].set_title(f"QAM, β = {TEMPERATURES[i]:g}")
        grid[f"trqam{i}"].scatter(*measured.trqam.actions[i, 0].T, color=TRQAM_COLOUR, **style)
        grid[f"trqam{i}"].set_title(f"TRQAM, ε = {BUDGETS[i]:g}")
    of = dict(iter(measured.rows.groupby("method")))
    kl = pd.concat([of["qam"], of["trqam"]]).path_kl  # one axis for both methods
    for name, method, colour in (("t", "qam", QAM_COLOUR), ("b", "trqam", TRQAM_COLOUR)):
        x = "inverse temperature β" if name == "t" else "KL budget ε (nats)"
        _curve(grid[f"r{name}"], of[method], "return", colour, x, "true return")
        grid[f"r{name}"].axhline(of["cloning"]["return"].mean(), **DASHED)
        grid[f"r{name}"].set(ylim=(0, 1))
        _curve(grid[f"k{name}"], of[method], "path_kl", colour, x, "path KL (nats)")
        grid[f"k{name}"].set(ylim=(kl.min() / 1.5, kl.max() * 1.5), yscale="log")
        log_axis(grid[f"k{name}"])
    grid["kb"].plot(BUDGETS, BUDGETS, **DASHED)
    return figure


def _plane(axes: Axes, plane: np.ndarray) -> None:
    """The square of actions with contours of the true return."""
    axes.contour(
        plane[..., 0], plane[..., 1], true_return(plane), levels=(0.1, 0.25, 0.5, 0.9), colors=INK, linewidths=0.4
    )
    axes.set(xlim=(-SIDE, SIDE), ylim=(-SIDE, SIDE), aspect="equal", xticks=(-1, 0, 1), yticks=(-1, 0, 1))
    axes.grid(visible=False)
    axes.tick_params(labelsize=6)


def _curve(axes: Axes, frame: pd.DataFrame, column: str, colour: str, x: str, y: str) -> None:
    sns.lineplot(frame, x="setting", y=column, ax=axes, color=colour, errorbar=("pi", 100), marker="o", markersize=3)
    axes.set(xlabel=x, ylabel=y)
    log_axis(axes, "x")
