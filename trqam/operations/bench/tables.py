"""A record as Markdown that is also readable on a terminal; and what speed is asked for, with whether it has that."""

from collections.abc import Callable
from statistics import median
from typing import NamedTuple

from trqam.config.wording import count
from trqam.operations.bench.cases import seconds_a_unit
from trqam.operations.bench.record import Measurement, Record, ratio

GEMM = {"paper": 0.69, "small": 0.39}  # of the rate of products, R = 1: 1.0 and 1.2 x the authors' jitted JAX
PACKED = {"small": 0.7, "profile": 0.4}  # seconds a replica, R = 8 by R = 1
UNPACKED = ("paper", 4)  # where stacking may not pay; then the default must not do it
PROCESSES = 1.8  # throughput of two by that of one
STACKED = "time a replica by one after another"
# Time a replica by that of the same update in JAX, by size and R.
BESIDE_JAX = {("paper", 1): 0.8, ("small", 1): 0.9, ("profile", 1): 1.0}
BESIDE_JAX |= {("paper", 8): 0.6, ("small", 8): 0.6, ("profile", 8): 0.35}


class Verdict(NamedTuple):
    """One target, and what was found."""

    what: str
    target: str
    found: str
    met: bool


def verdicts(record: Record) -> list[Verdict]:
    """Of a CPU's targets, as far as they were measured; none beside JAX, and `benchmarks.gpu` judges a GPU."""
    found: list[Verdict] = []
    if record.hardware["gpu"] or record.pairs:
        return found

    def row(size: str, replicas: int) -> Measurement | None:
        return next((row for row in record.rows if row.key[1:4] == (size, "trqam", replicas)), None)

    def stacked(row: Measurement | None) -> float | None:  # time a replica by that of a single one
        single = record.one(row) if row else None
        return ratio(row, single) if row and single else None

    def judge(what: str, sign: str, bound: float, value: float | None, shown: Callable[[float], str] = _factor) -> None:
        if value is not None:
            met = value >= bound if sign == ">=" else value <= bound
            found.append(Verdict(what, f"{sign} {shown(bound)}", shown(value), met))

    for size, least in GEMM.items():
        single = row(size, 1)
        share = record.share(single) if single else None
        judge(f"{size}, R = 1: share of the rate of products", ">=", least, share, _percent)
    for size, most in PACKED.items():
        judge(f"{size}, R = 8: {STACKED}", "<=", most, stacked(row(size, 8)))
    size, replicas = UNPACKED
    time, default = stacked(row(size, replicas)), record.packed.get(size)
    if time is not None and default is not None:
        told = f"{_factor(time)}, default {default}"
        met = default == 1 or time < 1
        found.append(Verdict(f"{size}, R = {replicas}: {STACKED}", "default 1, or below 1", told, met))
    for pair in record.concurrent:
        judge(f"{pair.size}: throughput of two processes by that of one", ">=", PROCESSES, pair.throughput("wall"))
    return found


def _factor(value: float) -> str:
    return f"{value:.2f} x"


def _percent(value: float) -> str:
    return f"{100 * value:.0f} %"


def described(record: Record) -> str:
    """Everything that a record says."""
    hardware, versions = record.hardware, record.versions
    where = f"{hardware['cores']} cores of {hardware['cpu']}, {hardware['memory']} GB"
    where = f"{hardware['gpu']}; {where}" if hardware["gpu"] else where
    commit = record.git_commit[:8] + (" with changes" if record.git_changes else "")
    turns = f"medians of {count(record.repeats, 'turn')} of at least {record.seconds:g} s"
    load = "other work on the machine: load {:.1f} before, {:.1f} after".format(*record.load)
    judged = [[*verdict[:3], "met" if verdict.met else "NOT met"] for verdict in verdicts(record)]
    compared = {row.group for row, _ in record.pairs}
    parts = [
        f"{where}; one thread a process; PyTorch {versions['torch']}, Python {versions['python']}; commit `{commit}`, "
        f"{record.created[:10]}; {turns}; {load}.",
        *([markdown(["asked for", "target", "found", ""], judged)] if judged else []),
        *(_beside(record, size) for size in dict.fromkeys(row.size for row, _ in record.pairs)),
        *(_group(record, name) for name in dict.fromkeys(row.group for row in record.rows) if name not in compared),
    ]
    if record.concurrent:
        header = ["two processes by one", "method", "throughput", "if both had a core (CPU time)"]
        throughputs = [(r, r.throughput("wall"), r.throughput("cpu")) for r in record.concurrent]
        parts.append(markdown(header, [[r.size, r.method, f"{w:.2f}", f"{c:.2f}"] for r, w, c in throughputs]))
    if record.skipped:
        parts.append("Not measured:\n" + "\n".join(f"- {line}" for line in record.skipped))
    return "\n\n".join(parts)


def _beside(record: Record, size: str) -> str:
    """The rows of a size, each beside the same update in JAX: processor time of an update, by replicas."""
    header = ["method", "R", "step", "ms a replica", "JAX, ms a replica", "ours by JAX", "asked for", "products alone"]
    header += ["JAX's replicas", "ours builds, s", "JAX compiles, s", "wall/CPU", "JAX's wall/CPU"]
    cells, version = [], ""
    for row, peer in record.pairs:
        if row.size == size and peer.compiled:
            version, way = peer.compiled.version, peer.compiled.way if row.replicas > 1 else "--"
            times = [number(1000 * median(r.seconds) / r.replicas) for r in (row, peer)]
            found, most = round(ratio(row, peer), 2), BESIDE_JAX.get((size, row.replicas))
            asked = f"<= {most:.2f}, {'met' if found <= most else 'NOT met'}" if most else "--"
            least, built = record.least(row, peer), "--" if row.built is None else number(row.built)
            named = [row.method, str(row.replicas), row.mode, *times, f"{found:.2f}", asked]
            named += ["--" if least is None else f"{least:.2f}", way, built]
            cells.append([*named, number(peer.compiled.seconds), f"{row.waiting:.2f}", f"{peer.waiting:.2f}"])
    return f"**{size}: beside JAX {version}**, on one core ({record.sizes[size]})\n\n" + markdown(header, cells)


def _group(record: Record, name: str) -> str:
    """The rows of a group: beside one replica, or where methods differ beside TRQAM."""
    rows = [row for row in record.rows if row.group == name]
    methods = len({row.method for row in rows}) > 1
    beside = "time, trqam is 1" if methods else "time a replica, R = 1 is 1"
    header = ["method", "R", "step", "updates/s", "replica-updates/s", beside, "GFLOP/s", "of GEMM"]
    header += ["operators", "MB", "wall/CPU"]
    cells = []
    for row in rows:
        other = next((r for r in rows if r.method == "trqam"), None) if methods else record.one(row)
        relative, flops = f"{ratio(row, other):.2f}" if other else "--", f"{row.flops * row.updates / 1e9:.1f}"
        named = [row.method, str(row.replicas), row.mode]
        rates = [number(row.updates), number(row.replicas * row.updates), relative, flops]
        cells.append([*named, *rates, *_facts(record, row), f"{row.waiting:.2f}"])
    peaks = [
        f"{1 / median(seconds_a_unit(turn, peak.device) for turn in peak.turns) / 1e9:.1f} GFLOP/s"
        for peak in record.peaks
        if peak.group == name
    ]
    between = f"products between the turns: {', '.join(peaks)}"
    return f"**{name}** ({record.sizes[rows[0].size]}); {between}\n\n" + markdown(header, cells)


def _facts(record: Record, row: Measurement) -> list[str]:
    """What does not depend on the clock, and the share of products."""
    share = record.share(row)
    return ["--" if share is None else _percent(share), str(row.operators), f"{row.peak / 1e6:.0f}"]


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """A table with aligned columns, numbers to the right."""
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    left = [not any(row[column][:1].isdigit() for row in rows) for column in range(len(header))]

    def line(cells: list[str]) -> str:
        padded = (c.ljust(w) if flush else c.rjust(w) for c, w, flush in zip(cells, widths, left, strict=True))
        return f"| {' | '.join(padded)} |"

    rule = "|".join("-" * (width + 1) + ("-" if flush else ":") for width, flush in zip(widths, left, strict=True))
    return "\n".join([line(header), f"|{rule}|", *map(line, rows)])


def number(value: float) -> str:
    """Three digits that count, never an exponent."""
    return f"{float(f'{value:.3g}'):.12g}"
