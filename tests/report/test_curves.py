"""Lines are means over seeds that have every task, and captions count the seeds that are there."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.fake_results import collected, diverged, full_config, metrics, small_config
from trqam.report import curves
from trqam.report.curves import Runs

VALUES = st.floats(-5, 5).filter(lambda value: abs(value) > 1e-3)
TABLES = st.dictionaries(
    st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 1)), VALUES | st.none(), min_size=1
)


@given(TABLES, st.booleans())
def test_a_line_is_the_mean_and_range_of_complete_seeds(table, positive):
    rows = pd.DataFrame(
        [(*key, value) for key, value in table.items()], columns=["total_step", "seed", "task", "path_kl"]
    )
    rows["path_kl"] = rows.path_kl.astype(float)
    found = curves.over_seeds(rows, "path_kl", 2, positive)
    usable = {key: value for key, value in table.items() if value is not None and (value > 0 or not positive)}
    expected = {}
    for step, seed in sorted({key[:2] for key in usable}):
        if {(step, seed, 0), (step, seed, 1)} <= usable.keys():
            expected.setdefault(step, []).append((usable[step, seed, 0] + usable[step, seed, 1]) / 2)
    assert list(found.index) == list(expected)
    for step, values in expected.items():
        assert tuple(found.loc[step]) == pytest.approx((np.mean(values), min(values), max(values)))


def test_seeds_are_counted_where_they_were_asked_for():
    config = full_config()
    frame = metrics(config)
    runs = Runs(collected(config, frame), config.compared, config.tasks)
    assert runs.seeds() == "n = 3"  # although baselines run on one task of two
    unfinished = frame[~((frame.method == "qam") & (frame.seed == 0) & (frame.stage == "online"))]
    assert Runs(collected(config, unfinished), ["qam"], config.tasks).seeds(" a task") == "n = 2 to 3 a task"
    assert Runs(collected(config, unfinished), ["qam"], config.tasks, ("offline",)).seeds() == "n = 3"
    assert Runs(collected(config, frame.iloc[:0]), ["qam"], config.tasks).seeds() == "n = 0"


def test_diverged_runs_are_counted_once_each_and_stay_in_n():
    config = small_config()
    frame = diverged(metrics(config), config, config.tasks[0], "qam", seed=1, step=800)
    frame = diverged(frame, config, config.tasks[1], "qam", seed=1, step=2000)
    runs = Runs(collected(config, frame), ["qam", "trqam"], config.tasks)
    assert runs.seeds(" a task") == "n = 3 a task; 2 runs DIVERGED, crossed"
    assert sorted(runs.diverged) == [800, 2000]
    assert runs.diverged_seeds(config.tasks, "qam") == {1}
    assert not runs.diverged_seeds(config.tasks, "trqam")


def test_a_seed_that_diverged_at_an_evaluation_is_zero_there():
    config = small_config()
    frame = diverged(metrics(config), config, config.tasks[0], "qam", seed=1, step=2000)
    rows = Runs(collected(config, frame), ["qam"], config.tasks).of((config.tasks[0],), "qam")
    success = rows.dropna(subset=["success"])
    assert list(success[success.seed == 1].total_step) == [0, 1000, 2000, 3000, 4000, 5000, 6000]
    assert list(success[success.seed == 1].success)[2:] == [0] * 5


def test_no_cross_in_a_panel_of_what_the_method_never_logs():
    config = small_config()
    frame = diverged(metrics(config), config, config.tasks[0], "qam", seed=1, step=2000)
    rows = Runs(collected(config, frame), ["qam"], config.tasks).of((config.tasks[0],), "qam")
    figure, (first, second) = plt.subplots(1, 2)
    curves.curve(first, rows, "path_kl", config, "qam", 1)
    curves.curve(second, rows, "multiplier", config, "qam", 1)
    assert [line.get_marker() for line in first.lines] == [curves.look(config, "qam")["marker"], "x"]
    assert not second.lines
    plt.close(figure)


def test_long_lines_have_few_markers():
    config = small_config()
    for points in (16, 31, 300):
        first, every = curves._marked(config, "trqam", points)
        assert 5 <= len(range(first, points, every)) <= 8
    assert curves._marked(config, "trqam", 15) is None
