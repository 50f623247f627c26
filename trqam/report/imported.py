"""Published learning curves: from the release format of this line of work to a table in the layout of metrics.csv.

The format is a pickle of one dict keyed by `(task | domain | "all", method)` to float arrays `(evaluations, seeds)` of
success, as a fraction or in per cent. 30 rows are evaluations every 50 000 steps from step 50 000, and 31 rows have
one at step 0 too; the first million steps are offline, the rest online. A method that has other rows, whose steps
nobody knows, is left out by name, and the others are read.

Do not average a file's tasks by seed: a column need not be the same seed in two tasks. The spread of a domain is known
from its own array alone, whose rows are therefore kept, with an empty task.
"""

import difflib
import hashlib
import io
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd

from trqam.config.errors import UserError
from trqam.config.load import Config, domain_of, tasks_of
from trqam.config.reading import read_bytes, sha256
from trqam.config.strict import read_record, shown
from trqam.experiment.files import refuse_foreign, write_atomically, write_json
from trqam.report.selection import IMPORTED, SOURCE, imported_tables
from trqam.report.unpickle import named, read_arrays

TEXT = ("task", "domain", "method", "stage", "status", "source")
NUMBERS = ("seed", "step", "total_step", "success")
COLUMNS = ["task", "domain", "method", "seed", "stage", "step", "total_step", "status", "success", "source"]
EVERY, OFFLINE_STEPS = 50_000, 1_000_000  # of the release format
VALUES = 2_000_000  # numbers in a file; the paper's curves are some 150 000
PER_CENT_FROM = 1.5  # a highest value above this cannot be a fraction
PER_CENT, FRACTION = "per cent", "a fraction"
UNITS = {"per-cent": PER_CENT, "fraction": FRACTION}  # on the command line
ALL = "all"
AGAIN = "delete it, or import it again"
SUGGESTED = 20  # unknown names, at most, for which a known one is looked for

Key = tuple[str, str]
Arrays = dict[Key, np.ndarray]


@dataclass(frozen=True)
class Place:
    """What the first name of a key means: a task of a domain, or without a task a whole domain, or `all`."""

    task: str
    domain: str
    known: bool = True


class Record(msgspec.Struct):
    """What is read of the record beside a table: the SHA-256 of the file that was imported, and of the table."""

    source: str
    sha256: str
    table: str = ""


def import_curves(
    config: Config,
    path: str | Path,
    name: str,
    first: int | None = None,
    every: int = EVERY,
    force: bool = False,
    folder: str | Path = IMPORTED,
    unit: str | None = None,
) -> dict[str, Any]:
    """Writes ``folder``/``name``.csv and, beside it, a record of where it came from, which is returned.

    ``first`` and ``every`` are the steps of the first evaluation and between two; without ``first`` the number of rows
    tells it. ``unit``, of `UNITS`, is that of success; without it the highest value tells it. Names are the
    configuration's where it knows them, and stay as they are where it does not. Raises UserError if the file is not of
    the format, or if ``name`` holds another file's curves and ``force`` is not set, or what no import wrote.
    """
    if not re.fullmatch(SOURCE, name):
        raise UserError(f"--as {shown(name)}: not a name; use letters, digits, `-`, `_` and `.`, such as authors-2026")
    table, record = Path(folder) / f"{name}.csv", Path(folder) / f"{name}.json"
    arrays, digest = read_arrays(path), sha256(path)
    _refuse_other(table, record, digest, force)
    _check(arrays, path)
    arrays, grids, left_out = _fitting(arrays, path, first, every)
    known, methods = _known_places(config), {method: _method(config, method) for _, method in arrays}
    places = {task: known.get(_plain(task)) or _unknown_place(task) for task, _ in arrays}
    _check_names(arrays, places, methods, config, path)
    arrays, read_as = _as_fractions(arrays, places, path, UNITS[unit] if unit else None)
    text = _table(arrays, places, methods, grids, name).to_csv(index=False)
    steps = grids[Counter(map(len, arrays.values())).most_common(1)[0][0]]
    unknown = [task for task in places if not places[task].known] + [m for m in methods if not methods[m]]
    origin = {
        "source": name,
        "file": Path(path).name,
        "sha256": digest,
        "table": hashlib.sha256(text.encode()).hexdigest(),
        "unit": read_as,
        "steps": {"first": int(steps[0]), "last": int(steps[-1]), "every": every, "offline": OFFLINE_STEPS},
        "grids": {str(rows): [int(steps[0]), int(steps[-1])] for rows, steps in grids.items()},
        "left_out": left_out,
        "shapes": dict(Counter(" x ".join(map(str, values.shape)) for values in arrays.values())),
        "tasks": sum(bool(place.task) for place in places.values()),
        "domains": sum(not place.task and place.domain != ALL for place in places.values()),
        "methods": {method: known or method for method, known in methods.items()},
        "renamed": {task: place.task or place.domain for task, place in places.items() if place.known},
        "unknown": unknown,
        "meant": _meant(unknown[:SUGGESTED], known, config),
        "not_evaluated": int(sum(np.isnan(values).sum() for values in arrays.values())),
    }
    write_json(record, origin)
    write_atomically(table, text)  # last: this is the file that others read
    return origin


def _refuse_other(table: Path, record: Path, digest: str, force: bool) -> None:
    """A UserError unless the two names are free, or hold what an import of the same file wrote; with ``force``, what
    any import wrote."""
    fix = "choose another name, or delete it"
    refuse_foreign(record, lambda p: read_record(p, Record, fix)["source"] == table.stem, "record of its import", fix)
    refuse_foreign(table, lambda p: len(_read(p)) >= 0, "table of an import", fix)
    written = read_record(record, Record, fix) if record.exists() else {}
    same = written.get("sha256") == digest and (not table.exists() or written.get("table") == sha256(table))
    if (table.exists() or written) and not (same or force):
        raise UserError(f"{table}: holds the curves of another file; choose another name, or add --force")


def described(record: dict[str, Any], folder: str | Path = IMPORTED) -> list[str]:
    """What an import did, in a few lines."""
    shapes = ", ".join(f"{count} of {shape}" for shape, count in record["shapes"].items())
    steps = record["steps"]
    grids = {f"{first} to {last}" for first, last in record["grids"].values()}
    lines = [
        f"{Path(folder) / record['source']}.csv: {record['tasks']} tasks, {record['domains']} domains, "
        f"{len(record['methods'])} methods; arrays (evaluations x seeds): {shapes}",
        f"success: read as {record['unit']}; steps {' or '.join(sorted(grids))}, every {steps['every']}, "
        f"of which up to {steps['offline']} offline",
    ]
    lines += [f"left out: '{shown(method, 120)}': {reason}" for method, reason in record["left_out"].items()]
    if record["unknown"]:
        names = ", ".join(f"'{shown(name, 120)}'" for name in record["unknown"])
        lines.append(f"unknown to the configuration, kept as they stand: {names}")
    for name, meant in record["meant"].items():
        fix = "if so, mend the file and import it again with --force"
        lines.append(f"warning: '{shown(name, 120)}': unknown to the configuration; did you mean {meant}? {fix}")
    if record["not_evaluated"]:
        lines.append(f"{record['not_evaluated']} values are nan, and count as not evaluated")
    return lines


def load(folder: str | Path = IMPORTED) -> pd.DataFrame:
    """All imported curves; a row of a whole domain has an empty task, and one of everything the domain `all`."""
    tables = [_read(path) for path in imported_tables(folder)]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=COLUMNS)


def _read(path: Path) -> pd.DataFrame:
    """One table; a UserError unless it is what an import writes under this name."""
    content = io.BytesIO(read_bytes(path, fix=AGAIN))
    try:
        text = dict.fromkeys(TEXT, str)
        table = pd.read_csv(content, dtype=text, keep_default_na=False, na_values={"success": [""]})
    except ValueError:
        raise UserError(f"{path}: damaged, not a table; {AGAIN}") from None
    if list(table) != COLUMNS:
        raise UserError(f"{path}: not an imported table; {AGAIN}")
    if not all(pd.api.types.is_numeric_dtype(table[column]) for column in NUMBERS):
        raise UserError(f"{path}: seed, step or success: holds what is no number; {AGAIN}")
    if other := sorted(set(table.source) - {path.stem}):  # a copy beside it would count twice
        raise UserError(f"{path}: source: holds the curves of {shown(other[0])!r}, not of its name; {AGAIN}")
    return table


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
    if first is not None:
        counts = Counter(len(values) for values in arrays.values() if values.ndim == 2)
        begins = {rows: first for rows in sorted(counts, key=lambda rows: (counts[rows], rows))[-1:]}
        where = f"where most arrays have {' or '.join(map(str, begins))}"
    seeds: dict[str, int] = {}
    problems: dict[str, str] = {}
    for key, values in arrays.items():
        problem, method = "", key[1]
        if values.ndim != 2 or not values.size:
            problem = f"{named(key)}: shape {values.shape}; give an array of (evaluations, seeds)"
        elif len(values) not in begins:
            fix = "give the step of the first evaluation as --steps-from, and --every"
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


def _as_fractions(arrays: Arrays, places: dict[str, Place], path: str | Path, unit: str | None) -> tuple[Arrays, str]:
    """Success in float64 and in 0 to 1, and what it was in the file: `per cent` if any value is too large for a
    fraction."""
    whole = {key for key, values in arrays.items() if values.dtype.kind in "iu"}
    arrays = {key: _decimal(values) for key, values in arrays.items()}
    numbers = {key: known for key, values in arrays.items() if (known := values[~np.isnan(values)]).size}
    highest = {key: float(values.max()) for key, values in numbers.items()}
    if unit is None:
        unit = PER_CENT if any(value > PER_CENT_FROM for value in highest.values()) else FRACTION
        if unit == PER_CENT:
            _refuse_mixture(numbers, highest, places, path)
        elif unclear := [key for key in highest if key in whole and highest[key] > 0]:
            fix = "say with --unit whether that is all or 1 per cent"
            raise UserError(f"{path}: {named(unclear[0])}: whole numbers up to {highest[unclear[0]]:g}; {fix}")
    most = 100.0 if unit == PER_CENT else 1.0
    for key, values in numbers.items():
        for wrong in (values.min(), values.max()):
            if not 0 <= wrong <= most * (1 + 1e-6):
                raise UserError(f"{path}: {named(key)}: {wrong:g} is no success as {unit}, 0 to {most:g}; mend it")
    return {key: np.minimum(values / most, 1.0) for key, values in arrays.items()}, unit


def _decimal(values: np.ndarray) -> np.ndarray:
    """float64 of the decimals that were meant: 0.445 in float32 lies below it, and would round the other way."""
    return values.astype(float) if values.dtype.itemsize == 8 else values.astype(str).astype(float)


def _refuse_mixture(numbers: Arrays, highest: dict[Key, float], places: dict[str, Place], path: str | Path) -> None:
    """A UserError if an array of a file in per cent has no value above 1, and so may be meant as a fraction.

    That of a domain (or of everything) is not, if its mean is about that of its tasks (or domains).
    """
    for key in highest:
        if 0 < highest[key] <= 1:
            parts = [numbers[other].mean() for other in numbers if _is_part(places, other, key)]
            if not parts or numbers[key].mean() < 0.1 * np.mean(parts):
                top = max(highest, key=lambda other: highest[other])
                one = f"{named(top)} is in per cent, up to {highest[top]:g}"
                other = f"{named(key)} seems to be a fraction, up to {highest[key]:g}"
                raise UserError(f"{path}: {one}, and {other}; give one unit in a file, or say with --unit which it is")


def _is_part(places: dict[str, Place], part: Key, whole: Key) -> bool:
    """Whether one key is a task of the other, a domain, or a domain or task where the other is `all`."""
    inner, outer = places[part[0]], places[whole[0]]
    if part == whole or part[1] != whole[1] or outer.task:
        return False
    return inner.domain != ALL if outer.domain == ALL else bool(inner.task) and inner.domain == outer.domain


def _check_names(
    arrays: Arrays, places: dict[str, Place], methods: dict[str, str | None], config: Config, path: str | Path
) -> None:
    """A UserError if a key has its method first, or two keys mean the same."""
    known, seen = _known_places(config), dict[tuple[str, str, str], Key]()
    for key in arrays:
        task, method = key
        turned = _plain(method) in known or "-singletask" in method or _method(config, task)
        if turned and not (places[task].known or methods[method]):
            fix = "no such task; the keys look swapped: give (task or domain, method)"
            raise UserError(f"{path}: {named(key)}: {fix}")
        first = seen.setdefault((places[task].task, places[task].domain, methods[method] or method), key)
        if first != key:
            raise UserError(f"{path}: {named(key)} and {named(first)} mean the same; remove one")


def _meant(unknown: list[str], known: dict[str, Place], config: Config) -> dict[str, str]:
    """The known name that an unknown one seems to be, misspelt: close to it, with the same numbers in it; of a method
    only one of the same letters, for the names of this family are all close."""
    names = {plain: place.task or place.domain for plain, place in known.items()}
    labels = {"".join(sorted(_plain(about.label))): about.label for about in config.methods.values()}
    meant = {}
    for name in unknown:
        plain = _plain(name)
        alike = [other for other in names if re.findall(r"\d+", other) == re.findall(r"\d+", plain)]
        close = [names[other] for other in difflib.get_close_matches(plain, alike, 1, 0.8)]
        if label := labels.get("".join(sorted(plain))) or next(iter(close), None):
            meant[name] = label
    return meant


def _plain(name: str) -> str:
    """A spelling that does not depend on case and separators."""
    return re.sub(r"[^a-z0-9.]", "", name.lower())


def _known_places(config: Config) -> dict[str, Place]:
    """What a plain spelling means: OGBench's names of tasks and domains, with or without `-v0`, our labels, `all`."""
    known = {ALL: Place("", ALL)}
    for domain, about in config.domains.items():
        known |= {_plain(spelt): Place("", domain) for spelt in (domain, f"{domain}-v0", about.label)}
        for number, task in enumerate(tasks_of(domain), start=1):
            spellings = (task, task.removesuffix("-v0"), f"{domain}-task{number}", f"{about.label}-task{number}")
            known |= {_plain(spelt): Place(task, domain) for spelt in spellings}
    return known


def _unknown_place(name: str) -> Place:
    """A name that the configuration does not have, kept as it is."""
    return Place(name, domain_of(name), False) if "-singletask" in name else Place("", name, False)


def _method(config: Config, name: str) -> str | None:
    """The key of the method that has this key or label; None if there is none."""
    alike = [key for key, about in config.methods.items() if _plain(name) in (_plain(key), _plain(about.label))]
    return alike[0] if alike else None


def _table(
    arrays: Arrays,
    places: dict[str, Place],
    methods: dict[str, str | None],
    grids: dict[int, np.ndarray],
    name: str,
) -> pd.DataFrame:
    """A row a value, in the order of the file: one seed after another, each in the order of its steps."""
    parts = []
    for (task, method), values in arrays.items():
        rows, seeds = values.shape
        steps = np.tile(grids[rows], seeds)
        offline = steps <= OFFLINE_STEPS
        columns = {
            "stage": np.where(offline, "offline", "online"),
            "step": np.where(offline, steps, steps - OFFLINE_STEPS),
            "total_step": steps,
            "success": values.T.ravel(),
            "seed": np.repeat(np.arange(seeds), rows),
        }
        place = places[task]
        parts.append(
            pd.DataFrame(columns).assign(task=place.task, domain=place.domain, method=methods[method] or method)
        )
    return pd.concat(parts, ignore_index=True).assign(status="OK", source=name)[COLUMNS]
