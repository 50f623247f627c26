"""Another reader's check: the tables, recomputed from the runs' csv files alone, to the digit that is printed.

Nothing here is computed by the package but what is compared. Means are exact fractions, the rest is SciPy's, and the
distribution of a bootstrap is enumerated: each of the n^n resamples of a task's n seeds is equally likely. The package
draws so many at random, so an end of its interval must be a quantile of the exact distribution whose level is off by
no more than four standard errors.
"""

import csv
import itertools
import re
from fractions import Fraction
from math import floor, sqrt

import numpy as np
import pytest
import scipy.stats
import yaml

from tests.conftest import ROOT
from tests.helpers import fake_results
from trqam.config import load as configuration
from trqam.report import conventions, tables
from trqam.report.collect import collect
from trqam.report.collected import Collected

LOST = ("pointmaze-medium-navigate-singletask-task1-v0", "trqam", 2, "online")  # is not finished
DIVERGED = ("pointmaze-medium-navigate-singletask-task2-v0", "qam", 1)  # at step 2600 of the offline stage
LEVELS, RESAMPLES = (0.025, 0.975), 2000
BARE = {**fake_results.BARE, **fake_results.SMALL}


@pytest.fixture(
    scope="module",
    params=[{**BARE, **fake_results.EVERYTHING, "inverse_temperatures": [], "reward_scales": []}, BARE],
    ids=["baselines on one", "every method on both tasks"],
)
def scale(request, tiny_data, tmp_path_factory):
    """The small scale's configuration, its invented per-seed files, and what the package made of them."""
    folder = tmp_path_factory.mktemp("small")
    (folder / "config").symlink_to(ROOT / "config")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        config = configuration.load("config/config.yaml", {**request.param, "data_dir": str(tiny_data)})
        frame = fake_results.diverged(fake_results.metrics(config), config, *DIVERGED, step=2600)
        frame["success"] = frame.success.astype(np.float32).astype(float)  # as older versions wrote it
        frame = frame[~(frame[["task", "method", "seed", "stage"]] == list(LOST)).all(axis=1)]
        fake_results.publish(config, frame)
        collect(config, folder / "paper")
        results = Collected.load(config, folder / "paper", imported=folder)
    conventions.write(results, folder / "per_task.csv")
    given = yaml.safe_load((ROOT / "config/config.yaml").read_text()) | request.param
    return Reader(folder, given), results


class Reader:
    """What the csv files of a scale say."""

    def __init__(self, folder, given):
        self.folder, self.given = folder, given
        labels = yaml.safe_load((ROOT / "config/methods.yaml").read_text())
        self.methods = {entry["label"]: name for name, entry in labels.items()}
        self.shared = given["baseline_tasks"] or given["tasks"]

    def evaluations(self, task, method, seed, stage):
        """Success in per cent by step after the first, exact; whether the run diverged. None if it has no file."""
        path = self.folder / f"results/small/{task}/{method}/seed{seed}/{stage}.csv"
        if not path.exists():
            return None
        with path.open() as file:
            lines = list(csv.DictReader(file))
        episodes, end = self.given["eval_episodes"], self.given[f"{stage}_steps"]
        found = {int(row["step"]): float(row["success"]) for row in lines if row["success"]}
        exact = {step: Fraction(100 * round(success * episodes), episodes) for step, success in found.items()}
        if lost := lines[-1]["status"] == "DIVERGED":
            every = self.given["eval_interval"]
            exact |= dict.fromkeys((s for s in range(every, end + 1, every) if s > int(lines[-1]["step"])), Fraction(0))
        return {step: success for step, success in exact.items() if step or len(exact) == 1}, lost

    def read(self, task, method, stage, way="final"):
        """By seed, in per cent."""
        scores = {}
        for seed in range(self.given["seeds"]):
            if found := self.evaluations(task, method, seed, stage):
                values = [found[0][step] for step in sorted(found[0])]
                few = len(values) < 3
                last = None if few else sum(values[-3:]) / 3
                scores[seed] = {"final": values[-1], "mean of last 3": last, "best": max(values)}[way]
        return {seed: score for seed, score in scores.items() if score is not None}

    def diverged(self, tasks, method, stage):
        """The runs that did."""
        runs = itertools.product(tasks, range(self.given["seeds"]))
        return [run for run in runs if (self.evaluations(run[0], method, run[1], stage) or (0, False))[1]]

    def complete(self, tasks, method, stage, way="final"):
        """Scores by task (columns) of the seeds that have them all (rows)."""
        each = [self.read(task, method, stage, way) for task in tasks]
        seeds = sorted(set.intersection(*map(set, each)))
        return [[scores[seed] for scores in each] for seed in seeds]

    def mean_and_std(self, tasks, method, stage):
        """As a cell prints them; None where no seed has all tasks."""
        means = [sum(row) / len(row) for row in self.complete(tasks, method, stage)]
        if not means:
            return None
        return f"{half_up(sum(means) / len(means))} ± {half_up(np.std(np.array(means, float), ddof=1))}"


def half_up(value, digits=0):
    scaled = floor(Fraction(value).limit_denominator(10**7) * 10**digits + Fraction(1, 2))
    return f"{scaled / 10**digits:.{digits}f}"


def resamples(strata):
    """All of them, an array (resamples, n) a stratum."""
    each = [list(itertools.product(stratum, repeat=len(stratum))) for stratum in strata]
    chosen = np.indices([len(options) for options in each]).reshape(len(each), -1)
    return [np.array(options, float)[index] for options, index in zip(each, chosen, strict=True)]


def agrees(text, strata, statistic):
    """Whether a printed `60.0 [40.0, 73.3]` is the statistic and an interval that the bootstrap may have given."""
    value, *ends = re.fullmatch(r"([\d.]+) \[([\d.]+), ([\d.]+)\]", text).groups()
    digits = len(value.partition(".")[2])
    own = np.round(statistic([np.array([stratum], float) for stratum in strata]), 9)
    values = np.round(statistic(resamples(strata)), 9)
    for level, end in zip(LEVELS, ends, strict=True):
        error = 4 * sqrt(level * (1 - level) / RESAMPLES)
        least, most = np.quantile(values, [level - error, level + error], method="inverted_cdf")
        possible = [v for v in np.unique(values) if least <= v <= most]
        between = level * (RESAMPLES - 1) % 1  # two of which the level may fall, if rarely
        possible += [a + between * (b - a) for a, b in itertools.pairwise(possible)]
        if end not in {half_up(v, digits) for v in possible}:
            return False
    return value == half_up(own[0], digits)


def trimmed(strata):
    return scipy.stats.trim_mean(np.concatenate(strata, axis=1), 0.25, axis=1)


def mean(strata):
    return np.concatenate(strata, axis=1).mean(axis=1)


def above(strata):
    """Mann-Whitney's U over the number of pairs, the mean over tasks; of each the first half is ours."""
    half = len(strata) // 2
    pairs = [ours[:, :, None] - theirs[:, None, :] for ours, theirs in zip(strata[:half], strata[half:], strict=True)]
    return 100 * np.mean([((p > 0) + (p == 0) / 2).mean(axis=(1, 2)) for p in pairs], axis=0)


def test_no_digit_of_an_interval_is_free():
    right, strata = "51.7 [5.0, 100.0]", [[Fraction(5), Fraction(50), Fraction(100)]]
    assert agrees(right, strata, mean)
    places = [place for place, character in enumerate(right) if character.isdigit()]
    wrong = [right[:place] + str((int(right[place]) + 1) % 10) + right[place + 1 :] for place in places]
    assert not any(agrees(text, strata, mean) for text in wrong)


@pytest.mark.parametrize("name", ["success", "success_tasks"])
def test_success(scale, name):
    reader, results = scale
    made, tasks = tables.make(name, results), reader.given["tasks"]
    rows = {f"pointmaze-medium task {task[-4]}": [task] for task in tasks}
    rows |= {} if name == "success_tasks" else {"pointmaze-medium": tasks}
    for stage, (_, printed) in zip(("offline", "online"), made.blocks, strict=True):
        assert {row.label for row in printed} == rows.keys()
        for row in printed:
            means = []
            for label, entry in zip(made.methods, row.entries, strict=True):
                method = reader.methods[label.rstrip("§")]
                expected = reader.mean_and_std(rows[row.label], method, stage)
                assert entry.text == (expected or "--"), (stage, row.label, label)
                means.append(int(expected.split()[0]) if expected else -1)
                lost = len({seed for _, seed in reader.diverged(rows[row.label], method, stage)})
                n = len(reader.complete(rows[row.label], method, stage))
                marks = [f"†{lost}"] * bool(lost) + [f"n={n}"] * (0 < n < reader.given["seeds"])
                assert [mark for mark in entry.marks if mark != "‡"] == marks
            assert [entry.best for entry in row.entries] == [value == max(means) for value in means]


def test_aggregates(scale):
    reader, results = scale
    tasks = reader.shared
    for label, *cells, count in tables.make("aggregates", results).rows:
        method = reader.methods[label.rstrip("‡§")]
        assert count == str(len(tasks))
        for stage, (cell, middle, n) in zip(("offline", "online"), (cells[:3], cells[3:]), strict=True):
            strata = [[*reader.read(task, method, stage).values()] for task in tasks]
            runs, asked = sum(map(len, strata)), len(tasks) * reader.given["seeds"]
            if not runs:
                assert (cell, middle, n) == ("--", "--", "--")
                continue
            assert cell == reader.mean_and_std(tasks, method, stage)
            assert agrees(middle, strata, trimmed)
            lacking = f" of 3 ({runs} of {asked} runs)" if runs < asked else ""
            lost = len(reader.diverged(tasks, method, stage))
            complete = len(reader.complete(tasks, method, stage))
            assert n == f"{complete}{lacking}" + (f", {lost} DIVERGED" if lost else "")


def test_improvement(scale):
    reader, results = scale
    for label, *cells, _ in tables.make("improvement", results).rows:
        rival = reader.methods[label.rstrip("‡§")]
        for stage, (chance, runs) in zip(("offline", "online"), (cells[:2], cells[2:]), strict=True):
            sides = [[[*reader.read(t, m, stage).values()] for t in reader.shared] for m in ("trqam", rival)]
            if not all(sides[1]):
                assert (chance, runs) == ("--", "--")
                continue
            assert agrees(chance, [*sides[0], *sides[1]], above)
            pairs = [[np.array(scores, float) for scores in pair] for pair in zip(*sides, strict=True)]
            exact = [scipy.stats.mannwhitneyu(x, y).statistic / (len(x) * len(y)) for x, y in pairs]
            assert chance.split()[0] == half_up(100 * np.mean(exact), 1)
            assert runs == " : ".join(str(sum(map(len, side))) for side in sides)


def test_conventions_and_the_table_of_every_task(scale):
    reader, results = scale
    ways = ("final", "mean of last 3", "best")
    for label, *cells, _ in tables.make("conventions", results).rows:
        method = reader.methods[label.rstrip("‡§")]
        for stage, printed in zip(("offline", "online"), (cells[:4], cells[4:]), strict=True):
            for way, text in zip(ways, printed, strict=False):
                scores = reader.complete(reader.shared, method, stage, way)
                assert agrees(text, [*zip(*scores, strict=True)], mean) if scores else text == "--"
    with (reader.folder / "per_task.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 3 * sum(len(results.config.stages(method)) for _, method in results.config.cells)
    for line in lines:
        key = line["task"], line["method"], line["stage"], line["convention"]
        scores = [*reader.read(*key).values()]
        assert line["n"] == str(len(scores))
        if scores:
            assert line["std"] == half_up(np.std(np.array(scores, float), ddof=1), 4)
            assert agrees("{mean} [{low}, {high}]".format(**line), [scores], mean), key
        else:
            assert {line[name] for name in ("mean", "std", "low", "high")} == {""}
