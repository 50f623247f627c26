"""How an update is launched: operator by operator, as one captured CUDA graph, or compiled. The only file that knows.

A step that can be captured takes no argument and returns nothing: what it reads and writes are tensors that stay where
they are (the state, the batch or what it is drawn from, the clock, the sums of the metrics). Nothing in it waits for
the device and nothing decides by a value.
"""

import gc
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

WARM_UP = 3  # eager launches before the capture: libraries choose their algorithms and take their memory then


def kind_of(setting: str, device: torch.device) -> str:
    """ "eager", "captured" or "compiled" for the scale's ``step``; capturing needs CUDA and falls back to eager, in one
    line on stderr."""
    if setting == "auto":
        return "captured" if device.type == "cuda" else "eager"
    if setting == "captured" and device.type != "cuda":
        _say(f"step: captured: a CUDA graph needs a GPU, and the device is {device.type}; going on with eager")
        return "eager"
    return setting


def launcher(
    function: Callable[..., Any],
    given: Callable[[], tuple],
    account: Callable[[Any], None],
    kind: str,
    device: torch.device,
) -> Callable[[], None]:
    """What runs ``account(function(*given()))`` once a call, launched as ``kind`` says.

    "compiled" compiles all but ``account`` with Inductor, for minutes at the first call; on CUDA the result is
    captured, too.
    """
    compiled = torch.compile(lambda: function(*given())) if kind == "compiled" else None

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


@cache
def _say(line: str) -> None:
    """Once a process, however many stacks it trains."""
    print(line, file=sys.stderr)
