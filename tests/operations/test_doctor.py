"""What `trqam doctor` finds, and that it clears what dead processes left and nothing else."""

import os
import stat
import subprocess
import sys
import time
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch

from tests.conftest import ROOT
from tests.operations.test_status import held
from trqam import __main__
from trqam.cli import commands
from trqam.config import installed
from trqam.config import load as config
from trqam.config.errors import UserError
from trqam.experiment import lock
from trqam.experiment.files import write_json
from trqam.experiment.run import cell_of
from trqam.operations import cleaning, doctor
from trqam.operations.doctor import FAIL, OK, WARN, Finding

POINT = "pointmaze-medium-navigate"


@pytest.fixture
def scale(tmp_path, monkeypatch):
    """A function that loads the tiny scale in a folder of its own."""
    for name in ("config", "tests"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    return lambda **changes: config.load("tests/tiny.yaml", changes)


@contextmanager
def working(folder, *words):
    """A process that works in ``folder``, called by ``words``; its id."""
    process = subprocess.Popen([sys.executable, *words], cwd=folder, stdin=subprocess.PIPE)
    try:
        yield process.pid
    finally:
        process.communicate(b"")


@pytest.fixture
def locked(tmp_path):
    """A folder as a killed Snakemake leaves it, with locks."""
    (tmp_path / "snakemake.py").write_text("import sys; sys.stdin.read()")
    (tmp_path / "snakemake").symlink_to("snakemake.py")
    (tmp_path / ".snakemake/locks").mkdir(parents=True)
    for name in ("0.input.lock", "0.output.lock"):
        (tmp_path / ".snakemake/locks" / name).write_text("there.csv\n")
    return tmp_path


def left(folder):
    return len(list((folder / ".snakemake/locks").iterdir()))


def test_locks_of_a_killed_snakemake_are_cleared(locked):
    assert doctor.snakemake(locked, clear=False).verdict == WARN
    assert left(locked) == 2  # looking clears nothing
    assert doctor.snakemake(locked, clear=True) == Finding(OK, "snakemake", "2 stale locks removed")
    assert left(locked) == 0
    assert doctor.snakemake(locked, clear=False) == Finding(OK, "snakemake", "no lock")


@pytest.mark.parametrize("words", [["snakemake"], ["-m", "snakemake"], ["-u", "snakemake"]])
def test_those_of_a_living_one_are_not(locked, words, tmp_path_factory):
    with working(locked, *words) as pid, working(tmp_path_factory.mktemp("other"), str(locked / "snakemake")):
        found = doctor.snakemake(locked, clear=True)  # the other works elsewhere
        assert found == Finding(OK, "snakemake", f"locked by Snakemake, process {pid}")
        assert cleaning.snakemakes(locked) == [pid]
        assert left(locked) == 2
    assert doctor.snakemake(locked, clear=False).verdict == WARN


def test_a_second_snakemake_is_told_of_the_first(locked, capsys):
    with lock.held([locked / cleaning.GUARD]):
        cleaning.guard(locked)
    assert f"Snakemake, process {os.getpid()} on " in capsys.readouterr().err
    assert left(locked) == 2


@pytest.mark.parametrize(("age", "cleared"), [(0, False), (2 * lock.STALE, True)])
def test_those_of_another_host_stay_while_it_gives_signs_of_life(locked, age, cleared):
    holder = {"host": "node17", "machine": "another", "pid": os.getpid(), "started": 1, "since": 1.0, "token": "x"}
    write_json(locked / cleaning.GUARD, holder)
    os.utime(locked / cleaning.GUARD, (time.time() - age,) * 2)
    found = doctor.snakemake(locked, clear=True)
    assert ("removed" in found.text) == cleared
    assert cleared or "locked by Snakemake, process " in found.text
    assert left(locked) == (0 if cleared else 2)


def test_locks_of_dead_trainings_are_cleared_and_no_living_ones(scale, monkeypatch):
    loaded = scale()
    method, tasks = "qam", loaded.tasks
    alive, dead = (cell_of(loaded, tasks[0], method, seed) for seed in (0, 1))
    away, gone = (cell_of(loaded, tasks[1], method, seed) for seed in (0, 1))
    for cell in (away, gone):
        holder = {"host": "node17", "machine": "another", "pid": os.getpid(), "started": 1, "since": 1.0, "token": "x"}
        write_json(cell.lock, holder)
    os.utime(gone.lock, (time.time() - 2 * lock.STALE,) * 2)
    with held(dead), held(alive) as pid:
        content = dead.lock.read_text()
        assert doctor.runs(loaded, clear=False).text.startswith("3 live jobs: process ")
    dead.lock.write_text(content)
    with held(alive) as pid:
        found = doctor.runs(loaded, clear=False)
        assert found.verdict == WARN
        assert f"process {pid} on " in found.text
        assert "; 2 stale locks of dead processes" in found.text
        monkeypatch.setattr(lock, "HEARTBEAT", 0.05)
        monkeypatch.setattr(lock, "PATIENCE", 0.02)
        assert doctor.runs(loaded, clear=True).text.endswith("; 2 stale locks removed")
        assert [cell.lock.exists() for cell in (alive, dead, away, gone)] == [True, False, True, False]
        assert lock.standing(alive.lock)[1].holder.pid == pid
    away.lock.unlink()
    assert doctor.runs(loaded, clear=False) == Finding(OK, "runs", "no live job")


def test_temporary_files_of_the_dead(scale):
    loaded = scale()
    folder = loaded.results / "task/trqam/seed0"
    folder.mkdir(parents=True)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    old, fresh = folder / f".offline.csv.{dead.pid}.tmp", folder / f".timing.csv.{dead.pid}.tmp"
    mine, other = folder / f".offline.csv.{os.getpid()}.tmp", folder / "offline.csv"
    for path in (old, fresh, mine, other):
        path.write_text("half")
    for path in (old, mine, other):
        os.utime(path, (time.time() - 2 * cleaning.OLD,) * 2)
    assert doctor.temporary(loaded, clear=False).verdict == WARN
    assert old.exists()
    found = doctor.temporary(loaded, clear=True)
    assert found == Finding(OK, "temporary", "1 file removed, 4 B; 2 files being written")
    assert [path.exists() for path in (old, fresh, mine, other)] == [False, True, True, True]


def test_packages_against_the_pins(tmp_path):
    requirements = tmp_path / "requirements.txt"
    version = torch.__version__.partition("+")[0]
    python, same = doctor.packages(ROOT / "requirements.txt")
    assert python.verdict == same.verdict == OK
    requirements.write_text(f"torch=={version}\nfilelock==0.0.1\n# checks\nno-such-package==1\n")
    assert [finding.verdict for finding in doctor.packages(requirements)] == [OK, WARN]
    requirements.write_text(f"torch=={version}\nno-such-package==1\n")
    assert Finding(FAIL, "packages", "missing: no-such-package; make install, or pip install -r requirements.txt") in [
        *doctor.packages(requirements)
    ]
    requirements.write_text(f"torch=={version}\n# checks\nno-such-package==1\n")
    assert list(doctor.packages(requirements))[1].text == "all 1 as pinned; for the tests also no-such-package"


def test_nothing_else_is_tried_without_the_packages(scale, monkeypatch, tmp_path):
    (tmp_path / "requirements.txt").write_text("no-such-package==1\n")
    monkeypatch.setattr(doctor, "ROOT", tmp_path)
    assert [finding.name for finding in doctor.examine(scale())] == ["python", "packages"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
@pytest.mark.parametrize(("device", "verdict"), [("cpu", OK), ("auto", WARN), ("cuda", FAIL)])
def test_a_gpu_that_is_not_there(scale, device, verdict):
    assert doctor.gpu(scale(device=device)).verdict == verdict


def test_processor(scale, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert doctor.processor(scale()).verdict == OK
    assert "--set env_workers=" in doctor.processor(scale(env_workers=4000)).text
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert doctor.processor(scale(step="compiled")).verdict == FAIL
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert doctor.processor(scale()).verdict == WARN


def test_data_that_is_cut_short(scale, tiny_data, tmp_path):
    loaded = scale(data_dir=str(tmp_path / "data"))
    assert doctor.data(loaded).verdict == OK
    assert "will be generated" in doctor.data(loaded).text
    assert doctor.data(scale(data_dir=str(tmp_path / "data"), data_source="official")).verdict == WARN
    for domain in loaded.task_domains:
        folder = loaded.data_directory(domain)
        folder.mkdir(parents=True)
        for path in (tiny_data / domain).glob("[!.]*"):
            (folder / path.name).symlink_to(path)
    assert doctor.data(loaded) == Finding(OK, "data", f"2 of 2 datasets in {tmp_path}/data (generated)")
    (folder / "actions.npy").unlink()
    (folder / "actions.npy").write_bytes((tiny_data / folder.name / "actions.npy").read_bytes()[:-4])
    with pytest.raises(UserError, match=f"{folder}/actions.npy"):
        doctor.data(loaded)


def test_what_is_missing_is_said_by_the_standard_library_alone(tmp_path):
    """In an interpreter without any package, as `python3` of a fresh machine."""
    bare = [sys.executable, "-I", "-S", "-c"]
    code = "import sys; sys.path.insert(0, {!r}); sys.argv[1:] = {!r}; from trqam.__main__ import main; main()"
    done = subprocess.run([*bare, code.format(str(ROOT), ["doctor"])], capture_output=True, text=True)
    python, missing = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (1, "")
    assert python.split()[:2] == ["ok", "python"]
    assert missing.startswith("FAIL  packages     missing: torch, numpy, ")
    assert missing.endswith("; make install, or pip install -r requirements.txt")
    done = subprocess.run([*bare, code.format(str(ROOT), ["status"])], capture_output=True, text=True)
    line = "trqam: error: package msgspec: missing; make install, or pip install -r requirements.txt\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", line)


def test_a_package_that_a_command_alone_needs(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "trqam.operations.golden.compare", raising=False)
    monkeypatch.setattr(sys, "argv", ["trqam", "--config", str(ROOT / "tests/tiny.yaml"), "golden", "x"])
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit) as ended:
        __main__.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err.endswith(
        "error: package torch: missing; make install, or pip install -r requirements.txt\n"
    )
    with pytest.raises(ModuleNotFoundError):
        installed.end(ModuleNotFoundError(name="trqam.lost"))


@pytest.mark.parametrize(
    ("bounds", "here", "wanted"),
    [
        (">=3.11", (3, 10), "3.11 or newer"), (">=3.11", (3, 13), None), (">=3.11,<3.13", (3, 12), None),
        (">=3.11,<3.13", (3, 13), "3.11 or 3.12"), (">=3.11, <3.14", (3, 10), "3.11 or 3.12 or 3.13"),
    ],
)  # fmt: skip
def test_the_bounds_of_python_are_those_of_pyproject(tmp_path, monkeypatch, bounds, here, wanted):
    (tmp_path / "pyproject.toml").write_text(f'[project]\nname = "trqam"\nrequires-python = "{bounds}"\n')
    monkeypatch.setattr(sys, "version_info", (*here, 0, "final", 0))
    found = installed.python(tmp_path)
    assert found.verdict == (FAIL if wanted else OK)
    assert wanted is None or f"Python {wanted} is needed; make PYTHON=python3." in found.text


def test_snakemake_is_started(scale, tmp_path, monkeypatch):
    assert doctor.workflow(scale()).verdict == WARN
    for name in ("workflow", "environment.yml"):
        (tmp_path / name).symlink_to(ROOT / name)
    assert doctor.workflow(scale()) == Finding(OK, "workflow", "snakemake starts and reads it")
    resources = scale().results / "resources.json"
    write_json(resources, [])
    assert f"{resources}: " in doctor.workflow(scale()).text
    resources.unlink()
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    found = doctor.workflow(scale())
    assert found.verdict == FAIL
    assert found.text.endswith('export HOME="$PWD/.snakemake" XDG_CACHE_HOME="$PWD/.snakemake/cache"')


def test_the_commit(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    found = doctor.source(tmp_path)
    assert found.verdict == WARN
    assert found.text.endswith(f"git config --global --add safe.directory {tmp_path}")
    programs(tmp_path, git=f"echo {tmp_path}; echo 0123456789abcdef; echo tree")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert doctor.source(tmp_path) == Finding(OK, "source", "commit 0123456789ab")


def test_disk(scale, monkeypatch):
    monkeypatch.setattr(doctor, "LITTLE_ROOM", 0)
    monkeypatch.setattr(doctor, "NO_ROOM", 0)
    assert doctor.disk(scale()).verdict == OK
    monkeypatch.setattr(doctor, "LITTLE_ROOM", 1e18)
    assert doctor.disk(scale()).verdict == WARN
    monkeypatch.setattr(doctor, "NO_ROOM", 1e18)
    assert doctor.disk(scale()).verdict == FAIL
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert "cannot be written" in doctor.disk(scale()).text


def programs(folder, **scripts):
    """Programs of a PATH of their own."""
    for name, script in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(stat.S_IRWXU)


def test_slurm(scale, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert doctor.slurm().verdict == OK
    programs(tmp_path, sbatch="exit 0", sinfo="echo training*")
    assert "work in a checkout" in doctor.slurm().text
    profile = tmp_path / doctor.SLURM_PROFILE
    profile.parent.mkdir(parents=True)
    lines = '  slurm_account: {}  # EDIT: yours\n  slurm_partition: {}  # EDIT: with GPUs\n  retries: ""  # none\n'
    profile.write_text(lines.format('""', '"training"'))
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: object())
    assert doctor.slurm().verdict == WARN
    assert "partitions training*; " in doctor.slurm().text
    assert "slurm_account: as shipped" in doctor.slurm().text
    profile.write_text(lines.format('"mine"', '"training"'))
    assert doctor.slurm().verdict == OK
    programs(tmp_path, sinfo="echo no controller >&2; exit 1")
    assert doctor.slurm().text.endswith("sinfo does not answer (no controller)")
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None)
    assert doctor.slurm().verdict == FAIL


def test_a_latex_that_does_not_start(monkeypatch, tmp_path):
    programs(tmp_path, pdflatex="exit 3")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert doctor.tex().verdict == FAIL
    programs(tmp_path, pdflatex="echo 'pdfTeX 3.14 (TeX Live 2022/Debian)'")
    assert doctor.tex() == Finding(OK, "latex", f"{tmp_path}/pdflatex (TeX Live 2022/Debian)")


def test_rendering_and_environments_leave_no_trace(scale, monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "nonsense")
    before = dict(os.environ)
    assert doctor.rendering().verdict in (OK, WARN)
    assert dict(os.environ) == before
    assert doctor.environments(scale()).verdict == OK
    monkeypatch.setattr("trqam.environments.environment.make", lambda task: 1 / 0)
    found = doctor.environments(scale())
    assert found.verdict == FAIL
    assert "division by zero" in found.text


@pytest.mark.parametrize(("verdicts", "code"), [([OK, WARN], 0), ([OK, FAIL, OK], 1)])
def test_the_exit_code(monkeypatch, capsys, verdicts, code):
    monkeypatch.setattr(doctor, "examine", lambda config, clear: (Finding(v, "name", "text") for v in verdicts))
    with pytest.raises(SystemExit) as ended:
        commands.doctor(SimpleNamespace(clear=False), None)
    assert ended.value.code == code
    assert len(capsys.readouterr().out.splitlines()) == len(verdicts)
