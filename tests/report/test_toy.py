"""The idea in a plane: the truth, stacks that do not mix, and numbers that are those of the table."""

import numpy as np
import pandas as pd
import pytest

from tests.helpers import fake_results
from trqam.report import toy_experiment, toy_figure
from trqam.report.toy_experiment import MODES, Toy, data, true_return


def test_the_best_mode_is_worth_one_and_nothing_away_from_the_data_is_worth_anything():
    np.testing.assert_allclose(true_return(MODES), toy_experiment.HEIGHTS, atol=1e-3)
    drawn = data(np.random.default_rng(0), 3000)
    assert true_return(drawn).mean() == pytest.approx(toy_experiment.HEIGHTS.mean() * 0.87, abs=0.03)
    assert true_return(np.array([[-0.9, 0.9], [0.9, 0.9], [0.0, -0.95]])).max() < 0.02


def test_a_setting_in_a_stack_is_that_setting_alone(smaller):
    toy = Toy([3, 4])
    for train, settings in ((toy.qam, (1.0, 20.0)), (toy.trqam, (0.05, 2.0))):
        together, alone = train(settings), train(settings[1:])
        np.testing.assert_allclose(together.actions[1], alone.actions[0], atol=1e-4)
        np.testing.assert_allclose(together.path_kl[1], alone.path_kl[0], rtol=1e-3)
        assert not np.allclose(together.actions[0], together.actions[1], atol=1e-2)


def test_a_method_has_the_colour_of_other_figures():
    methods = fake_results.small_config().methods
    assert (methods["qam"].colour, methods["trqam"].colour) == (toy_figure.QAM_COLOUR, toy_figure.TRQAM_COLOUR)


def test_a_lower_temperature_leads_further_from_cloning(smaller):
    low, high = Toy([0, 1, 2]).qam((0.1, 30.0)).path_kl
    assert (high > 10 * low).all()


def test_the_figure_is_the_same_each_time_and_its_caption_says_the_tables_numbers(smaller, tmp_path, monkeypatch):
    for name, value in {"TEMPERATURES": (0.3, 1.0, 30.0), "BUDGETS": (0.1, 1.0, 2.0), "SHOWN": (0, 1, 2)}.items():
        monkeypatch.setattr(toy_figure, name, value)
    for copy in ("a", "b"):
        toy_figure.measure.cache_clear()
        toy_figure.write(tmp_path / copy)
    for name in ("figures/toy.pdf", "figures/toy.png", "toy.csv", "toy_facts.tex", "toy.txt"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    rows = pd.read_csv(tmp_path / "a/toy.csv")
    assert rows.groupby("method").size().to_dict() == {"cloning": 2, "qam": 6, "trqam": 6}
    warm = rows[(rows.method == "qam") & (rows.setting == 0.3)]["return"].mean()
    caption = (tmp_path / "a/toy.txt").read_text()
    assert f"QAM's return goes from {warm:.2f} to " in caption
    assert "2 seeds" in caption
