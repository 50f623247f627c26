"""Who trained what, when and how it ended: a `python` first on PATH writes a line when a trainer starts and ends."""

import os
import shlex
import sys
from collections import Counter
from pathlib import Path

from tests.slurm.cluster import Cluster

PYTHON = """#!/bin/sh
# Also gives back what SLURM's executor strips, so that a trainer can ask this cluster for its time limit.
export SLURM_CONF={conf}
case " $* " in
*" -m trqam "*" train "* | *" -m trqam "*" pretrain "*)
  {python} "$@" &
  trainer=$!
  echo "start $trainer $SLURM_JOB_ID" >>{ledger}
  wait $trainer
  code=$?
  echo "end $trainer $code" >>{ledger}
  exit $code
  ;;
esac
exec {python} "$@"
"""


class Ledger:
    """The lines of all trainers under one project folder."""

    def __init__(self, folder: Path, cluster: Cluster):
        self.path = folder / "ledger.txt"
        self.path.touch()
        programs = folder / "programs"
        programs.mkdir()
        conf = cluster.environment["SLURM_CONF"]
        wrapper = programs / "python"
        wrapper.write_text(PYTHON.format(conf=conf, python=shlex.quote(sys.executable), ledger=self.path))
        wrapper.chmod(0o755)
        self.environment = {**cluster.environment, "PATH": f"{programs}{os.pathsep}{cluster.environment['PATH']}"}

    def at_work(self) -> list[tuple[int, str]]:
        """Process and SLURM job of every trainer that is alive."""
        return [(pid, job) for pid, job in self._started() if self.alive(pid)]

    def alive(self, pid: int) -> bool:
        """Whether the process is still a trainer, and not yet a zombie."""
        try:
            return b"trqam" in Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return False

    def job_of(self, pid: int) -> str:
        """The SLURM job that the trainer belongs to."""
        return dict(self._started())[pid]

    def code_of(self, pid: int) -> int | None:
        """The exit code of a trainer; None if it is not known."""
        return self._ended().get(pid)

    def codes(self) -> Counter:
        """How often trainers ended with each exit code; None: killed together with what started them."""
        ended = self._ended()
        return Counter(ended.get(pid) for pid, _ in self._started())

    def _lines(self, kind: str) -> list[list[str]]:
        words = [line.split() for line in self.path.read_text().splitlines()]
        return [line[1:] for line in words if line[0] == kind and len(line) == 3]

    def _started(self) -> list[tuple[int, str]]:
        return [(int(pid), job) for pid, job in self._lines("start")]

    def _ended(self) -> dict[int, int]:
        return {int(pid): int(code) for pid, code in self._lines("end")}
