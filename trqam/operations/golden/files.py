"""Reference files of the authors' JAX code (format: tests/golden/README.md), read into this package's agents.

A file holds the configuration, initial parameters, batches and noise of ten updates, and what came out. A `Translation`
for each of the authors' agents says what its networks, hyper-parameters and logged quantities are called here; what
none lists is refused.
"""

import importlib
import io
import json
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import torch
from torch import Tensor

from trqam.agents.base import Agent, Tensors
from trqam.config.errors import UserError
from trqam.config.load import Run
from trqam.config.reading import read_bytes
from trqam.config.schema import Small
from trqam.config.strict import check
from trqam.networks.replicas import assemble

DTYPES = {"f32": torch.float32, "f64": torch.float64}
FIX = "give an npz of the golden format"
NEEDED = ("action_chunking", "actor_layer_norm", "discount", "rho", "lr", "tau", "flow_steps", "num_qs")
BATCH = ("rewards", "masks", "valid", "next_observations", "observations", "actions")
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


class Description(msgspec.Struct):
    """A file's array `meta`, as JSON; it holds more."""

    config: dict[str, Any]
    dtype: Literal["f32", "f64"]
    nsteps: Small
    agent: str
    action_dim: Small
    obs_dim: Small
    horizon: Small
    batch: Small


def read_arrays(path: str | Path) -> dict[str, np.ndarray]:
    """All arrays of an npz file."""
    content = read_bytes(path, fix=FIX)
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    except (OSError, ValueError, KeyError, EOFError, AttributeError, TypeError, zipfile.BadZipFile, zlib.error):
        raise UserError(f"{path}: not a reference file, or damaged; {FIX}") from None  # also an npy or a pickle


class Golden:
    """One reference file, and this package's agent set up as it says."""

    def __init__(self, path: str | Path):
        self.path = path
        self.arrays = read_arrays(path)
        self.meta = self._description()
        self.config = c = self.meta["config"]
        self.dtype, self.updates = DTYPES[self.meta["dtype"]], self.meta["nsteps"]
        self._check_updates()
        name = c.get("agent_name", self.meta["agent"])
        if name == "trqam" and c.get("bc_only"):
            name = "behaviour_cloning"
        elif name == "qam" and c.get("edit_scale", 0) > 0:
            name = "qam_e"
        if name not in TRANSLATIONS:
            raise UserError(f"{path}: agent: found {name!r}; give a file of one of {', '.join(TRANSLATIONS)}")
        self.words = TRANSLATIONS[name]
        if name != "behaviour_cloning":  # which uses none of the switches that its file carries
            self._refuse_unknown()
        self.agent = self._agent()
        self.state = assemble([self._initial()])

    def _description(self) -> dict[str, Any]:
        """The file's configuration and sizes."""
        try:
            meta = json.loads(str(self.array("meta")))
        except (ValueError, RecursionError):
            raise UserError(f"{self.path}: meta: not JSON; {FIX}") from None
        check(meta, Description, f"{self.path}: meta", FIX)
        if lacking := [key for key in NEEDED if key not in meta["config"]]:
            raise UserError(f"{self.path}: meta: config: {lacking[0]}: missing; {FIX}")
        return meta

    def _check_updates(self) -> None:
        """A UserError unless there are numbers, and a batch and noise for each update."""
        for key in BATCH:
            self.array(f"batch/{key}")
        for key, array in self.arrays.items():
            if key != "meta" and array.dtype.kind not in "fiub":
                raise UserError(f"{self.path}: {key}: holds what is no number; {FIX}")
            if key.startswith(("batch/", "noise/")) and array.shape[:1] != (self.updates,):
                raise UserError(f"{self.path}: {key}: not of {self.updates} updates; {FIX}")

    def _refuse_unknown(self) -> None:
        """A UserError on the first switch that would be ignored."""
        c, known = self.config, COMMON | SWITCHES.keys() | set(self.words.parameters.values())
        wrong = {key: value for key, value in c.items() if key not in known | self.words.fixed.keys() and value}
        wrong |= {key: c[key] for key, value in self.words.fixed.items() if c.get(key, value) != value}
        wrong |= {key: c[key] for key in ("inv_temp",) if c.get(key, 1) <= 0}  # switches acting to the base flow
        wrong |= {key: c[key] for key in ("num_qs",) if c[key] < 2}
        wrong |= {"bc_only": True} if c.get("bc_only") else {}
        for key, value in wrong.items():
            raise UserError(f"{self.path}: config: {key}: {value!r} is not supported with agent {self.words.agent!r}")

    def _agent(self) -> Agent:
        c, meta, words = self.config, self.meta, self.words
        size = meta["action_dim"] * (meta["horizon"] if c["action_chunking"] else 1)
        parameters = {ours: c[theirs] for ours, theirs in words.parameters.items()}
        if "entropy_per_dimension" in parameters:
            total = parameters["entropy_per_dimension"]
            parameters["entropy_per_dimension"] = -0.5 if total is None else total / size
        if "multiplier_min" in parameters:
            parameters["initial_multiplier"] = 1.0
        known = {
            "task": "golden",
            "domain": "golden",
            "method": words.agent,
            "agent": words.agent,
            "parameters": parameters,
            "horizon": meta["horizon"],
            "hidden_width": 0,  # the switches say the actor's and the critic's
            "hidden_layers": 0,
            "actor_layer_norm": c["actor_layer_norm"],
            "discount": c["discount"],
            "pessimism": c["rho"],
            "normalise_observations": False,
            "batch_size": meta["batch"],
            "learning_rate": c["lr"],
            "target_rate": c["tau"],
            "flow_steps": c["flow_steps"],
            "critics": c["num_qs"],
            "offline_steps": meta["nsteps"],  # a budget of ours moves through the stage
            "online_steps": 1,
            "online_start": 0,
            "reward_scale": 1.0,
        }
        run = Run(**{**dict.fromkeys(Run.__struct_fields__), **known})  # an update reads nothing else
        switches = {ours: read(c[theirs]) for theirs, (ours, read) in SWITCHES.items() if theirs in c}
        module = importlib.import_module(f"trqam.agents.{words.agent}")
        return module.AGENT(run, meta["obs_dim"], meta["action_dim"], **switches)

    def _initial(self) -> Tensors:
        tensors = self.agent.initialise(0, None)
        for name in tensors:
            if name.startswith(("online/", "target/")):
                value = self.parameter("init/params", name)
                if value.shape != tensors[name].shape:
                    sizes = f"{value.shape}, {tuple(tensors[name].shape)} by its configuration"
                    raise UserError(f"{self.path}: init/params: {name}: shape {sizes}; give a file of one piece")
                tensors[name] = torch.from_numpy(value).to(self.dtype)
            elif name != "step":
                tensors[name] = tensors[name].to(self.dtype)
        if "init/lam" in self.arrays:
            tensors["dual/multiplier"] = self.tensor("init/lam")[0]
            tensors["dual/kl_ema"] = self.tensor("init/kl_ema")[0]
        return tensors

    def array(self, key: str) -> np.ndarray:
        """An array of the file."""
        if key not in self.arrays:
            raise UserError(f"{self.path}: {key}: missing; give a complete file of the golden format")
        return self.arrays[key]

    def tensor(self, key: str, *index: int) -> Tensor:
        """An array of the file in its dtype, with a replica axis of one."""
        return torch.from_numpy(np.array(self.array(key)[index])).to(self.dtype).unsqueeze(0)

    def parameter(self, group: str, name: str) -> np.ndarray:
        """``group`` (such as "step1/grads") of our "target/critic/1.weight": their
        "modules_target_critic/value_net/Dense_1/kernel", whatever the module calls its inner parts."""
        copy, network, parameter = name.split("/")
        layer, _, kind = parameter.rpartition(".")
        prefix = f"{group}/modules_{'target_' if copy == 'target' else ''}{self.words.modules[network]}/"
        part = {"mean": "OutputDenseMean", "log_std": "OutputDenseLogStd"}.get(layer, f"Dense_{layer}")
        suffixes = {"weight": f"{part}/kernel", "bias": f"{part}/bias", "log": "log_value"}
        suffixes |= {"scale": f"LayerNorm_{layer}/scale", "shift": f"LayerNorm_{layer}/bias"}
        found = [k for k in self.arrays if k.startswith(prefix) and f"/{k}".endswith(f"/{suffixes[kind]}")]
        array = self.array(found[0] if found else prefix + suffixes[kind])
        return array.reshape(1) if kind == "log" else array

    def batch(self, update: int) -> Tensors:
        """The batch of one update; of each chunk's sequence only the last entry counts."""
        full = {key[6:]: self.tensor(key, update) for key in self.arrays if key.startswith("batch/")}
        batch = {k: full[k][:, :, -1] for k in ("rewards", "masks", "valid", "next_observations")}
        actions = full["actions"][:, :, : self.agent.chunk].flatten(2)
        return {**batch, "observations": full["observations"], "actions": actions}

    def noise(self, update: int) -> Tensors:
        """The noise that one update consumed."""
        noise = {key[6:]: self.tensor(key, update) for key in self.arrays if key.startswith("noise/")}
        proposals = [noise.pop(k) for k in ("next_action_noise", "next_latent_eps", "next_edit_eps") if k in noise]
        if proposals:
            noise["next_action_noise"] = torch.cat(proposals, -1).flatten(2)
        if "adj_eps_0" in noise:
            noise["adj_eps"] = torch.stack([noise.pop(f"adj_eps_{i}") for i in range(self.agent.run.flow_steps)], 1)
        return noise

    def act_noise(self) -> Tensor:
        """The noise of acting: each proposal's, and the edit's where there is one."""
        return torch.cat([self.tensor(k) for k in ("act/noise", "act/edit_eps") if k in self.arrays], -1).flatten(2)
