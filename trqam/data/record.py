"""What says which data a store holds, and its copy for the workflow.

``store.json`` is the truth and is written last. ``card.json``, which everybody reads, is a copy of it: the workflow
declares it as the output of its rule, and Snakemake deletes what a rule declares, before a job (``--forceall``) and
after one that failed. The command of the rule puts it back from the truth, without reading an official file again.
"""

import json
import os
from pathlib import Path

from trqam.config.errors import UserError
from trqam.config.reading import read_bytes
from trqam.experiment.files import write_atomically

CARD, RECORD = "card.json", "store.json"


def preserve(folder: Path) -> None:
    """Copy the card of a store that has no ``store.json``, as older versions left it; before Snakemake deletes it."""
    card, record = folder / CARD, folder / RECORD
    if os.path.lexists(record) or not card.is_file():
        return
    try:
        content = read_bytes(card)
        found = json.loads(content)
        if isinstance(found, dict) and "sha256" in found:
            write_atomically(record, content)
    except (ValueError, RecursionError):  # damaged, nothing worth keeping; whoever opens the store is told
        return
    except UserError:
        if os.access(folder, os.W_OK):  # where nothing can be written, nothing can be deleted
            raise


def restore(folder: Path) -> None:
    """Make both files of a complete store alike again; ``store.json`` is right if it is there."""
    preserve(folder)
    content = read_bytes(folder / RECORD)
    if not (folder / CARD).is_file() or read_bytes(folder / CARD) != content:
        write_atomically(folder / CARD, content)
