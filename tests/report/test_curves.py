"""Lines are means over seeds that have every task, and captions count the seeds that are there."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.fake_results import collected, diverged, full_config, metrics, small_config
from trqam.report import panels
from trqam.report.runs import Runs, by_seed

VALUES = st.floats(-5, 5).filter(lambda value: abs(value) > 1e-3)
TABLES = st.dictionaries(
    st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 1)), VALUES | st.none(), min_size=1
)


@given(TABLES, st.sampled_from(["success", "path_kl"]))
def test_a_seed_counts_where_it_has_every_task(table, column):
    rows = pd.DataFrame([(*key, value) for key, value in table.items()], columns=["total_step", "seed", "task", column])
    rows[column] = rows[column].astype(float)
    usable = {k: value for k, value in table.items() if value is not None and (value > 0 or column == "success")}
    expected = {
        (step, seed): (usable[step, seed, 0] + usable[step, seed, 1]) / 2
        for step, seed in sorted({key[:2] for key in usable})
        if {(step, seed, 0), (step, seed, 1)} <= usable.keys()
    }
    found = by_seed(rows, column, 2).set_index(["total_step", "seed"])[column]
    assert found.to_dict() == pytest.approx(expected)


def test_a_line_is_the_mean_over_seeds_and_its_band_their_range():
    config = small_config(methods=["trqam"])
    given = collected(config)
    figure, axes = plt.subplots()
    panels.curve(axes, Runs(given, ["trqam"], config.tasks), config.tasks, "trqam")
    each = given.metrics.dropna(subset=["success"]).groupby(["total_step", "seed"]).success.mean().unstack()
    assert axes.lines[0].get_ydata() == pytest.approx(100 * each.mean(axis=1).to_numpy())
    low, high = ends_of_band(axes, each.index)
    assert low == pytest.approx(100 * each.min(axis=1).to_numpy())
    assert high == pytest.approx(100 * each.max(axis=1).to_numpy())
    plt.close(figure)


def ends_of_band(axes, steps):
    vertices = axes.collections[0].get_paths()[0].vertices
    heights = [vertices[vertices[:, 0] == step][:, 1] for step in steps]
    return np.array([(values.min(), values.max()) for values in heights]).T


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
    runs = Runs(collected(config, frame), ["qam"], config.tasks)
    figure, axes = plt.subplots(1, 2)
    for one, column in zip(axes, ("path_kl", "multiplier"), strict=True):
        panels.curve(one, runs, [config.tasks[0]], "qam", column)
    assert [line.get_marker() for line in axes[0].lines] == [panels.look(config, "qam")["marker"], "x"]
    assert not axes[1].lines
    plt.close(figure)


def test_long_lines_have_few_markers():
    config = small_config()
    for points in (16, 31, 300):
        first, every = panels._marked(config, "trqam", points)
        assert 5 <= len(range(first, points, every)) <= 8
    assert panels._marked(config, "trqam", 15) is None
