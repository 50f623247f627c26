"""A KL budget that moves while a policy is trained (ours; TRQAM, arXiv 2605.27079, holds it constant).

    eps_t = eps (first + (last - first) w),    w in [0, 1]

    linear    w = u                          u in [0, 1], the share of a stage's updates that have been made
    cosine    w = (1 - cos(pi u)) / 2        slow at both ends
    critic    w = V / (V + W)                V = Var_B(mean_k Q_k),   W = mean_B Var_k(Q_k)

The last is the agreement of an ensemble on actions of a batch: the share of the spread of its values that is the same
in every critic (an intraclass correlation). It is one where all critics agree and near zero where their differences
are larger than what they say of one action against another, and no multiple of the rewards changes it. With first = 0
the budget is proportional to it.
"""

import math

import torch
from torch import Tensor


def moving_budget(budget: float, weight: Tensor, first: Tensor | float, last: Tensor | float) -> Tensor:
    """eps_t [R], for ``weight`` [R]."""
    assert weight.ndim == 1
    return budget * (first + (last - first) * weight)


def linear(progress: Tensor) -> Tensor:
    """w at the share ``progress`` of the updates."""
    return progress.clamp(0, 1)


def cosine(progress: Tensor) -> Tensor:
    """w at the share ``progress`` of the updates."""
    return (1 - torch.cos(math.pi * progress.clamp(0, 1))) / 2


def agreement(q: Tensor) -> Tensor:
    """w [R] of ensemble values ``q`` [R, E, B]; variances are of the population, and all values equal give zero."""
    assert q.ndim == 3
    common = q.mean(1).var(-1, correction=0)
    apart = q.var(1, correction=0).mean(-1)
    return common / (common + apart).clamp(min=torch.finfo(q.dtype).tiny)
