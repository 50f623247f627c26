"""The project as somebody else has it: a copy, and the environment in which its commands run."""

import os
import shutil
import sys
from pathlib import Path

from tests.conftest import ROOT

ENVIRONMENT = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def copy_of_the_project(folder):
    """A clean copy, as a clone would give."""
    for name in ("workflow", "trqam", "config", "paper", "tests", "environment.yml"):
        ignore = shutil.ignore_patterns("__pycache__")
        source = ROOT / name
        shutil.copytree(source, folder / name, ignore=ignore) if source.is_dir() else shutil.copy(source, folder)
    return folder
