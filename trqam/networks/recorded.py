"""A function of tensors on a CPU, its operators recorded once and run from then on by TorchScript's interpreter.

The same kernels run in the same order, so that every bit is the same; what goes is Python and autograd between them,
which on small arrays take as long as the kernels. Recording takes seconds; trqam/networks/capture.py says when it
pays.

What is recorded must be a function of its inputs and of tensors that stay where they are, such as a state's parameters:
it changes none of them, looks at no value, and its inputs have the same shapes at every call. Views of those tensors,
such as a transposed weight, are taken once. TorchScript leaves operators out that return nothing (``_foreach_mul_``),
so that none may be among the recorded; PyTorch calls it deprecated, and has nothing else yet that runs a program on a
CPU without minutes of compiling it.
"""

import math
import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, Node
from torch.fx.experimental.proxy_tensor import make_fx

Tensors = dict[str, Tensor]
Function = Callable[[Tensors, Tensors], tuple[list[Tensor], Tensors]]

ATEN = torch.ops.aten
VIEWS = {
    *(ATEN.view.default, ATEN.unsqueeze.default, ATEN.squeeze.dim, ATEN.transpose.int, ATEN.detach.default),
    *(ATEN.expand.default, ATEN.slice.Tensor, ATEN.select.int),
}
ON_CPU = ("device", "pin_memory", "layout")  # arguments of factories, which mean nothing else here


class Recorded:
    """``function`` of a batch and its noise, to a list of tensors and metrics; recorded at the first call."""

    def __init__(self, function: Function):
        self._function = function
        self._program: Callable[..., list[Tensor]] | None = None
        self._held: list[Tensor] = []
        self._names: list[str] = []

    @torch.no_grad()
    def __call__(self, batch: Tensors, noise: Tensors) -> tuple[list[Tensor], Tensors]:
        """What the function gives for them; without graph."""
        inputs = [*batch.values(), *noise.values()]
        if self._program is None:
            self._record(batch, noise, inputs)
            assert self._program is not None
        values = self._program(*inputs, *self._held)
        metrics = dict(zip(self._names, values, strict=False))
        return values[len(metrics) :], metrics

    def _record(self, batch: Tensors, noise: Tensors, inputs: list[Tensor]) -> None:
        def flat(*given: Tensor) -> list[Tensor]:
            with torch.enable_grad():
                values = iter(given)
                parts = ({name: next(values) for name in part} for part in (batch, noise))
                tensors, metrics = self._function(*parts)
            self._names = list(metrics)
            return [*metrics.values(), *tensors]

        traced = make_fx(flat)(*inputs)
        held = _views(traced.graph, traced)
        self._held = list(held.values())
        self._program = torch.jit.CompilationUnit(_source(traced.graph, [node.name for node in held])).program


def _views(graph: Graph, owner: torch.nn.Module) -> dict[Node, Tensor]:
    """The tensors that were there before, and views of nothing but them, of which the rest of the graph reads."""
    found: dict[Node, Tensor] = {}
    for node in graph.nodes:
        if node.op == "get_attr":
            found[node] = getattr(owner, str(node.target)).detach()
        elif node.target in VIEWS and found.keys() >= set(node.all_input_nodes):
            given = [found[value] if isinstance(value, Node) else value for value in node.args]
            found[node] = node.target(*given)
    return {node: tensor for node, tensor in found.items() if not found.keys() >= node.users.keys()}


def _source(graph: Graph, held: list[str]) -> str:
    """The operators as TorchScript, a line each, in their order; what nothing reads is left out."""
    needed, lines = set[Node](), list[str]()
    for node in reversed(graph.nodes):
        if node.op == "output":
            needed |= {*node.all_input_nodes}
            lines.append(f"    return {_written(node.args[0])}")
        elif node.op == "call_function" and node.name not in held and node in needed | _changing(node):
            needed |= {*node.all_input_nodes}
            lines.append(f"    {node.name} = {_call(node)}")
    inputs = [node.name for node in graph.nodes if node.op == "placeholder"]
    return "\n".join([f"def program({', '.join([*inputs, *held])}):", *reversed(lines), ""])


def _changing(node: Node) -> set[Node]:
    """The node itself, if it writes into one of its inputs."""
    schema: Any = getattr(node.target, "_schema", None)
    return {node} if schema is not None and schema.is_mutable else set()


def _call(node: Node) -> str:
    if node.target is operator.getitem:
        return f"{_written(node.args[0])}[{node.args[1]}]"
    schema = getattr(node.target, "_schema", None)
    assert schema is not None, node.target
    assert schema.returns, f"{schema.name} returns nothing"
    named = [f"{key}={_written(value)}" for key, value in node.kwargs.items() if key not in ON_CPU]
    words = [*map(_written, node.args), *named]
    return f"torch.ops.aten.{schema.name.removeprefix('aten::')}({', '.join(words)})"


def _written(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_written, value))}]"
    if isinstance(value, float) and not math.isfinite(value):
        return f"float('{value}')"
    if isinstance(value, str):
        return repr(value)
    return str(value)  # a node's name, a number, None, a dtype
