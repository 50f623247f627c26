"""Temporal-difference learning of a critic ensemble on action chunks (Q-chunking, arXiv 2507.07969).

    q' = mean_k Q_k(s', a') - rho std_k            pessimism rho, population standard deviation over the ensemble
    y  = R + gamma^H mask q'                       R the discounted sum of the chunk's H rewards
    L_Q = mean_{k,B} [ valid (Q_k(s, a) - y)^2 ]

Shapes: ensemble values [R, E, B]; rewards, masks and valid [R, B].
"""

from torch import Tensor


def pessimistic_value(q: Tensor, pessimism: float) -> Tensor:
    """Mean minus ``pessimism`` population standard deviations over the ensemble, [R, B]."""
    return q.mean(1) - pessimism * q.std(1, correction=0)


def td_target(rewards: Tensor, masks: Tensor, next_value: Tensor, discount: float, horizon: int) -> Tensor:
    """The H-step target y, [R, B]."""
    return rewards + discount**horizon * masks * next_value


def critic_loss(q: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """L_Q per replica, [R]; divided by the whole batch, valid or not."""
    return ((q - target.unsqueeze(1)).square() * valid.unsqueeze(1)).mean((1, 2))
