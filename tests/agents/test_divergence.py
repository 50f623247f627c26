"""TRQAM with another divergence in its dual step: against densities of single steps, one sample at a time."""

import math

import pytest
import torch

from tests.agents.test_methods import trained
from tests.helpers.slow_reference import H, Slow
from trqam.operations.golden.compare import compare
from trqam.operations.golden.files import FIELDS, TRANSLATIONS, Translation

OWN = {"divergence": "divergence", "effective_paths": "effective_paths"}


class SlowDivergence(Slow):
    """TRQAM's update, whose dual step sees a divergence that is estimated from ratios of transition densities."""

    def qam(self, p, o, b, n):
        loss, info = super().qam(p, o, b, n)
        h, costs, ratios = 1 / self.K, [], []  # of each sample and step: KL, and log p_u / p_base
        for s, xs in zip(b["observations"], self.xs.transpose(0, 1), strict=True):
            found = []
            for i, x in enumerate(xs):
                t, names = i * h, ("actor_fast", "target_actor_slow")
                variance = h * 2 * (1 - t + h) / (t + h)
                u, v = (x + h * (2 * self.v(o, name, s, x, t) - x / (t + h)) for name in names)
                x = xs[i + 1] if i < self.K - 1 else u  # the last step takes no noise, and its ratio is not asked
                ratio = ((x - v) ** 2 - (x - u) ** 2).sum() / (2 * variance)
                found.append((float(((u - v) ** 2).sum()) / (2 * variance), float(ratio)))
            costs.append([cost for cost, _ in found])
            ratios.append([ratio for _, ratio in found[:-1]])
        value, weights = getattr(self, self.c["divergence"])(costs, ratios)
        self.estimate = info["divergence"] = value / H
        info["effective_paths"] = sum(weights) ** 2 / sum(w**2 for w in weights)
        return loss, info

    def reverse(self, costs, ratios):
        total = 0.0
        for i in range(self.K):
            weights = [math.exp(-sum(row[:i])) for row in ratios]
            total += sum(w * row[i] for w, row in zip(weights, costs, strict=True)) / sum(weights)
        return total, weights

    def renyi(self, costs, ratios):
        pairs = list(zip(costs, ratios, strict=True))
        weights = [math.exp(sum(ratio) - 2 * sum(cost[:-1])) for cost, ratio in pairs]
        squares = [math.exp(sum(ratio) + 2 * cost[-1]) for cost, ratio in pairs]
        return math.log(sum(squares) / sum(weights)), squares

    def dual(self, kl):
        assert abs(kl / self.estimate - 1) > 1e-6
        super().dual(self.estimate)


@pytest.mark.parametrize("divergence", ["reverse", "renyi"])
def test_it_agrees_with_the_slow_reference(divergence, tmp_path, monkeypatch):
    SlowDivergence("trqam", divergence=divergence, kl_budget=0.05, kl_clip_coef=1e3).write(tmp_path / "slow.npz")
    trqam = TRANSLATIONS["trqam"]
    parameters = {**trqam.parameters, "divergence": "divergence"}
    words = Translation("trqam_divergence", FIELDS, parameters, {**trqam.info, **OWN})
    monkeypatch.setitem(TRANSLATIONS, "trqam", words)
    found = compare(tmp_path / "slow.npz")
    logged = {f"info/{name}" for name in ("actor/path_kl", *OWN)}
    assert {*logged, "dual/multiplier", "dual/kl_ema", "step1/gradients", "step10/params"} <= found.keys()
    assert max(found.values()) < 1e-9


@pytest.mark.parametrize("name", ["trqam_reverse", "trqam_renyi"])
def test_what_is_held_moves_the_multiplier_and_nothing_else(name):
    _, state, metrics = trained(name, dual_rate=0.0, kl_clip=1e6)
    _, reference, theirs = trained("trqam", dual_rate=0.0, kl_clip=1e6)
    for (key, ours), (_, value) in zip(state.named(), reference.named(), strict=True):
        assert torch.equal(ours, value) != (key == "dual/kl_ema"), key
    assert metrics.keys() - theirs.keys() == OWN.keys()
    assert metrics["path_kl"] == theirs["path_kl"] > 0
