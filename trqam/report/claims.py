"""What the paper claims, against what these results say; each rule is the docstring of its function.

A claim `agrees`, `contradicts` or is `undecided`; it is undecided wherever seeds overlap or results are missing, and
no claim is tuned, dropped or added after seeing results. Success is that at the end of the offline stage.
"""

from dataclasses import dataclass

import pandas as pd

from trqam.config import Config, expanded
from trqam.report import BEYOND, compared, enumerated, scratch_pairs, tasks_label, tasks_run
from trqam.report.measures import Cell, final_cell, is_pretraining, realised_kl, seed_range, with_spread
from trqam.report.statistics import round_half_up

AGREES, CONTRADICTS, UNDECIDED, DESCRIBED = "agrees", "contradicts", "undecided", "described, not judged"
TOLERANCE = 0.1  # of the budget


@dataclass(frozen=True)
class Claim:
    """``paper`` and ``here`` are clauses, ``verdict`` one of the words above."""

    paper: str
    here: str
    verdict: str

    def __str__(self):
        return f"The paper says that {self.paper}; here {self.here}: {self.verdict}."


def claims(metrics: pd.DataFrame, config: Config) -> dict[str, Claim]:
    """All claims, by the name of their macro."""
    judged = {"best": best, "budget": budget, "pretraining": pretraining, "sweep": sweep}
    return {name: judge(metrics, config) for name, judge in judged.items()}


def summary(found: dict[str, Claim]) -> str:
    """How many claims came out which way."""
    verdicts = [claim.verdict for name, claim in found.items() if name != "sweep"]  # which has no rule
    kinds = {"borne out": AGREES, "contradicted": CONTRADICTS, "left undecided": UNDECIDED}
    counts = [f"{verdicts.count(verdict)} {kind}" for kind, verdict in kinds.items()]
    return f"Of {len(verdicts)} claims of the paper that are put to a rule, {enumerated(counts)} by these results."


def best(metrics: pd.DataFrame, config: Config) -> Claim:
    """TRQAM against every compared method, over the tasks that all of them run on.

    Agrees if TRQAM's lowest seed is above the highest seed of each other method; contradicts if some other's lowest
    seed is above TRQAM's highest. Methods beyond the paper are left out, and the cloned policy is no rival.
    """
    paper = "TRQAM has the highest final offline success among the compared methods"
    methods = [m for m in compared(config) if config.methods[m].group != BEYOND and not is_pretraining(config, m)]
    tasks = tasks_run(config, *methods)
    if "trqam" not in methods or len(methods) < 2 or not tasks:
        return Claim(paper, "there is nothing to compare", UNDECIDED)
    cells = {m: final_cell(metrics, config, tasks, m, "offline") for m in methods}
    if missing := [m for m in methods if not cells[m]]:
        return Claim(paper, f"results of {_labels(config, missing)} are missing", UNDECIDED)
    ours = cells.pop("trqam")
    order = [_order(ours, other) for other in cells.values()]
    rival = max(cells, key=lambda method: cells[method].mean)
    here = (
        f"on {tasks_label(config, tasks)} TRQAM has {_cell(ours)} and the best other method, "
        f"{config.methods[rival].label}, {_cell(cells[rival])}"
    )
    return Claim(paper, here, CONTRADICTS if -1 in order else AGREES if set(order) == {1} else UNDECIDED)


def budget(metrics: pd.DataFrame, config: Config) -> Claim:
    """Realised path KL (mean over the last fifth of the offline stage) over the budget, per seed, where both ran.

    Agrees if every seed of TRQAM is within 10 % of the budget and every seed of the external form more than 10 %
    above it; contradicts if every seed of TRQAM is outside the 10 %, or every seed of the external form is at most
    10 % above.
    """
    paper = "the realised KL stays within 10 % of the budget for TRQAM, while the external form exceeds it"
    if "external_kl" not in [*config.compared, *config.ablated] or "trqam" not in config.compared:
        return Claim(paper, "the external form did not run", UNDECIDED)
    tasks = tasks_run(config, "trqam", "external_kl")
    ours, external = (realised_kl(metrics, config, tasks, m, relative=True) for m in ("trqam", "external_kl"))
    if ours.empty or external.empty:
        return Claim(paper, "the path KL of one of them is missing", UNDECIDED)
    here = f"on {tasks_label(config, tasks)} TRQAM realises {_shares(ours)} of the budget and the external form "
    here += _shares(external)
    inside, above = (ours - 1).abs() <= TOLERANCE, external > 1 + TOLERANCE
    if inside.all() and above.all():
        return Claim(paper, here, AGREES)
    return Claim(paper, here, CONTRADICTS if not inside.any() or not above.any() else UNDECIDED)


def pretraining(metrics: pd.DataFrame, config: Config) -> Claim:
    """TRQAM and QAM with behaviour cloning first against without, over the tasks that each pair runs on.

    A method gains if its lowest seed with pretraining is above its highest without, and loses if it is the other way
    round. Agrees if TRQAM gains, and QAM does not and has no higher mean; contradicts if TRQAM loses or QAM gains.
    """
    paper, pairs = "TRQAM gains from pretraining and QAM does not", scratch_pairs(config)
    if not {"trqam", "qam"} <= set(pairs):
        return Claim(paper, "not both ran from scratch", UNDECIDED)
    orders, parts = {}, []
    for method in ("trqam", "qam"):
        tasks = tasks_run(config, method, pairs[method])
        having, lacking = (final_cell(metrics, config, tasks, m, "offline") for m in (method, pairs[method]))
        if not having or not lacking:
            return Claim(paper, f"results of {config.methods[method].label} are missing", UNDECIDED)
        orders[method] = _order(having, lacking), having.mean - lacking.mean
        parts.append(f"{config.methods[method].label} has {_cell(having)} with it and {_cell(lacking)} without")
    here = f"on {tasks_label(config, tasks)} {' and '.join(parts)}"
    (ours, _), (other, gap) = orders["trqam"], orders["qam"]
    if ours < 0 or other > 0:
        return Claim(paper, here, CONTRADICTS)
    return Claim(paper, here, AGREES if ours > 0 and gap <= 0 else UNDECIDED)


def sweep(metrics: pd.DataFrame, config: Config) -> Claim:
    """The success of each budget of the sweep and their range; smooth has no rule, so that it is only described."""
    paper = "success changes smoothly with the KL budget"
    if not config.budget_sweep or not config.scale.ablation_tasks:
        return Claim(paper, "no budget was varied", UNDECIDED)
    tasks = [task for task in config.tasks if task in expanded(config.scale.ablation_tasks)]
    cells = {b: final_cell(metrics, config, tasks, m, "offline") for b, m in config.budget_sweep.items()}
    if missing := [f"{b:g}" for b, found in cells.items() if not found]:
        return Claim(paper, f"results at budget {enumerated(missing)} are missing", UNDECIDED)
    means = [int(round_half_up(found.mean)) for found in cells.values()]
    listed = ", ".join(f"{mean} % at {b:g}" for b, mean in zip(cells, means, strict=True))
    span = max(means) - min(means)
    here = f"on {tasks_label(config, tasks)} it is {listed}, a range of {span} point{'' if span == 1 else 's'}"
    return Claim(paper, here, DESCRIBED)


def _order(left: Cell, right: Cell) -> int:
    """1 if all seeds of ``left`` are above those of ``right``, -1 if below; 0 if they overlap or one has one seed."""
    if min(left.n, right.n) < 2:
        return 0
    return 1 if left.low > right.high else -1 if left.high < right.low else 0


def _cell(cell: Cell) -> str:
    return with_spread(cell) if cell.n < 2 else f"{round_half_up(cell.mean)} % (seeds {seed_range(cell)})"


def _shares(ratios: pd.Series) -> str:
    low, high = (f"{100 * ratio:.0f}" for ratio in (ratios.min(), ratios.max()))
    return f"{low} %" if low == high else f"{low} to {high} %"


def _labels(config: Config, methods: list[str]) -> str:
    return enumerated([config.methods[method].label for method in methods])
