"""TRQAM with a KL budget that moves (`trqam.maths.schedules`): by the step, or with the agreement of the critics.

The schedule runs through each stage: offline over its updates, and online over those again, because what a stage gives
may not depend on the length of the next. So a budget that has grown offline falls back at the first online update, and
the multiplier needs some time to follow. The agreement is that of the target critics on the actions at the end of the
roll-out's paths, where the terminal adjoint asks them. The dual step is TRQAM's, towards the budget of this update. An
estimate counts for at most kl_clip times that budget or the unmoved one, whichever is larger: a tight budget must not
slow its own defence.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from trqam.agents.base import Tensors
from trqam.agents.qam import AdjointSamples
from trqam.agents.trqam import TRQAM
from trqam.maths.schedules import agreement, cosine, linear, moving_budget
from trqam.networks.replicas import State


class ScheduledTRQAM(TRQAM):
    """TRQAM whose budget is a function of the step or of the critics."""

    def measured(self, state: State, s: Tensor, samples: AdjointSamples, noise: Tensors) -> Tensors:
        """The budget of this update."""
        p, weigh = self.parameters, WEIGHTS[self.parameters.schedule]
        weight = weigh(self, state, s, samples)
        return {"kl_budget": moving_budget(p.kl_budget, weight, p.first_budget, p.last_budget)}

    def budget(self, metrics: Tensors) -> tuple[Tensor, Tensor]:
        """Those of this update, [R]."""
        p, moved = self.parameters, metrics["kl_budget"]
        return moved, p.kl_clip * moved.clamp(min=p.kl_budget)

    def progress(self, state: State) -> Tensor:
        """The share [R] of the stage's updates that have been made."""
        run, step = self.run, state.step.to(state.dual.multiplier.dtype)
        online = (step - run.offline_steps) / (run.online_steps - run.online_start)
        share = torch.where(step < run.offline_steps, step / max(run.offline_steps, 1), online)
        return share.expand_as(state.dual.multiplier)

    def agreement(self, state: State, s: Tensor, samples: AdjointSamples) -> Tensor:
        """That of the critics [R] on the actions that the paths end at."""
        return agreement(self.critic(state.target["critic"])(s, samples.end.clamp(-1, 1)))


Weight = Callable[[ScheduledTRQAM, State, Tensor, AdjointSamples], Tensor]
WEIGHTS: dict[str, Weight] = {
    "linear": lambda agent, state, s, samples: linear(agent.progress(state)),
    "cosine": lambda agent, state, s, samples: cosine(agent.progress(state)),
    "critic": ScheduledTRQAM.agreement,
}
AGENT = ScheduledTRQAM
