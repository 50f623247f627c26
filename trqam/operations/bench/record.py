"""What a benchmark saves: every turn as it was measured, and where. What tables say is computed from it."""

import re
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
import psutil
import torch

from trqam.config.errors import UserError
from trqam.config.reading import read_json
from trqam.config.strict import Strict, convert
from trqam.environments.processes import cores
from trqam.experiment.files import write_json
from trqam.experiment.provenance import provenance
from trqam.operations.bench.cases import Case, Turn, seconds_a_unit

FOLDER = Path("benchmarks/results")


class Peak(Strict):
    """The machine's matrix products while a group was measured; units are FLOPs."""

    group: str
    device: str
    turns: list[Turn]


class Compiled(Strict):
    """How JAX did it."""

    version: str
    way: str  # of several replicas: stacked, or one after another
    seconds: float  # of a processor, to compile it


class Measurement(Strict):
    """Updates of one case; units are updates of the whole stack. The n-th turns of a group follow one another."""

    group: str
    size: str
    method: str
    replicas: int
    mode: str
    device: str
    flops: int  # an update of the whole stack, counted from the equations
    multiplied: int  # what its matrix products really take
    operators: int  # an update
    peak: int  # bytes: of the process, or on the GPU
    turns: list[Turn]
    compiled: Compiled | None = None  # by JAX, which the group's others are measured beside
    built: float | None = None  # seconds of a processor that the first update took; older records do not tell

    @property
    def key(self) -> tuple:
        """What makes rows of two records the same."""
        return msgspec.structs.astuple(self)[:6]

    @property
    def seconds(self) -> list[float]:
        """Of an update, turn by turn."""
        return [seconds_a_unit(turn, self.device) for turn in self.turns]

    @property
    def updates(self) -> float:
        """Updates a second, the median."""
        return 1 / median(self.seconds)

    @property
    def waiting(self) -> float:
        """Wall time by processor time, the median; 1 where nothing else took the processor."""
        return median(turn.wall / turn.cpu for turn in self.turns)


class Concurrent(Strict):
    """One process alone, and several at the same time, each with one thread; turns of each, one after another."""

    size: str
    method: str
    alone: list[Turn]
    together: list[list[Turn]]  # turn by turn, one of each process

    def throughput(self, clock: str) -> float:
        """Of all together by that of one alone, by "wall" or "cpu" time: the latter is what free cores would give."""

        def rate(turn: Turn) -> float:
            return turn.units / getattr(turn, clock)

        pairs = zip(self.alone, self.together, strict=True)
        return median(sum(map(rate, several)) / rate(one) for one, several in pairs)


class Record(Strict):
    """A run of `trqam bench`."""

    created: str
    git_commit: str
    git_changes: bool | None  # unknown
    versions: dict[str, str]
    hardware: dict[str, str | int | float | None]
    load: list[float]  # processes that wanted a core, a minute's mean, before and after
    repeats: int
    seconds: float
    sizes: dict[str, str]
    packed: dict[str, int]  # size to how many replicas `replicas: auto` stacks
    peaks: list[Peak]
    rows: list[Measurement]
    concurrent: list[Concurrent]
    skipped: list[str]

    def share(self, row: Measurement) -> float | None:
        """Of the machine's rate of products that a row achieves, turn by turn, the median."""
        return self._products(row, row.flops, row.seconds)

    def least(self, row: Measurement, other: Measurement) -> float | None:
        """What the products of ``row`` take at that rate, by what ``other`` takes for as many replicas: no update that
        multiplies as much can be quicker."""
        return self._products(row, row.multiplied, other.seconds)

    def _products(self, row: Measurement, flops: int, seconds: list[float]) -> float | None:
        """So many FLOPs at the rate of the products of ``row``'s group, by ``seconds``, turn by turn, the median."""
        peak = next((peak for peak in self.peaks if (peak.group, peak.device) == (row.group, row.device)), None)
        if peak is None:
            return None
        pairs = zip(peak.turns, seconds, strict=True)
        return median(flops * seconds_a_unit(turn, row.device) / taken for turn, taken in pairs)

    @property
    def pairs(self) -> list[tuple[Measurement, Measurement]]:
        """Rows, each with the one in JAX that it was measured beside."""
        peers = {row.group: row for row in self.rows if row.compiled}
        return [(row, peers[row.group]) for row in self.rows if row.group in peers and not row.compiled]

    def one(self, row: Measurement) -> Measurement | None:
        """The row of one replica beside which ``row`` was measured."""
        alike = msgspec.structs.replace(row, replicas=1).key
        return next((other for other in self.rows if other.key == alike), None)


def default_path(kind: str) -> Path:
    """A name that tells hardware and commit, so that builds can be compared; ``kind`` is what was measured."""
    where = hardware()
    name = str(where["gpu"] or f"{where['cores']} cores {where['cpu']}")
    found = provenance()
    commit = found["git_commit"][:8] + "-changed" * bool(found["git_changes"])
    name = re.sub(r"[^a-z0-9]+", "-", re.sub(r"\(\w+\)", "", name).lower()).strip("-")
    return FOLDER / f"{name}-{commit}{f'-{kind}' if kind else ''}.json"


def hardware() -> dict[str, str | int | float | None]:
    """Processor, cores that may be used, memory in GB, GPU."""
    return {
        "cpu": provenance()["hardware"]["cpu"],
        "cores": cores(),
        "memory": round(psutil.virtual_memory().total / 1e9, 1),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def save(record: Record, path: Path) -> None:
    """Write it, complete or not at all."""
    write_json(path, msgspec.to_builtins(record))


def load(path: Path) -> Record:
    """Read what `save` wrote."""
    found = convert(read_json(path, fix="name a file that `trqam bench` has written"), Record, str(path))
    groups: dict[str, set[int]] = {}
    parts: list[Peak | Measurement] = [*found.peaks, *found.rows]
    for part in parts:
        groups.setdefault(part.group, set()).add(len(part.turns))
    if any(len(lengths) > 1 or 0 in lengths for lengths in groups.values()):
        raise UserError(f"{path}: turns of unequal number in a group; the file was changed: measure again")
    return found


def make(**values: Any) -> Record:
    """``values``, and the fields that say when, where and by what they were measured."""
    known = {key: provenance()[key] for key in ("git_commit", "git_changes", "versions")}
    created = datetime.now(UTC).isoformat(timespec="seconds")
    return Record(created=created, **known, hardware=hardware(), **values)


def row(group: str, case: Case, facts: dict[str, float], turns: list[Turn]) -> Measurement:
    """Of a case, by what `Updates` answered."""
    named = {"size": case.size.name, "method": case.size.run.method, "replicas": case.replicas, "mode": case.mode}
    values = {"group": group, **named, "device": case.device, **facts, "turns": turns}
    return msgspec.convert(values, Measurement)


def ratio(above: Measurement, below: Measurement) -> float:
    """Seconds a replica-update of one row by those of another of its group, turn by turn, the median."""
    pairs = zip(above.seconds, below.seconds, strict=True)
    return median(a / above.replicas / (b / below.replicas) for a, b in pairs)
