"""Checkpoints cut short and bits turned over, in every file that a checkpoint consists of."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tests.chaos.events import Event
from tests.chaos.world import SAVES, STAGES, World, as_record, cells, difference, directories, newest
from trqam.experiment import checkpoint
from trqam.training.experience import REPLAY
from trqam.training.learner import Learner

UPDATES = 3 * SAVES + 2  # so far the victims get: two generations lie behind them


def truncations(world: World, count: int) -> Iterator[Event]:
    """Files of the newest generation, cut at a random length."""
    for number in range(count):
        yield _damaged(world, number, "truncated", "a checkpoint's file truncated")


def flips(world: World, count: int) -> Iterator[Event]:
    """Files of the newest generation with one random bit turned over."""
    for number in range(count):
        yield _damaged(world, number, "flipped", "a checkpoint's file with a bit flipped")


def _damaged(world: World, number: int, how: str, kind: str) -> Event:
    rng, stage = world.rng(how, number), STAGES[number % len(STAGES)]
    place = world.place(victim(world, stage))
    reached = newest(place, stage)
    before = reached - SAVES
    path, first = _choose(rng, place, stage, reached, before)
    where = cut(rng, path, first) if how == "truncated" else flip(rng, path, first)
    event = Event(kind, as_record(number=number, stage=stage, file=str(path.relative_to(place)), at=where))
    ended = world.start(place, stage).wait()
    warnings, began = ended.containing("warning"), world.marks["start"]
    # the warning may name either of the pair: a checksum is one's as the other's
    event.survived = ended.code == 0 and len(warnings) == 1 and path.stem in warnings[0]
    event.lost = max(0, before - began)
    wrong = difference(place, world.reference(stage))
    event.identical = not wrong
    if not event.good:
        event.why = f"exit code {ended.code}, began at {began}, {ended.lines[-3:]}, {wrong}"
    return event


def lost(world: World, count: int) -> Iterator[Event]:
    """Every generation of one seed damaged, of a training or of a finished stage: refused, and nothing touched."""
    for number in range(count):
        rng, stage = world.rng("lost", number), STAGES[number % len(STAGES)]
        finished = number % 2 == 1
        place = world.place(world.reference(stage) if finished else victim(world, stage))
        directory = directories(place, stage)[-1]
        for path in sorted(directory.glob("step*.safetensors")):
            flip(rng, path, 0)
        content = {path: path.read_bytes() for path in directory.iterdir()}
        event = Event("every generation damaged", as_record(number=number, stage=stage, finished=finished))
        ended = world.start(place, stage).wait()
        errors = ended.containing("trqam: error: ")
        event.survived = ended.code == 2 and len(errors) == 1 and str(directory.relative_to(place)) in errors[0]
        event.identical = content == {path: path.read_bytes() for path in directory.iterdir()}
        event.lost = UPDATES if world.marks["start"] >= 0 else 0  # it began anew
        if not event.good:
            event.why = f"exit code {ended.code}: {ended.lines[-3:]}"
        yield event


def victim(world: World, stage: str) -> Path:
    """A run killed in the middle of a stage, with two generations; made once."""
    place = world.folder / "victims" / stage
    if not place.exists():
        earlier = STAGES.index(stage) - 1
        made = world.place(world.reference(STAGES[earlier]) if earlier >= 0 else None)
        ended = world.start(made, stage, prepare=_die_at_update).wait()
        if ended.code != -signal.SIGKILL or len(checkpoint.recorded(directories(made, stage)[0])) != 2:
            raise RuntimeError(f"no victim: {ended}")
        place.parent.mkdir(exist_ok=True)
        made.rename(place)
    return place


def _die_at_update() -> None:
    """In a fork: SIGKILL at an update, whatever its number is in the stage."""
    original = Learner.update

    def update(self: Learner, step: int) -> None:
        if step == UPDATES:
            os.kill(os.getpid(), signal.SIGKILL)
        original(self, step)

    Learner.update = update


def _choose(rng: np.random.Generator, place: Path, stage: str, newest_step: int, before: int) -> tuple[Path, int]:
    """A file of the newest generation, and the first byte that only this generation needs."""
    cell = cells(place, stage)[rng.integers(len(cells(place, stage)))]
    directory = cell / "run" / stage
    files = [directory / f"step{newest_step:09d}{suffix}" for suffix in (".safetensors", ".json")]
    if stage == "online" and rng.random() < 1 / 3:
        replay = checkpoint.read(directory, before).record["experience"]["replay"]
        return directory / REPLAY, replay["rows"] * replay["width"] * 4
    return files[rng.integers(2)], 0


def cut(rng: np.random.Generator, path: Path, first: int) -> int:
    """Truncates a file to a random length from ``first`` on; the length."""
    content = path.read_bytes()
    length = int(rng.integers(first, len(content)))
    path.write_bytes(content[:length])
    return length


def flip(rng: np.random.Generator, path: Path, first: int) -> int:
    """Turns over a random bit behind ``first``; its number. One that changes the meaning: 1e-05 is as well 1E-05."""
    content = path.read_bytes()
    while True:
        bit = int(rng.integers(8 * first, 8 * len(content)))
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        if path.suffix != ".json" or not _same(content, bytes(damaged)):
            path.write_bytes(damaged)
            return bit


def _same(content: bytes, damaged: bytes) -> bool:
    try:
        return json.loads(content) == json.loads(damaged)
    except ValueError:
        return False
