"""Diffusion steering by reinforcement learning (DSRL; Wagenmaker et al., arXiv 2506.15799), on a flow.

A tanh-Gaussian policy chooses the noise w = noise_scale * tanh(u) from which the cloned flow starts. It climbs a critic
on noise, distilled from the critic on actions:

    mean_{k,B} (Q^z_k(s, z) - Q_k(s, clip(ODE(s, z))))^2,  z ~ N(0, I)
    mean (alpha log pi - mean_k Q^z_k(s, w)),  alpha tuned to the target entropy; pi is the density of tanh(u)
"""

import torch
from torch import Tensor

from trqam.agents.base import ActorCritic, Network, Tensors, entropy_terms
from trqam.networks.mlp import Critic, LogScalar, frozen
from trqam.networks.replicas import State


class DSRL(ActorCritic):
    """L_Q + L_BC + distillation in noise space + a soft actor's losses there."""

    targets = ("critic", "base")
    clip_gradient = False
    proposes_with = ("target/base", "online/noise_policy")

    def build_networks(self) -> dict[str, Network]:
        """Critics on actions and on noise, base field, noise policy and its temperature."""
        noise = {"noise_critic": self.critic_network(), "noise_policy": self.gaussian_network(self.observation_size)}
        return {**super().build_networks(), **noise, "temperature": LogScalar()}

    def noise_shapes(self, batch: int) -> dict[str, tuple[int, ...]]:
        """What the noise critic is distilled on, and the policy's own."""
        chunk = (batch, self.chunk_size)
        return {**super().noise_shapes(batch), "distill_noise": chunk, "latent_eps": chunk}

    def policy_loss(self, state: State, batch: Tensors, noise: Tensors) -> tuple[Tensor, Tensors]:
        """Distillation of the noise critic, actor and temperature."""
        s, z, online = batch["observations"], noise["distill_noise"], state.online
        with torch.no_grad():
            q = self.critic(online["critic"])(s, self.flow_action(self.reference_field(state), s, z))
        noise_critic = Critic(self.networks["noise_critic"], online["noise_critic"])
        distill = (noise_critic(s, z) - q).square().mean((1, 2))
        latent, log_prob = self.steer(state, s, noise["latent_eps"])
        value = Critic(self.networks["noise_critic"], frozen(online["noise_critic"]))(s, latent).mean((1, 2))
        target = self.parameters.entropy_per_dimension * self.chunk_size
        bonus, temperature, metrics = entropy_terms(online["temperature"]["log"], log_prob, target)
        actor = bonus - value
        return distill + actor + temperature, {**metrics, "actor_loss": actor, "distill_loss": distill}

    def steer(self, state: State, s: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """The flow's initial noise [R, B, D] and the log-density [R, B] of the policy behind it."""
        sample, log_prob = self.networks["noise_policy"].sample(state.online["noise_policy"], s, noise)
        return self.parameters.noise_scale * sample, log_prob

    def propose(self, state: State, s: Tensor, noise: Tensor) -> Tensor:
        """The end point of the cloned flow from the policy's noise."""
        return self.flow_action(self.reference_field(state), s, self.steer(state, s, noise)[0])


AGENT = DSRL
