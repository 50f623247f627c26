"""docs/library.md: its blocks run, in their order, after a tiny run; its tables have every column."""

import json
import re
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.helpers.project import ENVIRONMENT, copy_of_the_project
from tests.workflow.test_workflow import POINT
from trqam.config.load import read_yaml
from trqam.experiment.published import COLUMNS, TIMING_COLUMNS

PAGE = ROOT / "docs/library.md"
# In one process, for what takes long here is to import PyTorch. The page sees nothing of these names.
MAKE_AND_RUN = """
from pathlib import Path
from tests.helpers.episodes import shortened
from trqam.config import load as config
from trqam.report import collect as results
from trqam.training import blocks as training
from trqam.data.generate import generate

shortened().start()
small = config.load("config/config.yaml")
generate("pointmaze-medium-navigate", small.data_directory("pointmaze-medium-navigate"), small.scale.transitions, 0)
training.pretrain(small, "pointmaze-medium-navigate")
for task, method in small.cells:
    for stage in small.stages(method):
        training.train(small, task, method, stage, [0, 1])
results.collect(small, small.results / "paper")
exec(compile(Path("page.py").read_text(), "docs/library.md", "exec"), {"__name__": "__main__"})
"""


def blocks(language):
    """(the first line's number, code) of every block, the lines counted from 0."""
    text = PAGE.read_text().replace("puzzle-3x3-play-singletask-task1-v0", POINT)
    found = re.finditer(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [(text[: match.start(1)].count("\n"), match[1]) for match in found]


def test_every_block_of_the_page_runs(tmp_path):
    folder = copy_of_the_project(tmp_path)
    tiny = {"scale": "small", "data_dir": "data/small", "tasks": [POINT], "methods": ["behaviour_cloning", "trqam"]}
    (folder / "config/config.yaml").write_text(json.dumps({**read_yaml(ROOT / "tests/tiny.yaml"), **tiny}))
    ((_, method),) = blocks("yaml")
    with (folder / "config/methods.yaml").open("a") as file:
        file.write(method)
    program = []  # at the page's own lines, so that a traceback names them
    for line, code in blocks("python"):
        if path := re.match(r"# (trqam/[\w/]+\.py)\b", code):
            with (folder / path[1]).open("a") as file:  # a new file, or the end of one
                file.write(f"\n\n{code}")
        else:
            program += [""] * (line - len(program)) + code.splitlines()
    (folder / "page.py").write_text("\n".join(program))
    command = [sys.executable, "-c", MAKE_AND_RUN]
    done = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for said in ("trqam online 20 0 False", "online step 20, 3 flow steps", "online/finetuned/0.weight"):
        assert said in done.stdout, done.stdout


@pytest.mark.parametrize("column", [*COLUMNS, *TIMING_COLUMNS, "task", "domain", "method", "seed", "total_step"])
def test_the_page_has_a_unit_for_every_column(column):
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    assert any(f"`{column}`" in row.split("|")[1] for row in rows)
