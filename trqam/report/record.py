"""What was collected: the tables, and the record beside them of what they were made from and for.

So nothing else is printed. `collected.json` holds the checksum of each table, a fingerprint of what the configuration
asks results for, and one of the manifests and dataset cards that were read. Whoever prints a number checks the first
two; Snakemake also the third.
"""

import hashlib
from pathlib import Path
from typing import Any

import msgspec

from trqam.config.errors import UserError
from trqam.config.load import Config
from trqam.config.reading import read_bytes, seal, sha256
from trqam.config.strict import read_record
from trqam.experiment.files import write_json

TABLES = ("metrics.csv", "runs.csv", "datasets.json", "manifests.json")
RECORD = "collected.json"
AGAIN = "run `trqam collect` again, with the same --config and --set"


class Record(msgspec.Struct):
    """collected.json."""

    asked_for: str
    made_from: str
    files: dict[str, str]


def record(config: Config, folder: Path, made: str) -> None:
    """Writes collected.json beside the tables; ``made`` as `trqam.report.collect.made_from` gives it."""
    files = {name: sha256(folder / name) for name in TABLES}
    write_json(folder / RECORD, {"asked_for": asked_for(config), "made_from": made, "files": files})


def check(config: Config, folder: Path) -> dict[str, bytes]:
    """The tables in ``folder``; a UserError unless they are what `collect` wrote for this configuration."""
    if missing := [folder / name for name in (*TABLES, RECORD) if not (folder / name).is_file()]:
        raise UserError(f"{missing[0]}: missing; {AGAIN}")
    said = read_record(folder / RECORD, Record, AGAIN)
    contents = {name: read_bytes(folder / name, fix=AGAIN) for name in TABLES}
    for name, content in contents.items():
        if said["files"].get(name) != hashlib.sha256(content).hexdigest():
            raise UserError(f"{folder / name}: not what `trqam collect` wrote (checksum); {AGAIN}")
    if said["asked_for"] != asked_for(config):
        other = "give the --config and --set that it was made with, or run `trqam collect` again"
        raise UserError(f"{folder / RECORD}: made for another configuration than {config.path} has now; {other}")
    return contents


def made_for(config: Config, folder: Path) -> bool:
    """Whether what lies in ``folder`` was collected for this very configuration, as far as its record says."""
    try:
        return read_record(folder / RECORD, Record, AGAIN)["asked_for"] == asked_for(config)
    except UserError:
        return False


def asked_for(config: Config) -> str:
    """A fingerprint of what a configuration asks results for: cells, stages, seeds, and all that decides a number; and
    of what it says about itself, which is printed."""
    asked: list[Any] = [config.scale.seeds, *([config.scale.chosen] if config.scale.chosen else [])]
    for task, method in config.cells:
        run = config.run(task, method)
        asked.append([task, method, *((stage, run.digest(stage)) for stage in config.stages(method))])
    return seal(asked)
