"""A digest of the sources that a run's numbers come from, so that runs of different code are not mixed unseen.

Of the package it covers what training imports, the run's own agent included and no other one, except the modules of
`BESIDE`, which decide no number: they keep records, locks and time, or read the configuration, whose values are
compared by themselves. A module that is new counts, until it is listed there. What counts is the syntax tree without
docstrings: an edit of prose, of a comment or of the layout is no other code. So it sees what a commit cannot tell:
whether a change concerns the numbers, and changes that are not committed.
"""

import ast
import hashlib
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
BESIDE = frozenset(
    f"trqam.{name}"
    for name in (
        "config.errors", "config.load", "config.parameters", "config.reading", "config.schema", "config.strict",
        "data.card", "data.exclusive", "data.record", "data.store", "data.verified", "data.watch",
        "environments.processes", "experiment.checkpoint", "experiment.files", "experiment.folder",
        "experiment.lock", "experiment.progress", "experiment.provenance", "experiment.published",
        "experiment.run", "experiment.sources", "training.profiling", "training.stop",
    )
)  # fmt: skip


@cache
def code_digest(agent: str) -> str:
    """Sixteen hexadecimal digits of SHA-256 over what trains and evaluates ``agent``."""
    text = "".join(f"{module}\n{_tree(module)}\n" for module in sources(agent))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def sources(agent: str) -> list[str]:
    """The modules that count, by name."""
    found: set[str] = set()
    waiting = ["trqam.training.blocks", f"trqam.agents.{agent}"]
    while waiting:
        module = waiting.pop()
        if module not in found and module not in BESIDE:
            found.add(module)
            waiting += _imported(module)
    return sorted(found)


def _path(module: str) -> Path | None:
    """The file of a module of this package."""
    path = PACKAGE.joinpath(*module.split(".")[1:])
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def _imported(module: str) -> list[str]:
    """What of this package a module imports, anywhere in it."""
    names: list[str] = []
    for node in ast.walk(ast.parse(_path(module).read_bytes())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return [name for name in names if name.startswith("trqam.") and _path(name)]


@cache
def _tree(module: str) -> str:
    """The syntax tree of a module, without docstrings and places."""
    tree = ast.parse(_path(module).read_bytes())
    for node in ast.walk(tree):
        documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        if documented and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
    return ast.dump(tree)
