"""The updates of one stack: fed, launched, and their metrics summed where they arise."""

from typing import Any

import torch
from torch import Tensor

from trqam.agents.base import Agent, Tensors
from trqam.networks.capture import launcher
from trqam.networks.replicas import State
from trqam.training.batches import Feed
from trqam.training.profiling import region


class Learner:
    """One stack that learns. Make a new one when the stack shrinks: a captured step holds the tensors of the old."""

    def __init__(self, agent: Agent, state: State, feed: Feed, kind: str, device: torch.device):
        """``kind``: how the step is launched, of `trqam.networks.capture.kind_of`."""
        self._agent, self._state, self._feed, self._device = agent, state, feed, device
        self._names: tuple[str, ...] = ()
        self._sums = torch.empty(0)
        self._count = 0
        self._launch = launcher(self._update, self._account, kind, device)

    def update(self, step: int) -> None:
        """The update of ``step``; does not wait for a GPU."""
        self._feed.prepare(step)
        with region("update"):
            self._launch()
        self._count += 1
        self._feed.after(step)

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

    def _update(self) -> Tensors:
        return self._agent.update(self._state, *self._feed())

    def _account(self, metrics: Tensors) -> None:
        if not self._names:  # the first launch, which is never captured
            self._names = tuple(metrics)
            self._sums = torch.full_like(_stacked(metrics), -0.0)  # -0 + x is x, also where x is -0
        self._sums += _stacked(metrics)


def _stacked(metrics: Tensors) -> Tensor:
    """[metrics, R]."""
    return torch.stack(tuple(metrics.values()))
