"""Numbers that are not finite, put into the losses, gradients, weights and rewards of one seed of two."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from tests.chaos.events import Event
from tests.chaos.world import SAVES, SEEDS, STAGES, STEPS, World, as_record, cells, directories
from trqam.agents.base import Agent, Tensors
from trqam.config.reading import read_json
from trqam.experiment import checkpoint
from trqam.networks.replicas import State
from trqam.training.learner import Learner

WHERE = ("losses", "gradients", "weights", "rewards")
NAMES = {where: where for where in WHERE} | {"weights": "weights and their moments"}
VALUES = (float("nan"), float("inf"), float("-inf"))


def poison(world: World, count: int) -> Iterator[Event]:
    """``count`` into each place: NaN, Inf and -Inf in turn, in every stage (behaviour cloning knows no rewards)."""
    unpruned = _unpruned(world)
    for where in WHERE:
        stages = [stage for stage in STAGES if stage != "pretrain" or where != "rewards"]
        for number in range(count):
            rng, stage = world.rng(f"poison/{where}", number), stages[number % len(stages)]
            first = 2 * SAVES + 1  # online, updates begin between the first two checkpoints
            dose = Dose(where, VALUES[number // len(stages) % len(VALUES)], int(rng.integers(first, STEPS - SAVES)), 0)
            if stage != "pretrain":
                dose.replica = int(rng.integers(len(SEEDS)))
            yield _poisoned(world, unpruned, stage, dose)


@dataclass
class Dose:
    """``value`` into one replica, at the update of ``step``."""

    where: str
    value: float
    step: int
    replica: int

    def inject(self) -> None:
        """In a fork: from now on the learner is given it when its step comes."""
        update, steps = Agent.update, []
        learn = Learner.update
        Learner.update = lambda learner, step: (steps.append(step), learn(learner, step))[1]

        def poisoned(agent: Agent, state: State, batch: Tensors, noise: Tensors) -> Tensors:
            return getattr(self, f"_{self.where}" if steps[-1] == self.step else "_none")(
                partial(update, agent), agent, state, batch, noise
            )

        Agent.update = poisoned

    def _none(self, update, agent, state, batch, noise) -> Tensors:
        return update(state, batch, noise)

    def _rewards(self, update, agent, state, batch, noise) -> Tensors:
        row = int(batch["valid"][self.replica].argmax())
        batch["rewards"][self.replica, row] = self.value
        return update(state, batch, noise)

    def _losses(self, update, agent, state, batch, noise) -> Tensors:
        losses = agent.losses

        def spoilt(*arguments: object) -> tuple[Tensor, Tensors]:
            loss, metrics = losses(*arguments)
            added = torch.zeros_like(loss)
            added[self.replica] = self.value
            return loss + added, metrics

        agent.losses = spoilt
        try:
            return update(state, batch, noise)
        finally:
            agent.losses = losses

    def _gradients(self, update, agent, state, batch, noise) -> Tensors:
        differentiate = torch.autograd.grad

        def spoilt(*arguments: object, **keywords: object) -> list[Tensor]:
            gradients = [gradient.clone() for gradient in differentiate(*arguments, **keywords)]
            gradients[0][self.replica].view(-1)[0] = self.value
            return gradients

        torch.autograd.grad = spoilt
        try:
            return update(state, batch, noise)
        finally:
            torch.autograd.grad = differentiate

    def _weights(self, update, agent, state, batch, noise) -> Tensors:
        metrics = update(state, batch, noise)
        tensors = [tensor for _, tensor in state.named()]  # parameters, targets, Adam's moments, multiplier
        with torch.no_grad():
            tensors[self.step % len(tensors)][self.replica].view(-1)[0] = self.value
        return metrics


def _poisoned(world: World, unpruned: Path, stage: str, dose: Dose) -> Event:
    earlier = STAGES.index(stage) - 1
    place = world.place(world.reference(STAGES[earlier]) if earlier >= 0 else None)
    event = Event(
        f"NaN or Inf in the {NAMES[dose.where]}", as_record(stage=stage, **{**vars(dose), "value": str(dose.value)})
    )
    ended = world.start(place, stage, prepare=dose.inject).wait()
    cell, directory = cells(place, stage)[dose.replica], directories(place, stage)[dose.replica]
    noticed = -(-dose.step // SAVES) * SAVES  # the end of the logging interval
    problems = (
        [] if ended.code == (2 if stage == "pretrain" else 0) else [f"exit code {ended.code}: {ended.lines[-3:]}"]
    )
    record = read_json(cell / "run/diverged.json") if (cell / "run/diverged.json").exists() else {"rows": [None]}
    if record["rows"][-1] != {"step": noticed, "status": "DIVERGED"}:
        problems.append(f"last row {record['rows'][-1]}, not DIVERGED at {noticed}")
    saved = checkpoint.Checkpoints(directory)
    good = max(saved.steps, default=-1)
    tensors = saved.load(good)[0]
    if not all(torch.isfinite(tensor).all() for tensor in tensors.values()):
        problems.append(f"the checkpoint of step {good} is not finite")
    if stage != "pretrain":
        problems += _published(world, place, stage, dose)
    event.survived, event.lost = not problems, max(0, noticed - SAVES - good)
    name = f"step{good:09d}.safetensors"
    kept, undisturbed = directory / name, directories(unpruned, stage)[dose.replica] / name
    expected = checkpoint.read(undisturbed.parent, good).record["rows"]
    event.identical = kept.read_bytes() == undisturbed.read_bytes() and record["rows"][:-1] == expected
    event.why = "; ".join(problems)
    return event


def _published(world: World, place: Path, stage: str, dose: Dose) -> list[str]:
    """What is wrong with the tables of both seeds, and with their being published again."""
    tables = [cell / f"{stage}.csv" for cell in cells(place, stage)]
    ends = [table.read_text().splitlines()[-1].split(",")[:2] for table in tables]
    expected = [["", "DIVERGED"] if replica == dose.replica else [str(STEPS), "OK"] for replica in range(len(SEEDS))]
    expected[dose.replica][0] = str(-(-dose.step // SAVES) * SAVES)
    problems = [] if ends == expected else [f"the tables end with {ends}"]
    before = [table.read_bytes() for table in tables]
    again = world.start(place, stage).wait()
    if again.code or before != [table.read_bytes() for table in tables]:
        problems.append(f"not the same when run again: {again.lines[-3:]}")
    return problems


def _unpruned(world: World) -> Path:
    """An undisturbed run with all its checkpoints."""

    def keep_all() -> None:
        checkpoint.prune = lambda *_, **__: None

    place = world.place()
    for stage in STAGES:
        if world.start(place, stage, prepare=keep_all).wait().code:
            raise RuntimeError(f"the undisturbed run failed in {stage}")
    return place
