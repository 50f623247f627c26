"""Where the campaign happens: tiny runs as forks of this process, and what they become undisturbed.

A fork shares what is imported, so that a command costs a fraction of a second; its kill is a real one.
"""

import fcntl
import hashlib
import os
import shutil
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from tests.chaos.marks import Marks
from trqam.__main__ import main
from trqam.config import load as config
from trqam.config.command_line import parse_override
from trqam.data.generate import generate
from trqam.experiment import checkpoint
from trqam.experiment.provenance import provenance
from trqam.maths.streams import stream

ROOT = Path(__file__).parent.parent.parent
TASK, METHOD = "pointmaze-medium-navigate-singletask-task2-v0", "trqam"
DOMAIN = config.domain_of(TASK)
SEEDS = (0, 1)
STAGES = ("pretrain", "offline", "online")
STEPS = 40
SAVES = 5  # the interval of logs and checkpoints
CHANGES = {"tasks": f"[{TASK}]", "pretrain_steps": STEPS, "offline_steps": STEPS, "online_steps": STEPS}
EPISODE = 20  # steps of an episode
PIPE = 1 << 20


@dataclass
class Ended:
    """How a process ended: its exit code (negative: the signal), and what it wrote to stderr."""

    code: int
    lines: list[str]

    def containing(self, word: str) -> list[str]:
        """The lines with a word."""
        return [line for line in self.lines if word in line]


class Child:
    """A fork of this process that runs one command of the command line in the folder ``place``."""

    def __init__(self, place: Path, command: list[str], prepare: Callable[[], object] | None = None):
        self._stderr, theirs = os.pipe()
        fcntl.fcntl(theirs, fcntl.F_SETPIPE_SZ, PIPE)  # nobody reads before the end
        self.pid = os.fork()
        if self.pid == 0:
            os.dup2(theirs, 1)
            os.dup2(theirs, 2)
            sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
            os._exit(_run(place, command, prepare))
        os.close(theirs)

    def kill(self, number: int = signal.SIGKILL) -> Ended:
        """A signal, and how it ended: it may have been faster."""
        os.kill(self.pid, number)
        return self.wait()

    def wait(self) -> Ended:
        """To its end."""
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        with os.fdopen(self._stderr) as file:
            return Ended(code, file.read().splitlines())


def _run(place: Path, command: list[str], prepare: Callable[[], object] | None) -> int:
    """In the child: the exit code of the command."""
    tqdm.set_lock(threading.RLock())  # its own is one with all forks, of which one may have died holding it
    os.chdir(place)
    sys.argv = ["trqam", *command]
    try:
        if prepare:
            prepare()
        main()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 1
    except BaseException:  # must not unwind into the parent's copy here
        traceback.print_exc()
        return 1
    return 0


class World:
    """A folder with data and the undisturbed runs; ``marks`` of the process that runs at the moment.

    The random numbers of event ``number`` of a kind come from ``stream(seed, kind, number)``.
    """

    def __init__(self, folder: Path, seed: int, marks: Marks):
        self.folder, self.seed, self.marks = folder.resolve(), seed, marks
        self._places = 0
        for name in ("config", "tests"):
            (self.folder / name).symlink_to(ROOT / name)
        os.chdir(self.folder)
        scale = self.config().scale
        generate(DOMAIN, self.folder / "data" / DOMAIN, scale.transitions, scale.data_seed)
        provenance()  # asks git, once for all forks
        self.seconds: dict[str, float] = {}

    def config(self) -> config.Config:
        """The configuration of the forked runs."""
        changes = dict(parse_override(text) for text in self._overrides())
        return config.load("tests/tiny.yaml", changes)

    def _overrides(self) -> list[str]:
        return [f"{key}={value}" for key, value in {**CHANGES, "data_dir": self.folder / "data"}.items()]

    def command(self, stage: str) -> list[str]:
        """The arguments of the command line that run a stage."""
        given = ["--config", "tests/tiny.yaml"]
        for override in self._overrides():
            given += ["--set", override]
        if stage == "pretrain":
            return [*given, "pretrain", DOMAIN]
        return [*given, "train", TASK, METHOD, "--stage", stage, "--seeds", *map(str, SEEDS)]

    def start(self, place: Path, stage: str, prepare: Callable[[], object] | None = None, aim: int = -1) -> Child:
        """A process that runs a stage."""
        self.marks.reset(aim)
        return Child(place, self.command(stage), prepare)

    def rng(self, kind: str, number: int) -> np.random.Generator:
        """The random numbers of one event."""
        return stream(self.seed, f"chaos/{kind}", number)

    def place(self, like: Path | None = None) -> Path:
        """A new folder to run in, with the results that another has."""
        self._places += 1
        place = self.folder / "places" / str(self._places)
        place.mkdir(parents=True)
        for name in ("config", "tests"):
            (place / name).symlink_to(ROOT / name)
        if like:
            shutil.copytree(like / "results", place / "results")
        return place

    def reference(self, stage: str) -> Path:
        """The folder of an undisturbed run up to the end of a stage."""
        return self.folder / "undisturbed" / stage


def cells(place: Path, stage: str) -> list[Path]:
    """The folders of the runs that a stage trains."""
    results = place / "results/tiny"
    if stage == "pretrain":
        return [results / "pretrained" / DOMAIN]
    return [results / TASK / METHOD / f"seed{seed}" for seed in SEEDS]


def directories(place: Path, stage: str) -> list[Path]:
    """The folders of a stage's checkpoints."""
    return [cell / "run" / stage for cell in cells(place, stage)]


def newest(place: Path, stage: str) -> int:
    """The newest step that all runs of a stage have an undamaged checkpoint of; -1 where there is none."""
    common = set.intersection(*({*checkpoint.Checkpoints(directory).steps} for directory in directories(place, stage)))
    return max(common, default=-1)


def outcome(place: Path) -> dict[str, str]:
    """Every file of the results with its checksum; of those that tell the time or the commit only that they exist."""
    found: dict[str, str] = {}
    for path in sorted((place / "results").rglob("*")):
        if path.is_file() and not path.name.startswith("lock"):
            timed = path.suffix == ".json" or path.name == "timing.csv"
            name = str(path.relative_to(place))
            found[name] = "exists" if timed else hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def difference(place: Path, undisturbed: Path) -> list[str]:
    """The files that differ, are missing or should not be there."""
    expected, found = outcome(undisturbed), outcome(place)
    return sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))


def as_record(**values: Any) -> dict[str, Any]:
    """Numbers of NumPy's as Python's."""
    return {key: value.item() if isinstance(value, np.generic) else value for key, value in values.items()}
