"""Replicas: the learner's state with a leading axis for independent runs, and what must never leak between them.

A single run is R = 1. Every reduction here keeps the replica axis, so a slice of a stack computes what the lone run
does.
"""

import ctypes
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.optim.adam import adam

from trqam.config.errors import UserError
from trqam.config.load import Run
from trqam.maths.dual import DualState
from trqam.networks.mlp import Parameters


@dataclass
class State:
    """All that a learner remembers; updated in place, saved whole. Tensors are [R, ...]; Adam's ``step`` is shared."""

    online: dict[str, Parameters]
    target: dict[str, Parameters]
    first_moment: dict[str, Parameters]
    second_moment: dict[str, Parameters]
    dual: DualState
    step: Tensor

    def named(self) -> Iterator[tuple[str, Tensor]]:
        """Every tensor with a replica axis, as ("online/critic/0.weight", tensor)."""
        for group in ("online", "target", "first_moment", "second_moment"):
            for network, parameters in getattr(self, group).items():
                for name, tensor in parameters.items():
                    yield f"{group}/{network}/{name}", tensor
        for name in DualState._fields:
            yield f"dual/{name}", getattr(self.dual, name)

    def only(self, names: Collection[str]) -> "State":
        """The same tensors without networks that ``names`` lacks, such as "online/critic"."""
        online = {name: own for name, own in self.online.items() if f"online/{name}" in names}
        target = {name: own for name, own in self.target.items() if f"target/{name}" in names}
        return replace(self, online=online, target=target)

    def replica(self, index: int) -> dict[str, Tensor]:
        """One replica's tensors, detached copies, by name; with Adam's step."""
        tensors = {name: tensor[index].detach().clone().cpu() for name, tensor in self.named()}
        return {**tensors, "step": self.step.clone().cpu()}


def assemble(replicas: list[dict[str, Tensor]], device: torch.device | str = "cpu") -> State:
    """The inverse of `State.replica`: stacks replicas of equal step into one state.

    What else a checkpoint holds, of the environment, is left out.
    """
    step = replicas[0]["step"]
    assert all(torch.equal(step, r["step"]) for r in replicas), "replicas of different steps"
    groups: dict[str, dict[str, Parameters]] = {g: {} for g in ("online", "target", "first_moment", "second_moment")}
    dual = {}
    for name in sorted(replicas[0]):  # one order, whoever made the dict: sums over all tensors depend on it
        group, _, rest = name.partition("/")
        if group not in (*groups, "dual"):
            continue
        tensor = torch.stack([r[name] for r in replicas]).to(device)
        if group == "dual":
            dual[rest] = tensor
        else:
            network, _, parameter = rest.partition("/")
            groups[group].setdefault(network, {})[parameter] = tensor.requires_grad_(group == "online")
    return State(**groups, dual=DualState(**dual), step=step.to(device, copy=True))


def leaves(networks: dict[str, Parameters]) -> list[Tensor]:
    """All parameters of all networks, in a fixed order."""
    return [tensor for parameters in networks.values() for tensor in parameters.values()]


def replica_norm(gradients: list[Tensor]) -> Tensor:
    """The global L2 norm over all gradients of each replica, [R]: one norm over the stack would couple the replicas."""
    norms = [torch.linalg.vector_norm(g.flatten(1), dim=1) for g in gradients]
    return torch.linalg.vector_norm(torch.stack(norms), dim=0)


def all_finite(tensors: list[Tensor]) -> Tensor:
    """Which replicas [R] hold finite numbers only."""
    return torch.stack([torch.isfinite(t.reshape(len(t), -1)).all(1) for t in tensors]).all(0)


def clip_per_replica(gradients: list[Tensor], norm: Tensor) -> None:
    """Scales each replica's gradients to norm 1 where it is 1 or more, in place; no epsilon, as optax."""
    scale = torch.where(norm < 1, torch.ones_like(norm), 1 / norm)
    torch._foreach_mul_(gradients, [scale.view(-1, *[1] * (gradient.dim() - 1)) for gradient in gradients])


def adam_step(state: State, gradients: list[Tensor], learning_rate: float) -> None:
    """One step of Adam (0.9, 0.999, eps 1e-8 outside the root) over all online parameters, in place."""
    parameters = leaves(state.online)
    adam(
        parameters,
        gradients,
        leaves(state.first_moment),
        leaves(state.second_moment),
        [],
        list(state.step.repeat(len(parameters)).unbind()),  # counted up inside, once per parameter
        fused=True,
        amsgrad=False,
        beta1=0.9,
        beta2=0.999,
        lr=learning_rate,
        weight_decay=0.0,
        eps=1e-8,
        maximize=False,
    )
    state.step += 1


def polyak(target: dict[str, Parameters], online: dict[str, Parameters], rate: float) -> None:
    """target <- rate * online + (1 - rate) * target for the networks that have a target, in place."""
    pairs = [(tensor, online[network][name]) for network, own in target.items() for name, tensor in own.items()]
    if pairs:
        moving, towards = zip(*pairs, strict=True)
        torch._foreach_lerp_(moving, [tensor.detach() for tensor in towards], rate)


def device_of(name: str) -> torch.device:
    """The device of the scale file: auto takes a GPU where there is one; UserError where cuda is asked for in vain."""
    there = name != "cpu" and torch.cuda.is_available()
    if name == "cuda" and not there:
        raise UserError("device: cuda: PyTorch sees no GPU here; --set device=auto, or run where there is one")
    if name == "auto":
        name = "cuda" if there else "cpu"
    return torch.device(name)


# Where stacking stops to pay: on a CPU wide layers fill its caches alone (benchmarks/README.md).
CPU_REPLICAS, CPU_WIDTH = 8, 128
GPU_REPLICAS, GPU_WIDTH = 16, 512  # a paper-size replica takes about half a GB


def replicas_at_once(setting: int | str, run: Run, device: torch.device) -> int:
    """How many seeds are stacked: ``setting`` itself, or for "auto" what suits the device and the network's width."""
    if setting != "auto":
        return int(setting)
    if device.type == "cpu":
        return CPU_REPLICAS if run.hidden_width <= CPU_WIDTH else 1
    return GPU_REPLICAS if run.hidden_width <= GPU_WIDTH else GPU_REPLICAS // 2


# Of the C library's allocator: names of mallopt(3), and bytes; the largest block that it can be told to keep.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
KEPT_IN_ALL, LARGEST_KEPT = 2**31 - 1, 32 * 2**20


def keep_freed_memory() -> None:
    """Tells the C library, where it is glibc, to keep what a training step frees: the next asks for the same again.

    By default large blocks go back to the kernel, which hands them out anew page by page: at the paper's size 16,000
    page faults an update, a twentieth of its time.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(MMAP_THRESHOLD, LARGEST_KEPT)
        mallopt(TRIM_THRESHOLD, KEPT_IN_ALL)
