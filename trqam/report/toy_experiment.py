"""QAM and TRQAM on a bandit with actions in a plane: the real agents and networks, where the truth can be looked at.

    data         pi_base(a): three narrow modes; a few of its actions have a reward r(a) + noise, and the critic sees
                 no others, so that it errs wherever there are no data
    true return  r(a) = max_k height_k exp(-|a - mode_k|^2 / (2 width^2)): no mode is worth as much as the best one,
                 and nothing away from the modes is worth anything

Nothing follows an action (every mask is 0), so that the critic regresses to rewards alone. All settings of a method
and all seeds are one stack, in which every setting of a seed sees the same data, batches and noise.
"""

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pandas as pd
import torch
from torch import Tensor

from trqam.agents.base import Agent, Tensors
from trqam.agents.behaviour_cloning import BehaviourCloning
from trqam.agents.qam import QAM
from trqam.agents.trqam import TRQAM
from trqam.config.schema import Run
from trqam.maths.streams import stream
from trqam.networks.replicas import State, assemble
from trqam.report.theory_experiments import DUAL, KL_CLIP, MULTIPLIER_SCALE
from trqam.training.batches import draw_noise

MODES = np.array([[-0.55, -0.35], [0.0, 0.55], [0.55, -0.35]])
HEIGHTS, WIDTH = np.array([0.3, 0.6, 1.0]), 0.18  # of the true return at the modes
SPREAD = 0.07  # standard deviation of a mode of the data
REWARDED, NOISE = 64, 0.5  # actions with a reward, and the standard deviation of its noise
CLONING_STEPS, STEPS = 1500, 400
LAST = 50  # updates over which the path KL is averaged
SAMPLES = 300  # actions of a policy, by which it is judged
ONCE = ("pretrain_steps", "offline_steps", "online_steps", "online_start", "checkpoint_interval", "log_interval",
        "eval_interval", "eval_episodes", "eval_environments")  # no update reads these  # fmt: skip
SETTINGS: dict[str, Any] = dict.fromkeys(ONCE, 1) | {
    "task": "toy", "domain": "toy", "method": "toy", "agent": "behaviour_cloning", "parameters": {},
    "horizon": 1, "discount": 0.9, "pessimism": 0.5, "normalise_observations": False, "kl_budget_online": None,
    "data_source": "generated", "transitions": REWARDED, "data_seed": 0, "sampling": "uniform",
    "batch_size": 32, "learning_rate": 3e-3, "target_rate": 0.02, "flow_steps": 5, "critics": 2,
    "hidden_width": 32, "hidden_layers": 2, "actor_layer_norm": False,
}  # fmt: skip
RUN = Run(**SETTINGS)
OF_TRQAM = {
    "clip_adjoint": True, "initial_multiplier": 1.0, "multiplier_scale": MULTIPLIER_SCALE, "kl_budget": 1.0,
    "dual_rate": 0.03, "kl_ema_rate": DUAL["ema_rate"], "kl_clip": KL_CLIP,  # three times as fast: few steps
    "multiplier_min": DUAL["bounds"][0], "multiplier_max": DUAL["bounds"][1],
}  # fmt: skip


def data(rng: np.random.Generator, number: int) -> np.ndarray:
    """Actions [number, 2] of pi_base."""
    return np.clip(MODES[rng.integers(len(MODES), size=number)] + SPREAD * rng.standard_normal((number, 2)), -1, 1)


def true_return(actions: np.ndarray) -> np.ndarray:
    """r(a) [...] of actions [..., 2]; 1 at the best mode."""
    distance = np.square(actions[..., None, :] - MODES).sum(-1)
    return (HEIGHTS * np.exp(-distance / (2 * WIDTH**2))).max(-1)


class Policies(NamedTuple):
    """What training came to, for each setting and seed: ``actions`` [settings, seeds, samples, 2], ``path_kl`` in nats
    [settings, seeds], and ``value``, what the first seed's critic of the first setting says of actions [N, 2]."""

    actions: np.ndarray
    path_kl: np.ndarray
    value: Callable[[np.ndarray], np.ndarray] | None


class Toy:
    """Rewarded actions and cloned fields of ``seeds``, the same for every method."""

    def __init__(self, seeds: Sequence[int]):
        self.seeds = list(seeds)
        rngs = [stream(seed, "toy/data") for seed in self.seeds]
        self.rewarded = np.stack([data(rng, REWARDED) for rng in rngs])
        errors = np.stack([NOISE * rng.standard_normal(REWARDED) for rng in rngs])
        self.rewards = true_return(self.rewarded) + errors
        self._agent = BehaviourCloning(RUN, 0, 2)
        self._state = assemble([self._agent.initialise(seed, None) for seed in self.seeds])
        rngs = [stream(seed, "toy/cloning") for seed in self.seeds]
        for step in range(CLONING_STEPS):
            actions = np.stack([data(rng, RUN.batch_size) for rng in rngs])
            noise = draw_noise(self._agent, self.seeds, "toy/cloning/noise", step)
            self._agent.update(self._state, _batch(actions, np.zeros(actions.shape[:2])), noise)

    def cloned(self) -> Policies:
        """The cloned policies: one setting, at no distance from themselves, and without a value."""
        return Policies(_acted(self._agent, self._state, 1)[None], np.zeros((1, len(self.seeds))), None)

    def qam(self, temperatures: Sequence[float]) -> Policies:
        """QAM at some inverse temperatures."""
        own = torch.tensor(temperatures).repeat_interleave(len(self.seeds))[:, None, None]
        run = _run("qam", {"inverse_temperature": 1.0, "clip_adjoint": True})
        return self._trained(QAM(run, 0, 2, inverse_temperature=lambda: own), len(temperatures))

    def trqam(self, budgets: Sequence[float]) -> Policies:
        """TRQAM with some budgets, in nats."""
        agent = TRQAM(_run("trqam", OF_TRQAM), 0, 2)
        own = torch.tensor(budgets).repeat_interleave(len(self.seeds))
        agent.parameters = SimpleNamespace(**msgspec.structs.asdict(agent.parameters) | {"kl_budget": own})
        return self._trained(agent, len(budgets))

    def _trained(self, agent: Any, settings: int) -> Policies:
        fields = [_cloned_field(self._state, index) for index in range(len(self.seeds))]
        begun = [agent.initialise(seed, field) for seed, field in zip(self.seeds, fields, strict=True)]
        state = assemble(begun * settings)
        rngs = [stream(seed, "toy/training") for seed in self.seeds]
        rows, path_kl = np.arange(len(self.seeds))[:, None], []
        for step in range(STEPS):
            chosen = np.stack([rng.integers(REWARDED, size=RUN.batch_size) for rng in rngs])
            batch = _batch(self.rewarded[rows, chosen], self.rewards[rows, chosen])
            noise = draw_noise(agent, self.seeds, "toy/training/noise", step)
            stacked = ({name: torch.cat([part] * settings) for name, part in parts.items()} for parts in (batch, noise))
            path_kl.append(agent.update(state, *stacked)["path_kl"])
        networks = {name: tensor[:1] for name, tensor in state.online["critic"].items()}

        def value(actions: np.ndarray) -> np.ndarray:
            given = torch.from_numpy(actions.astype(np.float32))[None]
            return agent.critic(networks)(given[..., :0], given).mean(1)[0].detach().numpy()

        acted = _acted(agent, state, settings)
        return Policies(
            acted.reshape(settings, len(self.seeds), SAMPLES, 2),
            torch.stack(path_kl[-LAST:]).mean(0).numpy().reshape(settings, len(self.seeds)),
            value,
        )


def table(policies: Policies, settings: Sequence[float]) -> pd.DataFrame:
    """A row a setting and seed: ``setting``, ``seed`` (its place), ``return`` (the true one) and ``path_kl`` (nats)."""
    returns = true_return(policies.actions).mean(-1)
    grid = pd.MultiIndex.from_product([settings, range(returns.shape[1])], names=["setting", "seed"])
    columns = {"return": returns.reshape(-1), "path_kl": policies.path_kl.reshape(-1)}
    return pd.DataFrame(columns, index=grid).reset_index()


def _run(agent: str, parameters: dict[str, Any]) -> Run:
    return msgspec.structs.replace(RUN, agent=agent, parameters=parameters)


def _cloned_field(state: State, index: int) -> Tensors:
    """One seed's parameters, by name."""
    prefix = "online/base/"
    return {name[len(prefix) :]: t for name, t in state.replica(index).items() if name.startswith(prefix)}


def _batch(actions: np.ndarray, rewards: np.ndarray) -> Tensors:
    """Of actions [R, B, 2] and rewards [R, B]: no observation, and nothing follows."""
    given, seen = torch.from_numpy(actions.astype(np.float32)), torch.from_numpy(rewards.astype(np.float32))
    nothing = given[..., :0]
    parts = {"observations": nothing, "next_observations": nothing, "actions": given, "rewards": seen}
    return {**parts, "masks": torch.zeros_like(seen), "valid": torch.ones_like(seen)}


def _acted(agent: Agent, state: State, settings: int) -> np.ndarray:
    """Actions [R, samples, 2] from noise that is the same for every setting."""
    replicas = len(state.dual.multiplier)
    draw = stream(0, "toy/acting").standard_normal((replicas // settings, SAMPLES, agent.noise_size), np.float32)
    noise = torch.from_numpy(draw).repeat(settings, 1, 1)
    given: Tensor = noise[..., :0]
    return agent.act(state, given, noise).detach().numpy()
