"""The figures' captions in numbers; their words are in paper/templates/captions.txt.j2, a macro a figure."""

from functools import partial

import numpy as np

from trqam.config.load import domain_of
from trqam.config.sweeps import SWEEPS
from trqam.config.wording import enumerated
from trqam.report import figures, panels, prose
from trqam.report.collected import Collected, mixed_note
from trqam.report.figures.curves import QUANTILES
from trqam.report.figures.imported import METHODS, PANELS, places
from trqam.report.figures.profiles import banded
from trqam.report.imported import protocols
from trqam.report.measures import (
    FEW,
    RESAMPLES,
    final_scores,
    final_success,
    is_pretraining,
    late,
    mark_notes,
    realised_kl,
    scope,
)
from trqam.report.runs import Runs, between
from trqam.report.selection import sweeps, tasks_run
from trqam.report.statistics import mean_and_std, ratio, round_half_up

AT_BOUND = 0.05  # share of its bound that a multiplier at it may be below; `settled` of config/claims.yaml


def captions(collected: Collected) -> dict[str, str]:
    """What each figure of the scale shows, and what is mixed; the paper and the page print the same words."""
    shown = {name: figures.runs_of(name, collected) for name in figures.names(collected)}
    made = {name: prose.said("captions", name.partition("--")[0], runs, **KNOWN) for name, runs in shown.items()}
    return {name: text + mixed_note(collected) for name, text in made.items()}


def parted(runs: Runs, part: str) -> str:
    """`, one column a task`: what each ``part`` of a figure is; nothing of one task."""
    few = len(runs.tasks) <= panels.COLUMNS
    panel = "task" if few else "domain (a seed's value is its mean over the domain's tasks)"
    return f", one {part} a {panel}" if len(runs.tasks) > 1 else ""


def domain(runs: Runs) -> str:
    """The label of the one domain of a figure."""
    return runs.config.domains[domain_of(runs.tasks[0])].label


def cloned(runs: Runs) -> list[str]:
    """The labels of what is cloned and no more."""
    return [runs.config.methods[m].label for m in runs.methods if is_pretraining(runs.config, m)]


def adapting(runs: Runs) -> list[str]:
    """The labels of TRQAM's forms."""
    return [runs.config.methods[m].label for m in runs.methods if runs.config.methods[m].agent == "trqam"]


def everywhere(runs: Runs) -> bool:
    """Whether every method ran on every task."""
    return all(runs.methods_on([task]) == runs.methods for task in runs.tasks)


def fewer(runs: Runs) -> list[str]:
    """The labels of the methods that did not run on every task of the scale."""
    return [runs.config.methods[m].label for m in runs.methods if tasks_run(runs.config, m) != runs.config.tasks]


def varied(runs: Runs) -> list[str]:
    """What the scale sweeps."""
    return [SWEEPS[key].quantity for key in sweeps(runs.config)]


def bounded(runs: Runs) -> str:
    """A sentence on the multipliers at their bound, in any seed, in the last fifth of the offline stage."""
    rows = late(runs.collected)
    highest, at = rows[rows.task.isin(runs.tasks)].groupby("method").multiplier.max(), []
    for method in (name for name in runs.methods if name in highest):
        bound = float(runs.config.methods[method].parameters.get("multiplier_max", np.inf))
        if highest[method] >= (1 - AT_BOUND) * bound:
            at.append(runs.config.methods[method].label)
    return f"The multiplier of {enumerated(at)} is at its bound, which decides its KL." if at else ""


def ends(runs: Runs, estimated: bool) -> str:
    """`TRQAM 32 ± 36 %, path KL 1.01 times its budget; ...`: success at the end, and the KL over the last fifth; with
    ``estimated`` also what each method holds, and on how many effective paths it estimates that."""
    parts = []
    for label, method in zip(runs.labels, runs.methods, strict=True):
        success = final_success(runs.collected, runs.tasks, method)
        kl = partial(realised_kl, runs.collected, runs.tasks, method)
        mean, std = mean_and_std(success)
        spread = f" ± {round_half_up(std)}" if len(success) > 1 else ""
        text = f"{label} {round_half_up(mean)}{spread} %" if len(success) else f"{label} has no result"
        shares = {", path KL {} times its budget": kl(relative=True)} if len(success) else {}
        if estimated:
            shares[", what it holds {} times"] = kl(relative=True, column="kl_ema")
        text += "".join(form.format(ratio(values.mean())) for form, values in shares.items() if len(values))
        if estimated and len(success) and len(paths := kl(column="effective_paths")):
            text += f", on {paths.mean():.1f} effective paths"
        parts.append(text)
    return "; ".join(parts)


def states(runs: Runs) -> list[str]:
    """Of each method the path KL over the budget in the median of the states, in 5 and 95 % of them, and on average."""
    parts = []
    for label, method in zip(runs.labels, runs.methods, strict=True):
        share = partial(realised_kl, runs.collected, runs.tasks, method, relative=True)
        low, middle, high = (share(column=f"kl_{quantile}") for quantile in QUANTILES)
        success = final_success(runs.collected, runs.tasks, method)
        if len(middle) and len(success):
            kl = "{} ({} to {}; mean {})".format(*(ratio(values.mean()) for values in (middle, low, high, share())))
            parts.append(f"{label} {kl}, with a success of {round_half_up(success.mean())} %")
    return parts


def present(runs: Runs) -> str:
    """`n = 3 seeds`, `n = 2 to 3 seeds` where a task of some method lacks one."""
    config = runs.config
    every = [final_scores(runs.collected, m, stage) for m in runs.methods for stage in config.stages(m)]
    seeds = between(len(scores) for one in every for scores in one.values())
    return f"n = {seeds} seed{'' if seeds == '1' else 's'}"


def sources(runs: Runs) -> str:
    """Whose imported curves there are, of how many seeds and by which protocol."""
    curves, parts = runs.collected.imported, []
    for name, protocol in protocols(curves).items():
        seeds = curves[curves.source == name].groupby(["method", "task", "domain"], dropna=False).seed.nunique()
        parts.append(f"{name} (n = {between(seeds)}; {protocol})")
    return "; ".join(parts)


def cut(runs: Runs) -> bool:
    """Whether there are more imported curves than are drawn."""
    curves = runs.collected.imported
    sizes = [len(places(runs.config, rows)) for _, rows in curves.groupby("source")]
    return max(sizes) > PANELS or curves.method.nunique() > METHODS


KNOWN = {
    function.__name__: function
    for function in (
        adapting, banded, bounded, cloned, cut, domain, ends, everywhere, fewer, mark_notes, parted, present, scope,
        sources, states, varied,
    )
} | {"FEW": FEW, "METHODS": METHODS, "PANELS": PANELS, "RESAMPLES": RESAMPLES}  # fmt: skip
