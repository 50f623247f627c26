"""Comparison with reference numbers computed by the authors' JAX code (format: tests/golden/README.md).

A reference file holds the configuration, initial parameters, batches and noise of ten updates, and what came out. The
same updates are run here, and every quantity is compared as max|a - b| / max(max|b|, 1e-12) over its array.
"""

import importlib
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from trqam.agents.base import Agent, Tensors
from trqam.config import Run
from trqam.errors import UserError
from trqam.replicas import assemble, leaves

MODULES = {"critic": "critic", "actor_slow": "base", "actor_fast": "finetuned"}
DTYPES = {"f32": torch.float32, "f64": torch.float64}
PARAMETER_GROUPS = {"online": "params", "target": "params", "first_moment": "adam_mu", "second_moment": "adam_nu"}
METRICS = {
    "critic/critic_loss": "critic_loss",
    "critic/q_mean": "q_mean",
    "critic/q_min": "q_min",
    "critic/q_max": "q_max",
    "actor/flow_loss": "flow_loss",
    "actor/adj_loss": "adjoint_loss",
    "actor/path_kl": "path_kl",
}


class Golden:
    """One reference file, and this package's agent set up as it says."""

    def __init__(self, path: str | Path):
        try:
            with np.load(path, allow_pickle=False) as file:
                self.arrays = {key: file[key] for key in file.files}
            self.meta = json.loads(str(self.arrays["meta"]))
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"{path}: not a reference file ({error}); give an npz of the golden format") from None
        self.dtype = DTYPES[self.meta["dtype"]]
        self.updates = self.meta["nsteps"]
        self.agent = self._agent()
        self.state = assemble([self._initial()])

    def _agent(self) -> Agent:
        c, meta = self.meta["config"], self.meta
        name = "behaviour_cloning" if c.get("bc_only") else meta["agent"]
        parameters = {
            "behaviour_cloning": lambda: {},
            "qam": lambda: {"inverse_temperature": c["inv_temp"], "clip_adjoint": c["clip_adj"]},
            "trqam": lambda: {
                "clip_adjoint": c["clip_adj"],
                "kl_budget": c["kl_budget"],
                "initial_multiplier": 1.0,
                "multiplier_scale": c["lam_scale"],
                "dual_rate": c["eta_lambda"],
                "kl_ema_rate": c["kl_ema_coef"],
                "kl_clip": c["kl_clip_coef"],
                "multiplier_min": c["lambda_min"],
                "multiplier_max": c["lambda_max"],
            },
        }
        if name not in parameters:
            raise UserError(f"{meta['file']}: agent: {name!r} is not one of {', '.join(parameters)}")
        widths = c["actor_hidden_dims"]
        run = Run(
            task="golden",
            domain="golden",
            method=name,
            agent=name,
            parameters=parameters[name](),
            horizon=meta["horizon"],
            hidden_width=widths[0],
            hidden_layers=len(widths),
            actor_layer_norm=c["actor_layer_norm"],
            discount=c["discount"],
            pessimism=c["rho"],
            normalise_observations=False,
            data_source="golden",
            batch_size=meta["batch"],
            learning_rate=c["lr"],
            target_rate=c["tau"],
            flow_steps=c["flow_steps"],
            critics=c["num_qs"],
            **dict.fromkeys(("transitions", "data_seed", "pretrain_steps", "offline_steps", "online_steps"), 0),
            **dict.fromkeys(("online_start", "eval_interval", "eval_episodes", "eval_environments", "log_interval"), 0),
            checkpoint_interval=0,
        )
        module = importlib.import_module(f"trqam.agents.{name}")
        return module.AGENT(run, meta["obs_dim"], meta["action_dim"])

    def tensor(self, key: str, *index: int) -> Tensor:
        """An array of the file in its dtype, with a replica axis of one."""
        return torch.from_numpy(np.array(self.arrays[key][index])).to(self.dtype).unsqueeze(0)

    def reference_name(self, name: str) -> str:
        """ "target/critic/1.weight" as "modules_target_critic/value_net/Dense_1/kernel"."""
        group, network, parameter = name.split("/")
        layer, kind = parameter.split(".")
        module = {ours: theirs for theirs, ours in MODULES.items()}[network]
        module = f"modules_{'target_' if group == 'target' else ''}{module}"
        body = "value_net" if network == "critic" else "mlp"
        names = {"weight": f"Dense_{layer}/kernel", "bias": f"Dense_{layer}/bias"}
        names |= {"scale": f"LayerNorm_{layer}/scale", "shift": f"LayerNorm_{layer}/bias"}
        return f"{module}/{body}/{names[kind]}"

    def _initial(self) -> Tensors:
        tensors = self.agent.initialise(0, None)
        for name in tensors:
            if name.startswith(("online/", "target/")):
                tensors[name] = self.tensor(f"init/params/{self.reference_name(name)}")[0]
            elif name != "step":
                tensors[name] = tensors[name].to(self.dtype)
        if "init/lam" in self.arrays:
            tensors["dual/multiplier"] = self.tensor("init/lam")[0]
            tensors["dual/kl_ema"] = self.tensor("init/kl_ema")[0]
        return tensors

    def batch(self, update: int) -> Tensors:
        """The batch of one update; of each chunk's sequence only the last entry counts."""
        full = {key[6:]: self.tensor(key, update) for key in self.arrays if key.startswith("batch/")}
        batch = {k: full[k][:, :, -1] for k in ("rewards", "masks", "valid", "next_observations")}
        return {**batch, "observations": full["observations"], "actions": full["actions"].flatten(2)}

    def noise(self, update: int) -> Tensors:
        """The noise that one update consumed."""
        noise = {key[6:]: self.tensor(key, update) for key in self.arrays if key.startswith("noise/")}
        if "next_action_noise" in noise:
            noise["next_action_noise"] = noise["next_action_noise"][:, :, 0]
        if "adj_eps_0" in noise:
            steps = self.agent.run.flow_steps
            noise["adj_eps"] = torch.stack([noise.pop(f"adj_eps_{i}") for i in range(steps)], 1)
        return noise


Pairs = dict[str, list[tuple[np.ndarray, np.ndarray]]]


def relative_difference(pairs: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """max|a - b| / max(max|b|, 1e-12), the worst over the arrays of one quantity."""
    return max(float(np.abs(ours - theirs).max() / max(np.abs(theirs).max(), 1e-12)) for ours, theirs in pairs)


def replay(path: str | Path) -> Pairs:
    """Runs the file's updates; every quantity as pairs (ours, the reference's), by name."""
    golden = Golden(path)
    agent, state, arrays = golden.agent, golden.state, golden.arrays
    pairs: Pairs = {}

    def record(name: str, ours: Tensor, theirs: np.ndarray) -> None:
        pairs.setdefault(name, []).append((ours.detach().double().numpy().copy(), np.asarray(theirs, np.float64)))

    if not golden.meta["config"].get("bc_only"):  # the reference acts with a field that cloning has not trained
        actions = agent.act(state, golden.tensor("act/observations"), golden.tensor("act/noise")[:, :, 0])
        record("act/actions", actions[0], arrays["act/actions"])
    if "step1/adj/xs" in arrays:
        with torch.no_grad():
            states, adjoints, _ = agent.sample_adjoints(state, golden.batch(0)["observations"], golden.noise(0))
            target = agent.td_target(state, golden.batch(0), golden.noise(0))
        record("step1/xs", states[:-1, 0], arrays["step1/adj/xs"])
        record("step1/adjs", adjoints[:, 0], arrays["step1/adj/adjs"])
        record("step1/target_q", target[0], arrays["step1/inter/target_q"])
    loss, _ = agent.losses(state, golden.batch(0), golden.noise(0))
    names = [name for name, _ in state.named() if name.startswith("online/")]
    for name, gradient in zip(names, torch.autograd.grad(loss.sum(), leaves(state.online)), strict=True):
        record("step1/gradients", gradient[0], arrays[f"step1/grads/{golden.reference_name(name)}"])
    for update in range(golden.updates):
        metrics = agent.update(state, golden.batch(update), golden.noise(update))
        for theirs, ours in METRICS.items():
            if f"info/{theirs}" in arrays and ours in metrics:
                record(f"info/{ours}", metrics[ours][0], arrays[f"info/{theirs}"][update])
        record("info/gradient_norm", metrics["gradient_norm"][0], arrays["info_extra/grad_global_norm"][update])
        if "traj/lam" in arrays:
            record("dual/multiplier", state.dual.multiplier[0], arrays["traj/lam"][update])
            record("dual/kl_ema", state.dual.kl_ema[0], arrays["traj/kl_ema"][update])
        for group, theirs in PARAMETER_GROUPS.items():
            for name, tensor in state.named():
                own = name.replace(group, "online") if "moment" in group else name
                key = f"step{update + 1}/{theirs}/{golden.reference_name(own)}" if name.startswith(f"{group}/") else ""
                if key in arrays:
                    record(f"step{update + 1}/{theirs}", tensor[0], arrays[key])
    return pairs


def compare(path: str | Path) -> dict[str, float]:
    """The worst relative difference of every quantity in the file, by name."""
    return {name: relative_difference(found) for name, found in replay(path).items()}
