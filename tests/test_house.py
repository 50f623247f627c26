"""The plan of the package: twelve doors, and imports that only go downwards."""

import ast
from pathlib import Path

import pytest

from tests.conftest import ROOT

# From the top to the bottom: a module imports from its own door and from those below.
DOORS = [
    "__main__", "cli", "operations", "report", "training", "data", "experiment", "agents", "environments", "networks",
    "maths", "config",
]  # fmt: skip
MODULES = sorted((ROOT / "trqam").rglob("*.py"))


def imported(path: Path) -> list[str]:
    """The modules of this package that a file imports, anywhere in it."""
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "trqam":
            names += [f"trqam.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append(node.module or "")
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
    return [name for name in names if name.startswith("trqam.")]


def door(path: Path) -> str:
    """The first part of a module's name."""
    return path.relative_to(ROOT / "trqam").parts[0].removesuffix(".py")


def test_the_doors_are_these():
    assert {door(path) for path in MODULES} - {"__init__"} == set(DOORS)


@pytest.mark.parametrize("name", DOORS)
def test_imports_go_downwards(name):
    allowed = DOORS[DOORS.index(name) :]
    upwards = [
        f"{path.relative_to(ROOT)}: {module}"
        for path in MODULES
        if door(path) == name
        for module in imported(path)
        if module.split(".")[1] not in allowed
    ]
    assert not upwards
