"""The figures draw what the metrics say, the same bytes each time, and survive results that are odd or absent."""

import matplotlib.pyplot as plt
import msgspec
import pytest
from matplotlib.colors import to_hex

from tests.fake_results import collected, full_config, small_config
from tests.fake_results import metrics as fake_metrics
from trqam.errors import UserError
from trqam.report import FIGURES, PAPER, figure_names, figures
from trqam.report.figures import budget_sweep, offline_to_online, overall_bars, pretraining, trust_region


@pytest.fixture(autouse=True)
def _style():
    with plt.style.context(PAPER / "style.mplstyle"):
        yield
    plt.close("all")


@pytest.mark.parametrize("name", FIGURES)
def test_same_metrics_give_the_same_bytes(name, tmp_path):
    config = full_config()
    metrics = fake_metrics(config)
    for copy in ("a", "b"):
        figures.draw(name, collected(config, metrics), tmp_path / copy / f"{name}.pdf")
    for suffix in ("pdf", "png"):
        first, second = ((tmp_path / copy / f"{name}.{suffix}").read_bytes() for copy in ("a", "b"))
        assert first == second
    assert (tmp_path / "a" / f"{name}.pdf").read_bytes().startswith(b"%PDF")


def test_bars_are_the_means():
    config = small_config(methods=["trqam"])
    metrics = fake_metrics(config)
    metrics.loc[metrics.success.notna(), "success"] = 0.25
    metrics.loc[metrics.success.notna() & (metrics.stage == "online"), "success"] = 0.75
    assert [bar.get_height() for bar in overall_bars.draw(collected(config, metrics)).axes[0].patches] == [25, 75]


def test_curves_have_the_methods_colours_and_raw_means():
    config = small_config(methods=["trqam"])
    metrics = fake_metrics(config)
    lines = offline_to_online.draw(collected(config, metrics)).axes[0].lines
    assert [len(line.get_xdata()) for line in lines] == [7]  # offline 0 .. 4000, then online 1000 and 2000
    assert {to_hex(line.get_color()) for line in lines} == {config.methods["trqam"].colour}
    last = metrics[(metrics.task == config.tasks[0]) & (metrics.stage == "online") & (metrics.step == 2000)]
    assert lines[0].get_ydata()[-1] == pytest.approx(100 * last.success.mean())


def test_budget_line_is_the_domains_and_zeros_leave_the_log_axis():
    config = small_config(methods=["qam", "trqam"])
    metrics = fake_metrics(config)
    assert (metrics.path_kl == 0).any()
    axes = trust_region.draw(collected(config, metrics)).axes[0]
    assert axes.get_yscale() == "log"
    budget = config.domains["pointmaze-medium-navigate"].kl_budget
    assert [budget, budget] in [list(line.get_ydata()) for line in axes.lines]
    assert all((line.get_ydata() > 0).all() for line in axes.lines if len(line.get_ydata()) > 2)


def test_odd_results_are_drawn(tmp_path):
    one = small_config(seeds=1, methods=["trqam"])
    everything = small_config(tasks=["pointmaze-medium-navigate", "scene-play"], seeds=2)  # more tasks than columns
    metrics = fake_metrics(one)
    whole, apart = full_config(), full_config(baseline_tasks=[])  # the latter's baselines run nowhere
    many = full_config(
        tasks=["pointmaze-medium-navigate", "scene-play"], ablation_tasks=["pointmaze-medium-navigate", "scene-play"]
    )
    awkward = msgspec.structs.replace(one.methods["trqam"], label=r"$\frac$ a_b & 50%")  # text, not mathematics
    cases = [
        (one, metrics),
        (one, metrics[metrics.stage == "offline"]),
        (one, metrics.iloc[:0]),
        (one, metrics.assign(path_kl=float("nan"), multiplier=float("nan"), success=float("nan"))),
        (one, metrics.assign(multiplier=0.0, adjoint_loss=float("nan"))),
        (msgspec.structs.replace(one, methods={**one.methods, "trqam": awkward}), metrics),
        (everything, fake_metrics(everything)),
        (whole, fake_metrics(whole)),
        (whole, fake_metrics(whole).iloc[:0]),
        (whole, fake_metrics(whole).assign(path_kl=float("nan"), success=float("nan"))),
        (full_config(seeds=1, budgets=[0.5 * n for n in range(1, 9)]), fake_metrics(whole)),
        (apart, fake_metrics(apart)),
        (many, fake_metrics(many)),
    ]
    for config, frame in cases:
        for name in figure_names(config):
            figures.draw(name, collected(config, frame), tmp_path / f"{name}.pdf")
        assert set(figures.captions(collected(config, frame))) == set(figure_names(config))


def test_a_scale_draws_only_what_it_has_methods_for(tmp_path):
    main = ("overall_bars", "profiles", "offline_to_online", "trust_region")
    assert figure_names(small_config()) == main
    assert figure_names(full_config()) == (*main, "adaptive_constant", "pretraining", "budget_sweep")
    assert figure_names(full_config(ablation_tasks=[])) == main
    assert figure_names(full_config(ablations=["qam_from_scratch"], budgets=[])) == (*main, "pretraining")
    with pytest.raises(UserError, match="figure 'adaptive_constant': unknown, or not of this scale"):
        figures.draw("adaptive_constant", collected(small_config()), tmp_path / "x.pdf")


def test_bars_stand_on_the_tasks_that_all_ran_on():
    config = full_config()
    metrics = fake_metrics(config)
    metrics.loc[metrics.success.notna(), "success"] = 0.25
    metrics.loc[metrics.success.notna() & (metrics.task != config.tasks[0]), "success"] = 1.0
    assert {bar.get_height() for bar in overall_bars.draw(collected(config, metrics)).axes[0].patches} == {25}
    assert (
        "(task 2 of pointmaze-medium), the part of this scale"
        in figures.captions(collected(config, metrics))["overall_bars"]
    )


def test_budget_sweep_shows_the_realised_kl_of_each_budget():
    config = full_config()
    metrics = fake_metrics(config)
    swept = metrics.method.isin(config.budget_sweep.values())
    metrics.loc[swept, "path_kl"] = 7.0
    early = metrics.step <= 0.8 * config.scale.offline_steps
    metrics.loc[swept & early, "path_kl"] = 100.0
    _, _, realised = budget_sweep.draw(collected(config, metrics)).axes
    points = [line for line in realised.lines if line.get_marker() == "_"]
    assert [tuple(line.get_xydata()[0]) for line in points] == [(0.3, 7), (1, 7), (3, 7)]


def test_pretraining_pairs_are_full_and_hatched():
    config = full_config()
    metrics = fake_metrics(config)
    metrics.loc[metrics.success.notna(), "success"] = 0.5
    metrics.loc[metrics.success.notna() & metrics.method.str.endswith("scratch"), "success"] = 0.2
    bars = pretraining.draw(collected(config, metrics)).axes[0].patches
    assert [(bar.get_height(), bool(bar.get_hatch())) for bar in bars] == [(50, False), (20, True)] * 3


def test_captions_give_the_seeds_that_are_there():
    config = small_config()
    metrics = fake_metrics(config)
    assert "(n = 3 a task)" in figures.captions(collected(config, metrics))["offline_to_online"]
    short = metrics[~((metrics.method == "qam") & (metrics.seed == 0))]
    assert "(n = 2 to 3 a task)" in figures.captions(collected(config, short))["offline_to_online"]


def test_unknown_figure_is_one_line(tmp_path):
    with pytest.raises(UserError, match="figure 'bars': unknown, or not of this scale; use one of overall_bars"):
        figures.draw("bars", collected(small_config()), tmp_path / "bars.pdf")
