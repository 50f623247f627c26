"""SIGKILL at random instants: of forks, in every stage and phase, many in a row; and of fresh command lines."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.chaos.events import Event
from tests.chaos.marks import PHASES
from tests.chaos.world import (
    ROOT,
    SAVES,
    STAGES,
    STEPS,
    Ended,
    World,
    as_record,
    difference,
    newest,
)
from tests.helpers.episodes import full_episodes
from trqam.config.errors import Stopped

IN_A_ROW = 5  # kills a stage at most
ANY = -1  # no aim: an instant of the stage's whole time
# How an attempt may end: finished, killed, stopped with its state saved, or terminated before it could listen.
ENDS = (0, -signal.SIGKILL, Stopped.exit_code, -signal.SIGTERM)
EVALUATING, SAVING, PUBLISHING = (PHASES.index(name) for name in ("evaluating", "saving", "publishing"))
AIMS = {"pretrain": (ANY, ANY, SAVING), "offline": (ANY, ANY, EVALUATING, SAVING)}
AIMS["online"] = AIMS["offline"]
KINDS = {
    "starting": "SIGKILL while starting or resuming",
    "evaluating": "SIGKILL in an evaluation",
    "saving": "SIGKILL in a save",
    "publishing": "SIGKILL while publishing",
}


class Plan(NamedTuple):
    """How to disturb an attempt: after a fraction of the time that the aim takes, which is let pass so often before."""

    aim: int
    fraction: float
    skipped: int
    signal: int


def kills(world: World, count: int) -> Iterator[Event]:
    """At least ``count`` kills of forks, as runs through all stages, each killed again and again until it is done."""
    chain = done = 0
    while done < count:
        events = _chain(world, chain)
        done, chain = done + len(events), chain + 1
        yield from events


def _chain(world: World, chain: int) -> list[Event]:
    rng, place, events = world.rng("kills", chain), world.place(), []
    problem = ""
    for stage in STAGES:
        pending: list[Event] = []  # killed, and the next process has not told yet where it began
        durable = 0
        for attempt in range(IN_A_ROW + 1):
            last = attempt == IN_A_ROW
            aim = PUBLISHING if rng.random() < 0.1 else int(rng.choice(AIMS[stage]))
            skipped = int(rng.integers(3)) if aim in (EVALUATING, SAVING) else 0
            plan = Plan(aim, rng.random(), skipped, signal.SIGTERM if rng.random() < 0.15 else signal.SIGKILL)
            ended, waited = _attempt(world, place, stage, None if last else plan)
            began = world.marks["start"]
            if began < 0 and ended.code == 0:
                began = STEPS  # there was nothing left to train
            if began >= 0:
                for event in pending:
                    event.lost, event.survived = max(0, durable - began), ended.code in ENDS
                pending = []
            durable = max(durable, world.marks["saved"])
            if ended.code == 0 or ended.code not in ENDS:
                break
            phase = PHASES[world.marks["phase"]]
            where = as_record(
                seed=world.seed, chain=chain, stage=stage, aim=PHASES[aim] if aim >= 0 else "any", seconds=waited
            )
            kind = KINDS.get(phase, f"SIGKILL in {stage} training".replace("pretrain ", "pre"))
            if plan.signal == signal.SIGTERM:
                kind = "SIGTERM, which saves and stops"
            events.append(Event(kind, where | {"phase": phase, "step": world.marks["step"], "saved": durable}))
            pending.append(events[-1])
        if ended.code:
            problem = f"chain {chain}, {stage}: exit code {ended.code}: {ended.lines[-3:]}"
            break
    problem = problem or "; ".join(difference(place, world.reference(STAGES[-1])))
    for event in events:
        event.identical, event.why = not problem, problem
    return events


def _attempt(world: World, place: Path, stage: str, plan: Plan | None) -> tuple[Ended, float]:
    """Runs a stage and disturbs it as planned, or not; after how many seconds."""
    child, began = world.start(place, stage, aim=plan.aim if plan else ANY), time.monotonic()
    if plan is None:
        return child.wait(), 0.0
    seconds, skipped = world.seconds[stage], plan.skipped
    if plan.aim != ANY:
        seconds = world.marks.longest(plan.aim)
        while world.marks.wait(child.pid) and skipped:
            skipped -= 1
    time.sleep(plan.fraction * seconds)
    waited = time.monotonic() - began
    return child.kill(plan.signal), waited


def fresh(world: World, count: int) -> Iterator[Event]:
    """Kills of ``python -m trqam``, as typed, at random instants of its life; a third of them in each stage.

    What is not to be killed runs as forks, with the full episodes that a fresh process has.
    """
    undisturbed, place, events = world.place(), world.place(), []
    began = time.monotonic()
    _launch(world, undisturbed, STAGES[0]).communicate()
    to_start = time.monotonic() - began
    problem = ""
    for index, stage in enumerate(STAGES):
        began = time.monotonic()
        world.start(undisturbed, stage, prepare=full_episodes).wait()
        seconds, killed = to_start + time.monotonic() - began, []
        for number in range(count * index // len(STAGES), count * (index + 1) // len(STAGES)):
            process, delay = _launch(world, place, stage), seconds * world.rng("fresh", number).random()
            time.sleep(delay)
            process.kill()
            lines = process.communicate()[1].splitlines()
            if killed:
                _resumed(killed[-1], lines)
            if process.returncode == -signal.SIGKILL:  # else it was faster
                details = as_record(number=number, stage=stage, seconds=delay, saved=newest(place, stage))
                killed.append(Event("SIGKILL of a fresh command", details))
        ended = world.start(place, stage, prepare=full_episodes).wait()
        if killed:
            _resumed(killed[-1], ended.lines)
        for event in killed:
            event.survived = ended.code == 0
        if ended.code:
            problem = f"{stage}: exit code {ended.code}: {ended.lines[-3:]}"
        events += killed
    problem = problem or "; ".join(difference(place, undisturbed))
    for event in events:
        event.identical, event.why = not problem, problem
    yield from events


def _resumed(event: Event, lines: list[str]) -> None:
    """What the process after a kill says of where it goes on: its first row is one interval later."""
    for line in lines:
        if found := re.search(r": step (\d+)/", line):
            event.lost = max(0, event.details["saved"] - max(0, int(found[1]) - SAVES))
            return


def _launch(world: World, place: Path, stage: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "trqam", *world.command(stage)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command, cwd=place, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
