"""What agents share: initial state, one update, the losses of the critic and of the cloned flow."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from trqam.config.load import Run, agent_parameters
from trqam.config.parameters import policy_of
from trqam.maths.flow import Field, euler, flow_matching_loss
from trqam.maths.interpolants import FLOW, VARIANCE_PRESERVING, Interpolant
from trqam.maths.streams import stream
from trqam.maths.td import critic_loss, pessimistic_value, td_target
from trqam.networks.mlp import MLP, Critic, Denoiser, TanhGaussian, VelocityField
from trqam.networks.replicas import State, adam_step, clip_per_replica, leaves, polyak, replica_norm

Tensors = dict[str, Tensor]
Network = Any  # MLP, TanhGaussian or LogScalar: a method knows which of its names is which
INTERPOLANTS: dict[str, Interpolant] = {"flow": FLOW, "diffusion": VARIANCE_PRESERVING}  # by what a policy is


class Agent:
    """An agent is its networks, its losses and how it acts; this class does backward, clip, step and average.

    Subclasses set `targets` (networks with a moving average), `acts_with` and `clip_gradient`, and define
    `build_networks`, `noise_shapes`, `losses` and `act`; `dual_step` only where there is a multiplier to learn.
    `ActorCritic` does most of that for a method with a critic. docs/library.md shows a whole agent.

    The first axis of every tensor is the replica's: R seeds of one stack, which must not touch each other, so no sum,
    mean, norm or maximum may run over it.

    * ``batch``: observations and next_observations [R, B, O]; actions [R, B, D] with D = H A; rewards (discounted sum
      of the chunk), masks (0 where the task ended) and valid (0 where the chunk leaves its episode), each [R, B].
    * ``noise``: what `noise_shapes` asked for, [R, *shape]. It is all the chance that an update may use.
    * ``state.online[network]``: parameters by name, [R, ...], with gradient; ``state.target`` has those of `targets`.
      Every network must take part in the loss, for each is differentiated.
    * ``state.step``: Adam's count, one float32 tensor [] for the whole stack: updates that this learner has made, 0 in
      the first call of `losses`. Online it goes on from the offline stage; pretraining's updates do not count.
    * metrics: a dict of [R] tensors, of the same names in every update. The trainer averages each over a logging
      interval; a seed of which one is not finite has diverged. Each is a column of the csv files: those that
      `trqam.experiment.published.METRICS` names in every method's, the others behind them in this one's.

    An update may be captured (`trqam.networks.capture`): `losses` changes nothing and looks at no value (no `item`, no
    `if` on one); what changes the state, in place, belongs in `dual_step`. Override these, and not `update`.
    """

    targets: tuple[str, ...] = ()
    clip_gradient = True
    initial_multiplier = 1.0
    samples = 1  # proposals for an action, of which the critic picks one
    chunked = True  # False: one action at a time, though returns still span the horizon
    critic_layer_norm = True
    reference = "target"  # which copy of the cloned field a method leans on: its moving average, or "online"

    def __init__(self, run: Run, observation_size: int, action_size: int, **switches):
        """``switches`` replace attributes: options that only the authors' reference numbers use."""
        self.run = run
        self.parameters: Any = agent_parameters(run.agent, run.parameters, {}, run.method)  # trqam.config.parameters
        self.observation_size = observation_size
        self.actor_hidden = self.critic_hidden = (run.hidden_width,) * run.hidden_layers
        self.interpolant = INTERPOLANTS[policy_of(run.agent)]  # between noise and action
        vars(self).update(switches)
        self.chunk = run.horizon if self.chunked else 1
        self.chunk_size = self.chunk * action_size  # D
        self.networks = self.build_networks()

    @property
    def acts_with(self) -> tuple[str, ...]:
        """What `act` reads, such as "online/base", and `keep: policy` keeps; a method may set it as an attribute."""
        raise NotImplementedError

    @property
    def noise_size(self) -> int:
        """How many normal numbers one action chunk takes."""
        return self.samples * self.chunk_size

    def build_networks(self) -> dict[str, Network]:
        """Name to shape of every trained network."""
        raise NotImplementedError

    def noise_shapes(self, batch: int) -> dict[str, tuple[int, ...]]:
        """Name to shape (of one replica) of the noise of one update; names ending in "_t" are uniform, others
        normal. Here: noise and time of the flow-matching interpolant."""
        return {"bc_x0": (batch, self.chunk_size), "bc_t": (batch, 1)}

    def losses(self, state: State, batch: Tensors, noise: Tensors) -> tuple[Tensor, Tensors]:
        """The total loss [R] with its graph, and metrics, [R] each, to log: see the class."""
        raise NotImplementedError

    def act(self, state: State, observations: Tensor, noise: Tensor) -> Tensor:
        """Action chunks [R, S, D] in [-1, 1] for observations [R, S, O] and noise [R, S, noise_size]."""
        raise NotImplementedError

    def dual_step(self, state: State, metrics: Tensors) -> Tensors:
        """Moves the multiplier [R] of agents that have one, in place, and returns the dual state, [R] each, to log.

        Called after the gradient step, without gradient; ``metrics`` are those of `losses`, detached.
        """
        return {}

    def initialise(self, seed: int, pretrained: Tensors | None) -> Tensors:
        """One replica's tensors: random networks, or the pretrained field wherever an agent starts from it.

        Without a pretrained field `base` and `finetuned` are drawn independently, as in the authors' code.
        """
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

    def acting_part(self, tensors: Tensors) -> Tensors:
        """Of one replica's ``tensors`` those that acting reads, with the step and the dual state."""
        prefixes = ("step", "dual/", *(f"{name}/" for name in self.acts_with))
        return {name: tensor for name, tensor in tensors.items() if name.startswith(prefixes)}

    def update(self, state: State, batch: Tensors, noise: Tensors) -> Tensors:
        """One gradient step on the total loss, in place; returns metrics, [R] each and detached: those of `losses`,
        loss, gradient_norm (before clipping), and what `dual_step` returns."""
        return self.descend(state, *self.gradients(state, batch, noise))

    def gradients(self, state: State, batch: Tensors, noise: Tensors) -> tuple[list[Tensor], Tensors]:
        """Of the total loss by all online parameters, in the order of `leaves`, and metrics: the loss, its parts, and
        the gradients' norm. Changes nothing."""
        loss, metrics = self.losses(state, batch, noise)
        gradients = list(torch.autograd.grad(loss.sum(), leaves(state.online)))
        metrics = {k: v.detach() for k, v in (metrics | {"loss": loss}).items()}
        return gradients, {**metrics, "gradient_norm": replica_norm(gradients)}

    @torch.no_grad()
    def descend(self, state: State, gradients: list[Tensor], metrics: Tensors) -> Tensors:
        """The step, in place, with what `gradients` gave; returns all metrics.

        Targets move towards the parameters from *before* the gradient step, as in the authors' code.
        """
        if self.clip_gradient:
            clip_per_replica(gradients, metrics["gradient_norm"])
        polyak(state.target, state.online, self.run.target_rate)
        adam_step(state, gradients, self.run.learning_rate)
        return {**metrics, **self.dual_step(state, metrics)}

    def flow_loss(self, state: State, batch: Tensors, noise: Tensors) -> Tensor:
        """L_BC [R] of the online base field."""
        s, a, valid = batch["observations"], batch["actions"], batch["valid"]
        field, x0, t = self.field(state.online["base"]), noise["bc_x0"], noise["bc_t"]
        return flow_matching_loss(field, s, a, x0, t, valid, self.interpolant)

    def flow_action(self, field: Field, s: Tensor, noise: Tensor) -> Tensor:
        """The end point of a flow started at ``noise`` [R, B, D], clipped to the action box."""
        return euler(field, s, noise, self.run.flow_steps, self.interpolant).clamp(-1, 1)

    def field(self, parameters: Tensors) -> VelocityField:
        """A velocity field of this agent's shape: the network's output, or that of a denoiser."""
        if self.interpolant is FLOW:
            return VelocityField(self.networks["base"], parameters)
        return Denoiser(self.networks["base"], parameters, self.interpolant)

    def reference_field(self, state: State) -> VelocityField:
        """The copy of the cloned field that a method leans on."""
        return self.field(getattr(state, self.reference)["base"])

    def field_network(self) -> MLP:
        """The shape of v(s, x, t)."""
        sizes = (self.observation_size + self.chunk_size + 1, *self.actor_hidden, self.chunk_size)
        return MLP(sizes, self.run.actor_layer_norm)

    def critic_network(self, inputs: int = 0) -> MLP:
        """The shape of the ensemble Q_k(s, a), or with ``inputs`` more; the experiment's critics have LayerNorm."""
        sizes = (self.observation_size + self.chunk_size + inputs, *self.critic_hidden, 1)
        return MLP(sizes, self.critic_layer_norm, self.run.critics)

    def gaussian_network(self, inputs: int) -> TanhGaussian:
        """The shape of a tanh-Gaussian policy over chunks, conditioned on ``inputs`` numbers."""
        return TanhGaussian((inputs, *self.actor_hidden, self.chunk_size), layer_norm=False)


class ActorCritic(Agent):
    """A critic ensemble, a behaviour-cloned flow and a policy between them: every method of the family.

    The loss is L_Q + L_BC + `policy_loss`. A method says what its policy proposes (`propose`), what trains it, and
    which networks and noise it adds; acting, best-of-n and the critic's target follow from that.
    """

    targets: tuple[str, ...] = ("critic",)
    proposes_with: tuple[str, ...]  # what `propose` reads, in the manner of `acts_with`

    @property
    def acts_with(self) -> tuple[str, ...]:
        """The policy's networks, and the critic that chooses among its proposals where there are several."""
        return self.proposes_with + ("online/critic",) * (self.samples > 1)

    def build_networks(self) -> dict[str, Network]:
        """Critic ensemble and base field."""
        return {"critic": self.critic_network(), "base": self.field_network()}

    def noise_shapes(self, batch: int) -> dict[str, tuple[int, ...]]:
        """The next action's noise, and the interpolant's."""
        return {"next_action_noise": (batch, self.noise_size), **super().noise_shapes(batch)}

    def policy_loss(self, state: State, batch: Tensors, noise: Tensors) -> tuple[Tensor, Tensors]:
        """What the method adds to L_Q + L_BC, [R] with its graph, and metrics, [R] each."""
        raise NotImplementedError

    def propose(self, state: State, s: Tensor, noise: Tensor) -> Tensor:
        """The policy's actions [R, B, D], not necessarily clipped, from the noise of one proposal a row."""
        raise NotImplementedError

    def losses(self, state: State, batch: Tensors, noise: Tensors) -> tuple[Tensor, Tensors]:
        """L_Q + L_BC + the method's own."""
        q = self.critic(state.online["critic"])(batch["observations"], batch["actions"])
        critic = critic_loss(q, self.td_target(state, batch, noise), batch["valid"])
        flow = self.flow_loss(state, batch, noise)
        policy, metrics = self.policy_loss(state, batch, noise)
        metrics |= {"critic_loss": critic, "flow_loss": flow}
        metrics |= {"q_mean": q.mean((1, 2)), "q_min": q.amin((1, 2)), "q_max": q.amax((1, 2))}
        return critic + flow + policy, metrics

    @torch.no_grad()
    def td_target(self, state: State, batch: Tensors, noise: Tensors) -> Tensor:
        """The critic's target y [R, B]."""
        value, rewards = self.next_value(state, batch["next_observations"], noise), batch["rewards"]
        if self.run.reward_scale != 1:
            rewards = self.run.reward_scale * rewards
        return td_target(rewards, batch["masks"], value, self.run.discount, self.run.horizon)

    def next_value(self, state: State, s: Tensor, noise: Tensors) -> Tensor:
        """The value [R, B] of what follows: the target critics' of the policy's action, with pessimism."""
        q = self.critic(state.target["critic"])(s, self.act(state, s, noise["next_action_noise"]))
        return pessimistic_value(q, self.run.pessimism)

    @torch.no_grad()
    def act(self, state: State, observations: Tensor, noise: Tensor) -> Tensor:
        """The best of `samples` proposals under the online critic, clipped to the action box."""
        s = observations.repeat_interleave(self.samples, 1)
        rows = noise.unflatten(-1, (self.samples, -1)).flatten(1, 2)
        actions = self.propose(state, s, rows).clamp(-1, 1)
        if self.samples == 1:
            return actions
        score = self.rank(self.critic(state.online["critic"])(s, actions)).unflatten(1, (-1, self.samples))
        best = score.argmax(-1)[:, :, None, None].expand(-1, -1, 1, actions.shape[-1])
        return actions.unflatten(1, (-1, self.samples)).gather(2, best).squeeze(2)

    def rank(self, q: Tensor) -> Tensor:
        """One number [R, B] from the ensemble's values [R, E, B], by which the best proposal is chosen."""
        return q.mean(1)

    def critic(self, parameters: Tensors) -> Callable[..., Tensor]:
        """The critic ensemble with these parameters, as a function of observations and actions."""
        return Critic(self.networks["critic"], parameters)


def entropy_terms(log_temperature: Tensor, log_prob: Tensor, target: float) -> tuple[Tensor, Tensor, Tensors]:
    """Soft actor-critic's terms (arXiv 1812.05905): mean(alpha_sg log pi) and alpha (entropy_sg - target), [R], and
    metrics, for log alpha [R, 1] and log pi [R, B]."""
    temperature, entropy = log_temperature.squeeze(-1).exp(), -log_prob.detach().mean(-1)
    bonus = temperature.detach() * log_prob.mean(-1)
    return bonus, temperature * (entropy - target), {"entropy": entropy, "temperature": temperature}
