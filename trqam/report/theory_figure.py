"""The figure and the numbers of the theory's section: no training result goes in, and every number is computed."""

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
from matplotlib.lines import Line2D

from trqam.config.wording import enumerated
from trqam.experiment.files import write_atomically
from trqam.maths import closed_forms
from trqam.report import prose, theory_divergences, theory_experiments, theory_states
from trqam.report.drawing import DASHED, INK, WIDTH, dashed, log_axis, save
from trqam.report.latex import escape

# The experiments. Budgets are those that domains.yaml uses most, K = 10 is what the authors train with.
BUDGETS = (0.5, 1.0, 4.0)  # nats
DIMENSIONS = (2, 8, 16)
SHOWN_DIMENSION = 8  # in the panel of the multiplier
TRAINING_STEPS, FINE_STEPS = 10, 40  # flow steps K
DUAL_STEPS = 500
VARIANCES = (4.0, 1.0, 0.25, 0.04)
FLOW_STEPS = (10, 20, 40, 80, 160, 320, 640)
FITTED_FROM = 80  # flow steps from which the order is fitted
MOVING_BUDGET, MOVING_ENDS, MOVING_DIMENSION = 4.0, (0.25, 1.75), 2
MOVING_STEPS, SETTLING, SMOOTHED = 1500, 0.1, 25  # dual steps; the share of them before it follows; a window
BETAS = (0.5, 2.0, 8.0)
ERRORS = (0.01, 0.03, 0.1, 0.3)
TOYS = 500
STATE_BUDGET = 1.0  # nats, of the multiplier for each state
STATE_UPDATES = 800
BETWEEN_STEPS, BETWEEN_DUAL_STEPS = (10, 20, 40), 250  # of flow and diffusion
BETWEEN_BUDGET, BETWEEN_VARIANCE = 1.0, 0.25
NEAR = 0.1  # of the budget: how far off a state's KL may be to count as held
TILTS = (7.0, 3.5, 1.75, 1.0, 0.85, 0.7, 0.6)  # lambda_eff, of the other divergences
BATCHES, REPETITIONS, TILT_DIMENSION = (64, 256), 100, 4
HELD_BUDGET, HELD_STEPS = 1.0, 200  # nats, dual steps

HEIGHT = 6.05  # inches; with its caption a page
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
STYLES: tuple[tuple[float, ...], ...] = ((), (4, 1.5, 1, 1.5), (1, 1.5))
SMALL: dict[str, Any] = {"fontsize": 7, "handlelength": 1.6, "labelspacing": 0.3, "columnspacing": 0.8}


class Measured(NamedTuple):
    """The tables of `trqam.report.theory_experiments`: dual descent on the training's and finer steps, towards budgets
    that move, and the rest; that of `trqam.report.theory_states`, with the multiplier of the scalar form; and those of
    `trqam.report.theory_divergences`."""

    training: pd.DataFrame
    fine: pd.DataFrame
    moving: pd.DataFrame
    discretisation: pd.DataFrame
    amplification: pd.DataFrame
    between: pd.DataFrame
    states: pd.DataFrame
    scalar: float
    spread: pd.DataFrame
    held: pd.DataFrame


@cache
def measure() -> Measured:
    """All experiments, once a process (about a minute)."""
    return Measured(
        theory_experiments.dual_descent_experiment(BUDGETS, DIMENSIONS, TRAINING_STEPS, DUAL_STEPS),
        theory_experiments.dual_descent_experiment(BUDGETS, [SHOWN_DIMENSION], FINE_STEPS, DUAL_STEPS),
        theory_experiments.moving_budget_experiment(MOVING_BUDGET, MOVING_ENDS, MOVING_DIMENSION, MOVING_STEPS),
        theory_experiments.discretisation_experiment(FLOW_STEPS, VARIANCES),
        theory_experiments.amplification_experiment(BETAS, ERRORS, TOYS),
        theory_experiments.interpolant_experiment(
            BETWEEN_STEPS, BETWEEN_BUDGET, SHOWN_DIMENSION, BETWEEN_DUAL_STEPS, BETWEEN_VARIANCE
        ),
        *theory_states.by_state_experiment(STATE_BUDGET, FINE_STEPS, STATE_UPDATES),
        theory_divergences.spread_experiment(TILTS, BATCHES, TILT_DIMENSION, FINE_STEPS, REPETITIONS),
        theory_divergences.held_experiment(HELD_BUDGET, TILT_DIMENSION, FINE_STEPS, HELD_STEPS),
    )


def write(folder: str | Path) -> None:
    """Writes figures/theory.pdf and .png, theory_facts.tex, a macro a fact, and the caption, theory.txt, for the page.

    All have the same bytes each time.
    """
    save(partial(_figure, measure()), Path(folder) / "figures" / "theory.pdf")
    lines = [f"\\newcommand{{\\fact{name[0].upper()}{name[1:]}}}{{{escape(v)}}}" for name, v in theory_facts().items()]
    text = "\n".join(["% Written by `trqam render theory`.", *lines]) + "\n"
    write_atomically(Path(folder) / "theory_facts.tex", text)
    write_atomically(Path(folder) / "theory.txt", caption() + "\n")


def _figure(measured: Measured) -> Figure:
    figure, grid = plt.subplots(4, 2, figsize=(WIDTH, HEIGHT))
    parts = (_multiplier, _path_kl, _discretisation, _amplification, _moving, _by_state, _divergences, _interpolants)
    for letter, panel, axes in zip("abcdefgh", parts, grid.flat, strict=True):
        panel(axes, measured)
        axes.set_title(f"({letter}) {axes.get_title()}", loc="left")
        axes.set_title("")
    return figure


def _multiplier(axes: Axes, measured: Measured) -> None:
    coarse = measured.training[measured.training.dimension == SHOWN_DIMENSION]
    for frame, alpha in ((coarse, 0.45), (measured.fine, 1.0)):
        _lines(axes, frame, "multiplier", alpha=alpha)
    for colour, (budget, analytic) in zip(COLOURS, coarse.groupby("budget").analytic.first().items(), strict=False):
        axes.axhline(analytic, **DASHED)
        below: dict[str, Any] = {"xytext": (0, -3), "textcoords": "offset points", "ha": "right", "va": "top"}
        label = f"{budget:g} nat{'' if budget == 1 else 's'}"
        axes.annotate(label, (DUAL_STEPS, analytic), color=colour, fontsize=7, **below)
    low, high = measured.fine.multiplier.min(), coarse.multiplier.max()
    axes.set(title=f"multiplier, dimension {SHOWN_DIMENSION}", xlabel="dual step", ylabel="multiplier λ")
    axes.set(xlim=(0, DUAL_STEPS), ylim=(low * 0.85, high * 1.5))
    log_axis(axes)
    steps = [Line2D([], [], color=INK, alpha=a, label=f"K = {k}") for k, a in ((TRAINING_STEPS, 0.45), (FINE_STEPS, 1))]
    axes.legend(handles=[*steps, dashed("analytic")], loc="upper right", ncols=3, **SMALL)


def _path_kl(axes: Axes, measured: Measured) -> None:
    for budget in BUDGETS:
        axes.axhline(budget, **DASHED)
    _lines(axes, measured.training, "path_kl", style="dimension", style_order=DIMENSIONS, dashes=[*STYLES])
    axes.set(title=f"path KL, K = {TRAINING_STEPS}", xlabel="dual step", ylabel="path KL (nats)")
    low, high = measured.training.path_kl.agg(["min", "max"])
    axes.set(xlim=(0, DUAL_STEPS), ylim=(low * 0.8, high * 2.2))
    log_axis(axes)
    handles = [Line2D([], [], color=INK, dashes=s, label=f"{d}") for s, d in zip(STYLES, DIMENSIONS, strict=True)]
    handles[0].set_label(f"D = {DIMENSIONS[0]}")
    axes.legend(handles=[*handles, dashed("budget")], loc="upper right", ncols=4, **SMALL)


def _lines(axes: Axes, frame: pd.DataFrame, column: str, **look: Any) -> None:
    """A line a budget, and a style if asked for, against the dual step."""
    colours = dict(zip(BUDGETS, COLOURS, strict=False))
    sns.lineplot(frame, x="step", y=column, hue="budget", palette=colours, errorbar=None, legend=False, ax=axes, **look)


def _discretisation(axes: Axes, measured: Measured) -> None:
    for colour, (variance, error) in zip(COLOURS, _errors(measured.discretisation).items(), strict=False):
        axes.loglog(error.index, 100 * error.abs(), color=colour, marker="o", markersize=3, label=f"{variance:g}")
    steps = np.array([FLOW_STEPS[0], FLOW_STEPS[-1]])
    axes.loglog(steps, 300 * steps[0] / steps, label="order 1", **DASHED)
    axes.set_xticks(FLOW_STEPS[::2], [str(k) for k in FLOW_STEPS[::2]])
    log_axis(axes)
    axes.xaxis.minorticks_off()
    axes.set(title="discretisation, by variance of the base", xlabel="flow steps K", ylabel="path KL's error (%)")
    axes.set_ylim(top=2e4)  # with room for the legend
    axes.legend(loc="upper right", ncols=3, **SMALL)


def _amplification(axes: Axes, measured: Measured) -> None:
    frame = measured.amplification.assign(exponent=lambda table: table.beta * table.error)
    fine = np.geomspace(frame.exponent.min() / 1.5, frame.exponent.max() * 1.5, 200)
    axes.loglog(fine, closed_forms.amplification_bound(fine), label="Lemma 1", **DASHED)
    axes.loglog(fine, closed_forms.attainable_variation(fine), color=INK, linewidth=0.8, label="attainable")
    for colour, (beta, rows) in zip(COLOURS, frame.groupby("beta"), strict=False):
        axes.loglog(rows.exponent, rows.largest, "o", color=colour, markersize=3.5, label=f"β = {beta:g}")
        axes.loglog(rows.exponent, rows.typical, "o", color=colour, markersize=3.5, fillstyle="none", mew=0.8)
    axes.set_ylim(frame.typical.min() / 100, 1.5)  # with room for the legend
    for which in "xy":
        log_axis(axes, which)
    axes.set(title="critic error", xlabel="inverse temperature × error, βδ", ylabel="total variation")
    axes.legend(loc="lower left", ncols=3, **SMALL)


def _moving(axes: Axes, measured: Measured) -> None:
    for colour, (schedule, rows) in zip(COLOURS, _followed(measured.moving), strict=False):
        axes.plot(rows.step, rows.path_kl, color=colour, label=str(schedule))
        axes.plot(rows.step, rows.budget, **DASHED)
    axes.set(title="moving budget", xlabel="dual step", ylabel="path KL (nats)", xlim=(0, MOVING_STEPS))
    axes.set_ylim(0, MOVING_BUDGET * max(MOVING_ENDS) * 1.2)
    axes.legend(handles=[*axes.get_legend_handles_labels()[0], dashed("budget")], loc="upper left", ncols=2, **SMALL)


def _followed(moving: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Each schedule's path KL and budget, as means over a window: the agreement of a batch is noisy."""
    parts = {schedule: rows.set_index("step") for schedule, rows in moving.groupby("schedule", sort=False)}
    columns = ["path_kl", "budget"]
    return [(str(name), rows[columns].rolling(SMOOTHED).mean().dropna().reset_index()) for name, rows in parts.items()]


def _by_state(axes: Axes, measured: Measured) -> None:
    states = measured.states
    axes.plot(states.state, states.multiplier, color=COLOURS[0], label="λ(s)")
    axes.axhline(measured.scalar, color=COLOURS[1], label="one λ")
    axes.plot(states.state, states.analytic, label="analytic λ(s)", **DASHED)
    axes.set(title=f"a multiplier for each state, K = {FINE_STEPS}", xlabel="state s", ylabel="multiplier λ")
    axes.set(xlim=(-1, 1), xticks=(-1, -0.5, 0, 0.5, 1), ylim=(axes.dataLim.y0 * 0.8, axes.dataLim.y1 * 2.5))
    log_axis(axes)
    axes.legend(loc="upper left", ncols=3, **SMALL)


def _divergences(axes: Axes, measured: Measured) -> None:
    """Errors of the estimates: dotted where the weights are not normalised, pale in the smaller batch."""
    spread, (small, large) = measured.spread, BATCHES
    for colour, name in zip(COLOURS, ("reverse", "renyi"), strict=False):
        for weights, batch, look in (("normalised", small, "-"), ("normalised", large, "-"), ("plain", large, ":")):
            error = 100 * _error(spread, name, weights, batch)
            axes.loglog(
                error.index, error, look, color=colour, marker="o", markersize=2.5, alpha=(batch / large) ** 0.6
            )
    kl = np.geomspace(spread.path_kl.min(), spread.path_kl.max(), 50)
    theory = 100 * np.sqrt(np.expm1(2 * kl) / large)
    axes.loglog(kl[theory < 200], theory[theory < 200], **DASHED)
    for which in "xy":
        log_axis(axes, which)
    axes.set(title=f"other divergences, K = {FINE_STEPS}", xlabel="path KL (nats)", ylabel="estimate's error (%)")
    named = [Line2D([], [], color=c, label=text) for c, text in zip(COLOURS, ("reverse", "Rényi"), strict=False)]
    plain = Line2D([], [], color=INK, linestyle=":", label="plain weights")
    axes.legend(handles=[*named, plain, dashed("theory")], loc="upper left", ncols=2, **SMALL)


def _error(spread: pd.DataFrame, name: str, weights: str, batch: int, column: str = "error") -> pd.Series:
    """That of an estimate, by path KL."""
    rows = spread[(spread.divergence == name) & (spread.weights == weights) & (spread.batch == batch)]
    return rows.set_index("path_kl")[column]


def _interpolants(axes: Axes, measured: Measured) -> None:
    for colour, (name, rows) in zip(COLOURS, measured.between.groupby("interpolant", sort=False), strict=False):
        for column, alpha in (("path_kl", 0.45), ("multiplier", 1.0)):
            axes.loglog(rows.steps, 100 * rows[column].abs(), color=colour, alpha=alpha, marker="o", markersize=3)
        axes.lines[-1].set_label(name)
    steps = np.array([BETWEEN_STEPS[0], BETWEEN_STEPS[-1]])
    axes.loglog(steps, 100 * steps[0] / steps, label="order 1", **DASHED)
    axes.set_xticks(BETWEEN_STEPS, [str(k) for k in BETWEEN_STEPS])
    log_axis(axes)
    axes.xaxis.minorticks_off()
    axes.set(title="flow and diffusion", xlabel="steps K", ylabel="error (%)")
    axes.set_ylim(top=600)
    axes.legend(loc="upper right", ncols=3, **SMALL)


def _errors(measured: pd.DataFrame) -> pd.DataFrame:
    """Relative error of the path KL at the optimum, a row for each K and a column for each variance."""
    table = measured.pivot(index="steps", columns="variance", values="path_kl")
    return (table / 0.5 - 1)[list(VARIANCES)]


def theory_facts() -> dict[str, str]:
    """What the section and the caption say in numbers, by macro name."""
    measured = measure()
    errors, table = _errors(measured.discretisation), measured.discretisation
    tail = errors[errors.index >= FITTED_FROM].drop(columns=_changing_sign(errors))
    orders = [theory_experiments.fitted_order(error.index, error) for _, error in tail.items()]
    last = [frame.groupby(["dimension", "budget"]).last() for frame in (measured.training, measured.fine)]
    off = [(frame.multiplier / frame.analytic - 1).abs() for frame in last]
    budget = (last[0].path_kl / last[0].index.get_level_values("budget") - 1).abs()
    narrow = table[table.steps == TRAINING_STEPS].set_index("variance").loc[min(VARIANCES)]
    bounded = (table.sde_kl / table.path_kl).set_axis(table.steps)
    variation, states = measured.amplification, measured.states
    training = [*measured.between[measured.between.steps == TRAINING_STEPS].itertuples()]
    settled = measured.between.groupby("interpolant")
    between_orders = [theory_experiments.fitted_order(rows.steps, rows.multiplier) for _, rows in settled]
    held = [(kl / STATE_BUDGET - 1).abs() < NEAR for kl in (states.path_kl, states.scalar_kl)]
    missed = (states.multiplier / states.analytic - 1).abs()
    spread, batch = measured.spread, max(BATCHES)
    modest = min(set(spread.path_kl), key=lambda kl: abs(kl - HELD_BUDGET))
    reverse, renyi = (_error(spread, name, "normalised", batch) for name in ("reverse", "renyi"))
    plain, most = _error(spread, "reverse", "plain", batch), spread.path_kl.max()
    listed = [f"{_percent(errors.loc[TRAINING_STEPS, v])} at variance {v:g}" for v in VARIANCES]
    return {
        "theoryBudgets": enumerated([f"{b:g}" for b in BUDGETS]),
        "theoryDimensions": enumerated([str(d) for d in DIMENSIONS]),
        "theoryShownDimension": str(SHOWN_DIMENSION),
        "theoryDualSteps": str(DUAL_STEPS),
        "theoryTrainingSteps": str(TRAINING_STEPS),
        "theoryFineSteps": str(FINE_STEPS),
        "theoryBudgetError": _percent(budget.max()),
        "theoryMultiplierErrorTraining": _percent(off[0].xs(SHOWN_DIMENSION).max()),
        "theoryMultiplierErrorFine": _percent(off[1].max()),
        "theoryMovingSteps": str(MOVING_STEPS),
        "theoryMovingError": _percent(_worst_lag(measured.moving)),
        "theoryMovingFrom": _percent(SETTLING),
        "theoryMovingWindow": str(SMOOTHED),
        "theoryKlErrors": enumerated(listed),
        "theoryOrder": _range(orders),
        "theoryUnfitted": enumerated([f"{v:g}" for v in _changing_sign(errors)] or ["none"]),
        "theoryFittedFrom": str(FITTED_FROM),
        "theoryEndPointRatioTraining": _range(bounded.loc[TRAINING_STEPS]),
        "theoryEndPointRatioFinest": _range(bounded.loc[FLOW_STEPS[-1]]),
        "theoryFinestSteps": str(FLOW_STEPS[-1]),
        "theoryNarrowVariance": f"{min(VARIANCES):g}",
        "theoryLastTerm": _percent(narrow.last_term),
        "theoryOdeRatio": f"{narrow.ode_kl / narrow.path_kl:.2f}",
        "theoryToys": f"{TOYS * len(variation)}",
        "theoryVariationRatio": f"{(variation.largest / variation.bound).max():.3f}",
        "theoryVacuousFrom": f"{np.log(3) / 2:.2f}",
        "theoryStateBudget": f"{STATE_BUDGET:g}",
        "theoryStateUpdates": str(STATE_UPDATES),
        "theoryStateRange": _range(states.analytic),
        "theoryStateError": _percent(missed.max()),
        "theoryStateErrorTypical": _percent(missed.median()),
        "theoryStateNear": _percent(NEAR),
        "theoryStateHeld": _percent(held[0].mean()),
        "theoryStateHeldScalar": _percent(held[1].mean()),
        "theoryStateScalar": f"{measured.scalar:.2f}",
        "theoryStateKl": _spread(states.path_kl),
        "theoryStateKlScalar": _spread(states.scalar_kl),
        "theoryTiltBatch": str(batch),
        "theoryTiltModest": f"{modest:.1f}",
        "theoryTiltModestError": _percent(max(reverse[modest], renyi[modest])),
        "theoryTiltModestPlain": _percent(plain[modest]),
        "theoryTiltMost": f"{most:.1f}",
        "theoryTiltMostReverse": _percent(reverse[most]),
        "theoryTiltMostRenyi": _percent(1 - _error(spread, "renyi", "normalised", batch, "median")[most]),
        "theoryTiltMostPlain": _percent(plain[most]),
        "theoryHeldBudget": f"{HELD_BUDGET:g}",
        "theoryHeldError": _percent((measured.held.multiplier / measured.held.analytic - 1).abs().max()),
        "theoryHeldKl": enumerated([f"{kl:.2f}" for kl in measured.held.path_kl]),
        "theoryBetweenBudget": f"{BETWEEN_BUDGET:g}",
        "theoryBetweenMultiplier": enumerated([f"{_percent(abs(r.multiplier))} ({r.interpolant})" for r in training]),
        "theoryBetweenPathKl": enumerated([f"{_percent(abs(r.path_kl))} ({r.interpolant})" for r in training]),
        "theoryBetweenVariance": f"{BETWEEN_VARIANCE:g}",
        "theoryBetweenOrder": _range(between_orders),
        "captionTheory": caption(),
    }


def caption() -> str:
    """What the figure shows, and what to look for."""
    known = {"BATCHES": BATCHES, "FINE_STEPS": FINE_STEPS, "SMOOTHED": SMOOTHED, "TRAINING_STEPS": TRAINING_STEPS}
    unsteady = [f"{variance:g}" for variance in _changing_sign(_errors(measure().discretisation))]
    return prose.said("theory", "caption", unsteady, BETWEEN_VARIANCE=f"{BETWEEN_VARIANCE:g}", **known)


def _worst_lag(moving: pd.DataFrame) -> float:
    """The largest relative distance of a path KL from its budget once the first steps are over."""
    parts = [rows[rows.step >= SETTLING * len(rows)] for _, rows in _followed(moving)]
    return max((rows.path_kl / rows.budget - 1).abs().max() for rows in parts)


def _changing_sign(errors: pd.DataFrame) -> list[float]:
    """The variances to which no order can be fitted, because the error passes through zero."""
    return [variance for variance, error in errors.items() if error.min() < 0 < error.max()]


def _percent(share: float) -> str:
    return f"{100 * share:.{0 if share >= 0.1 else 1}f}\u00a0%"


def _range(values: Iterable[float]) -> str:
    low, high = (f"{value:.2f}" for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def _spread(kl: pd.Series) -> str:
    """Median, and 5 and 95 % over states."""
    low, middle, high = (f"{value:.2f}" for value in kl.quantile([0.05, 0.5, 0.95]))
    return f"{middle} ({low} to {high})"
