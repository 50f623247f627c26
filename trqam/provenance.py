"""Where a number comes from: versions, commit, hardware, command."""

import platform
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from trqam.sources import code_digest

PACKAGES = ("torch", "mujoco", "ogbench", "gymnasium", "numpy")


@cache
def provenance() -> dict[str, Any]:
    """What a manifest records beside the configuration."""
    return {
        "git_commit": _git("rev-parse", "HEAD"),
        "git_changes": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "versions": {"python": platform.python_version(), **{name: metadata.version(name) for name in PACKAGES}},
        "hardware": {"cpu": _cpu(), "machine": platform.machine(), "system": platform.system()},
        "command": " ".join(["python", "-m", "trqam", *sys.argv[1:]]),
    }


def environment(agent: str) -> dict[str, Any]:
    """What a run of ``agent`` is made by: that of `provenance` which a run that goes on may find changed."""
    known = {key: provenance()[key] for key in ("git_commit", "git_changes", "versions", "hardware")}
    return {**known, "code": code_digest(agent)}


def _git(*arguments: str) -> str:
    """The output of git in this package's checkout; "unknown" outside one."""
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _cpu() -> str:
    """The processor's name where Linux tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")
