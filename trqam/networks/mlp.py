"""Stacked multilayer perceptrons: every replica, and every member of an ensemble, in one batched product.

Parameters are dicts of tensors with a leading replica axis: weights [R, in, out], ensembles [R, E, in, out]. Layers are
Dense -> GELU (tanh approximation) -> LayerNorm (eps 1e-6), the last Dense bare, as in the authors' flax code.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from trqam.maths.flow import Field
from trqam.maths.interpolants import Interpolant
from trqam.networks.layers import Differentiable, Layer, Pass, Pullback, forward, run

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
        shapes: dict[str, tuple[int, ...]] = {}
        last = len(self.sizes) - 2
        for i, (n_in, n_out) in enumerate(zip(self.sizes, self.sizes[1:], strict=False)):
            for name in self.heads if i == last else (str(i),):
                shapes |= {f"{name}.weight": (*lead, n_in, n_out), f"{name}.bias": (*lead, n_out)}
            if self.layer_norm and i < last:
                shapes |= {f"{i}.scale": (*lead, n_out), f"{i}.shift": (*lead, n_out)}
        return shapes

    @property
    def heads(self) -> tuple[str, ...]:
        """Names of the bare last layers."""
        return (str(len(self.sizes) - 2),)

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
        x = run(self.layers(parameters), self.ordered(parameters), x)
        return x.view(replicas, self.members, batch, -1) if self.members else x

    @torch.no_grad()
    def layers(self, parameters: Parameters, names: Sequence[str] = ()) -> list[Layer]:
        """All layers with the first head, or those of these names: replica and member axes as one, vectors as rows."""
        layers = []
        for name in names or [*self.body, self.heads[0]]:
            weight, *vectors = [p.flatten(0, 1) if self.members else p for p in self.ordered(parameters, [name])]
            bias, *norm = [vector.unsqueeze(1) for vector in vectors]
            scale, shift = norm or (None, None)
            layers.append(Layer(weight, bias, scale, shift, activated=name not in self.heads))
        return layers

    def ordered(self, parameters: Parameters, names: Sequence[str] = ()) -> list[Tensor]:
        """The parameters in the order of `layers`."""
        names, kinds = names or [*self.body, self.heads[0]], ("weight", "bias", "scale", "shift")
        return [parameters[key] for name in names for kind in kinds if (key := f"{name}.{kind}") in parameters]

    @property
    def body(self) -> list[str]:
        """Names of the hidden layers."""
        return [str(i) for i in range(len(self.sizes) - 2)]


class TanhGaussian(MLP):
    """The shape of a policy tanh(u), u ~ N(mean(x), std(x)^2): two heads on one body, and never LayerNorm."""

    heads = ("mean", "log_std")

    def sample(self, parameters: Parameters, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """tanh(u) [R, B, D] with u = mean + std * noise, and its log-density [R, B]; log std is clipped to [-20, 2].

        log(1 - tanh^2 u) = 2 (log 2 - u - softplus(-2u)), which does not lose digits where tanh saturates.
        """

        def through(x: Tensor, *names: str) -> Tensor:
            return run(self.layers(parameters, names), self.ordered(parameters, names), x)

        body = through(x, *self.body)
        mean, log_std = through(body, "mean"), through(body, "log_std")
        log_std = log_std.clamp(-20, 2)
        u = mean + log_std.exp() * noise
        log_normal = -noise.square() / 2 - log_std - math.log(2 * math.pi) / 2
        log_slope = 2 * (math.log(2) - u - torch.logaddexp(-2 * u, torch.zeros_like(u)))
        return u.tanh(), (log_normal - log_slope).sum(-1)


class FromZero(MLP):
    """The same with a last layer of zeros: at first it says zero everywhere."""

    def initialise(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """As an MLP, but for the last layer."""
        values = super().initialise(rng)
        return {name: value * (name.rpartition(".")[0] not in self.heads) for name, value in values.items()}


class LogScalar:
    """The shape of a positive number, kept as its logarithm [R, 1] and starting at one."""

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """One number a replica."""
        return {"log": (1,)}

    def initialise(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Log of one."""
        return {"log": np.zeros(1, np.float32)}


class VelocityField:
    """v(s, x, t): the time is concatenated raw."""

    def __init__(self, network: MLP, parameters: Parameters):
        self.layers, self.parameters = network.layers(parameters), network.ordered(parameters)

    def __call__(self, s: Tensor, x: Tensor, t: Tensor | float) -> Tensor:
        """Velocities [R, B, D] for s [R, B, O], x [R, B, D] and t [R, B, 1] or a number."""
        return self.velocity(run(self.layers, self.parameters, self.inputs(s, x, t)))

    def velocity(self, output: Tensor) -> Tensor:
        """What the network's ``output`` says of the velocity: it is that."""
        return output

    @staticmethod
    def inputs(s: Tensor, x: Tensor, t: Tensor | float) -> Tensor:
        """What the network sees, [R, B, O + D + 1]."""
        if not isinstance(t, Tensor):
            t = x.new_full((*x.shape[:-1], 1), t)
        return torch.cat([s, x, t], -1)

    def pullback(self, s: Tensor, states: Tensor, t: Tensor) -> Callable[[int, Tensor], Tensor]:
        """One forward pass at all states [K, R, B, D] and times t [K], and the map (i, cotangent [R, B, D]) to
        J_x^T cotangent at the i-th of them."""
        with torch.no_grad():
            action = slice(s.shape[-1], s.shape[-1] + states.shape[-1])
            return Pullback(self.layers, self.inputs(*_rows(s, states, t)), states.shape[2], action)


class Denoiser(VelocityField):
    """The clean action is D = alpha x + beta F of a network F, where alpha^2 + beta^2 = 1; the velocity is W F."""

    def __init__(self, network: MLP, parameters: Parameters, interpolant: Interpolant):
        super().__init__(network, parameters)
        self.interpolant = interpolant

    def velocity(self, output: Tensor) -> Tensor:
        """W F, which divides by nothing."""
        return self.interpolant.wronskian * output

    def pullback(self, s: Tensor, states: Tensor, t: Tensor) -> Callable[[int, Tensor], Tensor]:
        """The same of W F."""
        pull = super().pullback(s, states, t)
        return lambda i, a: self.velocity(pull(i, a))


def along_path(field: Field, s: Tensor, states: Tensor, t: Tensor) -> Tensor:
    """Velocities [K, R, B, D] at states [K, R, B, D] and times t [K], as one batch of K B rows a replica."""
    steps, replicas, batch, size = states.shape
    return field(*_rows(s, states, t)).view(replicas, steps, batch, size).transpose(0, 1)


def _rows(s: Tensor, states: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Observations, states and times of all steps as rows: [R, K B, O], [R, K B, D] and [R, K B, 1]."""
    steps, replicas, batch, size = states.shape
    rows = states.transpose(0, 1).reshape(replicas, steps * batch, size)
    return s.repeat(1, steps, 1), rows, t.repeat_interleave(batch)[None, :, None].expand(replicas, -1, 1)


class RecordedField:
    """A velocity field that is evaluated without gradient and differentiated afterwards: a path that was sampled with
    it need not be evaluated again."""

    def __init__(self, field: VelocityField):
        self.field, self.passes = field, list[Pass]()

    @torch.no_grad()
    def __call__(self, s: Tensor, x: Tensor, t: Tensor | float) -> Tensor:
        """Velocities [R, B, D], without graph."""
        self.passes.append(forward(self.field.layers, self.field.inputs(s, x, t), True))
        return self.field.velocity(self.passes[-1].output)

    def velocities(self) -> Tensor:
        """All of them so far, [R, sum B, D], with gradient to the field's parameters."""
        output = Differentiable.of(self.field.layers, self.field.parameters, self.passes, None)
        return self.field.velocity(output)


class Critic:
    """Q_k(s, a) for the members k of an ensemble."""

    def __init__(self, network: MLP, parameters: Parameters):
        self.network, self.parameters = network, parameters

    def __call__(self, s: Tensor, a: Tensor) -> Tensor:
        """Values [R, E, B]."""
        return self.network(self.parameters, torch.cat([s, a], -1)).squeeze(-1)


def frozen(parameters: Parameters) -> Parameters:
    """The same values without gradient, for a network that only passes it on to its inputs."""
    return {name: tensor.detach() for name, tensor in parameters.items()}
