"""How an update is launched: operator by operator, captured (as one CUDA graph, or on a CPU as one program), or
compiled. The only file that knows.

A step that can be captured takes no argument and returns nothing: what it reads and writes are tensors that stay where
they are (the state, the batch or what it is drawn from, the clock, the sums of the metrics). Nothing in it waits for
the device and nothing decides by a value.
"""

import gc
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from trqam.networks.recorded import Recorded, Tensors
from trqam.networks.replicas import State

WARM_UP = 3  # eager launches before the capture: libraries choose their algorithms and take their memory then

# On a CPU: recording takes as long as some 700 updates with it save, and wide layers are arithmetic.
CPU_UPDATES, CPU_WIDTH = 1000, 256


class Updates(Protocol):
    """An agent (`trqam.agents.base`), for whom `update` is `descend` with what `gradients` gives."""

    def update(self, state: State, batch: Tensors, noise: Tensors) -> Tensors:
        """Metrics."""

    def gradients(self, state: State, batch: Tensors, noise: Tensors) -> tuple[list[Tensor], Tensors]:
        """Of all parameters, and metrics; changes nothing."""

    def descend(self, state: State, gradients: list[Tensor], metrics: Tensors) -> Tensors:
        """The step, in place."""


def kind_of(setting: str, device: torch.device, updates: int, width: int) -> str:
    """ "eager", "captured" or "compiled" for the scale's ``step``, and for auto: captured on a GPU, and on a CPU where
    that many ``updates`` of networks of this ``width`` pay for it. On a CPU "captured" has the bits of "eager", and
    "compiled" has not."""
    if setting != "auto":
        return setting
    pays = device.type == "cuda" or (updates >= CPU_UPDATES and width <= CPU_WIDTH)
    return "captured" if pays else "eager"


def update_of(agent: Updates, state: State, kind: str, device: torch.device) -> Callable[[Tensors, Tensors], Tensors]:
    """An update of ``state`` by a batch and its noise, to metrics; on a CPU its gradients are recorded unless it is
    eager."""
    if kind == "eager" or device.type != "cpu":
        return partial(agent.update, state)
    gradients = Recorded(partial(agent.gradients, state), kind == "compiled")
    return lambda batch, noise: agent.descend(state, *gradients(batch, noise))


def launcher(
    function: Callable[..., Any],
    given: Callable[[], tuple],
    account: Callable[[Any], None],
    kind: str,
    device: torch.device,
) -> Callable[[], None]:
    """What runs ``account(function(*given()))`` once a call, launched as ``kind`` says.

    On CUDA "compiled" compiles all but ``account`` with Inductor, for minutes at the first call, and the result is
    captured, too; on a CPU the function itself is (`update_of`).
    """
    compiled = torch.compile(lambda: function(*given())) if kind == "compiled" and device.type == "cuda" else None

    def step() -> None:
        account(compiled() if compiled else function(*given()))

    return Captured(step) if device.type == "cuda" and kind != "eager" else step


class Call:
    """A function of tensors to a tensor, such as a policy's action, launched like a step, for inputs of one shape."""

    def __init__(self, function: Callable[..., Tensor], kind: str, device: torch.device):
        """``kind``: "eager" or "captured"; the function reads its inputs and what stays where it is, and writes
        nothing."""
        self._inputs: tuple[Tensor, ...] = ()
        self._result = torch.empty(0)
        self._launch = launcher(function, lambda: self._inputs, self._keep, kind, device)

    def __call__(self, *given: Tensor) -> Tensor:
        """The function of ``given``; the next call may write over it."""
        if not self._inputs:
            self._inputs = tuple(torch.empty_like(tensor) for tensor in given)
        for mine, new in zip(self._inputs, given, strict=True):
            mine.copy_(new)
        self._launch()
        return self._result

    def _keep(self, result: Tensor) -> None:
        self._result = result  # of a graph: where every replay will write it


class Captured:
    """A step that runs eagerly ``WARM_UP`` times, on a side stream, and is one CUDA graph from then on.

    The warm-up runs are steps like all others, so that nothing has to be undone: every call is one step.
    """

    def __init__(self, step: Callable[[], None]):
        self._step = step
        self._stream = torch.cuda.Stream()
        self._left = WARM_UP
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self) -> None:
        """One step, launched on the current stream; does not wait for it."""
        if self._left:
            self._left -= 1
            self._stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._stream):
                self._step()
            torch.cuda.current_stream().wait_stream(self._stream)
            return
        if self._graph is None:
            gc.collect()  # a graph that dies while another is captured breaks the capture
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):  # records, and runs nothing
                self._step()
        self._graph.replay()
