"""Q-learning with Adjoint Matching (QAM; Li & Levine, arXiv 2601.14234).

A critic, the behaviour-cloned base field, and a fine-tuned field that adjoint matching moves towards
pi ~ pi_base exp(inverse_temperature * Q): the temperature is fixed, which is what TRQAM replaces.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from trqam.agents.base import ActorCritic, Network, Tensors
from trqam.maths.adjoint import adjoint_matching_loss, lean_adjoint, path_kl, terminal_adjoint
from trqam.maths.sde import memoryless_schedule, sample_trajectory, time_grid
from trqam.networks.mlp import RecordedField, along_path
from trqam.networks.replicas import State


class AdjointSamples(NamedTuple):
    """What adjoint matching regresses on: K states and adjoints [K, R, B, D], squared diffusions g^2 [K], the end of
    the path and the adjoint there [R, B, D], and the velocities at the states: v_base [K, R, B, D], v_ft as recorded.
    """

    states: Tensor
    adjoints: Tensor
    g2: Tensor
    end: Tensor
    terminal: Tensor
    v_base: Tensor
    finetuned: RecordedField

    def difference(self) -> Tensor:
        """dv = v_ft - v_base at the states, [K, R, B, D], with gradient to the fine-tuned field alone."""
        steps, replicas, batch, size = self.states.shape
        return self.finetuned.velocities().view(replicas, steps, batch, size).transpose(0, 1) - self.v_base


class QAM(ActorCritic):
    """L_Q + L_BC + L_AM, one optimiser over all three networks."""

    targets = ("critic", "base")
    proposes_with: tuple[str, ...] = ("online/finetuned",)
    gradient_critic = "target"  # which copy of the critic the terminal adjoint is the gradient of

    def build_networks(self) -> dict[str, Network]:
        """Critic ensemble, base and fine-tuned velocity fields."""
        return {**super().build_networks(), "finetuned": self.field_network()}

    def noise_shapes(self, batch: int) -> dict[str, tuple[int, ...]]:
        """Next action, interpolant, and the SDE's start and increments."""
        chunk = (batch, self.chunk_size)
        return {**super().noise_shapes(batch), "adj_x0": chunk, "adj_eps": (self.run.flow_steps, *chunk)}

    def inverse_temperature(self) -> float:
        """What multiplies Q in the terminal adjoint."""
        return self.parameters.inverse_temperature

    def effective_multiplier(self, state: State) -> Tensor:
        """lambda_eff [R], which the SDE's sigma = g / sqrt(lambda_eff) sees; 1 for QAM."""
        return torch.ones_like(state.dual.multiplier)

    def policy_loss(self, state: State, batch: Tensors, noise: Tensors) -> tuple[Tensor, Tensors]:
        """L_AM, on paths from every observation, valid chunk or not."""
        s = batch["observations"]
        samples = self.sample_adjoints(state, s, noise)
        loss, _, metrics = self.adjoint_matching(state, samples)
        with torch.no_grad():
            return loss, metrics | self.measured(state, s, samples, noise)

    def measured(self, state: State, s: Tensor, samples: AdjointSamples, noise: Tensors) -> Tensors:
        """Metrics [R] beside those of adjoint matching, without gradient, from the ``samples`` at observations ``s``
        and the ``noise`` that they were made with; a form of TRQAM says here what its dual step reads. None here."""
        return {}

    def adjoint_matching(self, state: State, samples: AdjointSamples) -> tuple[Tensor, Tensor, Tensors]:
        """L_AM [R], the path KL [R], and metrics; gradient through the fine-tuned field alone."""
        dv = samples.difference()
        loss = adjoint_matching_loss(dv, samples.adjoints, samples.g2, self.effective_multiplier(state))
        kl = path_kl(dv, samples.g2, self.chunk)
        norm = samples.terminal.norm(dim=-1).mean(-1)
        return loss, kl, {"adjoint_loss": loss, "path_kl": kl, "adjoint_norm": norm}

    @torch.no_grad()
    def sample_adjoints(self, state: State, s: Tensor, noise: Tensors) -> AdjointSamples:
        """Memoryless paths of the fine-tuned field and their lean adjoints under the base field.

        The roll-out has asked for v_ft at all states but the last, and for v_base at the last: neither asks again.
        """
        base, finetuned = self.reference_field(state), RecordedField(self.field(state.online["finetuned"]))
        steps, between = self.run.flow_steps, self.interpolant
        t, g2 = memoryless_schedule(steps, s, between)
        path, v_last = sample_trajectory(finetuned, base, s, noise["adj_x0"], noise["adj_eps"].transpose(0, 1), between)
        finetuned(s, path[-2], 1 - 1 / steps)
        v_base = torch.cat([along_path(base, s, path[:-2], t[:-1]), v_last[None]])
        terminal = self.terminal_adjoint(state, s, path[-1])
        pull = base.pullback(s, path[:-1], between.adjoint_time(time_grid(steps, s, first=1), 1 / steps))
        adjoints = lean_adjoint(pull, terminal, steps, between)
        return AdjointSamples(path[:-1], adjoints, g2, path[-1], terminal, v_base, finetuned)

    def terminal_adjoint(self, state: State, s: Tensor, x: Tensor) -> Tensor:
        """-inverse_temperature * grad_x mean_k Q_k(s, clip(x))."""
        critic = self.critic(getattr(state, self.gradient_critic)["critic"])
        gradient = terminal_adjoint(lambda a: critic(s, a).mean(1), x, self.parameters.clip_adjoint)
        return self.inverse_temperature() * gradient

    def propose(self, state: State, s: Tensor, noise: Tensor) -> Tensor:
        """The end point of the fine-tuned flow."""
        return self.flow_action(self.field(state.online["finetuned"]), s, noise)


AGENT = QAM
