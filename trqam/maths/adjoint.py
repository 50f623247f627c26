"""Lean adjoint, adjoint-matching loss and the KL between sampling paths.

    adj_K = -grad_x Q(s, clip(x, -1, 1)) at X_K
    adj_i = adj_{i+1} + h J_i^T adj_{i+1},  J_i = d/dx [2 v_base(s, x, t_i + h) - x / (t_i + h)] at X_i
    L_AM  = mean_B sum_i | (2 / sigma_i) dv_i + sigma_i adj_i |^2,   sigma_i = g_i / sqrt(lambda),   dv = v_ft - v_base
    D_hat = (1/H) mean_B sum_i (2 h / g_i^2) |dv_i|^2                (Girsanov; Theorem 1 of TRQAM, arXiv 2605.27079)

This J is the flow's; `trqam.maths.interpolants` has each step of others.
A multiplier for each state, lambda(s), stands in the place of lambda row by row, and D_hat(s) is the row of the mean.

The adjoint is "lean" because J holds the base field alone (Adjoint Matching, arXiv 2409.08861): it does not depend on
what is being trained. At the minimum of the loss dv = -(sigma^2 / 2) adj.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from trqam.maths.flow import Field
from trqam.maths.interpolants import FLOW, Interpolant
from trqam.maths.td import action_gradient

Pullback = Callable[[int, Tensor], Tensor]  # (i, a) to [d/dx v_base(s, x, t_i + h) at X_i]^T a, both [R, B, D]


def terminal_adjoint(value: Callable[[Tensor], Tensor], x: Tensor, clip: bool) -> Tensor:
    """-grad_x of ``value`` (actions [R, B, D] to values [R, B]) at ``x``; zero outside the box if ``clip``."""
    assert x.ndim == 3
    return -action_gradient(lambda x: value(x.clamp(-1, 1) if clip else x), x)


def lean_adjoint(pull: Pullback, adjoint: Tensor, steps: int, interpolant: Interpolant = FLOW) -> Tensor:
    """adj_0 .. adj_{K-1}, [K, R, B, D], from the terminal ``adjoint`` [R, B, D] and the base field's `pullback`."""
    assert adjoint.ndim == 3
    h, adjoints = 1 / steps, [adjoint]
    for i in reversed(range(steps)):
        adjoint = interpolant.adjoint_step(adjoint, pull(i, adjoint), (i + 1) / steps, h)
        adjoints.append(adjoint)
    return torch.stack(adjoints[:0:-1])


def pullback(base: Field, s: Tensor, states: Tensor, interpolant: Interpolant = FLOW) -> Pullback:
    """Of any differentiable field at ``states`` X_0 .. X_{K-1}, [K, R, B, D]; networks have a faster one."""
    assert (s.ndim, states.ndim) == (3, 4)
    steps = len(states)

    def pull(i: int, a: Tensor) -> Tensor:
        with torch.enable_grad():
            x = states[i].detach().requires_grad_()
            t = interpolant.adjoint_time((i + 1) / steps, 1 / steps)
            return torch.autograd.grad(base(s, x, t), x, a)[0]

    return pull


def adjoint_matching_loss(dv: Tensor, adjoints: Tensor, g2: Tensor, multiplier: Tensor) -> Tensor:
    """L_AM per replica, [R], for dv and adjoints [K, R, B, D], g^2 [K] and the effective multiplier [R] or [R, B]."""
    assert (dv.ndim, adjoints.ndim, g2.ndim) == (4, 4, 1)
    assert multiplier.ndim in (1, 2)
    sigma = (g2.view(-1, *[1] * multiplier.ndim) / multiplier).sqrt()  # [K, R] or [K, R, B]
    sigma = sigma.view(*sigma.shape[:2], -1, 1)
    return (2 * dv / sigma + sigma * adjoints).square().sum((0, 3)).mean(-1)


def path_kl(dv: Tensor, g2: Tensor, horizon: int) -> Tensor:
    """D_hat per replica, [R], in nats per environment step of the chunk of ``horizon`` actions."""
    return _chunk_kl(dv, g2).mean(-1) / horizon


def path_kl_by_state(dv: Tensor, g2: Tensor, horizon: int) -> Tensor:
    """D_hat(s) [R, B] on the one path from each state, of which `path_kl` is the mean."""
    return _chunk_kl(dv, g2) / horizon


def _chunk_kl(dv: Tensor, g2: Tensor) -> Tensor:
    """Nats per chunk, [R, B], for dv [K, R, B, D] and g^2 [K]."""
    assert (dv.ndim, g2.ndim) == (4, 1)
    steps = dv.shape[0]
    return ((2 / (steps * g2))[:, None, None] * dv.square().sum(-1)).sum(0)
