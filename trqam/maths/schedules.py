"""A KL budget that moves while a policy is trained (ours; TRQAM, arXiv 2605.27079, holds it constant).

    eps_t = eps (first + (last - first) w),    w in [0, 1]

    linear    w = u                          u in [0, 1], the share of a stage's updates that have been made
    cosine    w = (1 - cos(pi u)) / 2        slow at both ends
    critic    w = (V - W / (E - 1)) / (V + W), at least 0     V = Var_B(mean_k Q_k),   W = mean_B Var_k(Q_k)

The last is the agreement of E critics on the state-action pairs of a batch: the share of the spread of their values
that all have in common (an intraclass correlation; W / (E - 1) is what the mean of critics that have nothing in common
still varies by). It is one where all agree and zero where they have no more in common than chance gives, and no
multiple of the rewards changes it. The spread is over states and actions together: critics that agree on states alone
agree in part. With first = 0 the budget is proportional to it.
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
    """w [R] of ensemble values ``q`` [R, E, B]; variances are of the population. All values equal give zero, and one
    critic alone agrees with itself."""
    assert q.ndim == 3
    common = q.mean(1).var(-1, correction=0)
    apart = q.var(1, correction=0).mean(-1)
    share = (common - apart / max(q.shape[1] - 1, 1)) / (common + apart).clamp(min=torch.finfo(q.dtype).tiny)
    return share.clamp(min=0)
