"""Q-learning with Adjoint Matching (QAM; Li & Levine, arXiv 2601.14234).

A critic, the behaviour-cloned base field, and a fine-tuned field that adjoint matching moves towards
pi ~ pi_base exp(inverse_temperature * Q): the temperature is fixed, which is what TRQAM replaces.
"""

import torch
from torch import Tensor

from trqam.adjoint import adjoint_matching_loss, along_path, lean_adjoint, path_kl, terminal_adjoint
from trqam.agents.base import Agent, Tensors
from trqam.config import Strict
from trqam.flow import euler, flow_matching_loss
from trqam.networks import MLP
from trqam.replicas import State
from trqam.sde import memoryless_schedule, sample_trajectory
from trqam.td import critic_loss, pessimistic_value, td_target


class Parameters(Strict):
    """QAM's hyper-parameters."""

    inverse_temperature: float
    clip_adjoint: bool


class QAM(Agent):
    """L_Q + L_BC + L_AM, one optimiser over all three networks."""

    targets = ("critic", "base")

    def build_networks(self) -> dict[str, MLP]:
        """Critic ensemble, base and fine-tuned velocity fields."""
        return {"critic": self.critic_network(), "base": self.field_network(), "finetuned": self.field_network()}

    def noise_shapes(self, batch: int) -> dict[str, tuple[int, ...]]:
        """Next action, interpolant, and the SDE's start and increments."""
        chunk = (batch, self.chunk_size)
        shapes = {"next_action_noise": chunk, "bc_x0": chunk, "bc_t": (batch, 1), "adj_x0": chunk}
        return {**shapes, "adj_eps": (self.run.flow_steps, *chunk)}

    def inverse_temperature(self) -> float:
        """What multiplies Q in the terminal adjoint."""
        return self.parameters.inverse_temperature

    def effective_multiplier(self, state: State) -> Tensor:
        """lambda_eff [R], which the SDE's sigma = g / sqrt(lambda_eff) sees; 1 for QAM."""
        return state.dual.multiplier

    def losses(self, state: State, batch: Tensors, noise: Tensors) -> tuple[Tensor, Tensors]:
        """L_Q + L_BC + L_AM."""
        s, a, valid = batch["observations"], batch["actions"], batch["valid"]
        q = self.critic(state.online["critic"])(s, a)
        critic = critic_loss(q, self.td_target(state, batch, noise), valid)
        base = self.field(state.online["base"])
        flow = flow_matching_loss(base, s, a, noise["bc_x0"], noise["bc_t"], valid)
        adjoint, metrics = self.adjoint_matching(state, s, noise)
        metrics |= {"critic_loss": critic, "flow_loss": flow, "adjoint_loss": adjoint}
        metrics |= {"q_mean": q.mean((1, 2)), "q_min": q.amin((1, 2)), "q_max": q.amax((1, 2))}
        return critic + flow + adjoint, {k: v.detach() for k, v in metrics.items()}

    @torch.no_grad()
    def td_target(self, state: State, batch: Tensors, noise: Tensors) -> Tensor:
        """The critic's target y [R, B]; the next chunk is the fine-tuned policy's."""
        following = batch["next_observations"]
        q = self.critic(state.target["critic"])(following, self.act(state, following, noise["next_action_noise"]))
        value = pessimistic_value(q, self.run.pessimism)
        return td_target(batch["rewards"], batch["masks"], value, self.run.discount, self.run.horizon)

    def adjoint_matching(self, state: State, s: Tensor, noise: Tensors) -> tuple[Tensor, Tensors]:
        """L_AM [R] and its metrics; gradient through the fine-tuned field alone."""
        finetuned, reference = self.field(state.online["finetuned"]), self.field(state.target["base"])
        with torch.no_grad():
            path, adjoints, terminal = self.sample_adjoints(state, s, noise)
            t, g2 = memoryless_schedule(self.run.flow_steps, s)
            v_base = along_path(reference, s, path[:-1], t)
        dv = along_path(finetuned, s, path[:-1], t) - v_base
        loss = adjoint_matching_loss(dv, adjoints, g2, self.effective_multiplier(state))
        kl = path_kl(dv.detach(), g2, self.run.horizon)
        return loss, {"path_kl": kl, "adjoint_norm": terminal.norm(dim=-1).mean(-1)}

    def sample_adjoints(self, state: State, s: Tensor, noise: Tensors) -> tuple[Tensor, Tensor, Tensor]:
        """States X_0..X_K, lean adjoints adj_0..adj_{K-1} and the terminal adjoint; call without gradient."""
        finetuned, reference = self.field(state.online["finetuned"]), self.field(state.target["base"])
        path = sample_trajectory(finetuned, reference, s, noise["adj_x0"], noise["adj_eps"].transpose(0, 1))
        critic = self.critic(state.target["critic"])
        terminal = terminal_adjoint(lambda x: critic(s, x).mean(1), path[-1], self.parameters.clip_adjoint)
        terminal = self.inverse_temperature() * terminal
        return path, lean_adjoint(reference, s, path, terminal), terminal

    @torch.no_grad()
    def act(self, state: State, observations: Tensor, noise: Tensor) -> Tensor:
        """The end point of the fine-tuned flow, clipped to the action box."""
        return euler(self.field(state.online["finetuned"]), observations, noise, self.run.flow_steps).clamp(-1, 1)


AGENT = QAM
