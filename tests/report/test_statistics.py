"""The cell against numbers worked out by hand."""

import math

import pandas as pd
import pytest

from tests.helpers import fake_results
from trqam.report.measures import Success, final_cell
from trqam.report.statistics import mean_and_std, round_half_up

CONFIG = fake_results.small_config()


def rows(*values, method="trqam", stage="offline", step=CONFIG.scale.offline_steps):
    """Metrics from (task, seed, success[, status])."""
    keys = ("task", "seed", "success", "status")
    frame = pd.DataFrame([dict(zip(keys, (*value, "OK")[:4], strict=True)) for value in values], columns=list(keys))
    return frame.assign(method=method, stage=stage, step=step)


def cell(metrics, tasks):
    """TRQAM's, at the end of the offline stage."""
    return final_cell(fake_results.collected(CONFIG, metrics), tasks, "trqam", "offline")


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
    found = cell(rows(("a", 0, 0.2), ("b", 0, 0.4), ("a", 1, 1.0), ("b", 1, 0.0)), ["a", "b"])
    assert (found.n, found.diverged) == (2, 0)
    assert (found.mean, found.std) == pytest.approx((40, math.sqrt(200)))


def test_seed_without_every_task_does_not_count():
    metrics = rows(("a", 0, 0.2), ("b", 0, 0.4), ("a", 1, 1.0), ("a", 2, 1.0), ("b", 2, float("nan")))
    assert cell(metrics, ["a", "b"]).n == 1
    assert cell(metrics, ["a", "b", "c"]) is None


def test_only_the_last_evaluation_counts():
    early = rows(("a", 0, 1.0), step=5)
    assert cell(early, ["a"]) is None
    assert cell(pd.concat([early, rows(("a", 0, 0.1))]), ["a"]).mean == pytest.approx(10)


def test_diverged_seed_counts_with_zero_and_is_counted():
    found = cell(rows(("a", 0, 0.5), ("a", 1, 0.0, "DIVERGED")), ["a"])
    assert (found.n, found.diverged) == (2, 1)
    assert (found.mean, found.std) == pytest.approx((25, math.sqrt(1250)))


def test_behaviour_cloning_is_read_at_step_zero():
    config = fake_results.small_config()
    results = fake_results.collected(config)
    assert isinstance(final_cell(results, config.tasks, "behaviour_cloning", "offline"), Success)
    assert final_cell(results, config.tasks, "behaviour_cloning", "online") is None
