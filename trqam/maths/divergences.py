"""Other divergences between the sampling paths of the fine-tuned and the base field, from TRQAM's own roll-out.

The paper holds KL(P^u || P^base) at a budget; the rest is ours. In step i of `trqam.maths.sde` both fields add noise
sqrt(h) g_i eps_i to means that are 2 h dv_i apart, so that along the paths of the fine-tuned field, whose law is P^u,

    log dP^u/dP^base = sum_i (m_i + a_i),   a_i = (2 h / g_i^2) |dv_i|^2,   m_i = (2 sqrt(h) / g_i) dv_i . eps_i
    KL(P^u || P^base) = E_u[A],   A = sum_i a_i                             forward (arXiv 2605.27079, Theorem 1)
    KL(P^base || P^u) = E_base[A] = sum_i E_u[w_i a_i],                     w_i = exp(-sum_{j < i} (m_j + a_j))
    R_2(P^u || P^base) = log E_u[dP^u/dP^base] = log E_u[v e^{2 A}],        v = exp(sum_{i < K-1} (m_i - a_i))

R_2 is Renyi's divergence of order 2, log(1 + chi^2) (arXiv 1206.2459); it is infinite where a tilt has twice the
base's variance or more. The roll-out's last step takes no noise and the base field. A counts what it would cost, as
D_hat does, but w_i and v need no eps_{K-1}: the expectation over it is taken by hand, E e^m = e^a.

The weights have mean one. Where all paths have one A, the variance of the last w_i and of v is about e^{2 A} - 1, so
that plain means of them are of no use beyond a few nats. Each mean over the B rows is divided by that of its weights:

    D_reverse = (1/H) sum_i sum_B w_i a_i / sum_B w_i           D_renyi = (1/H) log (sum_B v e^{2 A} / sum_B v)

That has no error where all paths have one A. Elsewhere it lies between the least and the greatest a_i, or 2 A, of the
batch: it is finite, and where few paths have most of the weight it is biased towards what the batch has seen. A row is
one path from one state: D_reverse is a mean over states, D_renyi the divergence of state and path together, in which
the states that move most count most. Nats per environment step.
"""

import torch
from torch import Tensor


def reverse_kl(dv: Tensor, noise: Tensor, g2: Tensor, horizon: int) -> tuple[Tensor, Tensor]:
    """D_reverse and the effective number of paths behind its last term, [R] both, for dv and noise [K, R, B, D]."""
    cost, push = step_terms(dv, noise, g2)
    log_weight = torch.cat([torch.zeros_like(cost[:1]), -(push + cost)[:-1].cumsum(0)])
    weight = torch.softmax(log_weight, -1)
    return (weight * cost).sum(-1).sum(0) / horizon, effective_paths(log_weight[-1])


def renyi(dv: Tensor, noise: Tensor, g2: Tensor, horizon: int) -> tuple[Tensor, Tensor]:
    """D_renyi and the effective number of paths in its sum, [R] both, for dv and noise [K, R, B, D]."""
    cost, push = step_terms(dv, noise, g2)
    log_weight, twice = (push - cost)[:-1].sum(0), 2 * cost.sum(0)
    return (log_weight.log_softmax(-1) + twice).logsumexp(-1) / horizon, effective_paths(log_weight + twice)


def effective_paths(log_weight: Tensor) -> Tensor:
    """(sum w)^2 / sum w^2 over the B rows of log w [R, B]: B where all count alike, one where one row decides; [R]."""
    assert log_weight.ndim == 2
    return 1 / torch.softmax(log_weight, -1).square().sum(-1)


def step_terms(dv: Tensor, noise: Tensor, g2: Tensor) -> tuple[Tensor, Tensor]:
    """a_i and m_i, [K, R, B] both."""
    assert (dv.ndim, noise.ndim, g2.ndim) == (4, 4, 1)
    scale = 2 / (len(g2) * g2).sqrt()[:, None, None]  # 2 sqrt(h) / g_i
    return scale**2 / 2 * dv.square().sum(-1), scale * (dv * noise).sum(-1)


def gaussian_renyi(p: tuple[Tensor, Tensor], q: tuple[Tensor, Tensor]) -> float:
    """R_2(p || q) = d' M^{-1} d - log(|M| |S_p| / |S_q|^2) / 2, d the difference of the means and M = 2 S_q - S_p, of
    two Gaussians (mean [D], covariance [D, D]); infinite unless M is positive definite."""
    mixed, difference = 2 * q[1] - p[1], p[0] - q[0]
    if torch.linalg.eigvalsh(mixed)[0] <= 0:
        return float("inf")
    volumes = torch.logdet(mixed) + torch.logdet(p[1]) - 2 * torch.logdet(q[1])
    return (difference @ torch.linalg.solve(mixed, difference) - volumes / 2).item()
