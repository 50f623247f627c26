"""Success read in three ways, against numbers worked out by hand."""

import csv
import json

import numpy as np
import pandas as pd
import pytest

from tests.helpers import fake_results
from tests.helpers.fake_results import TASK, collected, small_config
from trqam.report import conventions, tables

FOUR = {0: 1.0, 1000: 0.1, 2000: 0.2, 3000: 0.9, 4000: 0.3}  # success by step; at 0 nothing is trained yet


def evaluated(config, *seeds):
    """Results in which a seed of TRQAM has these evaluations of the offline stage on every task."""
    frame = fake_results.metrics(config)
    offline = (frame.method == "trqam") & (frame.stage == "offline")
    for seed, values in enumerate(seeds):
        rows = offline & (frame.seed == seed) & frame.success.notna()
        frame.loc[rows, "success"] = frame.step[rows].map(values)
    return frame


def row(made, label):
    return next(row[1:] for row in made.rows if row[0] == label)


def test_final_mean_of_the_last_and_best_stand_side_by_side():
    config = small_config(seeds=1)
    made = tables.make("conventions", collected(config, evaluated(config, FOUR)))
    assert row(made, "TRQAM")[:4] == ("30.0", "46.7", "90.0", "1")  # of 20, 90 and 30
    assert row(made, "TRQAM")[5] == "--"  # online there are two evaluations
    assert row(made, "Behaviour cloning‡")[1] == "--"
    assert "fewer than 3 evaluations" in made.caption


def test_best_is_of_each_run_and_every_column_has_its_interval():
    config = small_config(seeds=2)
    late = {0: 0.0, 1000: 0.0, 2000: 0.0, 3000: 0.0, 4000: 0.5}
    made = tables.make("conventions", collected(config, evaluated(config, FOUR, late)))
    assert row(made, "TRQAM")[:3] == ("40.0 [30.0, 50.0]", "31.7 [16.7, 46.7]", "70.0 [50.0, 90.0]")


def test_a_diverged_run_has_zeros_from_then_on_and_between_evaluations_none():
    config = small_config(seeds=1)
    frame = fake_results.diverged(evaluated(config, FOUR), config, TASK, "trqam", 0, step=2600)
    found = conventions.summaries(collected(config, frame), [TASK], "trqam", "offline")
    assert [found[name].estimate.value for name in conventions.CONVENTIONS] == pytest.approx([0, 20 / 3, 20])


def test_a_run_that_is_not_finished_counts_nowhere():
    config = small_config(seeds=2)
    frame = evaluated(config, FOUR, FOUR)
    frame = frame[~((frame.method == "trqam") & (frame.seed == 1) & (frame.step == 4000) & (frame.task == TASK))]
    results = collected(config, frame)
    for tasks in ([TASK], config.tasks):
        found = conventions.summaries(results, tasks, "trqam", "offline")
        assert {name: summary.n for name, summary in found.items()} == dict.fromkeys(conventions.CONVENTIONS, 1)
    assert conventions.summaries(collected(config, frame.iloc[:0]), [TASK], "trqam", "offline") == {}


def test_noise_of_evaluation_is_computed_from_the_episodes():
    text = tables.make("conventions", collected(small_config(eval_episodes=10, seeds=2))).caption
    assert "With 10 episodes" in text
    assert "12.6 to 15.8 points" in text
    assert "all 4 runs one of 6.3 to 7.9 points" in text


def test_per_task_has_a_line_for_each_task_method_stage_and_convention(tmp_path):
    config = small_config(seeds=2)
    conventions.write(collected(config, evaluated(config, FOUR, FOUR)), tmp_path / "per_task.csv")
    lines = list(csv.DictReader((tmp_path / "per_task.csv").open()))
    stages = sum(len(config.stages(method)) for _, method in config.cells)
    assert len(lines) == 3 * stages
    own = [line for line in lines if (line["task"], line["method"], line["stage"]) == (TASK, "trqam", "offline")]
    assert [(line["convention"], line["n"], line["mean"], line["std"]) for line in own] == [
        ("final", "2", "30.0000", "0.0000"),
        ("mean of last 3", "2", "46.6667", "0.0000"),
        ("best", "2", "90.0000", "0.0000"),
    ]
    written = json.loads((tmp_path / "per_task.json").read_text())
    assert (written["scale"], written["unit"]) == ("small", "success in per cent")
    assert "2000 bootstrap resamples" in written["interval"]
    assert [{key: "" if v is None else v for key, v in row.items()} for row in written["rows"]] == [
        {
            key: float(v) if v and key in ("mean", "std", "low", "high") else v
            for key, v in (line | {"n": int(line["n"])}).items()
        }
        for line in lines
    ]
    assert any(row["n"] == 0 and row["mean"] is None for row in written["rows"])


def test_curves_end_where_per_task_does_and_have_the_trust_region_between(tmp_path):
    config = small_config(seeds=3)
    frame = fake_results.diverged(fake_results.metrics(config), config, TASK, "trqam", 1, step=2600)
    results = collected(config, frame)
    conventions.write_curves(results, tmp_path / "curves.csv")
    written = pd.read_csv(tmp_path / "curves.csv").set_index(["task", "method", "stage", "step"]).sort_index()
    assert written.index.is_unique
    for stage, end in (("offline", 4000), ("online", 2000)):
        final = conventions.summaries(results, [TASK], "trqam", stage)["final"]
        row = written.loc[TASK, "trqam", stage, end]
        expected = [final.n, final.estimate.value, final.std, final.estimate.low, final.estimate.high]
        assert [row[name] for name in ("n", "mean", "std", "low", "high")] == pytest.approx(expected, rel=1e-5)
    own = frame[(frame.task == TASK) & (frame.method == "trqam") & (frame.stage == "offline")]
    for step, seeds in ((2400, 3), (2800, 2)):
        row = written.loc[TASK, "trqam", "offline", step]
        assert (row["n"], row["n_logged"]) == (0, seeds)
        assert np.isnan(row["mean"])
        assert row["path_kl"] == pytest.approx(own[own.step == step].path_kl.mean(), rel=1e-5)
        assert row["multiplier"] == pytest.approx(own[own.step == step].multiplier.mean(), rel=1e-5)
    assert written.loc[TASK, "trqam", "offline", 3000]["n"] == 3  # a diverged seed is a success of 0
    assert written.loc[TASK, "qam"].multiplier.isna().all()
    online = written.loc[TASK, "trqam", "online"]
    assert online[online.n > 0].index.tolist() == [1000, 2000]  # where a diverged seed began again is none
