"""A SLURM of one node that belongs to this process: own munge key and socket, configuration, state and ports.

Nothing of the system's is touched, and nothing of it is left: no systemd, no file under /etc or /var. Its node poses as
one with more processors than the machine has and with GPUs, which are device files that exist everywhere.
"""

import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scancel", "scontrol", "squeue", "sinfo")
GPUS = ("/dev/null", "/dev/zero", "/dev/full")
CPUS = 8

CONFIGURATION = """
ClusterName=trqam
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
CryptoType=crypto/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SwitchType=switch/none
MpiDefault=none
MailProg=/bin/true
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SlurmdParameters=config_overrides
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
KillWait=2
MinJobAge=300
ReturnToService=2
GresTypes=gpu
NodeName=node NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=64000 Gres=gpu:fake:{gpus} State=UNKNOWN
PartitionName=training Nodes=node Default=YES MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE
PartitionName=urgent Nodes=node MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
"""


def missing() -> list[str]:
    """The programs that are not installed."""
    return [name for name in PROGRAMS if shutil.which(name, path=_path()) is None]


def _path() -> str:
    """PATH and where daemons live, which an ordinary user's PATH may lack."""
    return os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"])


def _free_ports(number: int) -> list[int]:
    sockets = [socket.socket() for _ in range(number)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class Cluster:
    """The daemons, from `with Cluster() as cluster` to the end of the block."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))  # sockets' paths have 108 characters at most
        self.environment = {**os.environ, "SLURM_CONF": str(self.folder / "slurm.conf"), "PATH": self._programs()}
        self._daemons: dict[str, subprocess.Popen] = {}

    def __enter__(self) -> "Cluster":
        try:
            self._configure()
            self._start("munged", "--foreground", "--force", *self._munge_options())
            self._wait(lambda: (self.folder / "munge.socket").exists(), "munged")
            self.start("slurmctld")
            self.start("slurmd")
            self._wait(lambda: self.node_state() == "idle", "the node")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if "slurmctld" in self._daemons:
            self.drop_jobs()
        for name in ("slurmd", "slurmctld", "munged"):
            if name in self._daemons:
                self.stop(name)
        self._kill_orphans()
        shutil.rmtree(self.folder, ignore_errors=True)

    def drop_jobs(self) -> None:
        """Cancels all jobs and waits for their end."""
        self.run("scancel", "--full", "--user", str(os.getuid()), check=False)
        self._wait(lambda: not self.run("squeue", "--noheader", check=False).strip(), "the jobs' end", strict=False)

    def start(self, name: str) -> None:
        """slurmctld or slurmd."""
        self._start(name, "-D", *(("-N", "node") if name == "slurmd" else ()))

    def stop(self, name: str) -> None:
        """Ends a daemon of ours."""
        daemon = self._daemons.pop(name)
        daemon.terminate()
        try:
            daemon.wait(10)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()

    def resume(self) -> bool:
        """Lets a node that is down or drained take jobs again; whether it takes them already."""
        if self.node_state() in ("idle", "mixed", "allocated"):
            return True
        self.run("scontrol", "update", "NodeName=node", "State=resume", check=False)  # it may have returned by itself
        return False

    def wait_until_working(self) -> None:
        """Until the controller answers and the node takes jobs."""
        self._wait(self.resume, "the node", seconds=120)

    def run(self, *command: str, check: bool = True) -> str:
        """Output of a SLURM command."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True)
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
        return done.stdout

    def node_state(self) -> str:
        """Such as idle, mixed, drained."""
        return self.run("sinfo", "--noheader", "--partition=training", "--format=%T", check=False).strip().rstrip("*")

    def state_of(self, job: str) -> str:
        """Such as RUNNING, COMPLETING, TIMEOUT; empty for a job that is forgotten."""
        found = re.search(r"JobState=(\w+)", self.run("scontrol", "show", "job", job, check=False))
        return found[1] if found else ""

    def on_the_node(self) -> set[str]:
        """The jobs that have processes, whatever the controller thinks."""
        found = set()
        for process in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                step = re.match(rb"slurmstepd: \[(\d+)\.", process.read_bytes())
            except OSError:
                continue  # it has just ended
            if step:
                found.add(step[1].decode())
        return found

    def _kill_orphans(self) -> None:
        """Ends what jobs have left: without cgroups, SLURM loses a process whose parents died with their node."""
        for process in Path("/proc").glob("[0-9]*"):
            try:
                ours = f"SLURM_CONF={self.folder}/".encode() in (process / "environ").read_bytes()
                if ours and int(process.name) != os.getpid():
                    os.kill(int(process.name), signal.SIGKILL)
            except OSError:
                continue  # another user's, or ended

    def _programs(self) -> str:
        """PATH with an srun first that keeps our SLURM_CONF, which SLURM's executor strips from what it nests."""
        folder = self.folder / "bin"
        folder.mkdir()
        wrapper = folder / "srun"
        wrapper.write_text(f'#!/bin/sh\nSLURM_CONF={self.folder}/slurm.conf exec {shutil.which("srun")} "$@"\n')
        wrapper.chmod(0o755)
        return os.pathsep.join([str(folder), _path()])

    def _munge_options(self) -> list[str]:
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        names = {"socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        return [f"--key-file={key}", *(f"--{option}={self.folder}/munge.{name}" for option, name in names.items())]

    def _configure(self) -> None:
        for name in ("state", "spool"):
            (self.folder / name).mkdir()
        self.folder.chmod(0o755)
        controller_port, node_port = _free_ports(2)
        host = socket.gethostname().split(".")[0]
        values = {"folder": self.folder, "user": pwd.getpwuid(os.getuid()).pw_name, "host": host}
        values |= {"controller_port": controller_port, "node_port": node_port}
        text = CONFIGURATION.format(cpus=CPUS, gpus=len(GPUS), **values)
        (self.folder / "slurm.conf").write_text(text)
        lines = [f"NodeName=node Name=gpu Type=fake File={device}" for device in GPUS]
        (self.folder / "gres.conf").write_text("\n".join(["AutoDetect=off", *lines]) + "\n")
        (self.folder / "cgroup.conf").write_text("CgroupAutomount=no\n")

    def _start(self, name: str, *arguments: str) -> None:
        with (self.folder / f"{name}.out").open("a") as out:
            command = [shutil.which(name, path=_path()), *arguments]
            self._daemons[name] = subprocess.Popen(command, env=self.environment, stdout=out, stderr=out)

    def _wait(self, condition, what: str, strict: bool = True, seconds: float = 30) -> None:
        end = time.monotonic() + seconds
        while not condition():
            dead = [name for name, daemon in self._daemons.items() if daemon.poll() is not None]
            if strict and (dead or time.monotonic() > end):
                logs = "".join(path.read_text()[-2000:] for path in self.folder.glob("*.[ol][uo][tg]"))
                raise RuntimeError(f"{what} did not start ({dead or 'in time'}):\n{logs}")
            if time.monotonic() > end:
                return
            time.sleep(0.1)
