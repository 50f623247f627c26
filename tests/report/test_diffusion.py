"""The figure of a flow and a diffusion: drawn where both ran, and its caption says what both came to."""

import pytest
from matplotlib.colors import to_hex

from tests.helpers.fake_results import TASK, collected, small_config
from tests.helpers.fake_results import metrics as fake_metrics
from tests.report.test_figures import drawn
from trqam.report import facts
from trqam.report.captions import captions
from trqam.report.selection import INTERPOLANTS, figure_names
from trqam.report.tables import compute

BESIDE = {"ablations": ["trqam_diffusion"], "ablation_tasks": [TASK]}


pytestmark = pytest.mark.usefixtures("style")


def logged(config):
    """Metrics in which the KL of the diffusion is 1.2 times the budget, 0.3, and its success a half."""
    frame = fake_metrics(config)
    own = frame.method == "trqam_diffusion"
    frame.loc[own & frame.path_kl.notna(), "path_kl"] = 1.2 * 0.3
    frame.loc[own & frame.success.notna(), "success"] = 0.5
    return frame


def test_it_is_drawn_where_both_run_on_a_task_and_the_paper_has_its_section_there(tmp_path):
    for beside, said in ((BESIDE, True), ({**BESIDE, "ablation_tasks": []}, False), ({}, False)):
        config = small_config(**beside)
        assert ("diffusion" in figure_names(config)) == said
        facts.render(collected(config, logged(config)), tmp_path / "facts.tex")
        assert ("\\hasdiffusiontrue" in (tmp_path / "facts.tex").read_text()) == said


def test_curves_and_caption_are_of_the_metrics():
    config = small_config(**BESIDE)
    given = collected(config, logged(config))
    kl, success = drawn("diffusion", given).axes
    colours = {config.methods[method].colour for method in INTERPOLANTS}
    for axes in (kl, success):
        assert colours <= {to_hex(line.get_color()) for line in axes.lines}
    own = [line for line in kl.lines if to_hex(line.get_color()) == config.methods["trqam_diffusion"].colour]
    assert own[0].get_ydata()[-1] == pytest.approx(0.36)
    assert "TRQAM, diffusion 50 ± 0 %, path KL 1.20 times its budget" in captions(given)["diffusion"]


@pytest.mark.parametrize("stages", [["offline"], ["offline", "online"]])
def test_both_are_shown_through_the_stages_that_both_have(stages):
    config = small_config(**BESIDE, ablation_stages=stages)
    given = collected(config, logged(config))
    online, caption = stages[1:] != [], captions(given)["diffusion"]
    assert ("orange ground: online stage" in caption) == online
    for axes in drawn("diffusion", given).axes:
        drawn_to = max(line.get_xdata().max() for line in axes.lines if len(line.get_xdata()) > 4)
        assert (drawn_to > config.scale.offline_steps) == online


def test_compute_counts_each_way_of_cloning_by_itself():
    given = collected(small_config(**BESIDE))
    given.manifests["pretrained"] = {"a": 3600.0, "b": 1800.0, "a+diffusion_cloning": 7200.0}
    spent = compute.core_hours(given)
    cloned = spent[spent.stage == "pretrain"].set_index("method")
    assert cloned.core_hours.to_dict() == {"behaviour_cloning": 1.5, "diffusion_cloning": 2.0}
    assert cloned.runs.to_dict() == {"behaviour_cloning": 2, "diffusion_cloning": 1}
