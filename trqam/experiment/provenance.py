"""Where a number comes from: versions, commit, hardware, command, and a digest of the sources that made it.

The digest is there so that runs of different code are not mixed unseen. Of the package it covers what training imports,
the run's own agent included and no other one, except the modules of `BESIDE`, which decide no number: they keep
records, locks and time, or read the configuration, whose values are compared by themselves. A module that is new
counts, until it is listed there. What counts is the syntax tree without docstrings: an edit of prose, of a comment or
of the layout is no other code. So it sees what a commit cannot tell: whether a change concerns the numbers, and
changes that are not committed.
"""

import ast
import hashlib
import os
import platform
import subprocess
import sys
from collections.abc import Collection, Iterable
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from trqam.config.load import is_robomimic
from trqam.config.parameters import policy_of
from trqam.config.reading import seal

PACKAGE = Path(__file__).resolve().parents[1]
TOP = PACKAGE.parent
PACKAGES = ("torch", "mujoco", "ogbench", "gymnasium", "numpy")
KEPT = ("GIT_CONFIG", "GIT_EXEC_PATH")  # variables of git's that name no other repository
BESIDE = frozenset(
    f"trqam.{name}"
    for name in (
        "config.errors", "config.load", "config.parameters", "config.reading", "config.schema", "config.strict",
        "data.card", "data.store", "data.verified",
        "environments.processes", "experiment.checkpoint", "experiment.files",
        "experiment.lock", "experiment.progress", "experiment.provenance", "experiment.published",
        "experiment.run", "training.profiling", "training.stop",
    )
)  # fmt: skip


@cache
def provenance() -> dict[str, Any]:
    """What a manifest records beside the configuration."""
    return {
        **source(),
        "versions": {"python": platform.python_version(), **{name: metadata.version(name) for name in PACKAGES}},
        "hardware": {"cpu": _cpu(), "machine": platform.machine(), "system": platform.system()},
        "command": " ".join(["python", "-m", "trqam", *sys.argv[1:]]),
    }


def environment(agent: str, domain: str) -> dict[str, Any]:
    """What a run of ``agent`` is made by: that of `provenance` which a run that goes on may find changed."""
    known = {key: provenance()[key] for key in ("git_commit", "git_changes", "hardware")}
    return {**known, "versions": versions(domain), "code": code_digest(agent)}


def versions(domain: str) -> dict[str, str]:
    """Those of `provenance`, and robosuite's where a task of ``domain`` needs it and it is here."""
    own = {dist.name: dist.version for dist in metadata.distributions(name="robosuite")} if is_robomimic(domain) else {}
    return provenance()["versions"] | own


def data_sum(card: dict[str, Any]) -> str:
    """The SHA-256 that says which data a run was trained on: that of the sums of all arrays, which the ``card`` of a
    dataset holds. Who made them, and of which files, does not count."""
    return seal(card["sha256"])


def source(top: Path = TOP) -> dict[str, Any]:
    """The commit that this package's code is, and whether files differ from it: "unknown" and None unless ``top``,
    the folder that holds the package, is the top of a checkout (or worktree, or submodule) whose commit has it.

    A copy without git inside another repository, or in site-packages, has no commit, whatever git says of the folder
    around it or of the repository that the environment names.
    """
    answer = _git(top, "rev-parse", "--show-toplevel", "HEAD", f"HEAD:trqam/experiment/{Path(__file__).name}")
    lines = (answer or "").splitlines()
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


@cache
def code_digest(agent: str) -> str:
    """Sixteen hexadecimal digits of SHA-256 over what trains and evaluates ``agent``, and what its policy is."""
    text = f"{policy_of(agent)}\n" + "".join(f"{module}\n{_tree(module)}\n" for module in sources(agent))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def sources(agent: str) -> list[str]:
    """The modules that count, by name."""
    return _closure(["trqam.training.blocks", f"trqam.agents.{agent}"], BESIDE)


def files(*modules: str) -> list[str]:
    """The files of ``modules`` and of all that they import from this package, from the project's folder.

    The packages that hold them are among them, because Python runs those first.
    """
    reached: list[str] = []
    waiting = [*modules]
    while waiting:
        reached = _closure([*reached, *waiting])
        waiting = sorted({module.rpartition(".")[0] for module in reached} - {*reached, ""})
    return [str(path.relative_to(PACKAGE.parent)) for path in map(_path, reached) if path]


def _closure(modules: Iterable[str], beside: Collection[str] = ()) -> list[str]:
    """``modules`` and what they import, directly or not, but for ``beside`` and what only that imports."""
    reached: set[str] = set()
    waiting = [*modules]
    while waiting:
        module = waiting.pop()
        if module not in reached and module not in beside:
            reached.add(module)
            waiting += _imported(module)
    return sorted(reached)


def _path(module: str) -> Path | None:
    """The file of a module of this package."""
    path = PACKAGE.joinpath(*module.split(".")[1:])
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


@cache
def _imported(module: str) -> list[str]:
    """What of this package a module imports, anywhere in it."""
    names: list[str] = []
    for node in ast.walk(_parsed(module)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return [name for name in names if name.startswith("trqam.") and _path(name)]


@cache
def _tree(module: str) -> str:
    """The syntax tree of a module, without docstrings and places."""
    tree = _parsed(module)
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(tree):
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
    return ast.dump(tree)


def _parsed(module: str) -> ast.Module:
    path = _path(module)
    return ast.parse(path.read_bytes() if path else b"")
