"""Forward and backward passes of stacked multilayer perceptrons, written out.

    z = x W + b,   y = z sigmoid(u),   u = 2c (z + a z^3),   c = sqrt(2 / pi),  a = 0.044715      (GELU's tanh form)
    dy/dz = s + 3 s (1 - s) (u - (4c / 3) z),   s = sigmoid(u)

Autograd would do the same products. Written out they (1) work on blocks that stay in a core's cache, (2) take GELU and
its slope from one sigmoid, where PyTorch's kernel on a CPU takes as long as the matrix product beside it, and (3) leave
a tape: a path that was sampled without gradient can be differentiated afterwards, and pulled back step by step.

Shapes: S is the stack (replicas, or replicas times members); x [S, B, in], weights [S, in, out], the rest [S, 1, out].
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

EPSILON = 1e-6  # of LayerNorm, as in flax
BLOCK = 2**17  # numbers an activation of one block has: half a megabyte, so that a layer's few arrays fit in a cache
JOINT = 2**22  # numbers an activation may have in all passes together, for a GPU to take them back as one; not measured
SLOPE, CUBIC = 2 * math.sqrt(2 / math.pi), 2 * math.sqrt(2 / math.pi) * 0.044715

_SLOPES = {dtype: torch.tensor(SLOPE, dtype=dtype) for dtype in (torch.float32, torch.float64)}


class Layer(NamedTuple):
    """Dense, then GELU if ``activated``, then LayerNorm if there are a ``scale`` and a ``shift``."""

    weight: Tensor
    bias: Tensor
    scale: Tensor | None = None
    shift: Tensor | None = None
    activated: bool = True

    def part(self, stack: slice) -> "Layer":
        """The same of some members of the stack."""
        if stack.stop - stack.start == self.weight.shape[0]:
            return self
        scale, shift = (None if row is None else row[stack] for row in (self.scale, self.shift))
        return Layer(self.weight[stack], self.bias[stack], scale, shift, self.activated)


class Record(NamedTuple):
    """What the backward pass of one layer needs: its input, GELU's slope (on a GPU its input), and LayerNorm's input,
    output, mean and 1/std."""

    x: Tensor
    slope: Tensor | None
    norm: tuple[Tensor, ...] | None

    def split(self, unit: int) -> list["Record"]:
        """Of every ``unit`` rows, for whoever needs no gradient of the parameters."""
        count = self.x.shape[1] // unit
        slopes: Sequence[Tensor | None] = [None] * count if self.slope is None else self.slope.split(unit, 1)
        norms: Sequence[tuple[Tensor, ...] | None] = [None] * count
        if self.norm is not None:
            # LayerNorm's backward kernel reads mean and 1/std as if they lay densely
            dense = ([part.contiguous() for part in tensor.split(unit, 1)] for tensor in self.norm)
            norms = list(zip(*dense, strict=True))
        return [Record(self.x, slope, norm) for slope, norm in zip(slopes, norms, strict=True)]


class Block(NamedTuple):
    """A part of the stack and of the batch, with a record for each layer (none if no gradient will be asked for)."""

    stack: slice
    rows: slice
    records: list[Record]


class Pass(NamedTuple):
    """A forward pass: output [S, B, out] without graph, and its tape."""

    output: Tensor
    blocks: list[Block]


def forward(layers: list[Layer], x: Tensor, tape: bool, unit: int = 0) -> Pass:
    """The network at x [S, B, in]; with ``tape`` what its backward pass needs. No block cuts ``unit`` rows apart."""
    outputs, blocks = [], []
    whole = [(slice(0, x.shape[0]), slice(0, x.shape[1]))]
    width = max(layer.weight.shape[-1] for layer in layers)
    for stack, rows in _blocks(x.shape[0], x.shape[1], width, unit) if _in_caches(x) else whole:
        records: list[Record] = []
        h = x if rows.stop - rows.start == x.shape[1] and stack.stop - stack.start == x.shape[0] else x[stack, rows]
        for layer in layers:
            h = _layer(layer.part(stack), h, records if tape else None)
        outputs.append(h)
        blocks.append(Block(stack, rows, records))
    return Pass(_joined(outputs, blocks), blocks)


def run(layers: list[Layer], parameters: list[Tensor], x: Tensor) -> Tensor:
    """The network at x, with a graph where one is asked for; the ``parameters`` are those of `layers`, in order."""
    graph = torch.is_grad_enabled() and (x.requires_grad or any(p.requires_grad for p in parameters))
    with torch.no_grad():
        done = forward(layers, x.detach(), graph)
    return Differentiable.of(layers, parameters, [done], x) if graph else done.output


def backward(layers: list[Layer], blocks: list[Block], gradient: Tensor, inputs: bool, weights: bool):
    """From the output's gradient [S, B, out] to those of the input (None unless ``inputs``) and of every parameter,
    a list of (weight, bias, scale, shift) (None unless ``weights``)."""
    sums = [[None if p is None else torch.zeros_like(p) for p in layer[:4]] for layer in layers] if weights else None
    parts = []
    for stack, rows, records in blocks:
        g = gradient if len(blocks) == 1 else gradient[stack, rows]
        for i in reversed(range(len(layers))):
            layer, own = layers[i].part(stack), sums[i] if sums is not None else None
            if own is not None and layer is not layers[i]:
                own = [p if p is None else p[stack] for p in own]
            g = _layer_backward(layer, records[i], g, own, inputs or i > 0)
        parts.append(g)
    return _joined(parts, blocks) if inputs else None, sums


class Pullback:
    """x to J^T cotangent for every ``unit`` rows of a forward pass at x [S, K unit, in], evaluated once for all."""

    def __init__(self, layers: list[Layer], x: Tensor, unit: int, inputs: slice):
        """``inputs``: the components of x that are asked for."""
        narrowed = [layers[0]._replace(weight=layers[0].weight[:, inputs]), *layers[1:]]
        self._parts: list[list[tuple]] = [[] for _ in range(x.shape[1] // unit)]
        for stack, rows, records in forward(layers, x, True, unit).blocks:
            own = [layer.part(stack) for layer in narrowed]
            transposed = [layer.weight.transpose(1, 2) for layer in own]
            for i in range((rows.stop - rows.start) // unit):
                self._parts[rows.start // unit + i].append((stack, own, transposed, []))
            for record in records:
                for i, part in enumerate(record.split(unit)):
                    self._parts[rows.start // unit + i][-1][3].append(part)

    def __call__(self, i: int, cotangent: Tensor) -> Tensor:
        """[S, unit, inputs] at rows i unit .. (i + 1) unit, for a cotangent [S, unit, out]."""
        parts = []
        for stack, layers, transposed, records in self._parts[i]:
            g = cotangent if len(self._parts[i]) == 1 else cotangent[stack]
            for layer, weight, record in zip(reversed(layers), reversed(transposed), reversed(records), strict=True):
                g = torch.bmm(_before_activation(layer, record, g, None), weight)
            parts.append(g)
        return parts[0] if len(parts) == 1 else torch.cat(parts)


class Differentiable(torch.autograd.Function):
    """Gives the output of forward passes over consecutive rows the graph that it was computed without."""

    @staticmethod
    def of(layers: list[Layer], parameters: list[Tensor], passes: list[Pass], x: Tensor | None) -> Tensor:
        """The outputs as one [S, sum B, out]; gradients reach the ``parameters``, those of the layers in order, each in
        its own shape, and ``x`` if it is given."""
        return Differentiable.apply(layers, passes, x, *parameters)

    @staticmethod
    def forward(ctx, layers, passes, x, *parameters):
        """Joins the outputs; the tapes wait."""
        ctx.layers, ctx.blocks, start = layers, [], 0
        for done in passes:
            for block in done.blocks:
                rows = slice(block.rows.start + start, block.rows.stop + start)
                ctx.blocks.append(Block(block.stack, rows, block.records))
            start += done.output.shape[1]
        ctx.blocks = _as_one(ctx.blocks)
        ctx.shapes = [p.shape for p in parameters] if any(p.requires_grad for p in parameters) else None
        return passes[0].output if len(passes) == 1 else torch.cat([done.output for done in passes], 1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        """Of x and the parameters."""
        input_gradient, sums = backward(
            ctx.layers, ctx.blocks, gradient, ctx.needs_input_grad[2], ctx.shapes is not None
        )
        if sums is None:
            return None, None, input_gradient, *[None] * (len(ctx.needs_input_grad) - 3)
        flat = [g for layer in sums for g in layer if g is not None]
        return None, None, input_gradient, *(g.view(shape) for g, shape in zip(flat, ctx.shapes, strict=True))


def _layer(layer: Layer, x: Tensor, records: list[Record] | None) -> Tensor:
    z = torch.bmm(x, layer.weight).add_(layer.bias)  # baddbmm takes a third longer: it copies the bias first
    if not layer.activated:
        if records is not None:
            records.append(Record(x, None, None))
        return z
    y, slope = _gelu_with_slope(z) if records is not None else (_gelu(z), None)
    norm, out = None, y
    if layer.scale is not None and layer.shift is not None:
        normalised, mean, inverse = torch.native_layer_norm(y, y.shape[-1:], None, None, EPSILON)
        norm, out = (y, normalised, mean, inverse), torch.addcmul(layer.shift, normalised, layer.scale)
    if records is not None:
        records.append(Record(x, slope, norm))
    return out


def _layer_backward(layer: Layer, record: Record, g: Tensor, sums: list | None, further: bool) -> Tensor:
    """Adds the parameters' gradients to ``sums``; returns the input's where it goes ``further``, else z's."""
    g = _before_activation(layer, record, g, sums)
    if sums is not None:
        sums[0].baddbmm_(record.x.transpose(1, 2), g)
        sums[1] += g.sum(1, keepdim=True)
    return torch.bmm(g, layer.weight.transpose(1, 2)) if further else g


def _before_activation(layer: Layer, record: Record, g: Tensor, sums: list | None) -> Tensor:
    """From the gradient of a layer's output to that of z."""
    if record.norm is not None and layer.scale is not None:
        y, normalised, mean, inverse = record.norm
        if sums is not None:
            sums[2] += (g * normalised).sum(1, keepdim=True)
            sums[3] += g.sum(1, keepdim=True)
        none, mask = None, [True, False, False]
        g = torch.ops.aten.native_layer_norm_backward(
            g * layer.scale, y, y.shape[-1:], mean, inverse, none, none, mask
        )[0]
    return g if record.slope is None else _times_slope(g, record.slope)


def _in_caches(x: Tensor) -> bool:
    """Whether blocks pay: on a GPU every block would be further kernels to launch."""
    return x.device.type == "cpu"


def _gelu(z: Tensor) -> Tensor:
    """GELU of z, whose memory it may take."""
    if not _in_caches(z):
        return functional.gelu(z, approximate="tanh")  # one kernel
    return torch.addcmul(_SLOPES[z.dtype], z, z, value=CUBIC).mul_(z).sigmoid_().mul_(z)


def _gelu_with_slope(z: Tensor) -> tuple[Tensor, Tensor]:
    """GELU of z and its derivative there; on a GPU z itself, of which `_times_slope` makes it in one kernel."""
    if not _in_caches(z):
        return functional.gelu(z, approximate="tanh"), z
    u = torch.addcmul(_SLOPES[z.dtype], z, z, value=CUBIC).mul_(z)
    s = u.sigmoid()
    slope = torch.addcmul(s, torch.addcmul(s, s, s, value=-1), u.sub_(z, alpha=2 * SLOPE / 3), value=3)
    return s.mul_(z), slope


def _times_slope(g: Tensor, slope: Tensor) -> Tensor:
    """The gradient of z from that of GELU and what `_gelu_with_slope` left."""
    return g * slope if _in_caches(g) else torch.ops.aten.gelu_backward(g, slope, approximate="tanh")


def _as_one(blocks: list[Block]) -> list[Block]:
    """Blocks of consecutive rows as one block of the same tape, where a copy is cheaper than launches for each."""
    x = blocks[0].records[0].x
    width = max(record.x.shape[2] for record in blocks[0].records)
    if _in_caches(x) or len(blocks) == 1 or x.shape[0] * blocks[-1].rows.stop * width > JOINT:
        return blocks
    records = []
    for parts in zip(*(block.records for block in blocks), strict=True):
        slope = None if parts[0].slope is None else torch.cat([part.slope for part in parts], 1)
        norm = parts[0].norm and tuple(torch.cat(own, 1) for own in zip(*(part.norm for part in parts), strict=True))
        records.append(Record(torch.cat([part.x for part in parts], 1), slope, norm))
    return [Block(blocks[0].stack, slice(0, blocks[-1].rows.stop), records)]


def _blocks(stack: int, batch: int, width: int, unit: int) -> list[tuple[slice, slice]]:
    """Parts of the stack, or of the rows where one member is a block already, in order."""
    members = max(1, BLOCK // (batch * width))
    if members > 1 or batch * width <= BLOCK:
        return [(slice(i, min(i + members, stack)), slice(0, batch)) for i in range(0, stack, members)]
    unit = unit or min(batch, 128)
    rows = unit * max(1, BLOCK // (unit * width))
    starts = range(0, batch, rows)
    return [(slice(i, i + 1), slice(j, min(j + rows, batch))) for i in range(stack) for j in starts]


def _joined(parts: list[Tensor], blocks: list[Block]) -> Tensor:
    """The parts of a tensor as one, rows before stack."""
    if len(parts) == 1:
        return parts[0]
    members: list[Tensor] = []
    for first in sorted({block.stack.start for block in blocks}):
        rows = [part for part, block in zip(parts, blocks, strict=True) if block.stack.start == first]
        members.append(rows[0] if len(rows) == 1 else torch.cat(rows, 1))
    return members[0] if len(members) == 1 else torch.cat(members)
