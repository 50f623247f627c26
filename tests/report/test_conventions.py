"""Success read in three ways, against numbers worked out by hand."""

import csv

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
    text = conventions.evaluation_noise(small_config(eval_episodes=10, seeds=2))
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
