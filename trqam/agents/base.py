"""What every agent shares: initial state, one update, and how noise is named."""

import numpy as np
import torch
from torch import Tensor

from trqam.config import Run, agent_parameters
from trqam.dual import DualState
from trqam.networks import MLP, Critic, VelocityField
from trqam.replicas import State, adam_step, clip_per_replica, leaves, polyak, replica_norm
from trqam.streams import stream

Tensors = dict[str, Tensor]


class Agent:
    """An agent is its networks, its losses and how it acts; this class does backward, clip, step and average.

    Subclasses set `targets` (networks with a moving average), `clip_gradient` and `initial_multiplier`, and define
    `networks`, `noise_shapes`, `losses` and `act`; `dual_step` only where there is a multiplier to learn.
    """

    targets: tuple[str, ...] = ()
    clip_gradient = True
    initial_multiplier = 1.0

    def __init__(self, run: Run, observation_size: int, action_size: int):
        self.run = run
        self.parameters = agent_parameters(run.agent, run.parameters, {}, run.method)
        self.observation_size = observation_size
        self.chunk_size = run.horizon * action_size  # D
        self.hidden = (run.hidden_width,) * run.hidden_layers
        self.networks = self.build_networks()

    def build_networks(self) -> dict[str, MLP]:
        """Name to shape of every trained network."""
        raise NotImplementedError

    def noise_shapes(self, batch: int) -> dict[str, tuple[int, ...]]:
        """Name to shape (of one replica) of the noise of one update; names ending in "_t" are uniform, others
        normal."""
        raise NotImplementedError

    def losses(self, state: State, batch: Tensors, noise: Tensors) -> tuple[Tensor, Tensors]:
        """The total loss [R] with its graph, and detached metrics [R] to log."""
        raise NotImplementedError

    def act(self, state: State, observations: Tensor, noise: Tensor) -> Tensor:
        """Action chunks [R, S, D] in [-1, 1] for observations [R, S, O] and noise [R, S, D]."""
        raise NotImplementedError

    def dual_step(self, state: State, metrics: Tensors) -> DualState:
        """The dual state after the update; unchanged for agents without a multiplier."""
        return state.dual

    def initialise(self, seed: int, pretrained: Tensors | None) -> Tensors:
        """One replica's tensors: random networks, or the pretrained field wherever an agent starts from it."""
        tensors: Tensors = {}
        for network, shape in self.networks.items():
            values = {
                k: torch.from_numpy(v) for k, v in shape.initialise(stream(seed, f"initialise/{network}")).items()
            }
            if pretrained is not None and network in ("base", "finetuned"):
                values = {k: pretrained[k].clone() for k in values}
            tensors |= {f"online/{network}/{k}": v for k, v in values.items()}
        for network in self.targets:
            prefix = f"online/{network}/"
            tensors |= {f"target/{network}/{k[len(prefix) :]}": v for k, v in tensors.items() if k.startswith(prefix)}
        online = {k.removeprefix("online/"): v for k, v in tensors.items() if k.startswith("online/")}
        for moment in ("first_moment", "second_moment"):
            tensors |= {f"{moment}/{k}": torch.zeros_like(v) for k, v in online.items()}
        tensors["dual/multiplier"] = torch.tensor(float(self.initial_multiplier))
        tensors["dual/kl_ema"] = torch.tensor(0.0)
        tensors["step"] = torch.tensor(0.0)
        return tensors

    def draw_noise(self, seeds: list[int], purpose: str, step: int, batch: int) -> Tensors:
        """The noise of one update, [R, ...] float32: each replica's from its own stream, whatever its neighbours."""
        shapes = self.noise_shapes(batch)
        draws = []
        for seed in seeds:
            rng = stream(seed, purpose, step)
            draws.append({k: _draw(rng, k, shape) for k, shape in shapes.items()})
        return {k: torch.from_numpy(np.stack([d[k] for d in draws])) for k in shapes}

    def update(self, state: State, batch: Tensors, noise: Tensors) -> Tensors:
        """One gradient step on the total loss, in place; returns metrics [R], detached.

        Targets move towards the parameters from *before* the gradient step, as in the authors' code.
        """
        loss, metrics = self.losses(state, batch, noise)
        gradients = list(torch.autograd.grad(loss.sum(), leaves(state.online)))
        with torch.no_grad():
            norm = replica_norm(gradients)
            if self.clip_gradient:
                clip_per_replica(gradients, norm)
            polyak(state.target, state.online, self.run.target_rate)
            adam_step(state, gradients, self.run.learning_rate)
            state.dual = self.dual_step(state, metrics)
        return {**metrics, "loss": loss.detach(), "gradient_norm": norm, **state.dual._asdict()}

    def field(self, parameters: Tensors) -> VelocityField:
        """A velocity field of this agent's shape."""
        return VelocityField(self.networks["base"], parameters)

    def critic(self, parameters: Tensors) -> Critic:
        """The critic ensemble with these parameters."""
        return Critic(self.networks["critic"], parameters)

    def field_network(self) -> MLP:
        """The shape of v(s, x, t)."""
        sizes = (self.observation_size + self.chunk_size + 1, *self.hidden, self.chunk_size)
        return MLP(sizes, self.run.actor_layer_norm)

    def critic_network(self) -> MLP:
        """The shape of the ensemble Q_k(s, a); critics always have LayerNorm."""
        return MLP((self.observation_size + self.chunk_size, *self.hidden, 1), True, self.run.critics)


def _draw(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> np.ndarray:
    if name.endswith("_t"):
        return rng.random(shape, np.float32)
    return rng.standard_normal(shape, np.float32)
