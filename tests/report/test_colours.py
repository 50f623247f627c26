"""Methods that share a figure can be told apart, in full colour vision and without red or green cones.

Dichromats' vision is simulated in linear RGB with the matrices of Machado, Oliveira and Fernandes (2009) at severity 1,
and differences are Euclidean in CIELAB under D65. About 2.3 is just noticeable between large patches side by side;
thin lines a legend apart need several times that, and 15 is six or seven times.
"""

from itertools import combinations, pairwise

import numpy as np
import pytest

from tests.helpers.fake_results import full_config
from trqam.report import panels
from trqam.report.selection import BY_STATE, INTERPOLANTS, collapsing, compared, contrasted, internal_external

VISION = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
}
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
APART = 15.0
FAINTEST = 80.0  # lightness: lines stand on white


def cielab(colour: str, vision: str = "normal") -> np.ndarray:
    """L*, a*, b* of #rrggbb as seen."""
    encoded = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    seen = TO_XYZ @ np.clip(VISION[vision] @ linear, 0, 1) / TO_XYZ.sum(axis=1)
    x, y, z = np.where(seen > 216 / 24389, np.cbrt(seen), (24389 / 27 * seen + 16) / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def difference(one: str, other: str, vision: str) -> float:
    return float(np.linalg.norm(cielab(one, vision) - cielab(other, vision)))


def test_cielab_of_known_colours():
    assert cielab("#ffffff") == pytest.approx([100, 0, 0], abs=1e-3)
    assert cielab("#000000") == pytest.approx([0, 0, 0], abs=1e-6)
    assert cielab("#ff0000") == pytest.approx([53.24, 80.09, 67.20], abs=0.05)
    assert cielab("#808080", "deuteranopia") == pytest.approx(cielab("#808080"), abs=1e-3)  # greys stay


def test_a_red_and_a_green_that_dichromats_confuse_are_found():
    assert difference("#8b6914", "#6b8e23", "normal") > APART > difference("#8b6914", "#6b8e23", "protanopia")


def divergences(config):
    """The methods of that figure."""
    return ["trqam", *(name for name, method in config.methods.items() if "divergence" in method.parameters)]


def schedules(config):
    """The methods of that figure."""
    return ["trqam", *(name for name, method in config.methods.items() if "schedule" in method.parameters)]


def by_state(config):
    """Those of that figure."""
    return BY_STATE


def diffusion(config):
    """Those of that figure."""
    return INTERPOLANTS


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize(
    "together", [compared, contrasted, collapsing, internal_external, divergences, schedules, by_state, diffusion]
)
def test_methods_of_a_figure_can_be_told_apart(together, vision):
    config = full_config()
    colours = {method: config.methods[method].colour for method in together(config)}
    pairs = {(a, b): difference(colours[a], colours[b], vision) for a, b in combinations(colours, 2)}
    assert len(colours) > 1
    assert {pair: round(value, 1) for pair, value in pairs.items() if value < APART} == {}
    assert all(cielab(colour)[0] < FAINTEST for colour in colours.values())


@pytest.mark.parametrize("together", [compared, contrasted, divergences, schedules])
def test_methods_of_a_figure_have_markers_of_their_own(together):
    config = full_config()
    markers = [panels.look(config, method)["marker"] for method in together(config) if method != "behaviour_cloning"]
    assert len(set(markers)) == len(markers)


@pytest.mark.parametrize("vision", VISION)
def test_budgets_darken_in_steps_that_can_be_seen(vision):
    config = full_config(budgets=[n / 2 for n in range(1, 9)])
    colours = [config.methods[method].colour for method in config.sweeps if config.sweeps[method].key == "budgets"]
    lightness = [cielab(colour, vision)[0] for colour in colours]
    assert all(above - below > 5 for above, below in pairwise(lightness))
