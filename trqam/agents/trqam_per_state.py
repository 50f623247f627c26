"""TRQAM with a multiplier for each state: the budget holds state by state, and not on the average over states alone.

    L_AM at lambda_eff(s) = multiplier_scale * lambda(s),   and L_lambda, which trains the network behind lambda(s)
    f(s) = multiplier_gain * network(s)

trqam/maths/dual.py has lambda(s) as a function of f(s), the point that it is regressed to, and L_lambda. The tilt is
then pi(.|s) ~ pi_base(.|s) exp(Q(s, .) / lambda_eff(s)), whose temperature follows the critic's scale at each state.

Adam's steps have one size whatever the gradient, so that the gain and not dual_rate sets the pace of lambda(s). The
multipliers must be slower than the field that answers to them: with a gain of one they swing from bound to bound. A
state is judged by the one path that starts there, and kl_clip cuts single paths and not their mean: where the KL of
paths from one state varies, its mean settles somewhat above the budget.
"""

from torch import Tensor

from trqam.agents.base import Network, Tensors
from trqam.agents.trqam import TRQAM
from trqam.agents.trqam_scalar import over_states
from trqam.config.errors import UserError
from trqam.config.load import Run
from trqam.maths.adjoint import adjoint_matching_loss, path_kl_by_state
from trqam.maths.dual import bounded_multiplier, multiplier_loss, projected_point
from trqam.networks.mlp import FromZero
from trqam.networks.replicas import State


class TRQAMPerState(TRQAM):
    """The scalar of the dual state keeps its first value and is not read."""

    def __init__(self, run: Run, observation_size: int, action_size: int, **switches):
        super().__init__(run, observation_size, action_size, **switches)
        p = self.parameters
        self.bounds = (p.multiplier_min, p.multiplier_max)
        if not self.bounds[0] < p.initial_multiplier < self.bounds[1]:
            problem = f"{run.method}: initial_multiplier: {p.initial_multiplier:g} is not between the bounds"
            raise UserError(f"{problem}; set it above multiplier_min and below multiplier_max")

    def build_networks(self) -> dict[str, Network]:
        """QAM's, and a small one from observations to f(s)."""
        width = self.parameters.multiplier_width
        return {**super().build_networks(), "multiplier": FromZero((self.observation_size, width, width, 1), False)}

    def multiplier(self, state: State, s: Tensor) -> Tensor:
        """lambda(s) [R, B], with gradient, for observations s [R, B, O]."""
        f = self.networks["multiplier"](state.online["multiplier"], s).squeeze(-1)
        return bounded_multiplier(self.parameters.multiplier_gain * f, self.parameters.initial_multiplier, self.bounds)

    def policy_loss(self, state: State, batch: Tensors, noise: Tensors) -> tuple[Tensor, Tensors]:
        """L_AM and L_lambda, on paths from every observation, valid chunk or not."""
        s, p = batch["observations"], self.parameters
        samples, multiplier = self.sample_adjoints(state, s, noise), self.multiplier(state, s)
        dv, held = samples.difference(), multiplier.detach()
        matching = adjoint_matching_loss(dv, samples.adjoints, samples.g2, self.scaled(held))
        kl = path_kl_by_state(dv.detach(), samples.g2, self.chunk)
        point = projected_point(held, kl, p.kl_budget, p.dual_rate, p.kl_clip * p.kl_budget, self.bounds)
        fit = multiplier_loss(multiplier, point, p.dual_rate)
        metrics = {"adjoint_loss": matching, "path_kl": kl.mean(-1), "multiplier": held.mean(-1)}
        metrics |= {"adjoint_norm": samples.terminal.norm(dim=-1).mean(-1), "multiplier_loss": fit}
        return matching + fit, {**metrics, **over_states("kl", kl), **over_states("multiplier", held)}

    def dual_step(self, state: State, metrics: Tensors) -> Tensors:
        """Nothing: the gradient step has moved the multipliers."""
        return {}


AGENT = TRQAMPerState
