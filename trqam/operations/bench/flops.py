"""What one update costs: FLOPs counted from the equations, and what its code really asks PyTorch for.

**From the equations**, not from the code. A pass over B rows takes 2 x weights x B: a multiplication and an addition
for every weight (of all members of an ensemble) and row. Biases, activations and everything elementwise are left out,
as in a GEMM's own count. Forward with backward is three passes (forward, gradient of the inputs, gradient of the
weights), forward with the gradient of the inputs alone two. So this is an upper end: code may share an evaluation
between two uses, and the first layer's inputs rarely need their gradient. A rate of work computed from it rewards code
for doing less.

**From the code**: operators and matrix products, counted below autograd, so that forward and backward passes are seen
alike, whatever code asked for them.
"""

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from trqam.agents.base import Agent

# What an update asks of each network, in passes over the batch, for K flow steps; beside TRAINED or CLONED.
Passes = dict[str, int]

CLONED = {"base": 3}
TRAINED = {"critic": 3 + 1, **CLONED}  # regression, and one look at the target critics


def _sum(*parts: Passes) -> Passes:
    return dict(sum(map(Counter, parts), Counter[str]()))


def _qam(steps: int) -> Passes:
    """Adjoint matching: roll-out K, lean adjoint 2 K (forward and product), v_ft with gradient 3 K, v_base K; the
    critic's gradient. And the next action, K."""
    return {"finetuned": steps + 3 * steps + steps, "base": 2 * steps + steps, "critic": 2}


PASSES: dict[str, Callable[[int], Passes]] = {
    "behaviour_cloning": lambda steps: {},
    "diffusion_cloning": lambda steps: {},
    "qam": _qam,
    "trqam": _qam,
    "trqam_scheduled": _qam,  # the agreement's one pass of the target critic is left out: two schedules have none
    "trqam_divergence": _qam,
    "external_kl": _qam,
    "trqam_scalar": _qam,
    "trqam_diffusion": _qam,
    "trqam_per_state": lambda steps: _sum(_qam(steps), {"multiplier": 3}),
    # the next action's edit, and an edited action whose critic passes its gradient on
    "qam_e": lambda steps: _sum(_qam(steps), {"finetuned": steps, "edit": 1 + 3, "critic": 2}),
    # next action and own action; v_ft with gradient, v_base; the critic's gradient and its penalty at two actions
    "sqam": lambda steps: {"finetuned": 2 * steps + 3 * steps, "base": steps, "critic": 2 + 3 + 3},
    "fql": lambda steps: {"one_step": 1 + 3, "base": steps, "critic": 2},
    # V(s') in the critic's target; the target critics teach V
    "ifql": lambda steps: {"value": 1 + 3},
    # the guided flow of the next action, its first step unguided; values of clean and of noised actions
    "cgql_l": lambda steps: {"base": steps, "critic": 2 * (steps - 1) + 1 + 3},
    # next action and distilled action; their values; the actor, whose critic passes its gradient on
    "dsrl": lambda steps: {"base": 2 * steps, "noise_policy": 1 + 3, "critic": 1, "noise_critic": 3 + 2},
}


def update_flops(agent: Agent) -> int | None:
    """Of one update of one replica; None for an agent whose equations nobody has counted."""
    name = agent.run.agent
    if name == "qam_e" and "edit" not in agent.networks:
        name = "qam"  # where the edit's scale is zero
    if name not in PASSES:
        return None
    own = PASSES[name](agent.run.flow_steps)
    passes = _sum(TRAINED if own else CLONED, own)
    return sum(2 * agent.run.batch_size * weights(agent, network) * count for network, count in passes.items())


def weights(agent: Agent, network: str) -> int:
    """Numbers in a network's matrices."""
    shapes = agent.networks[network].shapes().items()
    return sum(math.prod(shape) for name, shape in shapes if name.endswith("weight"))


FACTORS = {"mm": 0, "bmm": 0, "addmm": 1, "baddbmm": 1, "baddbmm_": 1}  # where the two stand among the arguments


class Counts(TorchDispatchMode):
    """Of what runs inside its `with` block: ``operators``, views among them, for each is dispatched; and the FLOPs of
    its matrix products (2 x multiply-adds), ``multiplied``."""

    def __init__(self) -> None:
        super().__init__()
        self.operators = self.multiplied = 0

    def __torch_dispatch__(self, function: Any, types: Any, arguments: tuple = (), options: dict | None = None) -> Any:
        """Runs the operator, and counts it."""
        name = function.overloadpacket.__name__
        self.operators += 1
        if name in FACTORS:
            left, right = arguments[FACTORS[name] :][:2]
            self.count(left, right, 2 * left.numel() * right.shape[-1])
        return function(*arguments, **options or {})

    def count(self, left: Tensor, right: Tensor, flops: int) -> None:
        """One product."""
        self.multiplied += flops
