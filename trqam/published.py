"""Published learning curves: from the release format of this line of work to a table in the layout of metrics.csv.

The format is a pickle of one dict keyed by `(task | domain | "all", method)` to float arrays `(evaluations, seeds)` of
success, as a fraction or in per cent. 30 rows are evaluations every 50 000 steps from step 50 000, and 31 rows have
one at step 0 too; the first million steps are offline, the rest online.

Do not average a file's tasks by seed: a column need not be the same seed in two tasks. The spread of a domain is known
from its own array alone, whose rows are therefore kept, with an empty task.
"""

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from trqam.artefacts import read_json, sha256, write_atomically, write_json
from trqam.config import Config, domain_of, tasks_of
from trqam.errors import UserError
from trqam.unpickle import read_arrays, shown

FOLDER = Path("data/imported")
COLUMNS = ["task", "domain", "method", "seed", "stage", "step", "total_step", "status", "success", "source"]
EVERY, OFFLINE_STEPS = 50_000, 1_000_000  # of the release format
VALUES = 2_000_000  # numbers in a file; the paper's curves are some 150 000
PER_CENT_FROM = 1.5  # a highest value above this cannot be a fraction
ALL = "all"

Arrays = dict[tuple[str, str], np.ndarray]


@dataclass(frozen=True)
class Place:
    """What the first name of a key means: a task of a domain, or without a task a whole domain, or `all`."""

    task: str
    domain: str
    known: bool = True


def import_curves(
    config: Config,
    path: str | Path,
    name: str,
    first: int | None = None,
    every: int = EVERY,
    force: bool = False,
    folder: str | Path = FOLDER,
) -> dict[str, Any]:
    """Writes ``folder``/``name``.csv and, beside it, a record of where it came from, which is returned.

    ``first`` and ``every`` are the steps of the first evaluation and between two; without ``first`` the number of rows
    tells it. Names are the configuration's where it knows them, and stay as they are where it does not. Raises
    UserError if the file is not of the format, or if ``name`` holds another file's curves and ``force`` is not set.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", name):
        raise UserError(f"--as {shown(name)}: not a name; use letters, digits, `-`, `_` and `.`, such as authors-2026")
    table, record = Path(folder) / f"{name}.csv", Path(folder) / f"{name}.json"
    arrays = _checked(read_arrays(path), path)
    digest = sha256(path)
    taken = table.exists() or record.exists()
    if taken and not force and (not record.exists() or _recorded(record) != digest):
        raise UserError(f"{table}: holds the curves of another file; choose another name, or add --force")
    arrays, unit = _as_fractions(arrays, path)
    steps = _steps(arrays, path, first, every)
    known = _known_places(config)
    places = {task: known.get(_plain(task)) or _unknown_place(task) for task, _ in arrays}
    methods = {method: _method(config, method) for _, method in arrays}
    _refuse_doubles(arrays, places, methods, path)
    text = _table(arrays, places, methods, steps, name).to_csv(index=False)
    found = {
        "source": name,
        "file": Path(path).name,
        "sha256": digest,
        "unit": unit,
        "steps": {"first": int(steps[0]), "last": int(steps[-1]), "every": every, "offline": OFFLINE_STEPS},
        "shapes": dict(Counter(" x ".join(map(str, values.shape)) for values in arrays.values())),
        "tasks": sum(bool(place.task) for place in places.values()),
        "domains": sum(not place.task and place.domain != ALL for place in places.values()),
        "methods": {method: known or method for method, known in methods.items()},
        "renamed": {task: place.task or place.domain for task, place in places.items() if place.known},
        "unknown": [task for task in places if not places[task].known] + [m for m in methods if not methods[m]],
        "not_evaluated": int(sum(np.isnan(values).sum() for values in arrays.values())),
    }
    write_json(record, found)
    write_atomically(table, text)  # last: this is the file that others read
    return found


def _recorded(path: Path) -> str:
    """The sum of the file that was imported before."""
    record = read_json(path)
    if not isinstance(record, dict) or "sha256" not in record:
        raise UserError(f"{path}: damaged, not the record of an import; delete it, or add --force")
    return record["sha256"]


def described(record: dict[str, Any], folder: str | Path = FOLDER) -> list[str]:
    """What an import did, in a few lines."""
    shapes = ", ".join(f"{count} of {shape}" for shape, count in record["shapes"].items())
    steps = record["steps"]
    lines = [
        f"{Path(folder) / record['source']}.csv: {record['tasks']} tasks, {record['domains']} domains, "
        f"{len(record['methods'])} methods; arrays (evaluations x seeds): {shapes}",
        f"success: read as {record['unit']}; steps {steps['first']} to {steps['last']}, every {steps['every']}, "
        f"of which up to {steps['offline']} offline",
    ]
    if record["unknown"]:
        names = ", ".join(f"'{shown(name)}'" for name in record["unknown"])
        lines.append(f"unknown to the configuration, kept as they stand: {names}")
    if record["not_evaluated"]:
        lines.append(f"{record['not_evaluated']} values are nan, and count as not evaluated")
    return lines


def load(folder: str | Path = FOLDER) -> pd.DataFrame:
    """All imported curves; a row of a whole domain has an empty task, and one of everything the domain `all`."""
    tables = [_read(path) for path in sorted(Path(folder).glob("*.csv"))]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=COLUMNS)


def _read(path: Path) -> pd.DataFrame:
    text = {column: str for column in ("task", "domain", "method", "stage", "status", "source")}
    try:
        table = pd.read_csv(path, dtype=text, keep_default_na=False, na_values={"success": [""]})
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); import it again") from None
    except ValueError:
        raise UserError(f"{path}: damaged, not a table; delete it, or import it again") from None
    if list(table) != COLUMNS:
        raise UserError(f"{path}: not an imported table; delete it, or import it again")
    if not all(pd.api.types.is_numeric_dtype(table[column]) for column in ("seed", "step", "total_step", "success")):
        raise UserError(f"{path}: seed, step or success: holds what is no number; delete it, or import it again")
    return table


def _checked(arrays: Arrays, path: str | Path) -> Arrays:
    """The arrays in float64, each `(evaluations, seeds)`: numbers or nan, and as many rows in each."""
    if not arrays:
        raise UserError(f"{path}: holds no curve; give a dict {{(task, method): array}}")
    if sum(values.size for values in arrays.values()) > VALUES:
        raise UserError(f"{path}: more than {VALUES} numbers; give curves of evaluations, a method at a time")
    rows, seeds = next(iter(arrays.values())).shape[:1], {}
    for (task, method), values in arrays.items():
        where = f"{path}: {shown((task, method))}"
        for text in (task, method):
            if not text or not text.isprintable() or len(text) > 100:
                raise UserError(f"{where}: not a name; use up to 100 printable characters")
        if values.ndim != 2 or not values.size:
            raise UserError(f"{where}: shape {values.shape}; give an array of (evaluations, seeds)")
        if values.shape[:1] != rows:
            raise UserError(f"{where}: {len(values)} rows where the first array has {rows[0]}; give one grid of steps")
        if seeds.setdefault(method, values.shape[1]) != values.shape[1]:
            raise UserError(f"{where}: {values.shape[1]} seeds where the method has {seeds[method]}; give the same")
        if np.isinf(values).any():
            raise UserError(f"{where}: holds an infinite value; give nan where there was no evaluation")
    return {key: _decimal(values) for key, values in arrays.items()}


def _decimal(values: np.ndarray) -> np.ndarray:
    """float64 of the decimals that were meant: 0.445 in float32 lies below it, and would round the other way."""
    return values.astype(float) if values.dtype.itemsize == 8 else values.astype(str).astype(float)


def _as_fractions(arrays: Arrays, path: str | Path) -> tuple[Arrays, str]:
    """Success in 0 to 1, and what it was in the file: `per cent` if any value is too large for a fraction."""
    numbers = {key: values[~np.isnan(values)] for key, values in arrays.items()}
    per_cent = any((values > PER_CENT_FROM).any() for values in numbers.values())
    unit, highest = ("per cent", 100.0) if per_cent else ("a fraction", 1.0)
    for key, values in numbers.items():
        if values.size and (values.min() < 0 or values.max() > highest * (1 + 1e-6)):
            wrong = values.min() if values.min() < 0 else values.max()
            raise UserError(f"{path}: {shown(key)}: {wrong:g} is no success as {unit}, 0 to {highest:g}; mend it")
    return {key: np.minimum(values / highest, 1.0) for key, values in arrays.items()}, unit


def _steps(arrays: Arrays, path: str | Path, first: int | None, every: int) -> np.ndarray:
    """The step of each evaluation, over both stages."""
    rows = len(next(iter(arrays.values())))
    if every < 1 or (first or 0) < 0:
        raise UserError("--every must be positive and --steps-from not negative; count in steps, such as 50000")
    if first is None:
        if rows not in (30, 31):
            fix = "give the step of the first evaluation as --steps-from, and --every"
            raise UserError(f"{path}: {rows} rows (evaluations), where the format has 30 or 31; {fix}")
        first = {30: every, 31: 0}[rows]
    return first + every * np.arange(rows)


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
    found = [key for key, about in config.methods.items() if _plain(name) in (_plain(key), _plain(about.label))]
    return found[0] if found else None


def _refuse_doubles(arrays: Arrays, places: dict[str, Place], methods: dict[str, str | None], path) -> None:
    """Two keys of the file must not mean the same."""
    seen: dict[tuple, tuple[str, str]] = {}
    for task, method in arrays:
        meant = (places[task].task, places[task].domain, methods[method] or method)
        if meant in seen:
            raise UserError(f"{path}: {shown((task, method))} and {shown(seen[meant])} mean the same; remove one")
        seen[meant] = (task, method)


def _table(arrays: Arrays, places: dict[str, Place], methods: dict[str, str | None], steps, name: str) -> pd.DataFrame:
    """A row a value, in the order of the file: one seed after another, each in the order of its steps."""
    parts = []
    for (task, method), values in arrays.items():
        rows, seeds = values.shape
        offline = steps <= OFFLINE_STEPS
        once = {
            "stage": np.where(offline, "offline", "online"),
            "step": np.where(offline, steps, steps - OFFLINE_STEPS),
            "total_step": steps,
        }
        part = pd.DataFrame({column: np.tile(value, seeds) for column, value in once.items()})
        part["success"], part["seed"] = values.T.ravel(), np.repeat(np.arange(seeds), rows)
        parts.append(part.assign(task=places[task].task, domain=places[task].domain, method=methods[method] or method))
    return pd.concat(parts, ignore_index=True).assign(status="OK", source=name)[COLUMNS]
