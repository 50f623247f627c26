"""The grid that the campaign trains: the tiny scale on some tasks, for long enough to be interrupted midway."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from trqam.config import load as config
from trqam.config.load import Config

SCALE = "tests/tiny.yaml"
CHANGES = {
    "methods": ["qam", "trqam"],
    "device": "auto",  # its jobs ask for a GPU
    "pretrain_steps": 200,
    "offline_steps": 400,
    "online_steps": 400,
    "online_start": 20,
    "eval_interval": 200,
    "ablation_eval_interval": 200,
    "log_interval": 20,
    "checkpoint_interval": 20,
}


@dataclass(frozen=True)
class Grid:
    """The first tasks of one domain, in results/NAME."""

    name: str
    tasks: int

    @property
    def changes(self) -> dict:
        """What differs from `SCALE`."""
        tasks = [f"pointmaze-medium-navigate-singletask-task{number}-v0" for number in range(1, self.tasks + 1)]
        return {**CHANGES, "scale": self.name, "tasks": tasks}

    @cached_property
    def config(self) -> Config:
        """Read in a project's folder."""
        return config.load(SCALE, self.changes)

    @property
    def options(self) -> list[str]:
        """The end of snakemake's command line."""
        return ["--configfile", SCALE, "--config", *(f"{key}={json.dumps(v)}" for key, v in self.changes.items())]

    @property
    def metrics(self) -> Path:
        """The aggregated table, in a project's folder; making it trains all."""
        return self.config.results / "paper/metrics.csv"

    def runs(self) -> Iterator[tuple[Path, str]]:
        """Every run: its cell's folder in a project's folder, and its stage."""
        configured = self.config
        for domain in configured.task_domains:
            yield configured.results / "pretrained" / domain, "pretrain"
        for task, method in configured.cells:
            for stage in configured.stages(method):
                for seed in range(configured.scale.seeds):
                    yield configured.results / task / method / f"seed{seed}", stage
