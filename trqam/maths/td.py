"""Temporal-difference learning of a critic ensemble on action chunks (Q-chunking, arXiv 2507.07969).

    q' = mean_k Q_k(s', a') - rho std_k            pessimism rho, population standard deviation over the ensemble
    y  = R + gamma^H mask q'                       R the discounted sum of the chunk's H rewards
    L_Q = mean_{k,B} [ valid (Q_k(s, a) - y)^2 ]

and what baselines put beside it: expectile regression of a value (IQL, arXiv 2110.06169), and the LinEx loss (in its
Itakura-Saito form), whose minimum is a log-mean-exp.

Shapes: ensemble values [R, E, B]; rewards, masks and valid [R, B].
"""

from collections.abc import Callable

import torch
from torch import Tensor


def pessimistic_value(q: Tensor, pessimism: float) -> Tensor:
    """Mean minus ``pessimism`` population standard deviations over the ensemble, [R, B]."""
    assert q.ndim == 3
    return q.mean(1) - pessimism * q.std(1, correction=0)


def td_target(rewards: Tensor, masks: Tensor, next_value: Tensor, discount: float, horizon: int) -> Tensor:
    """The H-step target y, [R, B]."""
    assert rewards.ndim == masks.ndim == next_value.ndim == 2
    return rewards + discount**horizon * masks * next_value


def critic_loss(q: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """L_Q per replica, [R]; divided by the whole batch, valid or not."""
    assert (q.ndim, target.ndim, valid.ndim) == (3, 2, 2)
    return ((q - target.unsqueeze(1)).square() * valid.unsqueeze(1)).mean((1, 2))


def action_gradient(value: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """grad_x of ``value`` (actions [R, B, D] to values [R, B]) at ``x``, itself without gradient."""
    assert x.ndim == 3
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        return torch.autograd.grad(value(x).sum(), x)[0]


def expectile_loss(advantage: Tensor, expectile: float) -> Tensor:
    """mean_B |kappa - 1(u < 0)| u^2 per replica, [R], for advantages u [R, B] and expectile kappa."""
    assert advantage.ndim == 2
    weight = (expectile - (advantage < 0).to(advantage.dtype)).abs()
    return (weight * advantage.square()).mean(-1)


def linex_loss(q: Tensor, target: Tensor, inverse_temperature: float, clip: float, valid: Tensor) -> Tensor:
    """LinEx per replica, [R], that draws q to (1/tau) log E exp(tau target); q, target [R, E, B], valid [R, B].

    With delta = tau (target - q): exp(delta) + tau q, and where delta > clip delta itself, so as not to overflow.
    """
    assert (q.ndim, target.ndim, valid.ndim) == (3, 3, 2)
    delta = inverse_temperature * (target - q)
    loss = torch.where(delta > clip, delta, delta.clamp(max=clip).exp() + inverse_temperature * q)
    return (loss * valid.unsqueeze(1)).mean((1, 2))
