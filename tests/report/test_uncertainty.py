"""Tables and figure of the statistics: what they say where runs are missing, diverged, alone or many."""

import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import scipy.stats

from tests.helpers.fake_results import TASK, collected, full_config, paper_config, small_config
from tests.helpers.fake_results import metrics as fake_metrics
from trqam.report import figures, measures, tables
from trqam.report.captions import captions
from trqam.report.drawing import save
from trqam.report.statistics import round_half_up
from trqam.report.tables import comparison


@pytest.fixture(scope="module")
def full():
    """Every method on one task, some on two."""
    return collected(full_config())


def scored(config, values, stage=None):
    """Results whose seeds end with ``values[method]`` on every task, a list of shares, one a seed."""
    frame = fake_metrics(config)
    for method, successes in values.items():
        for seed, success in enumerate(successes):
            rows = (frame.method == method) & (frame.seed == seed) & frame.success.notna()
            frame.loc[rows & (frame.stage == stage if stage else True), "success"] = success
    return frame


def cells(grid, label):
    return next(row for row in grid.rows if row[0] == label)[1:]


def test_row_holds_the_papers_cell_and_the_interquartile_mean():
    config = small_config(seeds=5)
    made = comparison.aggregates_table(collected(config, scored(config, {"qam": (0, 0.1, 0.2, 0.3, 1)})))
    mean, interquartile, n, *_ = cells(made, "QAM")
    assert mean == f"32 ± {round_half_up(np.std([0, 10, 20, 30, 100], ddof=1))}"
    trimmed = scipy.stats.trim_mean(np.repeat([0, 10, 20, 30, 100], 2), 0.25)
    value, low, high = map(float, re.findall(r"[\d.]+", interquartile))
    assert value == pytest.approx(trimmed, abs=0.05)
    assert low < value < high
    assert (n, cells(made, "QAM")[-1]) == ("5", "2")
    assert "too narrow" not in made.caption
    assert not comparison.without_width([("TRQAM", "40.0 [40.0, 40.1]")])


def test_missing_and_diverged_runs_are_said_and_never_dropped():
    config = small_config()
    frame = scored(config, {"qam": (0.5, 0.5, 0.5), "trqam": (0.2, 0.4, 0.6)})
    diverged = (frame.method == "qam") & (frame.seed == 1) & (frame.task == TASK) & (frame.stage == "offline")
    frame.loc[diverged, "status"] = "DIVERGED"
    frame.loc[diverged & frame.success.notna(), "success"] = 0.0
    lost = (frame.method == "trqam") & (frame.seed == 2) & (frame.task == TASK) & (frame.stage == "online")
    made = comparison.aggregates_table(collected(config, frame[~lost]))
    assert cells(made, "QAM")[:3] == ("42 ± 14", "50.0 [25.0, 50.0]", "3, 1 DIVERGED")  # of 0 and five 50
    assert cells(made, "TRQAM")[3] == "30 ± 14"
    assert cells(made, "TRQAM")[5] == "2 of 3 (5 of 6 runs)"
    assert cells(made, "TRQAM")[4].startswith("33.3 [")  # of 20, 20, 40, 40, 60: the middle three of all five
    assert cells(made, "Behaviour cloning‡")[3:6] == ("--", "--", "--")
    for words in ("k of N", "DIVERGED: so many runs", "--: no result", "‡ Behaviour cloning has one training seed"):
        assert words in made.caption


def test_only_the_shared_tasks_count():
    config = full_config()
    frame = scored(config, {"qam": (0.5, 0.5, 0.5)})
    frame.loc[(frame.method == "qam") & (frame.task != TASK) & frame.success.notna(), "success"] = 1.0
    made = comparison.aggregates_table(collected(config, frame))
    assert cells(made, "QAM")[:2] == ("50 ± 0", "50.0 [50.0, 50.0]")
    assert "1 task (task 2 of pointmaze-medium), the part" in made.caption
    assert "An interval without width" in made.caption
    assert "Below 5 seeds the interval is too narrow" in made.caption
    assert "§ SQAM: beyond the paper" in made.caption


def test_one_seed_has_no_interval():
    config = small_config(seeds=1)
    results = collected(config)
    made = comparison.aggregates_table(results)
    assert "[" not in " ".join(text for row in made.rows for text in row)
    assert "there is no interval" in made.caption
    assert "±" not in " ".join(text for row in made.rows for text in row)
    assert "[" not in " ".join(text for row in comparison.improvement_table(results).rows for text in row)
    assert "bootstrap" not in captions(results)["profiles"]


def test_improvement_is_over_each_rival_on_the_tasks_of_both():
    config = small_config()
    frame = scored(config, {"trqam": (0.3, 0.3, 0.6), "qam": (0.3, 0.1, 0.1)})
    frame = frame[~((frame.method == "qam") & (frame.stage == "online") & (frame.task == TASK))]
    made = comparison.improvement_table(collected(config, frame))
    assert made.header[0] == "TRQAM over"
    chance, runs, online, fewer, tasks = cells(made, "QAM")
    assert chance.startswith("88.9 [")  # of nine pairs two tie: (7 + 1) / 9
    assert (runs, fewer, tasks) == ("6 : 6", "3 : 3 on 1 task", "2")
    assert online.startswith("88.9 [")
    assert cells(made, "Behaviour cloning‡")[2:4] == ("--", "--")
    assert len(made.rows) == 2


def test_the_same_number_wherever_it_is_asked_for(full):
    first = measures.interquartile(full, "trqam", "offline")
    measures.interquartile(full, "qam", "offline")
    assert measures.interquartile(full, "trqam", "offline") == first
    assert cells(comparison.aggregates_table(full), "TRQAM")[1] == str(first)
    shuffled = replace(full, metrics=full.metrics.sample(frac=1, random_state=0))
    assert comparison.aggregates_table(shuffled) == comparison.aggregates_table(full)
    assert comparison.improvement_table(shuffled) == comparison.improvement_table(full)


def test_no_results_at_all_leave_tables_and_figure_standing(full, tmp_path):
    results = replace(full, metrics=full.metrics.iloc[:0])
    assert {row[1] for row in comparison.aggregates_table(results).rows} == {"--"}
    assert cells(comparison.aggregates_table(results), "QAM")[:3] == ("--", "--", "0 of 3")
    assert {row[1] for row in comparison.improvement_table(results).rows} == {"--"}
    assert "n = 0 seeds" in captions(results)["profiles"]
    save(lambda: figures.make("profiles", results), tmp_path / "profiles.pdf")
    alone = collected(small_config(methods=["behaviour_cloning", "qam"]))
    assert comparison.improvement_table(alone).rows == ()


def drawn(results, tmp_path):
    made = []
    save(lambda: made.append(figures.make("profiles", results)) or made[0], tmp_path / "profiles.pdf")
    return made[0].axes


def test_profile_is_the_step_function_of_the_runs(tmp_path):
    config = small_config(methods=["trqam"])
    left, right = drawn(collected(config, scored(config, {"trqam": (0.2, 0.4, 0.4)}, "offline")), tmp_path)
    x, y = left.lines[0].get_data()
    assert list(zip(x, y.round(1), strict=True)) == [(0, 100), (20, 66.7), (40, 0), (100, 0)]
    assert left.lines[0].get_drawstyle() == "steps-post"
    assert all(a >= b for a, b in pairwise(y))
    assert [text.get_text() for text in right.get_yticklabels()] == ["TRQAM"]


def test_bands_are_drawn_where_they_can_be_told_apart(full, tmp_path):
    few, many = collected(small_config()), full
    assert len(drawn(few, tmp_path)[0].collections) == 3
    assert "Bands and bars" in captions(few)["profiles"]
    assert len(drawn(many, tmp_path)[0].collections) == 1
    assert "Band (of TRQAM alone, as more would overlap)" in captions(many)["profiles"]
    assert "Below 5 seeds" in captions(many)["profiles"]
    without = collected(full_config(methods=["behaviour_cloning", "qam"], ablations=[], budgets=[]))
    assert len(drawn(without, tmp_path)[0].collections) == 0
    assert "Bars: 95 %" in captions(without)["profiles"]


def test_paper_scale_reads_all_fifty_tasks():
    short = dict.fromkeys(("online_steps", "offline_steps", "eval_interval", "log_interval"), 50_000)
    short |= dict.fromkeys(("checkpoint_interval", "ablation_eval_interval"), 50_000)
    config = paper_config(**short, ablations=[], budgets=[], baselines=["fql"])
    made = comparison.aggregates_table(collected(config))
    assert "over all 50 tasks" in made.caption
    assert "Below 5 seeds" not in made.caption
    assert cells(made, "TRQAM")[-1] == "50"


@pytest.mark.parametrize("name", ["aggregates", "improvement"])
def test_tables_render(name, full, tmp_path):
    tables.render(name, full, tmp_path / "table.tex")
    text = (tmp_path / "table.tex").read_text()
    assert f"\\label{{tab:{name}}}" in text
    assert "nan" not in text
