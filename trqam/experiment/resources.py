"""What a job asks a cluster for: measured by `trqam plan --save`, or the documented defaults; free of torch.

A job that outlives its request is not lost: its retry goes on from the last checkpoint and asks for more. A generous
request therefore costs waiting time in the queue, a small one a restart.
"""

import math
import os
from pathlib import Path

import msgspec

from trqam.config.load import Config
from trqam.config.reading import read_json
from trqam.config.schema import Count
from trqam.config.strict import Strict, convert
from trqam.experiment.files import refuse_foreign, write_json


class Request(Strict):
    """Minutes and megabytes (10^6 bytes) that a job asks for at its first attempt."""

    runtime: Count
    mem_mb: Count


class Requests(Strict):
    """One request a kind of job; ``longest``: minutes that the cluster allows a job at most, null: any."""

    measured_on: str
    longest: Count | None
    dataset: Request
    pretrain: Request
    offline: Request
    online: Request
    rollouts: Request

    def runtime(self, kind: str, attempt: int) -> int:
        """Minutes of an attempt (from 1): in proportion, within ``longest``."""
        minutes = getattr(self, kind).runtime * attempt
        return min(minutes, self.longest or minutes)

    def mem_mb(self, kind: str, attempt: int) -> int:
        """Megabytes of an attempt (from 1): twice as many from the second on; most retries only go on."""
        return getattr(self, kind).mem_mb * min(attempt, 2)


KINDS = ("dataset", "pretrain", "offline", "online", "rollouts")

# Where nothing was measured: a day for what trains.
DEFAULTS = Requests(
    measured_on="nothing: defaults",
    longest=None,
    dataset=Request(runtime=12 * 60, mem_mb=8_000),  # official files: a download of up to 42 GB, and storing it
    pretrain=Request(runtime=24 * 60, mem_mb=16_000),
    offline=Request(runtime=24 * 60, mem_mb=32_000),
    online=Request(runtime=24 * 60, mem_mb=32_000),
    rollouts=Request(runtime=60, mem_mb=8_000),
)


def path_of(config: Config) -> Path:
    """Where `trqam plan --save` leaves what it measured, and the workflow looks for it."""
    return config.results / "resources.json"


def load(config: Config) -> Requests:
    """What was measured for this scale, else `DEFAULTS`."""
    path = path_of(config)
    if not os.path.lexists(path):
        return DEFAULTS
    return convert(read_json(path), Requests, str(path))


def refuse_foreign_file(config: Config) -> None:
    """A UserError if what `save` would replace holds no requests."""
    fix = "move it away, for the workflow reads it"
    refuse_foreign(path_of(config), lambda path: convert(read_json(path), Requests, str(path)), "plan of ours", fix)


def save(config: Config, requests: Requests) -> list[str]:
    """Writes ``requests`` to where `load` looks; says what, and how often the longest job must be continued."""
    path, longest = path_of(config), requests.longest
    write_json(path, msgspec.to_builtins(requests))
    asked = {kind: getattr(requests, kind) for kind in KINDS}
    lines = [f"asks    {r.runtime / 60:.1f} hours and {r.mem_mb / 1000:.1f} GB: {kind}" for kind, r in asked.items()]
    if longest and (most := max(r.runtime for r in asked.values())) > longest:
        turns = math.ceil(most / longest)
        lines += [f"turns   up to {turns} jobs of {longest / 60:g} hours for the longest one: use --retries {turns}"]
    return [*lines, f"saved   {path}, which the workflow reads; delete it to have the defaults again"]
