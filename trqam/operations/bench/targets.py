"""What speed is asked for, and whether a record has it."""

from collections.abc import Callable
from typing import NamedTuple

from trqam.operations.bench.record import Record, Row, ratio

GEMM = {"paper": 0.69, "small": 0.39}  # of the rate of products, R = 1: 1.0 and 1.2 x the authors' jitted JAX
PACKED = {"small": 0.7, "profile": 0.4}  # seconds a replica, R = 8 by R = 1
UNPACKED = ("paper", 4)  # where stacking may not pay; then the default must not do it
PROCESSES = 1.8  # throughput of two by that of one
GPU_GEMM = 0.30  # of the rate of tf32 products, paper size, R = 16
GPU_PACKED = 8.0  # replica-updates a second, small size captured, R = 16 by R = 1
GPU_CAPTURED = 3.0  # updates a second, R = 1, by eager


class Verdict(NamedTuple):
    """One target; ``met`` is None where nothing was measured."""

    what: str
    target: str
    found: str
    met: bool | None


def verdicts(record: Record) -> list[Verdict]:
    """Of every target that the record's device has."""
    return _on_gpu(record) if record.hardware["gpu"] else _on_cpu(record)


def _on_cpu(record: Record) -> list[Verdict]:
    found = []
    for size, least in GEMM.items():
        share = _of(_row(record, size, 1), record.share)
        found.append(_verdict(f"{size}, R = 1: share of the rate of products", ">=", least, share, _percent))
    for size, most in PACKED.items():
        pair = _pair(record, _row(record, size, 8))
        found.append(_verdict(f"{size}, R = 8: time a replica by one after another", "<=", most, pair, _factor))
    size, replicas = UNPACKED
    pair, default = _pair(record, _row(record, size, replicas)), record.packed.get(size)
    if pair is None or default is None:
        found.append(
            Verdict(f"{size}, R = {replicas}: time a replica by one after another", "--", "not measured", None)
        )
    else:
        shown, met = f"{_factor(pair)}, default {default}", default == 1 or pair < 1
        target = "default 1, or below 1"
        found.append(Verdict(f"{size}, R = {replicas}: time a replica by one after another", target, shown, met))
    for row in record.concurrent:
        what = f"{row.size}: throughput of two processes by that of one"
        found.append(_verdict(what, ">=", PROCESSES, row.throughput("wall"), _factor))
    return found


def _on_gpu(record: Record) -> list[Verdict]:
    share = _of(_row(record, "paper", 16, "captured", "tf32"), record.share)
    found = [_verdict("paper, R = 16, captured, tf32: share of the rate of products", ">=", GPU_GEMM, share, _percent)]
    pair = _pair(record, _row(record, "small", 16, "captured"))
    gain = None if pair is None else 1 / pair
    found.append(_verdict("small, captured: replica-updates/s, R = 16 by R = 1", ">=", GPU_PACKED, gain, _factor))
    for size in ("small", "paper"):
        captured, eager = (_row(record, size, 1, mode) for mode in ("captured", "eager"))
        gain = ratio(eager, captured) if captured and eager else None
        found.append(_verdict(f"{size}, R = 1: captured by eager", ">=", GPU_CAPTURED, gain, _factor))
    return found


def _row(
    record: Record, size: str, replicas: int, mode: str = "eager", precision: str = "float32", method: str = "trqam"
) -> Row | None:
    """The first such row."""
    wanted = (size, method, replicas, mode, precision)
    return next((row for row in record.rows if row.key[1:6] == wanted), None)


def _pair(record: Record, row: Row | None) -> float | None:
    """Time a replica by that of a single one."""
    single = record.one(row) if row else None
    return ratio(row, single) if single else None


def _of(row: Row | None, function: Callable[[Row], float | None]) -> float | None:
    return function(row) if row else None


def _verdict(what: str, sign: str, bound: float, found: float | None, shown: Callable[[float], str]) -> Verdict:
    target = f"{sign} {shown(bound)}"
    if found is None:
        return Verdict(what, target, "not measured", None)
    return Verdict(what, target, shown(found), found >= bound if sign == ">=" else found <= bound)


def _percent(value: float) -> str:
    return f"{100 * value:.0f} %"


def _factor(value: float) -> str:
    return f"{value:.2f} x"
