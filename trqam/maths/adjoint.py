"""Lean adjoint, adjoint-matching loss and the KL between sampling paths.

    adj_K = -grad_x Q(s, clip(x, -1, 1)) at X_K
    adj_i = adj_{i+1} + h J_i^T adj_{i+1},  J_i = d/dx [2 v_base(s, x, t_i + h) - x / (t_i + h)] at X_i
    L_AM  = mean_B sum_i | (2 / sigma_i) dv_i + sigma_i adj_i |^2,   sigma_i = g_i / sqrt(lambda),   dv = v_ft - v_base
    D_hat = (1/H) mean_B sum_i (2 h / g_i^2) |dv_i|^2                (Girsanov; Theorem 1 of TRQAM, arXiv 2605.27079)

The adjoint is "lean" because J holds the base field alone (Adjoint Matching, arXiv 2409.08861): it does not depend on
what is being trained. At the minimum of the loss dv = -(sigma^2 / 2) adj.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from trqam.maths.flow import Field
from trqam.maths.td import action_gradient


def terminal_adjoint(value: Callable[[Tensor], Tensor], x: Tensor, clip: bool) -> Tensor:
    """-grad_x of ``value`` (actions [R, B, D] to values [R, B]) at ``x``; zero outside the box if ``clip``."""
    return -action_gradient(lambda x: value(x.clamp(-1, 1) if clip else x), x)


def lean_adjoint(base: Field, s: Tensor, path: Tensor, adjoint: Tensor) -> Tensor:
    """adj_0 .. adj_{K-1}, [K, R, B, D], from ``path`` X_0 .. X_K and the terminal ``adjoint``; one VJP a step.

    The states are known, so a field that can (`VelocityField.pullback`) is evaluated at all of them in one batch.
    """
    steps, batch = path.shape[0] - 1, path.shape[2]
    h, times = 1 / steps, torch.arange(1, steps + 1, dtype=path.dtype, device=path.device) / steps
    pull = getattr(base, "pullback", partial(_pullback, base))(*_rows(s, path[:-1], times), batch)
    adjoints = [adjoint]
    for i in reversed(range(steps)):
        adjoint = (1 - h / ((i + 1) / steps)) * adjoint + 2 * h * pull(i, adjoint)
        adjoints.append(adjoint)
    return torch.stack(adjoints[:0:-1])


def _pullback(field: Field, s: Tensor, x: Tensor, t: Tensor, unit: int) -> Callable[[int, Tensor], Tensor]:
    """`VelocityField.pullback` for any differentiable function."""

    def pull(i: int, cotangent: Tensor) -> Tensor:
        rows = slice(i * unit, (i + 1) * unit)
        with torch.enable_grad():
            at = x[:, rows].detach().requires_grad_()
            return torch.autograd.grad(field(s[:, rows], at, t[:, rows]), at, cotangent)[0]

    return pull


def along_path(field: Field, s: Tensor, states: Tensor, t: Tensor) -> Tensor:
    """Velocities [K, R, B, D] at states [K, R, B, D] and times t [K], as one batch of K B rows a replica."""
    steps, replicas, batch, size = states.shape
    return field(*_rows(s, states, t)).view(replicas, steps, batch, size).transpose(0, 1)


def _rows(s: Tensor, states: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Observations, states and times of all steps as rows: [R, K B, O], [R, K B, D] and [R, K B, 1]."""
    steps, replicas, batch, size = states.shape
    rows = states.transpose(0, 1).reshape(replicas, steps * batch, size)
    return s.repeat(1, steps, 1), rows, t.repeat_interleave(batch)[None, :, None].expand(replicas, -1, 1)


def adjoint_matching_loss(dv: Tensor, adjoints: Tensor, g2: Tensor, multiplier: Tensor) -> Tensor:
    """L_AM per replica, [R], for dv and adjoints [K, R, B, D], g^2 [K] and the effective multiplier [R]."""
    sigma = (g2[:, None] / multiplier).sqrt()[:, :, None, None]
    return (2 * dv / sigma + sigma * adjoints).square().sum((0, 3)).mean(-1)


def path_kl(dv: Tensor, g2: Tensor, horizon: int) -> Tensor:
    """D_hat per replica, [R], in nats per environment step of the chunk of ``horizon`` actions."""
    steps = dv.shape[0]
    return ((2 / (steps * g2))[:, None, None] * dv.square().sum(-1)).sum(0).mean(-1) / horizon
