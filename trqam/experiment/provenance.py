"""Where a number comes from: versions, commit, hardware, command."""

import os
import platform
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from trqam.experiment.sources import code_digest

PACKAGES = ("torch", "mujoco", "ogbench", "gymnasium", "numpy")
TOP = Path(__file__).resolve().parents[2]
KEPT = ("GIT_CONFIG", "GIT_EXEC_PATH")  # variables of git's that name no other repository


@cache
def provenance() -> dict[str, Any]:
    """What a manifest records beside the configuration."""
    return {
        **source(),
        "versions": {"python": platform.python_version(), **{name: metadata.version(name) for name in PACKAGES}},
        "hardware": {"cpu": _cpu(), "machine": platform.machine(), "system": platform.system()},
        "command": " ".join(["python", "-m", "trqam", *sys.argv[1:]]),
    }


def environment(agent: str) -> dict[str, Any]:
    """What a run of ``agent`` is made by: that of `provenance` which a run that goes on may find changed."""
    known = {key: provenance()[key] for key in ("git_commit", "git_changes", "versions", "hardware")}
    return {**known, "code": code_digest(agent)}


def source(top: Path = TOP) -> dict[str, Any]:
    """The commit that this package's code is, and whether files differ from it: "unknown" and None unless ``top``,
    the folder that holds the package, is the top of a checkout (or worktree, or submodule) whose commit has it.

    A copy without git inside another repository, or in site-packages, has no commit, whatever git says of the folder
    around it or of the repository that the environment names.
    """
    found = _git(top, "rev-parse", "--show-toplevel", "HEAD", f"HEAD:trqam/experiment/{Path(__file__).name}")
    lines = (found or "").splitlines()
    if len(lines) < 3 or Path("\n".join(lines[:-2])).resolve() != top.resolve():
        return {"git_commit": "unknown", "git_changes": None}
    changes = _git(top, "status", "--porcelain", "--untracked-files=no")
    return {"git_commit": lines[-2], "git_changes": None if changes is None else bool(changes)}


def _git(top: Path, *arguments: str) -> str | None:
    """What git prints in ``top``, whatever other repository the environment names; None if it fails or is missing."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_") or k.startswith(KEPT)}
    command = ["git", "--no-optional-locks", "-C", str(top), *arguments]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return os.fsdecode(done.stdout).strip("\n")


def _cpu() -> str:
    """The processor's name where Linux tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")
