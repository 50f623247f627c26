"""What a training says while it runs: to people, and between two checkpoints to `trqam status`."""

import os
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import msgspec
from tqdm import tqdm

from trqam.config.errors import UserError
from trqam.config.schema import Natural
from trqam.config.strict import read_record
from trqam.experiment.files import write_json

EVERY = 20.0  # seconds between two notes


class Note(msgspec.Struct):
    """How far a training is, saved or not: its step, seconds a step as one seed's share of its stack, and when."""

    step: Natural
    pace: Annotated[float, msgspec.Meta(ge=0, le=1e11)]
    moment: Annotated[float, msgspec.Meta(ge=0, le=1e11)]  # seconds since 1970


def noted(directory: Path) -> Note | None:
    """What the training of a run directory noted last; None if it has not. UserError if that is damaged."""
    path = directory / "progress.json"
    return Note(**read_record(path, Note, "delete it")) if os.path.lexists(path) else None


def forget(directories: Iterable[Path]) -> None:
    """Deletes the notes: nothing trains there any more."""
    for directory in directories:
        with suppress(OSError):
            (directory / "progress.json").unlink()


class Progress:
    """A bar on a terminal; in a log, one line an interval. Notes how far it is in ``directories``, of one seed each."""

    def __init__(self, title: str, total: int, start: int, directories: list[Path]):
        self._title, self._total, self._directories = title, total, directories
        self._bar = tqdm(total=total, initial=start, desc=title, disable=not sys.stderr.isatty())
        self._step = start
        self._first = 0  # the step after which it is timed: before it the untrained policy may have been evaluated
        self._began = self._noted = 0.0

    def advance(self) -> None:
        """One step further."""
        self._step += 1
        now = time.monotonic()
        if not self._first:
            self._first, self._began, self._noted = self._step, now, now
            self._bar.unpause()  # so that its clock begins here, too
        elif now - self._noted > EVERY:
            self._noted = now
            pace = (now - self._began) / ((self._step - self._first) * len(self._directories))
            for directory in self._directories:
                with suppress(UserError):  # where the disk takes it: nothing depends on it
                    note = {"step": self._step, "pace": pace, "moment": time.time()}
                    write_json(directory / "progress.json", note)
        self._bar.update()

    def report(self, records: list[dict[str, Any]], episodes_per_second: float | None = None) -> None:
        """Shows the newest row of every seed: means over the seeds that are training, and how fast they evaluated."""
        rows, timing = [record["rows"][-1] for record in records], records[0]["timing"][-1]
        names = [name for name in ("success", "path_kl", "multiplier", "flow_loss") if name in rows[0]]
        shown = {name: f"{sum(row[name] for row in rows) / len(rows):.3g}" for name in names}
        self._bar.set_postfix(shown)
        if self._bar.disable:
            values = " ".join(f"{name}={value}" for name, value in shown.items())
            speed = f"{timing['updates_per_second']:.0f} updates/s, {timing['seconds']:.0f} s"
            if episodes_per_second is not None:
                speed += f"; evaluated {episodes_per_second:.3g} episodes/s"
            step = f"step {rows[0]['step']}/{self._total}"
            print(f"{self._title}: {step} {values} ({speed})", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Leaves the terminal as it was, and no note."""
        self._bar.close()
        forget(self._directories)
