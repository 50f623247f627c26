"""Agreement with the authors' code: losses, trajectories, dual steps, and parameters after one and ten updates.

Their files cover TRQAM, QAM and FQL in one configuration each. The other agents and the switches are held against files
of the same format that a slow second implementation writes (tests/helpers/slow_reference.py).
"""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.slow_reference import Slow
from trqam.__main__ import main
from trqam.config.errors import UserError
from trqam.operations.golden.compare import compare, relative_difference, replay

FOLDER = Path(__file__).parents[1] / "golden"
EXPECTED = {
    "trqam": {"act/actions", "step1/adj/xs", "step1/adj/adjs", "info/actor/path_kl", "dual/multiplier", "dual/kl_ema"},
    "qam": {"act/actions", "step1/adj/xs", "step1/adj/adjs", "info/actor/adj_loss", "info/critic/critic_loss"},
    "fql": {"act/actions", "step1/inter/target_q", "info/actor/actor_loss", "info/actor/distill_loss"},
    "trqam_bc": {"info/actor/flow_loss"},
    "qam_e": {"act/actions", "step1/adj/adjs", "info/actor/edit_q_loss+actor/edit_entropy_loss"},
    "cgql": {"act/actions", "info/critic/noisy_critic_loss", "info/critic/critic_loss"},
    "dsrl": {"act/actions", "info/critic/distill_loss", "info/actor/actor_loss", "info/actor/alpha"},
    "ifql": {"act/actions", "info/value/value_loss", "info/critic/q_mean"},
}
ALWAYS = {"step1/gradients", "step1/params", "step1/adam_mu", "step1/adam_nu", "step10/params", "info/gradient_norm"}
PUBLIC = ["trqam", "qam", "fql", "trqam_bc"]

WIDE = {"actor_layer_norm": True, "actor_hidden_dims": [5], "value_hidden_dims": [6, 4]}
PLAIN = {"action_chunking": False, "value_layer_norm": False, "best_of_n": 3}
ONLINE = {"target_actor": False, "use_target_grad": False, "clip_adj": False}
VARIANTS = {
    "trqam": ("trqam", {}),
    "trqam without chunks": ("trqam", {**PLAIN, "discount": 0.8, "lr": 0.003}),
    "trqam online copies": ("trqam", {**ONLINE, **WIDE}),
    "trqam clipped KL": ("trqam", {"kl_budget": 0.01, "kl_clip_coef": 1.5}),
    "trqam upper bound": ("trqam", {"kl_budget": 0.01, "kl_clip_coef": 99.0, "eta_lambda": 5.0, "lambda_max": 1.1}),
    "trqam lower bound": ("trqam", {"kl_budget": 50.0, "eta_lambda": 0.5, "lambda_min": 0.2}),
    "qam": ("qam", {}),
    "qam unclipped": ("qam", {"clip_grad": False, "rho": 0.0, "tau": 0.3, **PLAIN}),
    "qam_e": ("qam", {"edit_scale": 0.3, **WIDE}),
    "qam_e best of 3": ("qam", {"edit_scale": 0.9, **PLAIN, **ONLINE}),
    "fql": ("fql", WIDE),
    "fql best of 3": ("fql", PLAIN),
    "cgql": ("cgql", WIDE),
    "cgql best of 3": ("cgql", {**PLAIN, "target_guidance": False}),
    "dsrl": ("dsrl", WIDE),
    "dsrl best of 3": ("dsrl", {**PLAIN, "use_target_latent": False}),
    "ifql": ("ifql", WIDE),
    "ifql without chunks": ("ifql", {"action_chunking": False, "value_layer_norm": False, "kappa": 0.6}),
}


@pytest.mark.parametrize("name", PUBLIC)
def test_float64_agrees_to_1e_9(name):
    pairs = replay(FOLDER / f"{name}_f64.npz")
    assert pairs.keys() >= EXPECTED[name] | ALWAYS
    for quantity, found in pairs.items():
        assert relative_difference(found) < 1e-9, quantity


@pytest.mark.parametrize("name", PUBLIC)
def test_float32_agrees_to_1e_4(name):
    for quantity, found in replay(FOLDER / f"{name}_f32.npz").items():
        if quantity.endswith("/params"):  # Adam amplifies gradients near zero: the reference's own quantile rule
            difference = np.concatenate([np.abs(ours - theirs).ravel() for ours, theirs in found])
            assert np.quantile(difference, 0.999) < 5e-7
            assert difference.max() < 2e-5
        else:
            assert relative_difference(found) < 1e-4, quantity


@pytest.mark.parametrize("name", VARIANTS)
def test_every_agent_and_switch_agrees_with_the_slow_reference(name, tmp_path):
    agent, changes = VARIANTS[name]
    Slow(agent, **changes).write(tmp_path / "slow.npz")
    pairs = replay(tmp_path / "slow.npz")
    assert pairs.keys() >= EXPECTED[name.split()[0]] | ALWAYS
    for quantity, found in pairs.items():
        assert relative_difference(found) < 1e-9, quantity
    multipliers = [float(theirs) for _, theirs in pairs.get("dual/multiplier", [])]
    if "bound" in name:  # the switch that the variant is about does act
        assert multipliers[-1] == changes.get("lambda_max", changes.get("lambda_min"))
    if name == "trqam clipped KL":
        assert min(float(theirs) for _, theirs in pairs["info/actor/path_kl"]) > 0.015
    if agent != "ifql" or "without" not in name:
        assert 0 < np.mean(np.abs(pairs["act/actions"][0][1]) == 1) < 1, "clipping is not exercised"


def test_a_dual_state_given_by_the_file_is_where_the_updates_start(tmp_path):
    Slow("trqam").write(tmp_path / "slow.npz", lam=7.5, kl_ema=0.4)
    assert max(compare(tmp_path / "slow.npz").values()) < 1e-9


@pytest.mark.parametrize(
    ("agent", "changes", "named"),
    [
        ("qam", {"fql_alpha": 1.0}, "fql_alpha: 1.0"),
        ("qam", {"residual": True}, "residual: True"),
        ("qam", {"inv_temp": 0.0}, "inv_temp: 0.0"),
        ("qam", {"bc_only": True}, "bc_only: True"),
        ("trqam", {"kl_warm_up": 5}, "kl_warm_up: 5"),
        ("cgql", {"mode": "mse"}, "mode: 'mse'"),
        ("cgql", {"separate": True}, "separate: True"),
    ],
)
def test_an_unsupported_switch_is_refused(agent, changes, named, tmp_path):
    Slow(agent).write(tmp_path / "slow.npz")
    with np.load(tmp_path / "slow.npz") as file:
        arrays = dict(file)
    meta = json.loads(str(arrays.pop("meta")))
    meta["config"] |= changes
    np.savez(tmp_path / "slow.npz", meta=json.dumps(meta), **arrays)
    with pytest.raises(UserError, match=named):
        replay(tmp_path / "slow.npz")


def test_the_command_reports_every_quantity_and_fails_beyond_the_tolerance(tmp_path, monkeypatch, capsys):
    def golden(path, tolerance):
        monkeypatch.setattr(sys, "argv", ["trqam", "golden", str(path), "--tolerance", tolerance])
        try:
            main()
        except SystemExit as leaving:
            return leaving.code
        return 0

    assert golden(FOLDER / "fql_f64.npz", "1e-9") == 0
    assert "step10/params" in capsys.readouterr().out
    assert golden(FOLDER / "fql_f64.npz", "1e-18") == 1
    (tmp_path / "broken.npz").write_bytes(b"PK")
    assert golden(tmp_path / "broken.npz", "1e-9") == 2
    assert "broken.npz: not a reference file" in capsys.readouterr().err
