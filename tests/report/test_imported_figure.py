"""Imported curves are drawn as published, in panels of their own, each source under its protocol."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from tests.helpers.fake_results import collected, small_config
from trqam.config.load import tasks_of
from trqam.report import figures
from trqam.report.captions import captions
from trqam.report.figures.imported import METHODS, PANELS

DOMAIN = "scene-play"
SEEDS = 4


pytestmark = pytest.mark.usefixtures("style")


@pytest.fixture
def config():
    return small_config(tasks=[DOMAIN], methods=["qam", "trqam"])


def imported(source="authors", methods=("trqam",), protocol="", domain=DOMAIN) -> pd.DataFrame:
    """Success that says where it belongs: task i has i/10 in every seed, the domain 0.9, everything 0.95."""
    steps, parts = 250_000 * np.arange(1, 7), []
    places = {"": 0.9, "all": 0.95} | {task: (i + 1) / 10 for i, task in enumerate(tasks_of(domain))}
    for method in methods:
        for (task, success), seed in ((place, seed) for place in places.items() for seed in range(SEEDS)):
            stage = np.where(steps <= 1_000_000, "offline", "online")
            part = pd.DataFrame({"total_step": steps, "stage": stage, "success": success, "step": steps})
            place = {"task": "", "domain": "all"} if task == "all" else {"task": task, "domain": domain}
            parts.append(part.assign(**place, method=method, seed=seed))
    return pd.concat(parts, ignore_index=True).assign(source=source, status="OK", protocol=protocol)


def drawn(config, frame, name="imported"):
    """A figure, laid out and not written, and its panels by their titles."""
    figure = figures.make(name, collected(config, imported=frame))
    figure.canvas.draw()
    return figure, {axes.get_title(): axes for axes in figure.axes if axes.get_visible()}


def test_panels_show_the_domain_s_own_curve_and_the_file_s_own_all(config):
    frame = pd.concat([imported(methods=("trqam", "theirs")), imported(domain="elsewhere")])
    _, panels = drawn(config, frame)
    assert list(panels) == ["scene", "elsewhere", "all"]
    assert [{*line.get_ydata().round(6)} for line in panels["scene"].lines if len(line.get_xdata())] == [{90}, {90}]
    assert {*panels["all"].lines[0].get_ydata().round(6)} == {95}
    line = panels["scene"].lines[0]
    assert to_hex(line.get_color()) == config.methods["trqam"].colour
    assert list(line.get_xdata()) == list(250_000 * np.arange(1, 7))
    assert [panels["scene"].get_xlim(), panels["scene"].get_ylim()] == [(0, 1_500_000), (-4, 104)]


@pytest.mark.parametrize(("tasks", "titles"), [(5, ["scene"]), (2, ["scene\ntask 1", "scene\ntask 2"])])
def test_a_domain_without_a_curve_of_its_own_is_the_mean_of_all_its_tasks_or_they_stand_alone(config, tasks, titles):
    frame = imported()
    frame = frame[frame.task.isin(tasks_of(DOMAIN)[:tasks])]
    _, panels = drawn(config, frame)
    assert list(panels) == titles
    first = next(iter(panels.values())).lines[0]
    assert {*first.get_ydata().round(6)} == {30 if tasks == 5 else 10}


def test_each_source_stands_under_its_protocol_and_none_among_our_results(config):
    frame = pd.concat([imported(protocol="sparse rewards"), imported("others", ("qam",)).assign(task=np.nan)])
    figure, _ = drawn(config, frame)
    titles = [part.get_suptitle() for part in figure.subfigs]
    assert titles == ["authors, protocol: sparse rewards", "others, protocol not stated"]
    text = captions(collected(config, imported=frame))["imported"]
    assert "authors (n = 4; protocol: sparse rewards); others (n = 4; protocol not stated)" in text
    ours, _ = drawn(config, frame, f"curves--{DOMAIN}")
    none, _ = drawn(config, frame.iloc[:0], f"curves--{DOMAIN}")
    assert [len(axes.lines) for axes in ours.axes] == [len(axes.lines) for axes in none.axes]
    assert "imported" not in figures.names(collected(config))


def test_what_was_not_evaluated_is_left_out_of_the_mean(config):
    frame = imported()
    last = (frame.task == "") & (frame.domain == DOMAIN) & (frame.total_step == 1_500_000)
    frame.loc[last & (frame.seed == 0), "success"] = np.nan
    frame.loc[last & (frame.seed == 1), "success"] = 0.6
    _, panels = drawn(config, frame)
    assert panels["scene"].lines[0].get_ydata()[-1] == pytest.approx(80)


def test_sixteen_methods_can_be_told_apart_and_their_legend_hides_nothing(config):
    methods = ["trqam", "qam", "qam_e", "fql", *(f"METHOD-{n}" for n in range(12))]
    figure, panels = drawn(config, imported(methods=methods, protocol="sparse " * 25))
    lines = panels["scene"].lines
    assert len({(to_hex(line.get_color()), line.get_marker(), line.is_dashed()) for line in lines}) == 16
    (legend,) = figure.legends
    assert len(legend.get_texts()) == 16
    assert min(text.get_fontsize() for text in legend.get_texts()) >= 7
    frame, whole = legend.get_window_extent(), figure.bbox
    assert whole.x0 <= frame.x0
    assert frame.x1 <= whole.x1
    assert not [title for title, axes in panels.items() if axes.get_tightbbox().overlaps(frame)]


def test_more_than_a_page_holds_is_cut_and_the_caption_says_so(config):
    domains = [f"place-{n}" for n in range(PANELS + 2)]
    frame = pd.concat([imported(methods=(f"m{n}",), domain=domain) for n, domain in enumerate(domains)])
    figure, panels = drawn(config, frame)
    assert (len(panels), len(figure.legends[0].get_texts())) == (PANELS, METHODS)
    assert "the first 20 panels of a source" in captions(collected(config, imported=frame))["imported"]


def test_odd_curves_are_drawn(config):
    frame = imported()
    for odd in (frame.assign(success=np.nan), frame[frame.stage == "online"], frame[frame.total_step == 250_000]):
        figure, _ = drawn(config, odd)
        assert len(figure.legends) == 1
