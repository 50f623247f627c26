"""What befalls a cluster while it trains: one method an event, each True if it could happen now."""

import os
import signal
import subprocess
import time
from collections import Counter, deque

import numpy as np

from tests.slurm.cluster import Cluster
from tests.slurm.ledger import Ledger

KINDS = {
    "killed": "a trainer dies (SIGKILL), so its job fails",
    "cancelled": "scancel of a running job",
    "limit": "a slow trainer nears its time limit, saves and leaves with 85",
    "timeout": "a hung trainer's job ends in TIMEOUT",
    "preempted": "preemption by an urgent job, with requeue",
    "snakemake": "SIGKILL of snakemake; its running jobs go on; --unlock and rerun",
    "drained": "the node is drained and resumed",
    "down": "the node goes down under its jobs and comes back",
    "controller": "slurmctld stops and is started again",
}
DISTURBING = ("preempted", "down")  # every running job, and so events under way
FIRST = 2  # events that may befall behaviour cloning, on which all other jobs wait
FORGOTTEN = 5.0  # seconds after which a node knows that a job's processes have ended


class Events:
    """So many events, in a random order; each while a trainer is at work, a few seconds after the last."""

    def __init__(self, cluster: Cluster, ledger: Ledger, number: int, rng: np.random.Generator):
        self.cluster, self.ledger, self.rng = cluster, ledger, rng
        names = [list(KINDS)[position % len(KINDS)] for position in range(number)]
        self.rng.shuffle(names)
        self.left, self.happened = deque(names), Counter()
        self.frozen: dict[int, str] = {}  # trainers stopped by SIGSTOP, and the event that they are in
        self._gone: dict[str, float] = {}  # requeued jobs, and when their old processes were seen to be gone
        self._next = 0.0

    def look(self, snakemake: subprocess.Popen, spare: bool) -> None:
        """To be called about once a second: what is under way goes on, and the next event happens when it is due.

        ``spare``: all waits for one job, which after a few events should come to its end.
        """
        self._thaw()
        self._release_requeued()
        if time.monotonic() < self._next or not self.ledger.at_work():
            return
        if spare and self.happened.total() >= FIRST:
            return
        for _ in range(len(self.left)):
            kind = self.left.popleft()
            if not (self.frozen and kind in DISTURBING) and self._happens(kind, snakemake):
                self._next = time.monotonic() + self.rng.uniform(1, 5)
                return
            self.left.append(kind)

    def finish(self) -> None:
        """Counts what had gone when snakemake was done."""
        self._thaw()

    def _happens(self, kind: str, snakemake: subprocess.Popen) -> bool:
        happened = self._snakemake(snakemake) if kind == "snakemake" else getattr(self, f"_{kind}")()
        if happened and kind not in ("limit", "timeout"):  # these are counted when their trainer has gone
            self.happened[kind] += 1
        return happened

    def _trainer(self) -> tuple[int, str] | None:
        """A trainer at work, not frozen, and its SLURM job."""
        alive = [(pid, job) for pid, job in self.ledger.at_work() if pid not in self.frozen]
        return alive[self.rng.integers(len(alive))] if alive else None

    def _killed(self) -> bool:
        if found := self._trainer():
            os.kill(found[0], signal.SIGKILL)
        return bool(found)

    def _cancelled(self) -> bool:
        if found := self._trainer():
            self.cluster.run("scancel", found[1], check=False)
        return bool(found)

    def _limit(self) -> bool:
        return self._freeze(self._trainer(), "limit")

    def _timeout(self) -> bool:
        return self._freeze(self._trainer(), "timeout")

    def _freeze(self, found: tuple[int, str] | None, kind: str) -> bool:
        """One trainer at a time: the others must have GPUs left."""
        if self.frozen:
            return False
        if found:
            os.kill(found[0], signal.SIGSTOP)
            self.frozen[found[0]] = kind
        return bool(found)

    def _thaw(self) -> None:
        """Lets slow trainers go on shortly before their limit; counts the events of those that have gone."""
        for pid, kind in list(self.frozen.items()):
            job = self.ledger.job_of(pid)
            if self.ledger.alive(pid):
                left = self.cluster.run("squeue", "--noheader", "--format=%L", f"--jobs={job}", check=False).strip()
                if kind == "limit" and left in [f"0:{seconds:02}" for seconds in range(11)]:
                    os.kill(pid, signal.SIGCONT)
                continue
            state = self.cluster.state_of(job)
            if state in ("RUNNING", "COMPLETING"):  # not yet how it ended
                continue
            del self.frozen[pid]
            if self.ledger.code_of(pid) == 85 if kind == "limit" else state == "TIMEOUT":
                self.happened[kind] += 1
            else:
                self.left.append(kind)  # something else befell it: once more

    def _preempted(self) -> bool:
        self.cluster.run("sbatch", "--partition=urgent", "--exclusive", "--output=/dev/null", "--wrap=sleep 1")
        return True

    def _release_requeued(self) -> None:
        """Administers as a patient person would.

        SLURM lets a requeued job wait for two minutes, so that its old processes end and the node forgets them; it goes
        sooner here, and a node that was drained for a job come back too soon is resumed.
        """
        self.cluster.resume()
        there, now = self.cluster.on_the_node(), time.monotonic()
        waiting = ("squeue", "--noheader", "--array", "--states=PENDING", "--format=%A|%r")
        for line in self.cluster.run(*waiting, check=False).splitlines():
            job, reason = line.split("|", 1)
            if reason == "BeginTime" and job not in there:
                if now - self._gone.setdefault(job, now) > FORGOTTEN:
                    self.cluster.run("scontrol", "update", f"JobId={job}", "StartTime=now", check=False)
                    del self._gone[job]
            elif "held" in reason:
                self.cluster.run("scontrol", "release", job, check=False)

    def _snakemake(self, snakemake: subprocess.Popen) -> bool:
        if snakemake.poll() is not None:
            return False
        snakemake.kill()
        # as docs/cluster.md advises
        self.cluster.run("scancel", "--state=PENDING", f"--user={os.getuid()}", check=False)
        return True

    def _drained(self) -> bool:
        return self._node("drain", seconds=3)

    def _down(self) -> bool:
        return self._node("down", seconds=1)

    def _node(self, state: str, seconds: float) -> bool:
        self.cluster.run("scontrol", "update", "NodeName=node", f"State={state}", "Reason=campaign")
        time.sleep(seconds)
        self.cluster.wait_until_working()
        return True

    def _controller(self) -> bool:
        self.cluster.stop("slurmctld")
        time.sleep(1)
        self.cluster.start("slurmctld")
        self.cluster.wait_until_working()
        return True
