"""What `trqam collect` leaves beside its tables: what they were made from and for, so that nothing else is printed.

`collected.json` holds the checksum of each table, a fingerprint of what the configuration asks results for, and one of
the manifests and dataset cards that were read. Whoever prints a number checks the first two; Snakemake also the third.
"""

import hashlib
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from trqam.config.errors import UserError
from trqam.config.load import Config
from trqam.config.reading import read_bytes, seal, sha256
from trqam.config.strict import read_record
from trqam.experiment.files import write_json
from trqam.experiment.verdict import Part

TABLES = ("metrics.csv", "runs.csv", "datasets.json", "manifests.json")
RECORD = "collected.json"
AGAIN = "run `trqam collect` again"


class Record(msgspec.Struct):
    """collected.json."""

    asked_for: str
    made_from: str
    files: dict[str, str]


def record(config: Config, folder: Path, made: str) -> None:
    """Writes collected.json beside the tables; ``made`` as `made_from` gives it."""
    files = {name: sha256(folder / name) for name in TABLES}
    write_json(folder / RECORD, {"asked_for": asked_for(config), "made_from": made, "files": files})


def check(config: Config, folder: Path) -> str:
    """What the tables in ``folder`` were made from; a UserError unless they are whole, and for this configuration."""
    said = read_record(folder / RECORD, Record, AGAIN)
    for name in TABLES:
        if said["files"].get(name) != hashlib.sha256(read_bytes(folder / name, fix=AGAIN)).hexdigest():
            raise UserError(f"{folder / name}: not what `trqam collect` wrote (checksum); {AGAIN}")
    if said["asked_for"] != asked_for(config):
        other = f"give the --config and --set that it was made with, or {AGAIN}"
        raise UserError(f"{folder / RECORD}: made for another configuration than {config.path} has now; {other}")
    return said["made_from"]


def asked_for(config: Config) -> str:
    """A fingerprint of what a configuration asks results for: cells, stages, seeds, and all that decides a number."""
    asked: list[Any] = [config.scale.seeds]
    for task, method in config.cells:
        run = config.run(task, method)
        asked.append([task, method, *((stage, run.digest(stage)) for stage in config.stages(method))])
    return seal(asked)


def made_from(config: Config, parts: Iterable[Part]) -> str:
    """A fingerprint of published manifests, which hold the checksums of their metrics, and of the datasets' cards."""
    seals = sorted({str(part.where): part.record["seal"] for part in parts if part.published}.items())
    cards = [config.data_directory(domain) / "card.json" for domain in config.task_domains]
    content = [seals, [hashlib.sha256(read_bytes(card)).hexdigest() if card.is_file() else None for card in cards]]
    return seal(content)


def outdated_stamp(config: Config, folder: Path, parts: list[Part]) -> list[str]:
    """For Snakemake, which goes by times: none if ``folder`` is what would be collected from ``parts``, else a file in
    the results that is newer than what was collected last, so that it is collected again."""
    stamp, last = config.results / "asked_for.json", folder / RECORD
    try:
        if check(config, folder) == made_from(config, parts):
            return []
    except UserError:
        pass  # what is wrong with it, collecting again will mend
    if not last.exists():
        return []
    if not stamp.exists() or stamp.stat().st_mtime_ns <= last.stat().st_mtime_ns:
        try:
            write_json(stamp, {"asked_for": asked_for(config), "written": time.time_ns()})
        except UserError:  # a tree that cannot be written, where Snakemake can only look
            return []
    return [str(stamp)]
