"""A function of tensors on a CPU, its operators recorded once and run from then on without Python and autograd between
them, which on small arrays take as long as the kernels.

TorchScript's interpreter runs the same kernels in the same order, so that every bit is the same; recording takes
seconds. Inductor builds other kernels, a loop for what were several passes over an array: equal to rounding, quicker,
and built within minutes. trqam/networks/capture.py says when either pays.

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
from torch.fx import Graph, GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx

from trqam.config.errors import UserError

Tensors = dict[str, Tensor]
Function = Callable[[Tensors, Tensors], tuple[list[Tensor], Tensors]]
Program = Callable[..., list[Tensor]]

ATEN = torch.ops.aten
VIEWS = {
    *(ATEN.view.default, ATEN.unsqueeze.default, ATEN.squeeze.dim, ATEN.transpose.int, ATEN.detach.default),
    *(ATEN.expand.default, ATEN.slice.Tensor, ATEN.select.int),
}
ON_CPU = ("device", "pin_memory", "layout")  # arguments of factories, which mean nothing else here


class Recorded:
    """``function`` of a batch and its noise, to a list of tensors and metrics; recorded at the first call."""

    def __init__(self, function: Function, compiled: bool = False):
        """``compiled``: by Inductor; a UserError at the first call where there is no C++ compiler."""
        self._function, self._compiled = function, compiled
        self._program: Program | None = None
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
        self._held = _take_out(traced)
        self._program = _compile(traced, [*inputs, *self._held]) if self._compiled else _script(traced.graph)


def _take_out(traced: GraphModule) -> list[Tensor]:
    """The tensors that were there before, and views of nothing but them, of which the rest of the graph reads: they
    become its last inputs, so that nobody takes what they hold now for a constant."""
    graph, found = traced.graph, dict[Node, Tensor]()
    for node in graph.nodes:
        if node.op == "get_attr":
            found[node] = getattr(traced, str(node.target)).detach()
        elif node.target in VIEWS and found.keys() >= set(node.all_input_nodes):
            given = [found[value] if isinstance(value, Node) else value for value in node.args]
            found[node] = node.target(*given)
    held = {node: tensor for node, tensor in found.items() if not found.keys() >= node.users.keys()}
    with graph.inserting_before(next(node for node in graph.nodes if node.op != "placeholder")):
        inputs = [graph.placeholder(f"held_{node.name}") for node in held]
    for node, stand_in in zip(held, inputs, strict=True):
        node.replace_all_uses_with(stand_in, delete_user_cb=lambda user: user not in found)
    graph.eliminate_dead_code()
    traced.recompile()
    return list(held.values())


def _compile(traced: GraphModule, inputs: list[Tensor]) -> Program:
    """The graph by Inductor, in this process alone: other cores are other jobs'. A UserError if no compiler does it."""
    from torch._inductor import config, exc  # a second of imports, for those who ask for it

    try:
        with config.patch(compile_threads=1):
            return torch._inductor.compile(traced, [*inputs])
    except exc.InductorError as error:
        cause = error.inner_exception
        if not isinstance(cause, exc.InvalidCxxCompiler | exc.CppCompileError | OSError):
            raise
        missing = isinstance(cause, exc.InvalidCxxCompiler)
        why = "no C++ compiler is found" if missing else f"it cannot be built ({cause})"
        fix = "install g++ and Python's header files (and unset CXX if it names another), or set step: auto"
        raise UserError(f"step: compiled: {' '.join(why.split())[:300]}; {fix}") from error


def _script(graph: Graph) -> Program:
    """The operators as TorchScript, a line each, in their order."""
    inputs = [node.name for node in graph.nodes if node.op == "placeholder"]
    lines = [f"    {node.name} = {_call(node)}" for node in graph.nodes if node.op == "call_function"]
    (given,) = graph.output_node().args
    source = [f"def program({', '.join(inputs)}):", *lines, f"    return {_written(given)}", ""]
    return torch.jit.CompilationUnit("\n".join(source)).program


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
