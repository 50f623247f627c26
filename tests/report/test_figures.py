"""The figures draw what the metrics say, the same bytes each time, and survive results that are odd or absent."""

import re
from itertools import combinations

import matplotlib.pyplot as plt
import msgspec
import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex, to_rgba
from matplotlib.text import Text

from tests.helpers.campaigns import sampled
from tests.helpers.fake_results import TASK, collected, diverged, full_config, small_config
from tests.helpers.fake_results import metrics as fake_metrics
from trqam.config.errors import UserError
from trqam.report import figures
from trqam.report.captions import AT_BOUND, captions
from trqam.report.claims import statements
from trqam.report.measures import final_success, realised_kl
from trqam.report.selection import figure_names

DOMAIN = "pointmaze-medium-navigate"
NAMES = figure_names(full_config())


def drawn(name, given):
    """A figure, not written."""
    return figures.make(name, given)


pytestmark = pytest.mark.usefixtures("style")


@pytest.mark.parametrize("name", sampled(NAMES, 3))
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
    assert [bar.get_height() for bar in drawn("overall_bars", collected(config, metrics)).axes[0].patches] == [25, 75]


def test_curves_have_the_methods_colours_and_raw_means():
    config = small_config(methods=["trqam"])
    metrics = fake_metrics(config)
    lines = drawn("offline_to_online", collected(config, metrics)).axes[0].lines
    assert [len(line.get_xdata()) for line in lines] == [7]  # offline 0 .. 4000, then online 1000 and 2000
    assert {to_hex(line.get_color()) for line in lines} == {config.methods["trqam"].colour}
    last = metrics[(metrics.task == config.tasks[0]) & (metrics.stage == "online") & (metrics.step == 2000)]
    assert lines[0].get_ydata()[-1] == pytest.approx(100 * last.success.mean())


def test_budget_line_is_the_domains_and_zeros_leave_the_log_axis():
    config = small_config(methods=["qam", "trqam"])
    metrics = fake_metrics(config)
    assert (metrics.path_kl == 0).any()
    axes = drawn("trust_region", collected(config, metrics)).axes[0]
    assert axes.get_yscale() == "log"
    budget = config.domains[DOMAIN].kl_budget
    assert [budget] * 3 in [list(line.get_ydata()) for line in axes.lines]
    assert all((line.get_ydata() > 0).all() for line in axes.lines)


def test_the_budget_line_steps_where_the_online_budget_begins():
    config = small_config(methods=["trqam"])
    domain = msgspec.structs.replace(config.domains[DOMAIN], kl_budget=0.5, kl_budget_online=2.0)
    config = msgspec.structs.replace(config, domains={**config.domains, DOMAIN: domain})
    (line,) = [line for line in drawn("trust_region", collected(config)).axes[0].lines if line.get_linestyle() == "--"]
    assert (list(line.get_xdata()), list(line.get_ydata())) == ([0, 4000, 6000], [0.5, 0.5, 2.0])
    assert line.get_drawstyle() == "steps-pre"  # each height up to its own step: 0.5 to 4000, then 2


def odd(name):
    """A configuration, and metrics that are odd."""
    one, whole, apart = small_config(seeds=1, methods=["trqam"]), full_config(), full_config(baseline_tasks=[])
    metrics, awkward = fake_metrics(one), r"$\frac$ a_b & 50%"  # text, not mathematics
    labelled = msgspec.structs.replace(one.methods["trqam"], label=awkward)
    if name == "nothing":
        return one, metrics.iloc[:0]
    if name == "zeros and no numbers":
        return one, metrics.assign(multiplier=0.0, adjoint_loss=float("nan"), success=float("nan"))
    if name == "an awkward label, and no online stage":
        methods = {**one.methods, "trqam": labelled}
        return msgspec.structs.replace(one, methods=methods), metrics[metrics.stage == "offline"]
    if name == "no numbers of any method":
        return whole, fake_metrics(whole).assign(path_kl=float("nan"), success=float("nan"))
    if name == "other budgets than were run":
        return full_config(seeds=1, budgets=[0.5 * n for n in range(1, 9)]), fake_metrics(whole)
    if name == "baselines on no task, and nothing":
        return apart, fake_metrics(apart).iloc[:0]
    domains = [DOMAIN, "scene-play"]  # more tasks than columns
    many = full_config(tasks=domains, ablation_tasks=domains, seeds=2)
    return many, fake_metrics(many)


ODD = ["nothing", "zeros and no numbers", "an awkward label, and no online stage", "no numbers of any method"]
ODD += ["other budgets than were run", "baselines on no task, and nothing", "many tasks"]


@pytest.mark.parametrize("name", sampled(ODD, 4))
def test_odd_results_are_drawn(name):
    config, frame = odd(name)
    for figure in figure_names(config):
        drawn(figure, collected(config, frame)).draw_without_rendering()
        plt.close("all")
    assert set(captions(collected(config, frame))) == set(figure_names(config))


def test_a_scale_draws_only_what_it_has_methods_for(tmp_path):
    main = ("overall_bars", "offline_to_online", "trust_region", "profiles", "collapse")
    last = f"curves--{DOMAIN}"
    ablated = ("adaptive_constant", "external_kl", "pretraining", "budget_sweep", "sensitivity")
    assert figure_names(small_config()) == (*main, last)
    assert figure_names(full_config()) == (*main, *ablated, last)
    assert figure_names(full_config(ablation_tasks=[])) == (*main, last)
    assert figure_names(full_config(ablations=["qam_from_scratch"], budgets=[])) == (
        *main,
        "pretraining",
        "sensitivity",
        last,
    )
    assert "collapse" not in figure_names(small_config(methods=["behaviour_cloning", "trqam"]))
    domains = small_config(tasks=["scene-play", "cube-double-play"])
    assert figure_names(domains)[-2:] == ("curves--scene-play", "curves--cube-double-play")
    with pytest.raises(UserError, match="figure 'adaptive_constant': unknown, or not of this scale"):
        figures.draw("adaptive_constant", collected(small_config()), tmp_path / "x.pdf")


def test_bars_stand_on_the_tasks_that_all_ran_on():
    config = full_config()
    metrics = fake_metrics(config)
    metrics.loc[metrics.success.notna(), "success"] = 0.25
    metrics.loc[metrics.success.notna() & (metrics.task != config.tasks[0]), "success"] = 1.0
    assert {bar.get_height() for bar in drawn("overall_bars", collected(config, metrics)).axes[0].patches} == {25}
    assert (
        "(task 2 of pointmaze-medium), the part of this scale" in captions(collected(config, metrics))["overall_bars"]
    )


def test_sensitivity_shows_the_realised_kl_of_each_budget():
    config = full_config()
    metrics = fake_metrics(config)
    swept = metrics.method.isin(config.swept("budgets", "trqam").values())
    metrics.loc[swept, "path_kl"] = 7.0
    early = metrics.step <= 0.8 * config.scale.offline_steps
    metrics.loc[swept & early, "path_kl"] = 100.0
    realised = drawn("sensitivity", collected(config, metrics)).axes[3]
    assert realised.lines[0].get_xydata() == pytest.approx(np.array([(0.3, 7), (1, 7), (3, 7)]))


def test_pretraining_pairs_are_full_and_hatched():
    config = full_config()
    metrics = fake_metrics(config)
    metrics.loc[metrics.success.notna(), "success"] = 0.5
    metrics.loc[metrics.success.notna() & metrics.method.str.endswith("scratch"), "success"] = 0.2
    bars = drawn("pretraining", collected(config, metrics)).axes[0].patches
    assert [(bar.get_height(), bool(bar.get_hatch())) for bar in bars] == [(50, False)] * 3 + [(20, True)] * 3


def _lines(axes, colour):
    """The curves of a colour, crosses aside."""
    return [line for line in axes.lines if to_hex(line.get_color()) == colour and line.get_linestyle() != "None"]


def seeds_of(axes, crossed=False):
    """Where the seeds are: crosses, or rings, which are white."""
    axes.figure.canvas.draw()
    parts = [c for c in axes.collections if isinstance(c, PathCollection) and len(c.get_offsets())]
    parts = [part for part in parts if (to_hex(part.get_facecolor()[0]) == "#ffffff") != crossed]
    return np.concatenate([np.asarray(part.get_offsets()) for part in parts] or [np.empty((0, 2))])


def _crosses(axes, colour):
    return [
        x for line in axes.lines if line.get_marker() == "x" for x in line.get_xdata() if line.get_color() == colour
    ]


def test_collapse_shows_success_and_the_adjoint_loss_on_a_log_axis():
    config = full_config()
    metrics = fake_metrics(config)
    success, other, loss, _ = drawn("collapse", collected(config, metrics)).axes
    assert (success.get_yscale(), loss.get_yscale()) == ("linear", "log")
    assert "success" in success.get_ylabel()
    assert "adjoint loss" in loss.get_ylabel()
    colours = {config.methods[method].colour for method in ("qam", "qam_e", "trqam")}
    assert {to_hex(line.get_color()) for line in success.lines} == colours
    assert {to_hex(line.get_color()) for line in other.lines} == colours - {config.methods["qam_e"].colour}
    last = metrics[(metrics.task == config.tasks[0]) & (metrics.method == "qam") & (metrics.total_step == 6000)]
    (line,) = _lines(loss, config.methods["qam"].colour)
    assert line.get_ydata()[-1] == pytest.approx(last.adjoint_loss.mean())
    assert "QAM-E did not run on every task" in captions(collected(config, metrics))["collapse"]


def test_external_kl_shows_each_seeds_share_of_its_budget_and_its_success():
    config = full_config()
    given = collected(config)
    ratio, success = drawn("external_kl", given).axes
    for axes, measured in (
        (ratio, lambda method: realised_kl(given, config.tasks[:1], method, relative=True)),
        (success, lambda method: final_success(given, config.tasks[:1], method)),
    ):
        expected = [measured(method) for method in ("trqam", "external_kl", "external_kl_fast")]
        assert np.sort(seeds_of(axes)[:, 0]) == pytest.approx(np.sort(np.concatenate(expected)))
        means = np.concatenate([line.get_xdata() for line in axes.lines if line.get_marker() == "|"])
        assert means[np.isfinite(means)] == pytest.approx(np.array([values.mean() for values in expected]))
    assert [line.get_xdata() for line in ratio.lines if line.get_linestyle() == "--"] == [[1, 1]]
    low, high = ratio.get_xlim()
    assert low <= 0.5
    assert high >= 2


def test_a_multiplier_at_its_bound_is_said_by_every_figure_of_it():
    given, names = collected(full_config()), ("external_kl", "adaptive_constant")
    assert statements.load().claims["budget"].thresholds["settled"].value == AT_BOUND
    for multiplier, said in ((94.9, False), (95.1, True)):  # of at most 100
        given.metrics.loc[(given.metrics.method == "external_kl") & (given.metrics.seed == 1), "multiplier"] = (
            multiplier
        )
        told = captions(given)
        sentence = "The multiplier of QAM + external KL is at its bound, which decides its KL."
        assert [told[name].endswith(sentence) for name in names] == [said, said]


def test_adaptive_and_constant_stand_side_by_side_on_one_task():
    config = full_config()
    kl, success = drawn("adaptive_constant", collected(config)).axes
    assert kl.get_position().x1 < success.get_position().x0
    assert (kl.get_yscale(), success.get_yscale()) == ("log", "linear")
    wanted = {config.methods[m].colour for m in ("trqam", "constant_lambda", "qam", "external_kl")}
    assert wanted <= {to_hex(line.get_color()) for line in kl.lines}


@pytest.mark.parametrize("tasks", [[TASK], [TASK, TASK.replace("task2", "task1")]])
def test_captions_say_what_a_panel_is_where_there_are_several(tasks):
    said = captions(collected(full_config(tasks=tasks, ablation_tasks=tasks, baseline_tasks=tasks)))
    parted = [name for name, text in said.items() if re.search("one (column|row|panel) a task", text)]
    assert (len(parted) > 4) == (len(tasks) > 1)
    assert parted == [] or len(tasks) > 1


def test_a_budget_that_moves_is_drawn_and_its_caption_says_whether_it_was_followed():
    config = small_config(methods=["trqam"], ablations=["trqam_linear", "trqam_critic"], ablation_tasks=[TASK])
    assert "schedules" in figure_names(config)
    assert "schedules" not in figure_names(small_config(methods=["qam"], ablations=["trqam_linear"]))
    metrics = fake_metrics(config)
    for none in (metrics, metrics.iloc[:0]):  # no run has logged a budget
        drawn("schedules", collected(config, none))
        assert "TRQAM, budget by critic" in captions(collected(config, none))["schedules"]
    linear, last = metrics.method == "trqam_linear", metrics.step > 0.8 * config.scale.offline_steps
    metrics.loc[linear, "kl_budget"] = 0.2 + metrics.step / config.scale.offline_steps
    metrics.loc[linear, "path_kl"] = 0.9 * metrics.kl_budget
    metrics.loc[(metrics.method == "trqam") & last, "path_kl"] = 1.25 * config.domains[DOMAIN].kl_budget
    metrics.loc[linear & metrics.success.notna(), "success"] = 0.6
    given = collected(config, metrics)
    budgets, kl, success = drawn("schedules", given).axes
    assert (budgets.get_yscale(), kl.get_yscale(), success.get_yscale()) == ("log", "log", "linear")
    colour = config.methods["trqam_linear"].colour
    drawn_budget = next(line for line in budgets.lines if to_hex(line.get_color()) == colour)
    np.testing.assert_allclose(drawn_budget.get_ydata()[[0, -1]], [0.2, 1.2])
    assert config.domains[DOMAIN].kl_budget in {line.get_ydata()[0] for line in budgets.lines}  # that stays
    caption = captions(given)["schedules"]
    assert "TRQAM, linear budget 60 ± 0 %, path KL 0.90 times its budget" in caption
    assert re.search(r"TRQAM \d+ ± \d+ %, path KL 1.25 times its budget", caption)


def test_divergences_stand_side_by_side_and_their_caption_says_what_came_of_each():
    beside = {"methods": ["trqam"], "ablations": ["trqam_reverse", "trqam_renyi"], "ablation_tasks": [TASK]}
    config = small_config(**beside)
    assert "divergences" in figure_names(config)
    assert "divergences" not in figure_names(small_config(**{**beside, "methods": ["qam"]}))
    metrics = fake_metrics(config)
    drawn("divergences", collected(config, metrics.iloc[:0]))
    assert "effective paths;" not in captions(collected(config, metrics.iloc[:0]))["divergences"]
    budget, late = config.domains[DOMAIN].kl_budget, metrics.step > 0.8 * config.scale.offline_steps
    for method, own, paths in (("trqam", 1.0, np.nan), ("trqam_reverse", 0.8, 5.5), ("trqam_renyi", 0.4, 20.25)):
        rows = (metrics.method == method) & metrics.path_kl.notna()
        metrics.loc[rows, "effective_paths"] = paths
        metrics.loc[rows, ["kl_ema", "path_kl"]] = 7.0
        metrics.loc[rows & late, ["kl_ema", "path_kl"]] = (1.02 * budget, own * budget)
        metrics.loc[(metrics.method == method) & metrics.success.notna(), "success"] = 0.6
    given = collected(config, metrics)
    held, kl, paths, success = drawn("divergences", given).axes
    assert [axes.get_yscale() for axes in (held, kl, paths, success)] == ["log", "log", "log", "linear"]
    assert all(budget in {line.get_ydata()[0] for line in axes.lines} for axes in (held, kl))
    shown = {to_hex(line.get_color()): set(line.get_ydata()) for line in paths.lines}
    assert shown == {config.methods["trqam_reverse"].colour: {5.5}, config.methods["trqam_renyi"].colour: {20.25}}
    caption = captions(given)["divergences"]
    assert "TRQAM 60 ± 0 %, path KL 1.00 times its budget, what it holds 1.02 times;" in caption
    reverse = "TRQAM, reverse KL 60 ± 0 %, path KL 0.80 times its budget, what it holds 1.02 times, on 5.5 effective"
    assert reverse in caption
    assert "TRQAM, Rényi 60 ± 0 %, path KL 0.40 times its budget, what it holds 1.02 times, on 20.2" in caption
    assert f"how many of the batch's {config.scale.batch_size} paths" in caption


def test_curves_begin_with_the_mean_over_the_tasks_of_seeds_that_have_all():
    config = small_config(tasks=["scene-play"], methods=["qam"], seeds=3)
    metrics = fake_metrics(config)
    lost = (metrics.task == config.tasks[3]) & (metrics.seed == 1)
    metrics = metrics[~lost]
    figure = drawn("curves--scene-play", collected(config, metrics))
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["mean of 5 tasks", "task 1", "task 2", "task 3", "task 4", "task 5"]
    assert {axes.get_subplotspec().get_gridspec().get_geometry() for axes in figure.axes} == {(2, 3)}
    last = metrics[metrics.total_step == 6000].pivot(index="seed", columns="task", values="success")
    whole = 100 * last.drop(index=1).mean(axis=1)
    mean, own = figure.axes[0], figure.axes[4]
    assert mean.lines[0].get_ydata()[-1] == pytest.approx(whole.mean())
    ends = mean.collections[0].get_paths()[0].vertices
    assert {*ends[ends[:, 0] == 6000][:, 1].round(6)} == {round(whole.min(), 6), round(whole.max(), 6)}
    assert own.lines[0].get_ydata()[-1] == pytest.approx(100 * last[config.tasks[3]].dropna().mean())
    assert "(n = 2 to 3 a task)" in captions(collected(config, metrics))["curves--scene-play"]


def test_curves_of_a_domain_hold_no_method_that_ran_on_a_part_of_it():
    mean, first, second = drawn(f"curves--{DOMAIN}", collected(full_config())).axes
    assert [axes.get_title() for axes in (mean, first, second)] == ["mean of 2 tasks", "task 1", "task 2"]
    assert (len(mean.lines), len(first.lines), len(second.lines)) == (3, 3, 9)
    assert "did not run there" in captions(collected(full_config()))[f"curves--{DOMAIN}"]


def test_whole_domains_are_one_panel_each_in_the_text():
    config = small_config(tasks=["scene-play", "cube-double-play"], methods=["trqam"])
    figure = drawn("offline_to_online", collected(config))
    assert [axes.get_title() for axes in figure.axes] == ["scene", "cube-double"]


def test_a_diverged_seed_is_a_cross_and_a_zero_from_the_next_evaluation_on():
    config = full_config()
    clean = fake_metrics(config)
    metrics = diverged(clean, config, config.tasks[0], "qam", seed=1, step=2200)  # evaluations: 2000, 3000
    colour = config.methods["qam"].colour
    axes = drawn("offline_to_online", collected(config, metrics)).axes[0]
    (line,) = _lines(axes, colour)
    assert list(line.get_xdata()) == [0, 1000, 2000, 3000, 4000, 5000, 6000]
    rows = clean[(clean.task == config.tasks[0]) & (clean.method == "qam")].dropna(subset=["success"])
    before = rows[rows.total_step <= 2000].groupby("total_step").success.mean()
    after = rows[(rows.total_step > 2000) & (rows.seed != 1)].groupby("total_step").success.sum() / 3
    assert line.get_ydata() == pytest.approx(100 * np.concatenate([before, after]))
    assert _crosses(axes, colour) == [2200]
    assert _crosses(drawn("offline_to_online", collected(config, metrics)).axes[1], colour) == []
    loss = drawn("collapse", collected(config, metrics)).axes[2]
    assert _crosses(loss, colour) == [2200]
    told = captions(collected(config, metrics))
    marked = [name for name, text in told.items() if "; 1 run DIVERGED, crossed)" in text]
    assert marked == [n for n in told if n not in ("profiles", "external_kl", "budget_sweep")]


def test_bars_and_rings_of_a_diverged_seed_are_crosses():
    config = full_config()
    metrics = fake_metrics(config)
    for method in ("qam", "external_kl"):
        metrics = diverged(metrics, config, config.tasks[0], method, seed=2, step=600)
    given, qam = collected(config, metrics), config.methods["qam"]
    for name, axis in (("overall_bars", 0), ("pretraining", 0), ("external_kl", 1)):
        places = seeds_of(drawn(name, given).axes[axis], crossed=True)
        zero = places[:, 0] if name == "external_kl" else places[:, 1]
        assert list(zero) == [0] * (2 if name == "overall_bars" else 1), name  # offline and online
    bars = drawn("pretraining", given).axes[0].patches
    (bar,) = [bar for bar in bars if bar.get_facecolor() == to_rgba(qam.colour)]
    success = final_success(given, config.tasks[:1], "qam")
    assert bar.get_height() == pytest.approx(success.sum() / 3)
    assert success[2] == 0


def _axis_without_unit(axis):
    """Whether a shown axis counts something and does not say in what; names instead of numbers need no unit."""
    figure = axis.axes.figure
    shared = {"x": figure.get_supxlabel(), "y": figure.get_supylabel()}[axis.axis_name]
    grid = axis.axes.get_subplotspec().get_gridspec()
    siblings = [a for a in figure.axes if a.get_subplotspec().get_gridspec() is grid]
    own = {"x": axis.axes.get_shared_x_axes(), "y": axis.axes.get_shared_y_axes()}[axis.axis_name]
    joined = [a for a in siblings if a is axis.axes or own.joined(a, axis.axes)]
    labels = [shared, *({"x": a.get_xlabel, "y": a.get_ylabel}[axis.axis_name]() for a in joined)]
    ticks = [label.get_text() for a in joined for label in getattr(a, f"get_{axis.axis_name}ticklabels")()]
    named = any(re.search("[A-Za-z]{2}", tick) for tick in ticks)
    return not named and not any(re.search(r"\([^)]+\)$", label) for label in labels)


@pytest.mark.parametrize("name", NAMES)
def test_every_axis_has_a_unit_and_every_caption_its_band_and_n(name):
    for config in (full_config(), full_config(tasks=[DOMAIN, "scene-play"], methods=["qam", "trqam"])):
        figure = drawn(name, collected(config))
        figure.draw_without_rendering()
        bare = [
            (axes.get_title(), axis.axis_name)
            for axes in figure.axes
            if axes.get_visible()
            for axis in (axes.xaxis, axes.yaxis)
            if _axis_without_unit(axis)
        ]
        assert not bare
        text = captions(collected(config))[name]
        assert re.search(r"\(n = \d|\bn = \d", text)
        assert re.search("[Bb]and|error bars", text)


def test_words_are_large_enough_to_read_in_print_whatever_the_number_of_panels():
    domains = ["scene-play", "puzzle-3x3-play", "antmaze-large-navigate", "humanoidmaze-medium-navigate", DOMAIN]
    config = small_config(tasks=domains, methods=["qam", "trqam"], seeds=1)
    given = collected(config)
    for name in ("offline_to_online", "trust_region", "overall_bars"):
        figure = drawn(name, given)
        figure.draw_without_rendering()
        written = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text()]
        assert min(text.get_fontsize() for text in written) >= 7
        titles = [axes.title.get_window_extent() for axes in figure.axes if axes.get_title()]
        assert not any(one.overlaps(other) for one, other in combinations(titles, 2))


def test_profiles_lie_between_nothing_and_everything():
    axes = drawn("profiles", collected(full_config())).axes[0]
    ends = np.concatenate([line.get_xydata() for line in axes.lines])
    assert (ends.min(), ends.max()) == (0, 100)
    assert (axes.get_xlim(), axes.get_ylim()) == ((0, 100), (0, 100))


def test_error_bars_are_seen_on_bars_of_their_own_colour():
    config = full_config()
    axes = drawn("overall_bars", collected(config)).axes[0]
    assert config.methods["sqam"].colour == "#000000"
    bars = [line for line in axes.lines if len(line.get_xdata()) > 1]
    assert bars
    assert all(line.get_path_effects() for line in bars)


def test_the_walk_over_axes_finds_one_without_a_unit():
    figure, axes = plt.subplots()
    axes.set(xlabel="step", ylabel="success (%)")
    figure.draw_without_rendering()
    assert _axis_without_unit(axes.xaxis)
    assert not _axis_without_unit(axes.yaxis)
