"""The authors' agents in this package's words: networks, hyper-parameters, switches and logged quantities.

A `Translation` for each of their agents; what it does not list, `trqam.operations.golden.files` refuses.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

# Their switch to our attribute, and what its value becomes. What `COMMON` lists is read into the Run or needs no care.
SWITCHES: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "action_chunking": ("chunked", bool),
    "value_layer_norm": ("critic_layer_norm", bool),
    "actor_hidden_dims": ("actor_hidden", tuple),
    "value_hidden_dims": ("critic_hidden", tuple),
    "best_of_n": ("samples", int),
    "clip_grad": ("clip_gradient", bool),
    "use_target_grad": ("gradient_critic", lambda on: "target" if on else "online"),
    **dict.fromkeys(
        ("target_actor", "target_guidance", "use_target_latent"),
        ("reference", lambda on: "target" if on else "online"),
    ),
}
COMMON = {"action_dim", "actor_layer_norm", "agent_name", "batch_size", "bc_only", "discount", "flow_steps"}
COMMON |= {"horizon_length", "lr", "num_qs", "ob_dims", "rho", "tau"}
# The target entropies are given resolved; QAM without an edit policy carries one and has no use for it.
COMMON |= {"target_entropy_multiplier", "edit_target_entropy_multiplier", "edit_target_entropy"}


@dataclass(frozen=True)
class Translation:
    """One of their agents in our words; ``info`` maps what they log to our metrics, "a+b" meaning a sum."""

    agent: str
    modules: dict[str, str]  # our network: their module
    parameters: dict[str, str] = field(default_factory=dict)  # our hyper-parameter: their key
    info: dict[str, str] = field(default_factory=dict)
    fixed: dict[str, Any] = field(default_factory=dict)  # their switches of which one setting is implemented


CRITIC = {f"critic/{name}": name for name in ("critic_loss", "q_mean", "q_min", "q_max")}
ADJOINT = {**CRITIC, "actor/flow_loss": "flow_loss"}
ADJOINT |= {"actor/adj_loss": "adjoint_loss", "actor/fast_loss": "adjoint_loss"}
FIELDS = {"critic": "critic", "base": "actor_slow", "finetuned": "actor_fast"}
QAM = {"inverse_temperature": "inv_temp", "clip_adjoint": "clip_adj"}
NO_RESIDUAL = {"fql_alpha": 0, "residual": False}
EDIT = {"actor/edit_q_loss+actor/edit_entropy_loss": "actor_loss", "actor/edit_entropy": "entropy"}
EDIT |= {"actor/edit_alpha": "temperature"}
TRUST_REGION = {"clip_adjoint": "clip_adj", "kl_budget": "kl_budget", "kl_ema_rate": "kl_ema_coef"}
TRUST_REGION |= {"kl_clip": "kl_clip_coef", "dual_rate": "eta_lambda", "multiplier_scale": "lam_scale"}
TRUST_REGION |= {"multiplier_min": "lambda_min", "multiplier_max": "lambda_max"}
DUAL = {"actor/path_kl": "path_kl", "dual/kl_estimate": "path_kl", "dual/kl_ema": "kl_ema"}
GUIDANCE = {"inverse_temperature": "inv_temp", "guidance": "guidance_coef", "noisy_weight": "noisy_coef"}
NOISE = {"noise_critic": "z_critic", "noise_policy": "actor", "temperature": "alpha"}
DISTILLED = {"critic/distill_loss": "distill_loss", "critic/total_loss": "critic_loss+distill_loss"}
TRANSLATIONS = {
    "behaviour_cloning": Translation(
        "behaviour_cloning", {"base": "actor_slow"}, info={"actor/flow_loss": "flow_loss"}
    ),
    "qam": Translation("qam", FIELDS, QAM, ADJOINT, {**NO_RESIDUAL, "edit_scale": 0}),
    "qam_e": Translation(
        "qam_e",
        {**FIELDS, "edit": "edit_actor", "temperature": "edit_alpha"},
        {**QAM, "edit_scale": "edit_scale", "entropy_per_dimension": "edit_target_entropy"},
        {**ADJOINT, **EDIT},
        NO_RESIDUAL,
    ),
    "trqam": Translation("trqam", FIELDS, TRUST_REGION, {**ADJOINT, **DUAL}),
    "fql": Translation(
        "fql",
        {"critic": "critic", "base": "actor_bc_flow", "one_step": "actor_onestep_flow"},
        {"distillation": "alpha"},
        {**CRITIC, "actor/actor_loss": "flow_loss+actor_loss", "actor/bc_flow_loss": "flow_loss"}
        | {"actor/distill_loss": "distill_loss"},
    ),
    "cgql": Translation(
        "cgql_l",
        {"critic": "critic", "base": "actor"},
        {**GUIDANCE, "exponent_clip": "isd_clip"},
        {**CRITIC, "actor/flow_loss": "flow_loss", "critic/noisy_critic_loss": "distill_loss"},
        {"mode": "linex", "separate": False},
    ),
    "dsrl": Translation(
        "dsrl",
        {"critic": "critic", "base": "actor_bc_flow", **NOISE},
        {"noise_scale": "noise_scale", "entropy_per_dimension": "target_entropy"},
        {**CRITIC, **DISTILLED, **{f"actor/{name}": name for name in ("flow_loss", "actor_loss", "entropy")}}
        | {"actor/alpha": "temperature"},
    ),
    "ifql": Translation(
        "ifql",
        {"critic": "critic", "base": "actor_flow", "value": "value"},
        {"expectile": "kappa", "samples": "num_samples"},
        {"critic/critic_loss": "critic_loss", "value/value_loss": "value_loss", "actor/actor_loss": "flow_loss"},
    ),
}
