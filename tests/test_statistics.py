"""The cell against numbers worked out by hand."""

import math

import pandas as pd
import pytest

from tests import fake_results
from trqam.report.claims import claims, summary
from trqam.report.measures import Cell, cell, final_cell, verdicts
from trqam.report.statistics import mean_and_std, round_half_up


def rows(*values, method="trqam", stage="offline", step=10):
    """Metrics from (task, seed, success[, status])."""
    keys = ("task", "seed", "success", "status")
    frame = pd.DataFrame([dict(zip(keys, (*value, "OK")[:4], strict=True)) for value in values], columns=list(keys))
    return frame.assign(method=method, stage=stage, step=step)


@pytest.mark.parametrize(
    ("value", "digits", "printed"),
    [
        (0.5, 0, "1"), (1.5, 0, "2"), (2.5, 0, "3"), (-0.5, 0, "-1"), (-0.2, 0, "0"), (99.49, 0, "99"),
        (100 * (0.28 + 0.29) / 2, 0, "29"),  # 28.499999999999996 in floats, 28.5 on paper
        (0.25, 1, "0.3"), (100, 0, "100"),
    ],
)  # fmt: skip
def test_halves_are_rounded_up(value, digits, printed):
    assert round_half_up(value, digits) == printed


def test_sample_standard_deviation_ignores_nans():
    assert mean_and_std([10, 20, float("nan"), 60]) == pytest.approx((30, math.sqrt(700)))
    assert mean_and_std([7])[0] == 7
    assert math.isnan(mean_and_std([7])[1])
    assert all(map(math.isnan, mean_and_std([])))


def test_cell_is_spread_of_per_seed_means():
    found = cell(rows(("a", 0, 0.2), ("b", 0, 0.4), ("a", 1, 1.0), ("b", 1, 0.0)), ["a", "b"], "trqam", "offline", 10)
    assert (found.n, found.diverged) == (2, 0)
    assert (found.mean, found.std, found.low, found.high) == pytest.approx((40, math.sqrt(200), 30, 50))


def test_seed_without_every_task_does_not_count():
    metrics = rows(("a", 0, 0.2), ("b", 0, 0.4), ("a", 1, 1.0), ("a", 2, 1.0), ("b", 2, float("nan")))
    assert cell(metrics, ["a", "b"], "trqam", "offline", 10).n == 1
    assert cell(metrics, ["a", "b", "c"], "trqam", "offline", 10) is None


def test_only_the_last_evaluation_counts():
    early = rows(("a", 0, 1.0), step=5)
    assert cell(early, ["a"], "trqam", "offline", 10) is None
    assert cell(pd.concat([early, rows(("a", 0, 0.1))]), ["a"], "trqam", "offline", 10).mean == pytest.approx(10)


def test_diverged_seed_counts_with_zero_and_is_counted():
    found = cell(rows(("a", 0, 0.5), ("a", 1, 0.0, "DIVERGED")), ["a"], "trqam", "offline", 10)
    assert (found.n, found.diverged) == (2, 1)
    assert (found.mean, found.std) == pytest.approx((25, math.sqrt(1250)))


def test_behaviour_cloning_is_read_at_step_zero():
    config = fake_results.small_config()
    metrics = fake_results.metrics(config)
    assert isinstance(final_cell(metrics, config, config.tasks, "behaviour_cloning", "offline"), Cell)
    assert final_cell(metrics, config, config.tasks, "behaviour_cloning", "online") is None


def test_verdicts_follow_the_numbers():
    config = fake_results.small_config(seeds=2, methods=["qam", "trqam"])
    step = config.scale.offline_steps

    def frame(ours, theirs):
        def values(success):
            return [(t, seed, value) for t in config.tasks for seed, value in enumerate(success)]

        return pd.concat([rows(*values(ours), step=step), rows(*values(theirs), method="qam", step=step)])

    assert "TRQAM is 20 points above QAM; their ranges over seeds, 50 to 70 % and 40 to 40 %, do not overlap." in (
        verdicts(frame((0.5, 0.7), (0.4, 0.4)), config, "offline")
    )
    assert "TRQAM is 1 point below QAM; their ranges over seeds, 0 to 0 % and 0 to 2 %, overlap." in (
        verdicts(frame((0.0, 0.0), (0.0, 0.02)), config, "offline")
    )
    assert "level with QAM" in verdicts(frame((0.3, 0.3), (0.3, 0.3)), config, "offline")[1]
    assert verdicts(frame((0.3, 0.3), (0.3, 0.3)), config, "online") == [
        "There is no online result that covers all tasks."
    ]


def judged(name, success=None, path_kl=None, drop=None, **overrides):
    """The verdict on a claim when each method's two seeds succeed as given, or realise that share of the budget."""
    config = fake_results.full_config(**{"seeds": 2, **overrides})
    metrics = fake_results.metrics(config)
    metrics = metrics[metrics.method != drop] if drop else metrics
    for column, given in (("success", success or {}), ("path_kl", path_kl or {})):
        for method, values in given.items():
            for seed, value in enumerate(values):
                rows = (metrics.method == method) & (metrics.seed == seed) & metrics[column].notna()
                budget = metrics.domain.map(lambda domain: config.domains[domain].kl_budget)
                metrics.loc[rows, column] = value * (budget[rows] if column == "path_kl" else 1)
    return claims(metrics, config)[name]


OTHERS = {method: (0.3, 0.4) for method in ("qam", "qam_e", "fql", "cgql_l", "dsrl", "ifql")}


@pytest.mark.parametrize(
    ("name", "given", "verdict"),
    [
        ("best", {"success": {**OTHERS, "trqam": (0.5, 0.6), "sqam": (0.9, 0.9)}}, "agrees"),
        ("best", {"success": {**OTHERS, "trqam": (0.4, 0.6)}}, "undecided"),
        ("best", {"success": {**OTHERS, "trqam": (0.5, 0.6), "fql": (0.7, 0.8)}}, "contradicts"),
        ("best", {"success": {**OTHERS, "trqam": (0.5, 0.6)}, "drop": "dsrl"}, "undecided"),
        ("best", {"success": {**OTHERS, "trqam": (0.5,)}, "seeds": 1}, "undecided"),
        ("budget", {"path_kl": {"trqam": (0.95, 1.05), "external_kl": (2, 3)}}, "agrees"),
        ("budget", {"path_kl": {"trqam": (0.95, 1.2), "external_kl": (2, 3)}}, "undecided"),
        ("budget", {"path_kl": {"trqam": (0.95, 1.05), "external_kl": (1, 3)}}, "undecided"),
        ("budget", {"path_kl": {"trqam": (1.2, 0.5), "external_kl": (2, 3)}}, "contradicts"),
        ("budget", {"path_kl": {"trqam": (0.95, 1.05), "external_kl": (1, 0.2)}}, "contradicts"),
        ("budget", {"drop": "external_kl"}, "undecided"),
        ("budget", {"ablations": []}, "undecided"),
        ("sweep", {}, "described, not judged"),
        ("sweep", {"budgets": []}, "undecided"),
        ("sweep", {"drop": "trqam_budget_1"}, "undecided"),
    ],
)
def test_claims_follow_their_rules(name, given, verdict):
    assert judged(name, **given).verdict == verdict


@pytest.mark.parametrize(
    ("trqam", "scratch", "qam", "qam_scratch", "verdict"),
    [
        ((0.6, 0.7), (0.1, 0.2), (0.3, 0.4), (0.3, 0.5), "agrees"),
        ((0.6, 0.7), (0.1, 0.2), (0.3, 0.5), (0.3, 0.4), "undecided"),  # QAM's mean is higher, its seeds overlap
        ((0.6, 0.7), (0.1, 0.6), (0.3, 0.4), (0.3, 0.5), "undecided"),
        ((0.1, 0.2), (0.6, 0.7), (0.3, 0.4), (0.3, 0.5), "contradicts"),
        ((0.6, 0.7), (0.1, 0.2), (0.5, 0.6), (0.1, 0.2), "contradicts"),
    ],
)
def test_pretraining_claim(trqam, scratch, qam, qam_scratch, verdict):
    values = {"trqam": trqam, "trqam_from_scratch": scratch, "qam": qam, "qam_from_scratch": qam_scratch}
    assert judged("pretraining", success=values).verdict == verdict


def test_claims_are_counted_and_say_their_numbers():
    config = fake_results.full_config(seeds=2)
    found = claims(fake_results.metrics(config), config)
    assert sum(int(word) for word in summary(found).replace(",", "").split() if word.isdigit()) == 3 + 3
    claim = judged("best", success={**OTHERS, "trqam": (0.5, 0.6), "ifql": (0.45, 0.45)})
    assert str(claim).endswith("TRQAM has 55 % (seeds 50 to 60 %) and the best other method, IFQL, 45 % (seeds 45 to "
                               "45 %): agrees.")  # fmt: skip


def test_verdicts_on_baselines_are_over_the_tasks_that_all_ran_on():
    config = fake_results.full_config(seeds=2)
    metrics = fake_results.metrics(config)
    metrics.loc[metrics.success.notna(), "success"] = 0.5
    metrics.loc[
        metrics.success.notna() & (metrics.method == "trqam") & (metrics.task != fake_results.TASK), "success"
    ] = 0
    text = " ".join(verdicts(metrics, config, "offline"))
    assert "TRQAM is 25 points below QAM" in text
    assert "On task 2 of pointmaze-medium, where all compared methods ran, after the offline stage: FQL 50 ± 0" in text
    assert "level with FQL (50 to 50 %: they overlap)" in text
