"""How often each rule of ``config/claims.yaml`` errs: verdicts on results drawn from truths that are known.

    python -m benchmarks.verdicts [--draws N]     # Markdown, as docs/verdicts.md has it; minutes on one core

A truth gives every method its mean success, path KL or rate of collapse. Seeds are drawn around it, with the noise of
published curves and 50 episodes an evaluation, and the package's own rule decides, `RULES`, with the thresholds of the
file and 500 resamples instead of its 2,000. Deterministic: every draw has its own random stream.
"""

import argparse
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import msgspec
import numpy as np
import pandas as pd

from trqam.config.load import domain_of, load, tasks_of
from trqam.config.reading import seal
from trqam.config.sweeps import SWEEPS
from trqam.maths.streams import stream
from trqam.report.claims import statements
from trqam.report.claims.evidence import INCONCLUSIVE, NOT_REPRODUCED, REPRODUCED, Evidence, Finding
from trqam.report.claims.rules import RULES
from trqam.report.collected import read_reported

SEEDS = (3, 5, 8)
MORE = {"smooth": (24,), "pretraining": (24,)}  # success of single tasks, which eight seeds do not tell well
EPISODES, RESAMPLES = 50, 500
NOISE = 10.7  # points: std over seeds on a task, median of the QAM authors' curves where the mean is 10 to 90 %
BY_EPISODES = 1 / 3  # the part of its square that 50 episodes explain
ORDER = (REPRODUCED, NOT_REPRODUCED, INCONCLUSIVE)
NO_METRICS = pd.DataFrame(columns=["method", "task", "seed", "stage", "step", "status", "multiplier"])

OVERNIGHT = load("config/overnight.yaml").scale
ALONE = tuple(OVERNIGHT.baseline_tasks)  # where it has all methods online
SWEPT_OVERNIGHT = {key: getattr(OVERNIGHT, key) for key in SWEEPS}

Parts = tuple[pd.DataFrame, pd.DataFrame]  # final success and metrics, as `Evidence` has them
Draw = Callable[[np.random.Generator, int], Parts]


@dataclass(frozen=True)
class Truth:
    """Results of a known truth for ``claim``: whether the claim ``holds`` there, and how n seeds of it are drawn."""

    claim: str
    words: str
    holds: bool
    draw: Draw


@cache
def paper():
    """The paper's scale, the claims and the published table, which every draw shares."""
    return load("config/paper.yaml"), statements.load(), read_reported()


def digest() -> str:
    """Of all that the table depends on in config/claims.yaml: rules, thresholds, seeds and intervals."""
    _, stated, _ = paper()
    claims = {k: [c.rule, msgspec.to_builtins(c.thresholds), c.needs.seeds] for k, c in stated.claims.items()}
    return seal({"claims": claims, "interval": msgspec.to_builtins(stated.interval)})[:16]


@cache
def _scene(name: str) -> dict:
    """What the evidence of the claim ``name`` is, whatever was drawn."""
    config, stated, reported = paper()
    needs = stated.claims[name].needs
    if not {*needs.sweeps} <= {"budgets"}:  # the paper's scale has no sweep but that of budgets
        config = load("config/paper.yaml", SWEPT_OVERNIGHT)
    sweeps = tuple(config.swept(key, method) for key in needs.sweeps for method in SWEEPS[key].methods)
    swept = dict.fromkeys(method for sweep in sweeps for method in sweep.values())
    tasks = needs.tasks if isinstance(needs.tasks, list) else config.tasks
    tasks = ALONE if name == "online" else tasks  # on all tasks it is the headline
    return {
        "config": config, "tasks": tuple(tasks), "methods": (*needs.methods, *swept), "sweeps": sweeps,
        "stage": needs.stages[-1],
        "published": statements.published(name, stated, reported, config), "paper": statements.paper_scale(),
        "level": stated.interval.level, "resamples": RESAMPLES,
        "narrow_below": int(stated.interval.narrow_below.value),
    }  # fmt: skip


def finding(truth: Truth, n: int, number: int) -> Finding:
    """What the rule finds in the draw ``number`` of ``n`` seeds."""
    _, stated, _ = paper()
    claim, rng = stated.claims[truth.claim], stream(number, f"verdicts/{truth.claim}/{truth.words}/{n}")
    final, metrics = truth.draw(rng, n)
    evidence = Evidence(**_scene(truth.claim), final=final, metrics=metrics, rng=rng)
    return RULES[claim.rule](evidence, **{key: threshold.value for key, threshold in claim.thresholds.items()})


def verdicts(truth: Truth, n: int, draws: int) -> Counter:
    """How many of ``draws`` come out which way."""
    return Counter(finding(truth, n, number).verdict for number in range(draws))


# Success


def success(levels: dict[str, list[tuple[float, float]]], tasks: tuple[str, ...]) -> Draw:
    """Final success of methods whose mean and standard deviation over seeds, episodes aside, are given a task."""
    table = np.array([levels[method] for method in levels])  # (methods, tasks, 2)

    def draw(rng: np.random.Generator, n: int) -> Parts:
        mean, std = table[:, None, :, 0], table[:, None, :, 1]
        chances = np.clip(rng.normal(mean, std, (len(levels), n, len(tasks))), 0, 100) / 100
        final = 100 * rng.binomial(EPISODES, chances) / EPISODES
        index = pd.MultiIndex.from_product([levels, range(n)], names=["method", "seed"])
        return pd.DataFrame(final.reshape(-1, len(tasks)), index, pd.Index(tasks, name="task")), NO_METRICS

    return draw


def usual(mean: float) -> tuple[float, float]:
    """``mean`` with the usual standard deviation over seeds: less beyond 10 and 90 %."""
    inside = min(1, np.sqrt(max(mean * (100 - mean), 0) / (10 * 90)))
    return mean, NOISE * np.sqrt(1 - BY_EPISODES) * inside


@cache
def _printed(domain: str, method: str) -> tuple[float, float]:
    """Published mean of a domain, and the standard deviation of its tasks' seeds that explains the printed one."""
    config, _, reported = paper()
    rows = reported[(reported.domain == domain) & (reported.method == config.methods[method].label)]
    mean, std = float(rows["mean"].iloc[0]), float(rows["std"].iloc[0])
    return mean, np.sqrt(max(len(tasks_of(domain)) * std**2 - mean * (100 - mean) / EPISODES, 0))


def table_one(claim: str, ours: Callable[[str, float], float]) -> Draw:
    """The published table, in which TRQAM's mean of a domain is ``ours`` of the domain and the published one."""
    scene = _scene(claim)
    levels = {m: [_printed(domain_of(task), m) for task in scene["tasks"]] for m in scene["methods"]}
    first = scene["methods"][0]
    levels[first] = [
        (ours(domain_of(task), mean), std) for task, (mean, std) in zip(scene["tasks"], levels[first], strict=True)
    ]
    return success(levels, scene["tasks"])


def _alike(claim: str) -> Draw:
    """Every method has the mean over methods of the published ones."""
    scene = _scene(claim)
    means = [np.mean([_printed(domain_of(task), m)[0] for m in scene["methods"]]) for task in scene["tasks"]]
    return success({m: [usual(mean) for mean in means] for m in scene["methods"]}, scene["tasks"])


def leads() -> Iterator[Truth]:
    """The headline."""
    best, ours = (float(_scene("headline")["published"][key]) for key in ("best", "ours"))
    for words, lead in (("5 points behind the best other", -5), ("level with it", 0), ("5 points ahead", 5)):
        scaled = table_one("headline", lambda _, mean, goal=best + lead: mean * goal / ours)
        yield Truth("headline", f"TRQAM {words}", lead > 0, scaled)
    yield Truth("headline", "all methods alike", False, _alike("headline"))
    yield Truth("headline", "the published table", True, table_one("headline", lambda _, mean: mean))


def lead_alone() -> Iterator[Truth]:
    """The claim about online training on a single task; on all of them it has the headline's rule."""
    ours, *others = _scene("online")["methods"]
    for words, holds, lead, rest, loud in (
        ("TRQAM 10 points behind the best other", False, -10, 30, False),
        ("TRQAM level with one other", False, 0, 30, False),
        ("all methods alike", False, 0, 60, False),
        ("all methods alike, with a deviation of 30", False, 0, 60, True),
        ("TRQAM 20 points ahead", True, 20, 30, False),
        ("TRQAM 30 points ahead, with a deviation of 30", True, 30, 30, True),
    ):
        means = {ours: 60 + lead, others[0]: 60, **dict.fromkeys(others[1:], rest)}
        levels = {m: [(float(mean), 30.0) if loud else usual(mean)] for m, mean in means.items()}
        yield Truth("online", words, holds, success(levels, ALONE))


def _behind_on_cube_triple(domain: str, mean: float) -> float:
    """10 points below DSRL there, the best of the others."""
    return _printed(domain, "dsrl")[0] - 10 if domain == "cube-triple-play" else mean


def domains() -> Iterator[Truth]:
    """Best or tied."""
    moved = [
        ("the published table", True, lambda _, mean: mean),
        ("TRQAM 5 points better", True, lambda _, mean: min(mean + 5, 100)),
        ("cube-triple 10 points behind", False, _behind_on_cube_triple),
        ("TRQAM 10 points worse", False, lambda _, mean: max(mean - 10, 0)),
    ]
    for words, holds, ours in moved:
        yield Truth("domains", words, holds, table_one("domains", ours))
    yield Truth("domains", "all methods alike", False, _alike("domains"))


def sweeps() -> Iterator[Truth]:
    """Sensitivity to the budget; a cliff is in one of two tasks."""
    scene = _scene("smooth")
    budgets = np.array([*scene["sweeps"][0]])
    share = np.linspace(0, 1, len(budgets))
    log = np.log(budgets / budgets[0]) / np.log(budgets[-1] / budgets[0])
    steady, flat = 90 - 53 * share, np.full(len(budgets), 60.0)

    def cliff(size: float, place: int) -> np.ndarray:
        return 75 - 10 * share - size * (np.arange(len(budgets)) >= place)

    shapes = [
        ("90 to 37 %, evenly by budget", True, steady, steady),
        ("90 to 37 %, evenly by its logarithm", True, 90 - 53 * log, 90 - 53 * log),
        ("60 % at every budget", True, flat, flat),
        ("20 to 80 %, S-shaped", True, 20 + 60 / (1 + np.exp(6 - 12 * share)), flat),
        ("a cliff of 30 points in the middle", False, cliff(30, 4), flat),
        ("a cliff of 40 points in the middle", False, cliff(40, 4), flat),
        ("a cliff of 40 points at the first step", False, cliff(40, 1), flat),
        ("a cliff of 60 points in the middle", False, cliff(60, 4), flat),
    ]
    for words, holds, *levels in shapes:
        by_method = {m: [usual(level[k]) for level in levels] for k, m in enumerate(scene["methods"])}
        yield Truth("smooth", words, holds, success(by_method, scene["tasks"]))


def dependence() -> Iterator[Truth]:
    """How success depends on TRQAM's budget and on QAM's temperature, and how both depend on the scale of rewards."""
    for claim in ("temperature", "rewards"):
        scene = _scene(claim)
        ours, theirs = (np.linspace(-1, 1, len(sweep)) for sweep in scene["sweeps"])
        for words, holds, own, others in (
            ("TRQAM 60 everywhere, QAM 60 at best and 10 at the ends", True, 60 + 0 * ours, 60 - 50 * abs(theirs)),
            ("TRQAM 60 to 40, QAM 60 to 10", True, 60 - 20 * abs(ours), 60 - 50 * abs(theirs)),
            ("both 60 everywhere", False, 60 + 0 * ours, 60 + 0 * theirs),
            ("TRQAM 100 everywhere, QAM 50 everywhere", False, 100 + 0 * ours, 50 + 0 * theirs),
            ("TRQAM 100 everywhere, QAM 60 with a deviation of 30", False, 100 + 0 * ours, 60 + 0 * theirs),
            ("both 60 to 10", False, 60 - 50 * abs(ours), 60 - 50 * abs(theirs)),
            ("TRQAM 60 to 10, QAM 60 everywhere", False, 60 - 50 * abs(ours), 60 + 0 * theirs),
        ):
            levels = {}
            for sweep, means, loud in zip(scene["sweeps"], (own, others), (False, "of 30" in words), strict=True):
                pairs = zip(sweep.values(), map(float, means), strict=True)
                levels |= {method: (mean, 30.0) if loud else usual(mean) for method, mean in pairs}
            drawn = success({m: [level] * len(scene["tasks"]) for m, level in levels.items()}, scene["tasks"])
            yield Truth(claim, words, holds, drawn)


def gains() -> Iterator[Truth]:
    """Gain from pretraining, on one task."""
    scene = _scene("pretraining")
    for words, holds, *gained in (
        ("TRQAM gains 40, the others 0", True, 40, 0, 0),
        ("TRQAM gains 40, the others lose 10", True, 40, -10, -10),
        ("no method gains", False, 0, 0, 0),
        ("TRQAM and QAM-E gain 10", False, 10, 0, 10),
        ("TRQAM gains 40, QAM-E 10", False, 40, 0, 10),
        ("TRQAM gains 40, QAM-E 20", False, 40, 0, 20),
        ("all three gain 40", False, 40, 40, 40),
    ):
        levels = zip(scene["methods"][::2], scene["methods"][1::2], gained, strict=True)
        pairs = {m: [usual(mean)] for a, b, gain in levels for m, mean in ((a, 45 + gain), (b, 45))}
        yield Truth("pretraining", words, holds, success(pairs, scene["tasks"]))


# Collapse and path KL


def _rows(claim: str, n: int, steps: tuple[float, ...], **values: np.ndarray) -> Parts:
    """Metrics at shares ``steps`` of the offline stage, ``values`` (methods, tasks, n, steps); all runs finished."""
    scene = _scene(claim)
    whole = [int(step * scene["config"].scale.offline_steps) for step in steps]
    keys = pd.MultiIndex.from_product(
        [scene["methods"], scene["tasks"], range(n), whole], names=["method", "task", "seed", "step"]
    )
    columns = {key: value.ravel() for key, value in values.items()}
    metrics = keys.to_frame(index=False).assign(stage="offline", status="OK", **columns)
    index = pd.MultiIndex.from_product([scene["methods"], range(n)], names=["method", "seed"])
    return pd.DataFrame(50.0, index, pd.Index(scene["tasks"], name="task")), metrics


def collapses() -> Iterator[Truth]:
    """Rates of collapse of TRQAM, QAM and QAM-E."""
    size = len(_scene("collapse")["tasks"])

    def drawn(rates: tuple[float, ...]) -> Draw:
        def draw(rng: np.random.Generator, n: int) -> Parts:
            fallen = rng.random((3, size, n)) < np.array(rates)[:, None, None] / 100
            final = rng.binomial(EPISODES, np.where(fallen, 0.1, 0.7)) / EPISODES
            before = rng.binomial(EPISODES, 0.7, fallen.shape) / EPISODES
            success, loss = np.stack([before, final], -1), np.stack([np.ones(fallen.shape), 1 + 9 * fallen], -1)
            return _rows("collapse", n, (0.5, 1.0), success=success, adjoint_loss=loss)

        return draw

    for holds, rates in (
        (True, (0, 30, 30)), (True, (1, 20, 20)), (False, (0, 3, 3)), (False, (0, 30, 3)), (False, (0, 0, 0)),
        (False, (15, 30, 30)), (False, (30, 30, 30)),
    ):  # fmt: skip
        yield Truth("collapse", "{} %, {} % and {} % of runs collapse".format(*rates), holds, drawn(rates))


def budgets() -> Iterator[Truth]:
    """Realised KL over the budget of TRQAM and of two settings of the external form, of which some still rise."""
    scene, steps = _scene("budget"), (0.85, 0.9, 0.95, 1.0)

    def drawn(ratios: tuple[float, ...], rising: tuple[bool, ...]) -> Draw:
        limits = [scene["config"].run(t, scene["methods"][0]).parameters["kl_budget"] for t in scene["tasks"]]

        def draw(rng: np.random.Generator, n: int) -> Parts:
            shape = (len(ratios), len(limits), n, 1)
            spread = np.exp(rng.normal(0, 0.1, shape)) * np.exp(rng.normal(0, 0.15, (*shape[:3], len(steps))))
            kl = spread * np.array(limits)[:, None, None] * np.array(ratios)[:, None, None, None]
            clipped = np.broadcast_to(np.array(limits)[:, None, None], kl.shape)
            climb = np.where(np.array(rising)[:, None, None, None], np.array(steps), 1)
            multiplier = 50 * climb * np.exp(rng.normal(0, 0.01, kl.shape))
            return _rows("budget", n, steps, path_kl=kl, kl_ema=clipped, multiplier=multiplier)

        return draw

    settled, first, both = (False, False, False), (False, True, False), (False, True, True)
    for words, holds, ratios, rising in (
        ("TRQAM 1, external 2 and 2", True, (1, 2, 2), settled),
        ("TRQAM 1.25, external 2 and 2", True, (1.25, 2, 2), settled),
        ("TRQAM 0.6, external 2 and 2", False, (0.6, 2, 2), settled),
        ("TRQAM 1.4, external 2 and 2", True, (1.4, 2, 2), settled),
        ("TRQAM 1, external 1.05 and 1.05", False, (1, 1.05, 1.05), settled),
        ("all at 1", False, (1, 1, 1), settled),
        ("all at 2", False, (2, 2, 2), settled),
        ("TRQAM 1, external 5 but rising, and 1.05", False, (1, 5, 1.05), first),
        ("TRQAM 1, external 5 and 2, both rising", False, (1, 5, 2), both),
    ):
        yield Truth("budget", words, holds, drawn(ratios, rising))


@cache
def truths() -> tuple[Truth, ...]:
    """All of them, claim by claim."""
    parts = (leads, domains, collapses, budgets, sweeps, gains, lead_alone, dependence)
    return tuple(truth for made in parts for truth in made())


def table(draws: int) -> Iterator[str]:
    """Lines: a row a truth, in which per cent of draws it is reproduced / not reproduced / left inconclusive."""
    _, stated, _ = paper()
    yield f"Digest of rules and thresholds: `{digest()}`; {draws} draws a cell."
    for name in dict.fromkeys(truth.claim for truth in truths()):
        least = stated.claims[name].needs.seeds  # with fewer all is inconclusive
        seeds = [n for n in SEEDS + MORE.get(name, ()) if n >= least]
        yield from ("", f"**{stated.claims[name].title}**", "")
        yield f"| truth | claim is | {' | '.join(f'n = {n}' for n in seeds)} |"
        yield "|---" * (2 + len(seeds)) + "|"
        for truth in truths():
            if truth.claim == name:
                counts = [verdicts(truth, n, draws) for n in seeds]
                cells = [" / ".join(f"{100 * count[kind] / draws:.0f}" for kind in ORDER) for count in counts]
                yield f"| {truth.words} | {'true' if truth.holds else 'false'} | {' | '.join(cells)} |"


def bias(draws: int, n: int = 8) -> float:
    """Mean error of the measured lead, in points, where all methods are alike and the true lead is zero."""
    truth = next(truth for truth in leads() if truth.words == "all methods alike")
    return float(np.mean([finding(truth, n, number).measured[-1].value for number in range(draws)]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=100)
    chosen = parser.parse_args().draws
    for line in table(chosen):
        print(line, flush=True)
    print(f"\nBias of the lead where all methods are alike, 8 seeds: {bias(chosen):+.2f} points.")
