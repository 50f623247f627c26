"""Failures on a real SLURM while the workflow trains: nothing lost, nothing doubled, the bytes of an undisturbed run.

    python -m tests.slurm.campaign --events 54       # prints one table; about half an hour on two cores

A cluster of one node (`tests.slurm.cluster`) runs the training rules at a tiny scale with the SLURM profile as a user
would: three lines edited, and the same command again whenever it ended in failure. Meanwhile events befall it at random
instants. When the grid is done and events are left, the grid is trained again under another name.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.helpers.project import copy_of_the_project
from tests.slurm.cluster import Cluster, missing
from tests.slurm.events import KINDS, Events
from tests.slurm.grid import Grid
from tests.slurm.ledger import Ledger
from trqam.experiment import resources
from trqam.maths.streams import stream

FAILURES = 6  # in a row, without an event: after so many it does not come right by itself
EDITS = {"slurm_account": "", "slurm_partition": "training", "gpu_model": "fake"}


def edit_profile(folder: Path) -> None:
    """The SLURM profile of a project, edited as its three marked lines ask."""
    path = folder / "workflow/profiles/slurm/config.yaml"
    lines = path.read_text().splitlines(keepends=True)
    for number, line in enumerate(lines):
        key = line.split(":")[0].strip()
        if "# EDIT:" in line:
            lines[number] = f'  {key}: "{EDITS[key]}"\n'
    path.write_text("".join(lines))


class Campaign:
    """Grids trained one after another until ``events`` events have happened."""

    def __init__(self, folder: Path, cluster: Cluster, tasks: int, events: int, seed: int):
        self.folder, self.tasks, self.cluster, self.ledger = folder, tasks, cluster, Ledger(folder, cluster)
        self.events = Events(cluster, self.ledger, events, stream(seed, "slurm campaign"))
        self.snakemake: subprocess.Popen | None = None
        self.starts = self.failures = 0
        self.finals: dict[Path, tuple] = {}  # what a finished run's checkpoint was when first seen
        self.doubled: set[Path] = set()
        self.grids: list[Grid] = []

    def run(self) -> None:
        """Grid after grid until no event is left."""
        small = dict.fromkeys(resources.KINDS, resources.Request(runtime=1, mem_mb=1500))
        # a minute is SLURM's shortest limit
        asked = resources.Requests(measured_on="nothing: a test", longest=1, **small)
        while self.events.left or not self.grids:
            self.grids.append(Grid(f"cluster{len(self.grids)}", self.tasks))
            resources.save(self.grids[-1].config, asked)
            self._train(self.grids[-1])
            self._look_for_doubles()

    def _train(self, grid: Grid) -> None:
        """Starts snakemake until it says that all is done; meanwhile events happen."""
        self._start_snakemake(grid)
        events, failed = 0, 0  # how many had happened, and the failures since then
        while (code := self.snakemake.poll()) != 0:
            if code is not None:
                self.failures += code > 0
                happened = self.events.happened.total()
                events, failed = happened, failed + 1 if happened == events else 1
                if failed > FAILURES:
                    log = (self.folder / "snakemake.log").read_text()
                    raise RuntimeError(f"{failed} failures in a row, and no event:\n{log[-4000:]}")
                self._start_snakemake(grid, unlock=code == -signal.SIGKILL)
            self._look_for_doubles()
            cloned = all((self.folder / cell / "pretrain.json").exists() for cell, s in grid.runs() if s == "pretrain")
            self.events.look(self.snakemake, spare=not cloned)
            time.sleep(1)
        self.events.finish()
        self._again(grid)

    def _again(self, grid: Grid) -> None:
        """The same command once more, when nothing is queued: a job that a killed snakemake had submitted begins by
        deleting what it would publish, and may have been ended there."""
        self.cluster.drop_jobs()
        self._start_snakemake(grid)
        self.failures += self.snakemake.wait() != 0

    def _start_snakemake(self, grid: Grid, unlock: bool = False) -> None:
        profile = ["--workflow-profile", "workflow/profiles/slurm", "--slurm-init-seconds-before-status-checks", "2"]
        command = [sys.executable, "-m", "tests.slurm.hasty", str(grid.metrics), *profile, *grid.options]
        with (self.folder / "snakemake.log").open("a") as log:
            where = {"cwd": self.folder, "env": self.ledger.environment, "stdout": log, "stderr": log}
            if unlock:
                subprocess.run([*command, "--unlock"], check=True, **where)
            self.snakemake = subprocess.Popen(command, start_new_session=True, **where)
        self.starts += 1

    def _look_for_doubles(self) -> None:
        """A finished run's last checkpoint is written once: the run is doubled if it ever changes."""
        for cell, stage in (run for grid in self.grids for run in grid.runs()):
            if (self.folder / cell / f"{stage}.json").exists() or cell / stage in self.finals:
                last = max((self.folder / cell / "run" / stage).glob("*.safetensors"))  # the older one goes any moment
                found = last.name, last.stat().st_ino, last.stat().st_mtime_ns
                if self.finals.setdefault(cell / stage, found) != found:
                    self.doubled.add(cell / stage)

    def table(self, undisturbed: Path) -> tuple[list[str], bool]:
        """What happened and what became of it; whether all is well."""
        lost, differing, total, wanted = [], [], 0, Grid("undisturbed", self.tasks)
        for grid in self.grids:
            for (cell, stage), (reference, _) in zip(grid.runs(), wanted.runs(), strict=True):
                total += 1
                made, right = self.folder / cell / f"{stage}.csv", undisturbed / reference / f"{stage}.csv"
                if not made.exists() or not made.with_suffix(".json").exists():
                    lost.append(cell / stage)
                elif made.read_bytes() != right.read_bytes():
                    differing.append(cell / stage)
        right = (undisturbed / wanted.metrics).read_bytes()
        aggregated = sum((self.folder / grid.metrics).read_bytes() == right for grid in self.grids)
        codes, happened = self.ledger.codes(), self.events.happened
        killed = codes[None] + codes[128 + signal.SIGKILL] + codes[128 + signal.SIGTERM]
        rows = [(text, happened[kind]) for kind, text in KINDS.items()]
        lines = ["| event | times |", "|---|---|", *(f"| {text} | {times} |" for text, times in rows)]
        lines += [
            f"| **all events** | **{happened.total()}** |",
            "", "| what became of it | |", "|---|---|",
            f"| runs (a seed through a stage), in {len(self.grids)} grids | {total} |",
            f"| runs lost | {len(lost)} |",
            f"| runs doubled | {len(self.doubled)} |",
            f"| runs whose metrics have the bytes of an undisturbed run | {total - len(lost) - len(differing)} |",
            f"| grids whose aggregated metrics do, too | {aggregated} |",
            f"| snakemake started, and of these ended in failure | {self.starts}, {self.failures} |",
            f"| trainers started | {codes.total()} |",
            f"| of these: ended well, saved before a limit (85), found the run busy (75), were killed | "
            f"{codes[0]}, {codes[85]}, {codes[75]}, {killed} |",
            f"| of these: any other error | {codes.total() - codes[0] - codes[85] - codes[75] - killed} |",
        ]  # fmt: skip
        lines += [f"lost or differing: {path}" for path in lost + differing]
        return lines, not lost and not differing and not self.doubled and aggregated == len(self.grids)


def train_undisturbed(folder: Path, tasks: int) -> None:
    """The same grid without SLURM, in a project of its own."""
    grid = Grid("undisturbed", tasks)
    command = [sys.executable, "-m", "snakemake", str(grid.metrics), "--cores", "2", *grid.options]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr[-4000:])


def campaign(folder: Path, tasks: int, events: int, seed: int = 0) -> tuple[list[str], bool]:
    """The table's lines, and whether nothing was lost, doubled or changed, in an empty ``folder``."""
    for name in ("disturbed", "undisturbed"):  # copies of the same moment
        (folder / name).mkdir()
        copy_of_the_project(folder / name)
    edit_profile(folder / "disturbed")
    train_undisturbed(folder / "undisturbed", tasks)
    before = Path.cwd()
    os.chdir(folder / "disturbed")
    try:
        with Cluster() as cluster:
            running = Campaign(folder / "disturbed", cluster, tasks, events, seed)
            try:
                running.run()
            finally:
                if running.snakemake and running.snakemake.poll() is None:
                    running.snakemake.kill()
        return running.table(folder / "undisturbed")
    finally:
        os.chdir(before)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--events", type=int, default=54, help="default: %(default)s")
    parser.add_argument("--tasks", type=int, default=2, help="of a grid, from 1 to 5 (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the events' order and instants")
    parser.add_argument("--folder", type=Path, help="new, and kept (default: a temporary one)")
    arguments = parser.parse_args()
    if absent := missing():
        sys.exit(f"{', '.join(absent)} not installed: apt-get install slurmctld slurmd slurm-client munge")
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="trqam-campaign-"))
    folder.mkdir(exist_ok=True)
    lines, well = campaign(folder.resolve(), arguments.tasks, arguments.events, arguments.seed)
    print("\n".join(lines))
    if not arguments.folder and well:
        shutil.rmtree(folder)
    sys.exit(not well)


if __name__ == "__main__":
    main()
