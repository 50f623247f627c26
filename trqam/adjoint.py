"""Lean adjoint, adjoint-matching loss and the KL between sampling paths.

    adj_K = -grad_x Q(s, clip(x, -1, 1)) at X_K
    adj_i = adj_{i+1} + h J_i^T adj_{i+1},  J_i = d/dx [2 v_base(s, x, t_i + h) - x / (t_i + h)] at X_i
    L_AM  = mean_B sum_i | (2 / sigma_i) dv_i + sigma_i adj_i |^2,   sigma_i = g_i / sqrt(lambda),   dv = v_ft - v_base
    D_hat = (1/H) mean_B sum_i (2 h / g_i^2) |dv_i|^2                (Girsanov; Theorem 1 of TRQAM, arXiv 2605.27079)

The adjoint is "lean" because J holds the base field alone (Adjoint Matching, arXiv 2409.08861): it does not depend on
what is being trained. At the minimum of the loss dv = -(sigma^2 / 2) adj.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from trqam.flow import Field
from trqam.td import action_gradient


def terminal_adjoint(value: Callable[[Tensor], Tensor], x: Tensor, clip: bool) -> Tensor:
    """-grad_x of ``value`` (actions [R, B, D] to values [R, B]) at ``x``; zero outside the box if ``clip``."""
    return -action_gradient(lambda x: value(x.clamp(-1, 1) if clip else x), x)


def lean_adjoint(base: Field, s: Tensor, path: Tensor, adjoint: Tensor) -> Tensor:
    """adj_0 .. adj_{K-1}, [K, R, B, D], from ``path`` X_0 .. X_K and the terminal ``adjoint``; one VJP a step."""
    steps = path.shape[0] - 1
    h = 1 / steps
    adjoints = [adjoint]
    for i in reversed(range(steps)):
        t = i / steps + h
        with torch.enable_grad():  # autograd.grad: torch.func.vjp costs seconds of imports and more at every call
            x = path[i].detach().requires_grad_()
            product = torch.autograd.grad(base(s, x, t), x, adjoint)[0]
        adjoint = adjoint + h * (2 * product - adjoint / t)
        adjoints.append(adjoint)
    return torch.stack(adjoints[:0:-1])


def along_path(field: Field, s: Tensor, states: Tensor, t: Tensor) -> Tensor:
    """Velocities [K, R, B, D] at states [K, R, B, D] and times t [K], as one batch of K B rows a replica."""
    steps, replicas, batch, size = states.shape
    rows = states.transpose(0, 1).reshape(replicas, steps * batch, size)
    times = t.repeat_interleave(batch)[None, :, None].expand(replicas, -1, 1)
    velocity = field(s.repeat(1, steps, 1), rows, times)
    return velocity.view(replicas, steps, batch, size).transpose(0, 1)


def adjoint_matching_loss(dv: Tensor, adjoints: Tensor, g2: Tensor, multiplier: Tensor) -> Tensor:
    """L_AM per replica, [R], for dv and adjoints [K, R, B, D], g^2 [K] and the effective multiplier [R]."""
    sigma = (g2[:, None] / multiplier).sqrt()[:, :, None, None]
    return (2 * dv / sigma + sigma * adjoints).square().sum((0, 3)).mean(-1)


def path_kl(dv: Tensor, g2: Tensor, horizon: int) -> Tensor:
    """D_hat per replica, [R], in nats per environment step of the chunk of ``horizon`` actions."""
    steps = dv.shape[0]
    return ((2 / (steps * g2))[:, None, None] * dv.square().sum(-1)).sum(0).mean(-1) / horizon
