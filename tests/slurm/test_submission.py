"""How jobs reach SLURM, seen by an sbatch that only takes notes: needs no SLURM."""

import os
import subprocess
import sys
import time

import pytest

from tests.conftest import ROOT
from tests.helpers.project import copy_of_the_project
from trqam.config import load

DOMAIN = "cube-double-play"
CHANGES = {"tasks": [DOMAIN], "baseline_tasks": [DOMAIN], "ablation_tasks": []}
PROGRAMS = {
    "sbatch": 'printf "%s\\0" "$@" >"$NOTES.$$"; mv "$NOTES.$$" "$NOTES/$$"; echo $$',
    "scontrol": 'echo "MinJobAge = 300 sec"; echo "MaxArraySize = 1001"',
    "squeue": "",
    "sinfo": "",
    "sacct": "",
    "sacctmgr": "",
    "sshare": "",
    "scancel": "",
}


@pytest.fixture
def submitted(tmp_path):
    """A function that has the offline jobs of one domain submitted: the arguments of every sbatch."""
    folder = copy_of_the_project(tmp_path)
    loaded = load.load(ROOT / "config/paper.yaml", CHANGES)
    before = [loaded.data_directory(DOMAIN) / "card.json"]
    before += [loaded.results / f"pretrained/{DOMAIN}" / name for name in ("base.safetensors", "pretrain.json")]
    for path in before:  # what the offline jobs need; without metrics nothing counts as published, and is verified
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()
    for name, body in PROGRAMS.items():
        program = tmp_path / "programs" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\n{body}\n")
        program.chmod(0o755)
    notes = tmp_path / "notes"
    notes.mkdir()
    path = os.pathsep.join([str(tmp_path / "programs"), os.environ["PATH"]])

    def submitted(calls):
        options = [f"{key}=[{','.join(names)}]" for key, names in CHANGES.items()]
        command = [sys.executable, "-m", "snakemake", "paper", "--workflow-profile", "workflow/profiles/slurm"]
        command += ["--configfile", "config/paper.yaml", "--config", *options]
        with (tmp_path / "log").open("w") as log:
            running = subprocess.Popen(
                command, cwd=folder, env={**os.environ, "PATH": path, "NOTES": str(notes)}, stdout=log, stderr=log
            )
        try:
            end = time.monotonic() + 120
            while len(list(notes.iterdir())) < calls and running.poll() is None and time.monotonic() < end:
                time.sleep(0.2)
        finally:
            running.kill()
            running.wait()
        found = [note.read_text().split("\0")[:-1] for note in notes.iterdir()]
        assert len(found) == calls, (tmp_path / "log").read_text()[-3000:]
        return found

    return submitted


def test_a_domains_jobs_are_two_arrays_with_room_to_spare(submitted):
    calls = submitted(calls=2)
    arrays = sorted(next(word for word in call if word.startswith("--array=")) for call in calls)
    assert arrays == ["--array=1-20", "--array=21-40"]  # five tasks, eight methods
    for call in calls:
        assert max(map(len, call)) < 128 * 1024 / 2  # Linux's limit of one argument
        options = " ".join(word for word in call if not word.startswith("--wrap"))
        for asked in ("--gpus=1", "-t 1440", "--mem 32", "--cpus-per-task=8", "--requeue"):
            assert asked in options
