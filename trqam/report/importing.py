"""Published learning curves: from the release format of this line of work to a table in the layout of metrics.csv.

The format is a pickle of one dict keyed by `(task | domain | "all", method)` to float arrays `(evaluations, seeds)` of
success, as a fraction or in per cent. 30 rows are evaluations every 50 000 steps from step 50 000, and 31 rows have
one at step 0 too; the first million steps are offline, the rest online. A method that has other rows, whose steps
nobody knows, is left out by name, and the others are read.

Do not average a file's tasks by seed: a column need not be the same seed in two tasks. The spread of a domain is known
from its own array alone, whose rows are therefore kept, with an empty task.
"""

import hashlib
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from trqam.config.errors import UserError
from trqam.config.load import Config
from trqam.config.reading import sha256
from trqam.config.strict import read_record, shown
from trqam.config.wording import count
from trqam.experiment.files import refuse_foreign, write_atomically, write_json
from trqam.report.imported import ALL, COLUMNS, NOT_STATED, PROTOCOL, Record, read
from trqam.report.naming import Key, Names
from trqam.report.selection import IMPORTED, SOURCE
from trqam.report.unpickle import named, read_arrays

EVERY, OFFLINE_STEPS = 50_000, 1_000_000  # of the release format
VALUES = 2_000_000  # numbers in a file; the paper's curves are some 150 000
PER_CENT_FROM = 1.5  # a highest value above this cannot be a fraction
PER_CENT, FRACTION = "per cent", "a fraction"
UNITS = {"per-cent": PER_CENT, "fraction": FRACTION}  # on the command line

Arrays = dict[Key, np.ndarray]


def import_curves(
    config: Config,
    path: str | Path,
    name: str,
    first: int | None = None,
    every: int = EVERY,
    force: bool = False,
    folder: str | Path = IMPORTED,
    unit: str | None = None,
    protocol: str = "",
) -> dict[str, Any]:
    """Writes ``folder``/``name``.csv and, beside it, a record of where it came from, which is returned.

    ``first`` and ``every`` are the steps of the first evaluation and between two; without ``first`` the number of rows
    tells it. ``unit``, of `UNITS`, is that of success; without it the highest value tells it. ``protocol`` says in
    words how the curves were made. Raises UserError if the file is not of the format or names no known task or domain,
    or if ``name`` holds another file's curves and ``force`` is not set, or what no import wrote.
    """
    if not re.fullmatch(SOURCE, name):
        raise UserError(f"--as {shown(name)}: not a name; use letters, digits, `-`, `_` and `.`, such as authors-2026")
    if len(protocol) > PROTOCOL or not protocol.isprintable():
        raise UserError(f"--protocol {shown(protocol, 40)}: not a line; use up to {PROTOCOL} printable characters")
    table, record = Path(folder) / f"{name}.csv", Path(folder) / f"{name}.json"
    arrays, digest = read_arrays(path), sha256(path)
    _refuse_other(table, record, digest, force)
    _check(arrays, path)
    arrays, grids, left_out = _fitting(arrays, path, first, every)
    names = Names(arrays, config)
    names.check(path)
    curves = _table(arrays, names, grids)
    read_as = UNITS[unit] if unit else _unit(_summary(curves), path)
    most = _most(_summary(curves), read_as, path)
    curves = curves.assign(success=(curves.success / most).clip(upper=1.0), status="OK", source=name)
    text = curves[COLUMNS].to_csv(index=False)
    origin = {
        "source": name,
        "protocol": protocol,
        "file": Path(path).name,
        "sha256": digest,
        "table": hashlib.sha256(text.encode()).hexdigest(),
        "unit": read_as,
        "steps": {"every": every, "offline": OFFLINE_STEPS},
        "grids": {str(rows): [int(steps[0]), int(steps[-1])] for rows, steps in grids.items()},
        "left_out": left_out,
        "shapes": dict(Counter(" x ".join(map(str, values.shape)) for values in arrays.values())),
        "tasks": sum(bool(place.task) for place in names.places.values()),
        "domains": sum(not place.task and place.domain != ALL for place in names.places.values()),
        "methods": names.methods,
        "renamed": {task: place.task or place.domain for task, place in names.places.items() if place.known},
        "unknown": names.unknown,
        "meant": names.meant,
        "not_evaluated": int(curves.success.isna().sum()),
    }
    write_json(record, origin)
    write_atomically(table, text)  # last: this is the file that others read
    return origin


def _refuse_other(table: Path, record: Path, digest: str, force: bool) -> None:
    """A UserError unless the two names are free, or hold what an import of the same file wrote; with ``force``, what
    any import wrote."""
    fix = "choose another name, or delete it"
    refuse_foreign(record, lambda p: read_record(p, Record, fix)["source"] == table.stem, "record of its import", fix)
    refuse_foreign(table, lambda p: len(read(p)) >= 0, "table of an import", fix)
    written = read_record(record, Record, fix) if record.exists() else {}
    same = written.get("sha256") == digest and (not table.exists() or written.get("table") == sha256(table))
    if (table.exists() or written) and not (same or force):
        raise UserError(f"{table}: holds the curves of another file; choose another name, or add --force")


def described(record: dict[str, Any]) -> list[str]:
    """What an import did, in a few lines."""
    shapes = ", ".join(f"{count} of {shape}" for shape, count in record["shapes"].items())
    steps = record["steps"]
    grids = {f"{first} to {last}" for first, last in record["grids"].values()}
    numbers = {"task": record["tasks"], "domain": record["domains"], "method": len(record["methods"])}
    counts = ", ".join(count(number, noun) for noun, number in numbers.items())
    lines = [
        f"{IMPORTED / record['source']}.csv: {counts}; arrays (evaluations x seeds): {shapes}",
        f"success: read as {record['unit']}; steps {' or '.join(sorted(grids))}, every {steps['every']}, "
        f"of which up to {steps['offline']} offline",
        f"protocol: {record['protocol']}"
        if record["protocol"]
        else f"{NOT_STATED}; say with --protocol how they were made",
    ]
    lines += [f"left out: '{shown(method, 120)}': {reason}" for method, reason in record["left_out"].items()]
    if record["unknown"]:
        names = ", ".join(f"'{shown(name, 120)}'" for name in record["unknown"])
        lines.append(f"unknown to the configuration, kept as they stand: {names}")
    for name, meant in record["meant"].items():
        fix = "if so, mend the file and import it again with --force"
        lines.append(f"warning: '{shown(name, 120)}': unknown to the configuration; did you mean {meant}? {fix}")
    if record["not_evaluated"]:
        lines.append(f"values that are nan, and count as not evaluated: {record['not_evaluated']}")
    return lines


def _check(arrays: Arrays, path: str | Path) -> None:
    """A UserError if a name is none, or if there are no or too many or infinite numbers."""
    if not arrays:
        raise UserError(f"{path}: holds no curve; give a dict {{(task, method): array}}")
    if sum(values.size for values in arrays.values()) > VALUES:
        raise UserError(f"{path}: more than {VALUES} numbers; give curves of evaluations, a method at a time")
    for key, values in arrays.items():
        if any(not text or not text.isprintable() or len(text) > 100 for text in key):
            raise UserError(f"{path}: {named(key)}: not a name; use up to 100 printable characters")
        if np.isinf(values).any():
            raise UserError(f"{path}: {named(key)}: holds an infinite value; give nan where there was no evaluation")


def _fitting(
    arrays: Arrays, path: str | Path, first: int | None, every: int
) -> tuple[Arrays, dict[int, np.ndarray], dict[str, str]]:
    """The arrays of the methods that can be read, the steps by the number of rows, and the methods that are
    left out, with the reason; a UserError if all are.

    A method can be read if each of its arrays is `(evaluations, seeds)` of a known grid, and has as many seeds. Known
    are the format's grids, or where ``first`` is given that of most arrays.
    """
    if every < 1 or (first or 0) < 0:
        raise UserError("--every must be positive and --steps-from not negative; count in steps, such as 50000")
    begins, where = {30: every, 31: 0}, "where the format has 30 or 31"
    counts = Counter(len(values) for values in arrays.values() if values.ndim == 2)
    fix = "give the step of the first evaluation as --steps-from, and --every"
    if len(counts) > 1:
        fix = "put curves of each number of rows into a file of their own, to be read with --steps-from and --every"
    if first is not None:
        begins = {rows: first for rows in sorted(counts, key=lambda rows: (counts[rows], rows))[-1:]}
        where = f"where most arrays have {' or '.join(map(str, begins))}"
    seeds: dict[str, int] = {}
    problems: dict[str, str] = {}
    for key, values in arrays.items():
        problem, method = "", key[1]
        if values.ndim != 2 or not values.size:
            problem = f"{named(key)}: shape {values.shape}; give an array of (evaluations, seeds)"
        elif len(values) not in begins:
            problem = f"{len(values)} rows (evaluations), {where}; {fix}"
        elif seeds.setdefault(method, values.shape[1]) != values.shape[1]:
            problem = f"{named(key)}: {values.shape[1]} seeds where the method has {seeds[method]}; give the same"
        if problem:
            problems.setdefault(method, problem)
    kept = {key: values for key, values in arrays.items() if key[1] not in problems}
    if not kept:
        raise UserError(f"{path}: {next(iter(problems.values()))}")
    lengths = sorted({len(values) for values in kept.values()})
    return kept, {rows: begins[rows] + every * np.arange(rows) for rows in lengths}, problems


def _table(arrays: Arrays, names: Names, grids: dict[int, np.ndarray]) -> pd.DataFrame:
    """A row a value, in the order of the file: one seed after another, each in the order of its steps.

    Success is in the file's unit; ``key`` and ``whole`` say of which array it is, and whether that holds whole numbers.
    """
    parts = []
    for (task, method), values in arrays.items():
        rows, seeds = values.shape
        columns = {
            "seed": np.repeat(np.arange(seeds), rows),
            "total_step": np.tile(grids[rows], seeds),
            "success": _decimal(values).T.ravel(),
        }
        place = names.places[task]
        about = {"task": place.task, "domain": place.domain, "method": names.methods[method]}
        parts.append(pd.DataFrame(columns).assign(**about, key=named((task, method)), whole=values.dtype.kind in "iu"))
    table = pd.concat(parts, ignore_index=True)
    offline = table.total_step <= OFFLINE_STEPS
    step = table.total_step.where(offline, table.total_step - OFFLINE_STEPS)
    return table.assign(stage=np.where(offline, "offline", "online"), step=step)


def _decimal(values: np.ndarray) -> np.ndarray:
    """float64 of the decimals that were meant: 0.445 in float32 lies below it, and would round the other way."""
    return values.astype(float) if values.dtype.itemsize == 8 else values.astype(str).astype(float)


def _summary(curves: pd.DataFrame) -> pd.DataFrame:
    """A row an array that was evaluated, by its key: what it is of, and its ``low``, ``high`` and ``mean``."""
    about = ["key", "task", "domain", "method", "whole"]
    success = curves.groupby(about, sort=False).success
    return success.agg(low="min", high="max", mean="mean").dropna().reset_index(about[1:])


def _unit(arrays: pd.DataFrame, path: str | Path) -> str:
    """What success is, by the highest values: `per cent` if any is too large for a fraction.

    Raises UserError if it cannot be told, or if an array of a file in per cent has no value above 1, and so may be
    meant as a fraction. That of a domain (or of everything) is not, if its mean is about that of its tasks (domains).
    """
    if (arrays.high <= PER_CENT_FROM).all():
        for unclear in arrays[arrays.whole & (arrays.high > 0)].itertuples():
            fix = "say with --unit whether that is all or 1 per cent"
            raise UserError(f"{path}: {unclear.Index}: whole numbers up to {unclear.high:g}; {fix}")
        return FRACTION
    for small in arrays[arrays.high.between(0, 1, inclusive="right")].itertuples():
        parts = arrays[(arrays.method == small.method) & (small.task == "")]
        parts = (
            parts[parts.domain != ALL]
            if small.domain == ALL
            else parts[parts.task.ne("") & parts.domain.eq(small.domain)]
        )
        if parts.empty or small.mean < 0.1 * parts["mean"].mean():
            one = f"{arrays.high.idxmax()} is in per cent, up to {arrays.high.max():g}"
            other = f"{small.Index} seems to be a fraction, up to {small.high:g}"
            fix = "multiply that one by 100, or say --unit per-cent if it is in per cent too"
            raise UserError(f"{path}: {one}, and {other}; {fix}")
    return PER_CENT


def _most(arrays: pd.DataFrame, unit: str, path: str | Path) -> float:
    """The success that is always; a UserError if a value is no success in this unit."""
    most = 100.0 if unit == PER_CENT else 1.0
    for key, low, high in arrays[["low", "high"]].itertuples():
        for wrong in (low, high):
            if not 0 <= wrong <= most * (1 + 1e-6):
                raise UserError(f"{path}: {key}: {wrong:g} is no success as {unit}, 0 to {most:g}; mend it")
    return most
