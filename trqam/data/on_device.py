"""A dataset and the stack's new transitions as tensors of the device, and batches made there.

`Resident.batch` gives what `trqam.data.dataset.training_batch` gives, normalised as there, to the bit on a CPU, without
reading from the device: it can be part of a captured step. Which transitions it draws from is said by tensors, too:

    index < length                    transition start + index of the dataset: all of it, or one shard
    length <= index < length + new    new transition index - length of the replica
"""

import gc
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from trqam.data.dataset import ACTION_BOUND, Dataset, Normaliser
from trqam.data.replay import Replay

DEVICES = ("cuda",)  # those with memory of their own; they draw their random numbers themselves, too
SHARE = 0.5  # of the device's free memory that data may take; the rest is for networks and activations
FLOAT = 4
PIECE = 1 << 20  # rows that are copied at once


@dataclass
class Window:
    """Where indices point, as tensors [] in int64 that are filled before every update."""

    start: Tensor
    length: Tensor


@dataclass
class _Places:
    """Where transitions lie: rows of the store, and, where ``is_new``, rows of the new transitions."""

    rows: Tensor
    new: Tensor | None = None
    is_new: Tensor | None = None

    def at(self, step: Tensor) -> "_Places":
        """Of each chunk [R, B, L] the transition at ``step`` [R, B]."""
        parts = [part for part in (self.rows, self.new, self.is_new) if part is not None]  # all, or the first alone
        return _Places(*(part.gather(-1, step[..., None]).squeeze(-1) for part in parts))


def weight(dataset: Dataset, replicas: int, new: int) -> int:
    """Bytes that ``dataset`` and ``new`` transitions for each of ``replicas`` take."""
    return sum(array.nbytes for array in dataset.raw.values()) + replicas * new * _width(dataset.raw) * FLOAT


def free_memory(device: torch.device) -> int:
    """Bytes that are free on a GPU, once those are given back that a stack before this one held."""
    gc.collect()  # a learner and its captured step refer to each other
    torch.cuda.empty_cache()
    return torch.cuda.mem_get_info(device)[0]


def place(dataset: Dataset, replicas: int, new: int, device: torch.device) -> "Resident | None":
    """``dataset`` on ``device`` if it fits into ``SHARE`` of what is free there, with ``new`` transitions to come;
    None where it does not, and on a CPU, whose memory it is mapped into already."""
    if device.type not in DEVICES or weight(dataset, replicas, new) > SHARE * free_memory(device):
        return None
    return Resident(dataset, device)


class Resident:
    """A dataset on the device; the new transitions of a stack beside it once there are any to `follow`."""

    def __init__(self, dataset: Dataset, device: torch.device):
        self.device = device
        self._normaliser = Normaliser(*(torch.from_numpy(np.array(part)).to(device) for part in dataset.normaliser))
        self._ends = torch.from_numpy(dataset.ends).to(device)
        self._old = {key: _upload(array, device) for key, array in dataset.raw.items()}
        self._old["actions"].clamp_(-ACTION_BOUND, ACTION_BOUND)
        self._new: dict[str, Tensor] = {}  # their columns, [R capacity, ...]
        self._replays: list[Replay] = []
        self._rows = torch.empty(0, device=device)  # new transitions as the replays hold them, [R, capacity, width]
        self._known = 0  # how many of them there are of each replica

    def follow(self, replays: list[Replay], capacity: int) -> None:
        """Makes room for ``capacity`` new transitions of each of ``replays``, and forgets those before."""
        self._replays, self._known = replays, 0
        if replays:
            self._rows = torch.zeros(len(replays), capacity, _width(self._old), device=self.device)
            self._new = {key: self._rows.flatten(0, 1)[:, column] for key, column in replays[0].columns.items()}

    def append(self) -> int:
        """Copies what the replays have gained; how many new transitions each has now."""
        if self._replays and (count := self._replays[0].count) > self._known:
            gained = np.stack([replay.rows(self._known) for replay in self._replays])  # all gain one a step
            host = torch.from_numpy(gained)
            host = host.pin_memory() if self.device.type == "cuda" else host
            self._rows[:, self._known : count].copy_(host, non_blocking=True)
            self._known = count
        return self._known

    def batch(self, first: Tensor, window: Window, powers: Tensor) -> dict[str, Tensor]:
        """The training batch of the chunks that begin at ``first`` [R, B], for ``powers`` of the discount [L]."""
        steps = torch.arange(len(powers), device=first.device)
        chunk = self._places(first[..., None] + steps, window)
        terminals = self._take("terminals", chunk).cummax(-1).values
        valid = torch.cat([torch.ones_like(terminals[..., :1]), 1 - terminals[..., :-1]], -1)
        rewards = self._take("rewards", chunk) * powers * valid
        last = valid.sum(-1).long() - 1
        return {
            "observations": self._normaliser(self._take("observations", chunk.at(torch.zeros_like(last)))),
            "actions": self._take("actions", chunk).flatten(-2),
            "rewards": rewards.double().cumsum(-1)[..., -1].float(),
            "masks": torch.where(valid > 0, self._take("masks", chunk), 1.0).amin(-1),
            "valid": valid[..., -1],
            "next_observations": self._normaliser(self._take("next_observations", chunk.at(last))),
        }

    def _places(self, index: Tensor, window: Window) -> _Places:
        if not self._replays:
            return _Places(self._store_row(index + window.start))
        is_new = index >= window.length
        old = self._store_row(torch.where(is_new, 0, index + window.start))
        first = torch.arange(len(index), device=index.device)[:, None, None] * self._rows.shape[1]
        return _Places(old, (index - window.length).clamp(min=0) + first, is_new)

    def _store_row(self, transitions: Tensor) -> Tensor:
        """Of the store: one row more for each episode before."""
        return transitions + torch.searchsorted(self._ends, transitions, right=True)

    def _take(self, key: str, places: _Places) -> Tensor:
        """A column at ``places``; terminals and next observations stand in the row after a transition's."""
        later = key in ("terminals", "next_observations")
        old = self._old[key.removeprefix("next_")][places.rows + int(later)]
        if places.is_new is None:
            return old
        is_new = places.is_new[..., None] if old.dim() > places.is_new.dim() else places.is_new
        return torch.where(is_new, self._new[key][places.new], old)


def discount_powers(discount: float, horizon: int, device: torch.device) -> Tensor:
    """1, gamma, gamma^2 .. [L]: float64 powers rounded to float32, as the sampler of `trqam.data.dataset` has them."""
    return torch.from_numpy((discount ** np.arange(horizon, dtype=np.float64)).astype(np.float32)).to(device)


def _upload(array: np.ndarray, device: torch.device) -> Tensor:
    """A mapped array, piece by piece."""
    tensor = torch.empty(array.shape, dtype=torch.float32, device=device)
    for first in range(0, len(array), PIECE):
        tensor[first : first + PIECE].copy_(torch.from_numpy(np.array(array[first : first + PIECE])))
    return tensor


def _width(store: dict[str, np.ndarray] | dict[str, Tensor]) -> int:
    """Numbers of a replay's row: two observations, action, reward, mask and terminal."""
    return 2 * store["observations"].shape[1] + store["actions"].shape[1] + 3
