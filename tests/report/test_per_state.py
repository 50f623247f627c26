"""The figure of a multiplier for each state: drawn where both methods ran, and what it says is what the metrics say."""

import re

import numpy as np
import pytest
from matplotlib.colors import to_hex

from tests.helpers.fake_results import TASK, collected, small_config
from tests.helpers.fake_results import metrics as fake_metrics
from tests.report.test_figures import _axis_without_unit, drawn
from trqam.report import facts, figures
from trqam.report.captions import captions
from trqam.report.selection import BY_STATE, PAPER, figure_names

BESIDE = {"ablations": [*BY_STATE], "ablation_tasks": [TASK]}


pytestmark = pytest.mark.usefixtures("style")


def logged(config, spread=None):
    """Metrics in which the KL of 90 % of the states lies within these factors of the budget, 0.3."""
    frame, spread = fake_metrics(config), spread or {"trqam_per_state": (0.8, 1.5), "trqam_scalar": (0.2, 3.0)}
    for method, (low, high) in spread.items():
        own = (frame.method == method) & frame.path_kl.notna() & (frame.step > 0)
        for name, factor in (("kl_p05", low), ("kl_median", 1.0), ("kl_p95", high), ("path_kl", 1.1)):
            frame.loc[own, name] = 0.3 * factor
        frame.loc[own, "multiplier"] = 2.0
        if method == "trqam_per_state":
            frame.loc[own, ["multiplier_p05", "multiplier_median", "multiplier_p95"]] = (0.1, 1.0, 10.0)
    return frame


def test_it_is_drawn_where_both_methods_run_on_a_task():
    assert "per_state" in figure_names(small_config(**BESIDE))
    assert "per_state" in figure_names(small_config(methods=["behaviour_cloning", *BY_STATE]))
    for fewer in ({**BESIDE, "ablations": ["trqam_per_state"]}, {**BESIDE, "ablation_tasks": []}):
        assert "per_state" not in figure_names(small_config(**fewer))


def test_lines_are_medians_and_bands_quantiles_over_states():
    config = small_config(**BESIDE)
    kl, multiplier, success = drawn("per_state", collected(config, logged(config))).axes
    colours = [config.methods[method].colour for method in BY_STATE]
    assert [axes.get_yscale() for axes in (kl, multiplier, success)] == ["log", "log", "linear"]
    medians = {to_hex(line.get_color()): set(line.get_ydata()) for line in kl.lines if line.get_linestyle() == "-"}
    assert medians == {colour: {0.3} for colour in colours}
    for axes, expected in ((kl, [(0.24, 0.45), (0.06, 0.9)]), (multiplier, [(0.1, 10.0), (2.0, 2.0)])):
        bands = {to_hex(band.get_facecolor()[0][:3]): band.get_paths()[0].vertices[:, 1] for band in axes.collections}
        found = [(bands[colour].min(), bands[colour].max()) for colour in colours]
        assert np.array(found) == pytest.approx(np.array(expected))
    (budget,) = [line for line in kl.lines if line.get_linestyle() == "--"]
    assert set(budget.get_ydata()) == {0.3}


def test_the_caption_has_the_numbers_of_the_last_fifth():
    config = small_config(**BESIDE)
    frame = logged(config)
    early = frame.step <= 0.8 * config.scale.offline_steps
    frame.loc[early & frame.kl_p05.notna(), ["kl_p05", "kl_median", "kl_p95"]] = 77.0
    caption = captions(collected(config, frame))["per_state"]
    assert "TRQAM, lambda by state 1.00 (0.80 to 1.50; mean 1.10)" in caption
    assert "TRQAM, one lambda 1.00 (0.20 to 3.00; mean 1.10)" in caption
    ends = frame[(frame.step == config.scale.offline_steps) & (frame.stage == "offline") & frame.success.notna()]
    for method in BY_STATE:
        mean = 100 * ends[ends.method == method].success.mean()
        assert f"{config.methods[method].label} 1.00" in caption
        assert f"with a success of {mean:.0f} %" in caption
    assert re.search(r"\(n = \d", caption)


def test_what_is_missing_is_no_number(tmp_path):
    config = small_config(**BESIDE)
    whole = logged(config)
    lost = whole[whole.method != "trqam_scalar"]
    columns = [name for name in whole if name.startswith(("kl_p", "kl_median", "multiplier_"))]
    for frame in (whole.iloc[:0], lost, whole.drop(columns=columns), whole.assign(path_kl=np.nan, success=np.nan)):
        figures.draw("per_state", collected(config, frame), tmp_path / "x.pdf")
        caption = captions(collected(config, frame))["per_state"]
        assert ("TRQAM, lambda by state 1.00" in caption) == ("Over the last fifth" in caption) == (frame is lost)
        assert "TRQAM, one lambda 1.00" not in caption
    texts = [
        text.get_text() for axes in drawn("per_state", collected(config, lost.iloc[:0])).axes for text in axes.texts
    ]
    assert texts == ["no values", "no values"]


def test_every_axis_has_a_unit_and_the_same_metrics_give_the_same_bytes(tmp_path):
    two = small_config(methods=["behaviour_cloning", *BY_STATE])
    figure = drawn("per_state", collected(two, logged(two)))
    figure.draw_without_rendering()
    assert len(figure.axes) == 2 * 3
    assert not [axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis) if _axis_without_unit(axis)]
    for copy in ("a", "b"):
        figures.draw("per_state", collected(two, logged(two)), tmp_path / copy / "x.pdf")
    for suffix in ("pdf", "png"):
        assert (tmp_path / f"a/x.{suffix}").read_bytes() == (tmp_path / f"b/x.{suffix}").read_bytes()


def test_the_paper_has_its_section_where_there_is_a_figure(tmp_path):
    for beside, said in (({}, False), (BESIDE, True)):
        config = small_config(**beside)
        facts.render(collected(config, logged(config) if beside else None), tmp_path / "facts.tex")
        written = (tmp_path / "facts.tex").read_text()
        assert ("\\hasperstatetrue" in written) == said
        assert ("\\newcommand{\\factCaptionPerState}{}" not in written) == said
    assert "\\plot{per_state}{\\factCaptionPerState}\n\\fi" in (PAPER / "main.tex").read_text()
