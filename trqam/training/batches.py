"""What an update is given, its batch and its noise, and where both are made.

| device | batch | noise |
|---|---|---|
| CPU | NumPy, each seed's stream | NumPy, each seed's stream (`FromHost`) |
| GPU, data fit into its memory | there, from indices drawn there (`FromDevice`) | there (`Draws`) |
| GPU, data do not fit | NumPy, one step ahead, from pinned memory (`Streamed`) | there |

The tensors of the GPU's stay where they are, so that the step can be captured.
"""

import math
import zlib

import numpy as np
import torch
from torch import Tensor

from trqam.agents.base import Agent, Tensors
from trqam.data import on_device
from trqam.data.dataset import first_transitions
from trqam.data.on_device import Resident, Window, discount_powers
from trqam.maths.philox import MASK, Philox, index, normal, uniform
from trqam.maths.streams import stream
from trqam.training.experience import Offline
from trqam.training.learner import Batches
from trqam.training.profiling import region


def batches_of(
    agent: Agent, experience: Offline, device: torch.device, placed: Resident | None, capacity: int
) -> Batches:
    """The batches for a device; ``placed`` holds the dataset there, if it fits, and room is made for ``capacity`` new
    transitions of every seed that explores."""
    if device.type not in on_device.DEVICES:
        return FromHost(agent, experience, device)
    if placed is None:
        return Streamed(agent, experience, device)
    return FromDevice(agent, experience, device, placed, capacity)


class FromHost:
    """Everything from NumPy's streams, at the step itself."""

    def __init__(self, agent: Agent, experience: Offline, device: torch.device):
        self._agent, self._experience, self._device = agent, experience, device
        self._given: tuple[Tensors, Tensors] = {}, {}

    def prepare(self, step: int) -> None:
        """Samples and draws."""
        experience = self._experience
        with region("sampling"):
            batch = {key: torch.from_numpy(array) for key, array in experience.batch(step).items()}
        with region("noise"):
            noise = draw_noise(self._agent, experience.seeds, f"noise/{experience.stage}", step)
        batch, noise = ({key: t.to(self._device) for key, t in part.items()} for part in (batch, noise))
        self._given = batch, noise

    def __call__(self) -> tuple[Tensors, Tensors]:
        """The last prepared."""
        return self._given

    def after(self, step: int) -> None:
        """Nothing is drawn ahead."""


class _OnDevice:
    """What both of a GPU have: the clock, and random numbers drawn by it."""

    def __init__(self, agent: Agent, experience: Offline, device: torch.device):
        self._experience, self._device, batch = experience, device, agent.run.batch_size
        self._draws = Draws(experience.seeds, f"update/{experience.stage}", batch, agent.noise_shapes(batch), device)
        self._values: dict[str, int] = {}
        self._scalars = {
            name: torch.ones((), dtype=torch.int64, device=device) for name in ("step", "start", "length", "size")
        }

    def _fill(self, **values: int) -> None:
        """Sets scalars on the device, those that change, without waiting for it."""
        for name, value in values.items():
            if self._values.get(name) != value:
                self._scalars[name].fill_(value)
                self._values[name] = value


class FromDevice(_OnDevice):
    """Indices, noise and chunks made on the device, inside the step."""

    def __init__(self, agent: Agent, experience: Offline, device: torch.device, placed: Resident, capacity: int):
        super().__init__(agent, experience, device)
        self._resident = placed
        placed.follow(experience.replays, capacity)
        self._powers = discount_powers(agent.run.discount, agent.run.horizon, device)

    def prepare(self, step: int) -> None:
        """Tells the device the step, the window of the data, and what is new."""
        start, stop = self._experience.window(step)
        with region("sampling"):
            size = first_transitions(stop - start + self._resident.append(), len(self._powers))
            self._fill(step=step, start=start, length=stop - start, size=size)

    def __call__(self) -> tuple[Tensors, Tensors]:
        """Drawn by the clock."""
        at = self._scalars
        with region("noise"):
            first, noise = self._draws(at["step"], at["size"])
        with region("sampling"):
            return self._resident.batch(first, Window(at["start"], at["length"]), self._powers), noise

    def after(self, step: int) -> None:
        """Nothing is drawn ahead."""


class Streamed(_OnDevice):
    """Batches sampled on the CPU, into tensors on the device that stay; noise drawn there."""

    def __init__(self, agent: Agent, experience: Offline, device: torch.device):
        super().__init__(agent, experience, device)
        self._ahead: tuple[int, Tensors] = -1, {}
        self._batch: Tensors = {}

    def prepare(self, step: int) -> None:
        """Copies the batch, from pinned memory without waiting."""
        with region("sampling"):
            batch = self._ahead[1] if self._ahead[0] == step else self._sample(step)
            if not self._batch:
                self._batch = {key: torch.empty_like(tensor, device=self._device) for key, tensor in batch.items()}
            for key, tensor in batch.items():
                self._batch[key].copy_(tensor, non_blocking=True)
            self._fill(step=step)

    def __call__(self) -> tuple[Tensors, Tensors]:
        """The batch that lies ready, and noise by the clock."""
        with region("noise"):
            return self._batch, self._draws(self._scalars["step"], self._scalars["size"])[1]

    def after(self, step: int) -> None:
        """Samples the next step's batch while the device works, unless it depends on what happens until then."""
        if not self._experience.replays:
            with region("sampling"):
                self._ahead = step + 1, self._sample(step + 1)

    def _sample(self, step: int) -> Tensors:
        batch = {key: torch.from_numpy(array) for key, array in self._experience.batch(step).items()}
        return {key: t.pin_memory() if self._device.type == "cuda" else t for key, t in batch.items()}


def is_uniform(name: str) -> bool:
    """Of an agent's noise: flow times, whose names end in "_t", are uniform in [0, 1); all else is normal."""
    return name.endswith("_t")


def draw_noise(agent: Agent, seeds: list[int], purpose: str, step: int) -> Tensors:
    """The noise of one update, [R, ...] float32: each replica's from its own stream, whatever its neighbours."""
    streams = [stream(seed, purpose, step) for seed in seeds]
    noise = {}
    for name, shape in agent.noise_shapes(agent.run.batch_size).items():
        draws = [(rng.random if is_uniform(name) else rng.standard_normal)(shape, np.float32) for rng in streams]
        noise[name] = torch.from_numpy(np.stack(draws))
    return noise


class Draws:
    """All random numbers of an update in one call: first transitions of chunks, and the noise that an agent names.

    Philox's key is (seed, CRC-32 of the purpose) and its counter (position, 0, step, high half of the seed). The step
    is a tensor, so that a captured CUDA graph draws other numbers at every replay; a resumed run draws what the
    uninterrupted one drew; and no replica's numbers depend on its neighbours.
    """

    def __init__(
        self, seeds: list[int], purpose: str, batch: int, shapes: dict[str, tuple[int, ...]], device: torch.device
    ):
        """``shapes``: of the noise of one replica, by name."""
        self._replicas, self._batch, self._shapes = len(seeds), batch, shapes
        sizes = {name: math.prod(shape) for name, shape in shapes.items()}
        self._uniform = {name: size for name, size in sizes.items() if is_uniform(name)}
        self._normal = {name: size for name, size in sizes.items() if name not in self._uniform}
        numbers = (2 * batch, sum(self._uniform.values()), sum(self._normal.values()))
        self._blocks = [-(-number // 4) for number in numbers]  # an index takes two words, another number one
        word = torch.tensor([[seed & MASK for seed in seeds], [zlib.crc32(purpose.encode())] * len(seeds)])
        self._philox = Philox(word[:, :, None].to(device))
        self._odd = torch.tensor([[0] * len(seeds), [seed >> 32 for seed in seeds]])[:, :, None].to(device)
        positions = torch.arange(sum(self._blocks))
        self._even = torch.stack([positions, torch.zeros_like(positions)])[:, None].to(device)
        self._clock = torch.tensor([0, 1]).view(2, 1, 1).to(device)  # the counter's word 2 is the step

    def __call__(self, step: Tensor, size: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Integers [R, B] in [0, size) and the noise [R, ...] of ``step``; both are scalars in int64."""
        even, odd = self._philox(self._even + self._clock * step, self._odd)
        (first, second, third), (fourth, fifth, sixth) = (w.split(self._blocks, -1) for w in (even, odd))
        indices = self._rows(index(first, fourth, size))[:, : self._batch]
        noise = self._named(uniform(torch.stack([second, fifth])), self._uniform)
        noise |= self._named(normal(third, sixth), self._normal)
        return indices, {name: noise[name] for name in self._shapes}

    def _rows(self, numbers: Tensor) -> Tensor:
        """[..., R, N] to [R, all of a replica]."""
        return numbers.movedim(-2, 0).reshape(self._replicas, -1)

    def _named(self, numbers: Tensor, sizes: dict[str, int]) -> dict[str, Tensor]:
        rows = self._rows(numbers)
        parts = rows[:, : sum(sizes.values())].split(list(sizes.values()), 1)
        return {name: part.view(-1, *self._shapes[name]) for name, part in zip(sizes, parts, strict=True)}
