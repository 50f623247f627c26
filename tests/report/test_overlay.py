"""Imported curves are drawn as published, from the rows they belong to, or left out with a reason."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from tests.helpers.fake_results import collected, small_config
from trqam.config.load import tasks_of
from trqam.report import figures, overlay
from trqam.report.runs import Runs

DOMAIN = "scene-play"
SEEDS = 4


def config_of(**overrides):
    return small_config(tasks=[DOMAIN], methods=["qam", "trqam"], **overrides)


def imported(scale: int = 1, source: str = "authors", methods=("trqam",)) -> pd.DataFrame:
    """Success that says where it belongs: task i has i/10 in every seed, the domain 0.9, everything 0.95."""
    steps, parts = scale * np.arange(1000, 6001, 1000), []
    places = {"": 0.9} | {task: (i + 1) / 10 for i, task in enumerate(tasks_of(DOMAIN))}
    for method in methods:
        for (task, success), seed in ((place, seed) for place in places.items() for seed in range(SEEDS)):
            stage = np.where(steps <= 4000 * scale, "offline", "online")
            part = pd.DataFrame({"total_step": steps, "stage": stage, "success": success})
            parts.append(part.assign(task=task, domain=DOMAIN, method=method, seed=seed, source=source, status="OK"))
        parts.append(parts[-1].assign(task="", domain="all", success=0.95))
    return pd.concat(parts, ignore_index=True)


def drawn(given, name=f"curves--{DOMAIN}"):
    """A figure, not written."""
    drawing, runs = figures.find(name, given)
    return drawing.draw(runs)


def dashed(axes):
    return [line for line in axes.lines if line.is_dashed()]


def test_task_panels_show_the_tasks_rows_and_the_mean_the_domains_own():
    config = config_of()
    figure = drawn(collected(config, imported=imported()))
    lines = [line for axes in figure.axes for line in dashed(axes)]
    assert [set(line.get_ydata().round(6)) for line in lines] == [{90}, {10}, {20}, {30}, {40}, {50}]
    assert {to_hex(line.get_color()) for line in lines} == {config.methods["trqam"].colour}
    assert all(list(line.get_xdata()) == [1000, 2000, 3000, 4000, 5000, 6000] for line in lines)
    assert [text.get_text() for text in figure.legends[0].get_texts()].count("authors (imported)") == 1
    text = figures.captions(collected(config, imported=imported()))[f"curves--{DOMAIN}"]
    assert "Thin dashes: means over the seeds of curves imported from authors (n = 4)." in text


def test_the_empty_task_may_be_read_as_nan():
    frame = imported()
    frame["task"] = frame.task.replace("", np.nan)
    config = config_of()
    figure = drawn(collected(config, imported=frame))
    assert set(dashed(figure.axes[0])[0].get_ydata().round(6)) == {90}


def test_a_mean_over_a_part_of_the_domain_has_no_published_counterpart():
    config = small_config(tasks=tasks_of(DOMAIN)[:2], methods=["trqam"])
    mean, first, second = drawn(collected(config, imported=imported())).axes
    assert [len(dashed(axes)) for axes in (mean, first, second)] == [0, 1, 1]


def test_other_steps_are_left_out_and_the_caption_says_so():
    config = config_of()
    given = collected(config, imported=imported(scale=250))
    figure = drawn(given, "offline_to_online")
    assert not any(dashed(axes) for axes in figure.axes)
    assert not [text for text in figure.legends[0].get_texts() if "imported" in text.get_text()]
    why = "authors are left out: their stages do not end at this scale's 4\u00a0000 and 6\u00a0000 steps"
    assert why in figures.captions(given)["offline_to_online"]
    assert "imported" not in figures.captions(collected(config))["offline_to_online"]


def test_a_source_without_an_online_stage_is_drawn():
    frame = imported()
    config = config_of()
    runs = Runs(collected(config, imported=frame[frame.stage == "offline"]), config.compared, config.tasks)
    assert overlay.drawn(runs).total_step.max() == 4000
    late = frame[(frame.stage == "offline") & (frame.total_step <= 3000)]
    assert overlay.drawn(Runs(collected(config, imported=late), config.compared, config.tasks)).empty


def test_methods_that_are_not_compared_are_left_out_and_sources_differ_in_their_dashes():
    config = config_of()
    frame = pd.concat([imported(methods=("trqam", "fql", "theirs")), imported(source="others", methods=("qam",))])
    axes = drawn(collected(config, imported=frame)).axes[1]
    assert len(dashed(axes)) == 2
    assert len({str(line._dash_pattern) for line in dashed(axes)}) == 2
    assert {to_hex(line.get_color()) for line in dashed(axes)} == {config.methods[m].colour for m in ("qam", "trqam")}


def test_the_published_mean_leaves_out_what_was_not_evaluated():
    frame = imported()
    last = (frame.task == tasks_of(DOMAIN)[0]) & (frame.total_step == 6000)
    frame.loc[last & (frame.seed == 0), "success"] = np.nan
    frame.loc[last & (frame.seed == 1), "success"] = 0.7
    axes = drawn(collected(config_of(), imported=frame)).axes[1]
    assert dashed(axes)[0].get_ydata()[-1] == pytest.approx(100 * (0.7 + 0.1 + 0.1) / 3)
