"""A printed number is never a point off: success as runs write it, and as they wrote it in float32."""

from fractions import Fraction
from math import floor

import numpy as np
import pandas as pd
import pytest

from tests.helpers import fake_results
from trqam.environments.evaluator import Outcome
from trqam.report import record
from trqam.report.collected import Collected
from trqam.report.statistics import ratio, round_half_up

EPISODES, SEEDS, DRAWN = 50, 8, 4000


@pytest.mark.parametrize(
    "averaged", [lambda outcome: float(outcome.success.mean()), lambda outcome: outcome.means()["success"]]
)
def test_no_cell_of_twenty_thousand_prints_a_point_low(averaged, tmp_path):
    config = fake_results.small_config(tasks=["scene-play"], seeds=SEEDS, eval_episodes=EPISODES)
    fake_results.write(config, tmp_path)
    outcomes = [(np.arange(EPISODES) < k).astype(np.float32) for k in range(EPISODES + 1)]
    written = np.array([f"{averaged(Outcome(each, each, each)):.9g}" for each in outcomes])
    counts = np.random.default_rng(0).integers(EPISODES + 1, size=(DRAWN, 5, SEEDS))
    drawn, task, seed = (index.ravel() for index in np.indices(counts.shape))
    rows = {"task": np.array(config.tasks)[task], "domain": "scene-play", "method": "trqam", "seed": seed}
    rows |= {"stage": "offline", "step": drawn, "total_step": drawn, "status": "OK", "success": written[counts.ravel()]}
    pd.DataFrame(rows).to_csv(tmp_path / "metrics.csv", index=False)
    record.record(config, tmp_path, "nothing: the results are invented")
    read = 100 * Collected.load(config, tmp_path).metrics.success.to_numpy().reshape(counts.shape)
    for axes, runs in ((2, SEEDS), ((1, 2), 5 * SEEDS)):  # a task's cell, and a domain's
        exact = [Fraction(100 * int(total), runs * EPISODES) for total in counts.sum(axis=axes).flat]
        printed = [round_half_up(mean) for mean in read.mean(axis=axes).flat]
        assert printed == [str(floor(value + Fraction(1, 2))) for value in exact]


def test_a_run_writes_the_share_of_its_episodes():
    three_of_five = np.array([1, 1, 1, 0, 0], np.float32)
    assert Outcome(three_of_five, three_of_five, three_of_five).means()["success"] == 0.6


def test_a_small_ratio_is_not_printed_as_none():
    assert [ratio(value) for value in (1.0149, 0.05, 0.0051, 0.0049, 0.0000123, 0.0)] == [
        "1.01", "0.05", "0.01", "0.005", "1e-05", "0"
    ]  # fmt: skip
