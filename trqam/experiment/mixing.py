"""Whether the runs of a cell (a task and method, over stages and seeds) belong together, or are a mixture.

They belong together if the same code (`trqam.experiment.sources`), versions of packages and configuration made all of
them; of the pretraining that they begin from the versions count. A run that went on under another environment says so
in its record, and is a mixture by itself. Commits and hardware are recorded and not compared: a commit may concern
prose alone, and what the hardware changes is in the last bits.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trqam.config.load import domain_of
from trqam.experiment.run import Changed

# Keys that decide which steps have rows: runs that differ in one make no common table.
SHAPE = ("task", "method", "agent", "offline_steps", "online_steps", "eval_interval", "log_interval")


TODAY = Path("today")  # stands for what would be trained now


@dataclass(frozen=True)
class Mixture:
    """The first difference found in a cell: the manifests, the key and its two values."""

    key: str
    one: Any
    other: Any
    where: Path
    than: Path

    @property
    def reason(self) -> str:
        """For the tables."""
        return f"{self.key}: {_shown(self.one)} and {_shown(self.other)}"

    def refusal(self, task: str, method: str, clean: str) -> str:
        """The line that says what to do about it; ``clean`` is the command that deletes all that is older."""
        differs = f"{self.than} has {_shown(self.other)}"
        if self.where == self.than:
            differs = f"later in the same run {_shown(self.other)}"
        elif self.than == TODAY:
            differs = f"what is left to train would have {_shown(self.other)}"
        run = domain_of(task) if self.than.name == "pretrain.json" else f"{task} {method} --seed N"
        fix = f"train anew what is older (`python -m trqam clean {run}`, or {clean} for all)"
        told = "accept and mark it: `trqam collect --mixed`, or `--config mixed=true` of snakemake"
        return f"{self.where}: {self.key}: trained under {_shown(self.one)}, {differs}; {fix}, or {told}"


def mixture(manifests: list[tuple[Path, dict[str, Any]]], changed: list[tuple[Path, Changed]]) -> Mixture | None:
    """What is mixed in a cell, of which these are the manifests; ``changed``: those of another configuration."""
    for where, change in changed:
        return Mixture(change.key, change.old, f"{_shown(change.new)} today", where, where)
    seen: dict[str, tuple[Path, Any]] = {}
    for where, manifest in manifests:
        for key, value in made_by(manifest):
            than, first = seen.setdefault(key, (where, value))
            if value != first:
                return Mixture(key, first, value, than, where)
    return None


def unknown(manifests: list[tuple[Path, dict[str, Any]]]) -> list[Path]:
    """The manifests that say nothing of the code: they are older than its digest."""
    return [where for where, manifest in manifests if "code" not in manifest]


def made_by(manifest: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """What made a run, as far as it is compared: at its beginning, and after each change."""
    for environment in (manifest, *manifest.get("resumed", [])):
        yield from ((f"versions.{name}", version) for name, version in environment["versions"].items())
        if "code" in environment and manifest["stage"] != "pretrain":  # another agent's
            yield "code", environment["code"]


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)
