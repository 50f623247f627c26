"""What one update asks of PyTorch: operators, and matrix products by the network whose weights they take.

Counted below autograd, so that forward and backward passes are seen alike, whatever code asked for them.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from trqam.networks.replicas import State

# Where the two factors stand among the arguments.
FACTORS = {"mm": 0, "bmm": 0, "addmm": 1, "baddbmm": 1, "baddbmm_": 1}


@dataclass
class Counts:
    """Of one call: ``operators`` by name; by network the matrix products, ``calls`` and ``products``, their FLOPs
    (2 x multiply-adds).

    A network is named as "target/base". Products with its weights are forward passes and input gradients; those of two
    activations, which weight gradients are, stand under "activations".
    """

    operators: Counter = field(default_factory=Counter)
    calls: Counter = field(default_factory=Counter)
    products: Counter = field(default_factory=Counter)

    @property
    def total(self) -> int:
        """Operators, views among them: each is dispatched."""
        return self.operators.total()


class Counting(TorchDispatchMode):
    """Counts what runs inside its `with` block; ``state`` says which storage is which network's."""

    def __init__(self, state: State):
        super().__init__()
        self.counts = Counts()
        self._owners: list[tuple[int, int, str]] = []  # first byte, end, network
        for name, tensor in state.named():
            first = tensor.data_ptr()
            size = tensor.numel() * tensor.element_size()
            self._owners.append((first, first + size, name.rpartition("/")[0]))

    def __torch_dispatch__(self, function: Any, types: Any, arguments: tuple = (), options: dict | None = None) -> Any:
        """Runs the operator, and counts it."""
        name = function.overloadpacket.__name__
        self.counts.operators[name] += 1
        if name in FACTORS:
            left, right = arguments[FACTORS[name] :][:2]
            network = self._owner(left) or self._owner(right) or "activations"
            self.counts.calls[network] += 1
            self.counts.products[network] += 2 * left.numel() * right.shape[-1]
        return function(*arguments, **options or {})

    def _owner(self, tensor: Tensor) -> str | None:
        address = tensor.data_ptr()
        return next((owner for first, end, owner in self._owners if first <= address < end), None)


def count(function: Any, state: State, *arguments: Any) -> Counts:
    """What ``function(state, *arguments)`` asks for."""
    counting = Counting(state)
    with counting:
        function(state, *arguments)
    return counting.counts
