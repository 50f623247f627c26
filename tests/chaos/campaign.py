"""The campaign: an undisturbed run, then every kind of failure, so many events of each."""

import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from tests.chaos.damage import flips, lost, truncations
from tests.chaos.events import Event
from tests.chaos.kills import fresh, kills
from tests.chaos.marks import Marks
from tests.chaos.poison import poison
from tests.chaos.world import STAGES, World, shortened
from tests.chaos.writes import writes

# Events of each kind; some make a few more, to end what they began.
FULL = {"kills": 235, "fresh": 9, "truncations": 100, "flips": 100, "lost": 12, "writes": 14, "poison": 12}
MAKERS = {maker.__name__: maker for maker in (kills, fresh, truncations, flips, lost, writes, poison)}


def campaign(
    folder: Path, seed: int, only: Mapping[str, int], report: Callable[[list[Event]], object] = list
) -> list[Event]:
    """So many events of each kind, worked out in an empty folder; ``report`` gets all so far after each kind."""
    marks, events, home = Marks(), [], Path.cwd()
    torch.set_num_threads(1)
    try:
        with marks.instrumented(), shortened():
            world = World(folder, seed, marks)
            _undisturbed(world)
            for kind, count in only.items():
                began = time.monotonic()
                made = list(MAKERS[kind](world, count))
                print(f"{kind}: {len(made)} events, {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
                events += made
                report(events)
    finally:
        os.chdir(home)
    return events


def _undisturbed(world: World) -> None:
    """What every stage leaves, and how long it takes."""
    before = None
    for stage in STAGES:
        place = world.place(before)
        began = time.monotonic()
        ended = world.start(place, stage).wait()
        if ended.code:
            raise RuntimeError("\n".join(["the undisturbed run failed:", *ended.lines]))
        world.seconds[stage] = time.monotonic() - began
        world.reference(stage).parent.mkdir(exist_ok=True)
        before = place.rename(world.reference(stage))
