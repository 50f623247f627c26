"""``python -m tests.chaos``: an undisturbed run, then every kind of failure, so many events of each, and one table."""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import torch

from tests.chaos.damage import flips, lost, truncations
from tests.chaos.events import Event, into, read, table, write
from tests.chaos.kills import fresh, kills
from tests.chaos.marks import Marks
from tests.chaos.poison import poison
from tests.chaos.world import EPISODE, STAGES, World
from tests.chaos.writes import writes
from tests.helpers.episodes import shortened

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
        with marks.instrumented(), shortened(EPISODE):
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


def main() -> None:
    """The command line; exit code 1 if a promise was broken."""
    top = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    top.add_argument("--seed", type=int, default=0, help="of all random instants and places (default: %(default)s)")
    top.add_argument("--share", type=float, default=1.0, help="of the full campaign's events (default: %(default)s)")
    top.add_argument("--only", nargs="+", choices=FULL, default=list(FULL), help="kinds of failure (default: all)")
    top.add_argument("--folder", type=Path, help="to make a temporary one in (default: the system's)")
    top.add_argument("--events", type=Path, metavar="FILE", help="record every event there, a line of JSON each")
    top.add_argument("--document", type=Path, metavar="FILE", help="put the table into it, too")
    top.add_argument("--read", type=Path, nargs="+", metavar="FILE", help="run nothing: take events so recorded")
    arguments = top.parse_args()
    record = arguments.events and arguments.events.resolve()
    if arguments.read:
        events = [event for path in arguments.read for event in read(path)]
        if record:
            write(events, record)
    else:
        counts = {kind: max(1, round(arguments.share * FULL[kind])) for kind in arguments.only}
        with tempfile.TemporaryDirectory(prefix="chaos", dir=arguments.folder) as folder:
            keep = partial(write, path=record) if record else list
            events = campaign(Path(folder), arguments.seed, counts, keep)
    print("\n".join(table(events)))
    if arguments.document:
        into(arguments.document, "python -m tests.chaos", table(events))
    bad = [event for event in events if not event.good]
    for event in bad:
        print(f"{event.kind}: {event.details}: {event.why}", file=sys.stderr)
    sys.exit(bool(bad))
