"""What an update is given, its batch and its noise, and where both are made.

| device | batch | noise |
|---|---|---|
| CPU | NumPy, each seed's stream | NumPy, each seed's stream (`FromHost`) |
| GPU, data fit into its memory | there, from indices drawn there (`FromDevice`) | there (`trqam.maths.philox`) |
| GPU, data do not fit | NumPy, one step ahead, from pinned memory (`Streamed`) | there |

A feed is told of every step (`prepare`, before the launch, and `after`), and called inside the step for the tensors:
those of the GPU's feeds stay where they are, so that the step can be captured.
"""

from typing import Protocol

import torch

from trqam.agents.base import Agent, Tensors
from trqam.data import on_device
from trqam.data.dataset import first_transitions
from trqam.data.on_device import Resident, Window, discount_powers
from trqam.maths.philox import Draws
from trqam.training.experience import Offline
from trqam.training.policy import Policy
from trqam.training.profiling import region


class Feed(Protocol):
    """Batches and noise of a stack, step by step."""

    def prepare(self, step: int) -> None:
        """Makes ready what the update of ``step`` needs."""

    def __call__(self) -> tuple[Tensors, Tensors]:
        """The batch and the noise, [R, ...] on the device."""

    def after(self, step: int) -> None:
        """Called when the update of ``step`` has been launched."""


def feed_of(policy: Policy, experience: Offline, placed: Resident | None, capacity: int) -> Feed:
    """The feed for the policy's device; ``placed`` holds the dataset there, if it fits, and room is made for
    ``capacity`` new transitions of every seed that explores."""
    if policy.device.type not in on_device.DEVICES:
        return FromHost(policy, experience)
    if placed is None:
        return Streamed(policy, experience)
    return FromDevice(policy, experience, placed, capacity)


class FromHost:
    """Everything from NumPy's streams, at the step itself."""

    def __init__(self, policy: Policy, experience: Offline):
        self._policy, self._experience = policy, experience
        self._given: tuple[Tensors, Tensors] = {}, {}

    def prepare(self, step: int) -> None:
        """Samples and draws."""
        agent, experience, device = self._policy.agent, self._experience, self._policy.device
        with region("sampling"):
            batch = self._policy.batch(experience.batch(step))
        with region("noise"):
            noise = agent.draw_noise(experience.seeds, f"noise/{experience.stage}", step, agent.run.batch_size)
        self._given = batch, {name: tensor.to(device) for name, tensor in noise.items()}

    def __call__(self) -> tuple[Tensors, Tensors]:
        """The last prepared."""
        return self._given

    def after(self, step: int) -> None:
        """Nothing is drawn ahead."""


class _OnDevice:
    """What both feeds of a GPU have: the clock, and random numbers drawn by it."""

    def __init__(self, policy: Policy, experience: Offline):
        self._policy, self._experience, self._device = policy, experience, policy.device
        agent: Agent = policy.agent
        batch = agent.run.batch_size
        purpose = f"update/{experience.stage}"
        self._draws = Draws(experience.seeds, purpose, batch, agent.noise_shapes(batch), self._device)
        self._values: dict[str, int] = {}
        self._scalars = {
            name: torch.ones((), dtype=torch.int64, device=self._device) for name in ("step", "start", "length", "size")
        }

    def _fill(self, **values: int) -> None:
        """Sets scalars on the device, those that change, without waiting for it."""
        for name, value in values.items():
            if self._values.get(name) != value:
                self._scalars[name].fill_(value)
                self._values[name] = value


class FromDevice(_OnDevice):
    """Indices, noise and chunks made on the device, inside the step."""

    def __init__(self, policy: Policy, experience: Offline, placed: Resident, capacity: int):
        super().__init__(policy, experience)
        self._resident, run = placed, policy.agent.run
        placed.follow(experience.replays, capacity)
        self._powers = discount_powers(run.discount, run.horizon, self._device)
        self._mean, self._std = policy.tensor(policy.mean), policy.tensor(policy.std)

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
            batch = self._resident.batch(first, Window(at["start"], at["length"]), self._powers)
            for key in ("observations", "next_observations"):
                batch[key] = (batch[key] - self._mean) / self._std
        return batch, noise

    def after(self, step: int) -> None:
        """Nothing is drawn ahead."""


class Streamed(_OnDevice):
    """Batches sampled on the CPU, into tensors on the device that stay; noise drawn there."""

    def __init__(self, policy: Policy, experience: Offline):
        super().__init__(policy, experience)
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
        batch = self._policy.host(self._experience.batch(step))
        return {key: t.pin_memory() if self._device.type == "cuda" else t for key, t in batch.items()}
