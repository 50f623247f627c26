"""A stack of replicas at work: `Learner` updates it, `Policy` acts with it.

Make new ones when the stack shrinks: what is captured holds the tensors of the old.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from trqam.agents.base import Agent, Tensors
from trqam.data.dataset import Normaliser
from trqam.networks.capture import Call, launcher, update_of
from trqam.networks.replicas import State
from trqam.training.profiling import region


class Batches(Protocol):
    """What updates are given, step by step (`trqam.training.batches`).

    It is told of every step (`prepare`, before the launch, and `after`), and called inside the step for the tensors.
    """

    def prepare(self, step: int) -> None:
        """Makes ready what the update of ``step`` needs."""

    def __call__(self) -> tuple[Tensors, Tensors]:
        """The batch and the noise, [R, ...] on the device."""

    def after(self, step: int) -> None:
        """Called when the update of ``step`` has been launched."""


class Learner:
    """Updates, launched, and their metrics summed where they arise."""

    def __init__(self, agent: Agent, state: State, batches: Batches, kind: str, device: torch.device):
        """``kind``: how the step is launched, of `trqam.networks.capture.kind_of`."""
        self._batches, self._device = batches, device
        self._names: tuple[str, ...] = ()
        self._sums = torch.empty(0)
        self._count = 0
        self._launch = launcher(update_of(agent, state, kind, device), batches, self._account, kind, device)

    def update(self, step: int) -> None:
        """The update of ``step``; does not wait for a GPU."""
        self._batches.prepare(step)
        with region("update"):
            self._launch()  # agent.update(state, *batches())
        self._count += 1
        self._batches.after(step)

    def means(self) -> dict[str, list[float]]:
        """Every metric's mean for each replica over the logging interval, in one copy from the device."""
        if not self._count:
            return {}
        return dict(zip(self._names, (self._sums / self._count).tolist(), strict=True))

    def begin_interval(self) -> None:
        """A logging interval begins."""
        self._sums.fill_(-0.0)
        self._count = 0

    def interval(self, replica: int) -> dict[str, Any]:
        """The interval so far, of one replica, exactly, in JSON's types; for `resume_interval`."""
        sums = self._sums[:, replica].tolist() if self._names else []
        return {"updates": self._count, "names": list(self._names), "sums": sums}

    def resume_interval(self, saved: list[dict[str, Any]]) -> None:
        """Goes on in the interval that `interval` told of every replica; before the first update."""
        self._count, self._names = saved[0]["updates"], tuple(saved[0]["names"])
        if self._names:
            sums = [part["sums"] for part in saved]
            self._sums = torch.tensor(sums, dtype=torch.get_default_dtype(), device=self._device).T.contiguous()

    def _account(self, metrics: Tensors) -> None:
        values = torch.stack(tuple(metrics.values()))  # [metrics, R]
        if not self._names:  # the first launch, which is never captured
            self._names = tuple(metrics)
            self._sums = torch.full_like(values, -0.0)  # -0 + x is x, also where x is -0
        self._sums += values


class Policy:
    """Acts: NumPy in, NumPy out, with the networks that the agent names alone, so that they are what must be kept."""

    def __init__(self, agent: Agent, state: State, normaliser: Normaliser, device: torch.device, kind: str = "eager"):
        """``kind``: how updates are launched; on a GPU acting is captured unless they are eager."""
        self.noise_size = agent.noise_size
        self._act, self.normaliser, self._device = partial(agent.act, state.only(agent.acts_with)), normaliser, device
        self._captured = device.type == "cuda" and kind != "eager"
        self._calls: dict[tuple[int, ...], Call] = {}  # by the shape of the observations

    def act(self, observations: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Chunks [R, S, D] for observations [R, S, O] and noise [R, S, noise_size]."""
        act: Callable[[Tensor, Tensor], Tensor] = self._act
        if self._captured:
            if observations.shape not in self._calls:
                self._calls[observations.shape] = Call(self._act, "captured", self._device)
            act = self._calls[observations.shape]
        return act(self._tensor(self.normaliser(observations)), self._tensor(noise)).cpu().numpy()

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array, np.float32)).to(self._device)
