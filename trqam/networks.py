"""Stacked multilayer perceptrons: every replica, and every member of an ensemble, in one batched product.

Parameters are dicts of tensors with a leading replica axis: weights [R, in, out], ensembles [R, E, in, out]. Layers are
Dense -> GELU (tanh approximation) -> LayerNorm (eps 1e-6), the last Dense bare, as in the authors' flax code.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

Parameters = dict[str, Tensor]


@dataclass(frozen=True)
class MLP:
    """The shape of a network; its parameters live elsewhere. ``members`` > 0 makes it an ensemble of that many."""

    sizes: tuple[int, ...]
    layer_norm: bool
    members: int = 0

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Parameter shapes of one replica, in layer order."""
        lead = (self.members,) if self.members else ()
        shapes = {}
        for i, (n_in, n_out) in enumerate(zip(self.sizes, self.sizes[1:], strict=False)):
            shapes |= {f"{i}.weight": (*lead, n_in, n_out), f"{i}.bias": (*lead, n_out)}
            if self.layer_norm and i < len(self.sizes) - 2:
                shapes |= {f"{i}.scale": (*lead, n_out), f"{i}.shift": (*lead, n_out)}
        return shapes

    def initialise(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """One replica: Xavier-uniform weights, zero biases, unit LayerNorm scales, as float32."""
        values = {}
        for name, shape in self.shapes().items():
            if name.endswith("weight"):
                limit = (6 / (shape[-2] + shape[-1])) ** 0.5
                values[name] = rng.uniform(-limit, limit, shape).astype(np.float32)
            else:
                values[name] = np.full(shape, name.endswith("scale"), np.float32)
        return values

    def __call__(self, parameters: Parameters, x: Tensor) -> Tensor:
        """[R, B, in] to [R, B, out], or [R, E, B, out] for an ensemble, whose members all see the same input."""
        replicas, batch, width = x.shape
        if self.members:
            x = x.unsqueeze(1).expand(-1, self.members, -1, -1).reshape(-1, batch, width)
        last = len(self.sizes) - 2
        for i in range(last + 1):
            layer = {k: self._stack(parameters[f"{i}.{k}"]) for k in ("weight", "bias")}
            x = torch.baddbmm(layer["bias"].unsqueeze(1), x, layer["weight"])
            if i < last:
                x = functional.gelu(x, approximate="tanh")
                if self.layer_norm:
                    scale, shift = (self._stack(parameters[f"{i}.{k}"]).unsqueeze(1) for k in ("scale", "shift"))
                    x = torch.addcmul(shift, functional.layer_norm(x, x.shape[-1:], eps=1e-6), scale)
        return x.view(replicas, self.members, batch, -1) if self.members else x

    def _stack(self, parameter: Tensor) -> Tensor:
        """Replica and member axes as one."""
        return parameter.flatten(0, 1) if self.members else parameter


class VelocityField:
    """v(s, x, t): the time is concatenated raw."""

    def __init__(self, network: MLP, parameters: Parameters):
        self.network, self.parameters = network, parameters

    def __call__(self, s: Tensor, x: Tensor, t: Tensor | float) -> Tensor:
        """Velocities [R, B, D] for s [R, B, O], x [R, B, D] and t [R, B, 1] or a number."""
        if not isinstance(t, Tensor):
            t = x.new_full((*x.shape[:-1], 1), t)
        return self.network(self.parameters, torch.cat([s, x, t], -1))


class Critic:
    """Q_k(s, a) for the members k of an ensemble."""

    def __init__(self, network: MLP, parameters: Parameters):
        self.network, self.parameters = network, parameters

    def __call__(self, s: Tensor, a: Tensor) -> Tensor:
        """Values [R, E, B]."""
        return self.network(self.parameters, torch.cat([s, a], -1)).squeeze(-1)
