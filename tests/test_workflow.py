"""Snakemake for real: the tiny scale end to end, what an edit replans, and blocks of seeds."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas
import pytest

from tests.conftest import ROOT
from trqam.config import load
from trqam.runs import Cell, locked

POINT = "pointmaze-medium-navigate-singletask-task2-v0"
CORES = str(min(2, len(os.sched_getaffinity(0))))
ENVIRONMENT = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def snakemake(folder, *arguments, code=0):
    """Runs snakemake in ``folder``; its output."""
    command = ["snakemake", "--cores", CORES, *arguments]
    done = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)
    output = done.stdout + done.stderr
    assert (done.returncode == 0) == (code == 0), output[-4000:]
    return output


def planned(output):
    """Rule names and counts of a dry run's table."""
    table = re.search(r"^job +count\n[- ]+\n(.*?)^total", output, re.MULTILINE | re.DOTALL)
    return {name: int(count) for name, count in re.findall(r"^(\S+) +(\d+)$", table[1], re.MULTILINE)} if table else {}


def copy_of_the_project(folder):
    """A clean copy, as a clone would give."""
    for name in ("workflow", "trqam", "config", "paper", "tests", "environment.yml"):
        ignore = shutil.ignore_patterns("__pycache__")
        source = ROOT / name
        shutil.copytree(source, folder / name, ignore=ignore) if source.is_dir() else shutil.copy(source, folder)
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The tiny scale, run once to its paper."""
    folder = copy_of_the_project(tmp_path_factory.mktemp("project"))
    snakemake(folder, "paper", "--configfile", "tests/tiny.yaml")
    return folder


def test_the_paper_and_everything_beside_it(finished):
    paper = finished / "results/tiny/paper"
    assert (paper / "paper.pdf").read_bytes().startswith(b"%PDF-")
    assert "<table" in (paper / "report.html").read_text()
    assert {p.suffix for p in (paper / "figures").iterdir()} == {".pdf", ".png"}
    metrics = pandas.read_csv(paper / "metrics.csv")
    loaded = load(ROOT / "tests/tiny.yaml")
    assert set(metrics["task"]) == set(loaded.tasks)
    runs = metrics[metrics["method"] != "behaviour_cloning"].groupby(["task", "method", "stage"])
    assert len(runs) == 2 * 2 * 2
    for _, rows in runs:
        assert set(rows["seed"]) == {0, 1}
        assert rows.dropna(subset="success")["step"].max() == 20
    trqam = metrics.query("method == 'trqam' and step == 20")
    assert (trqam["path_kl"] > 0).all()
    assert trqam["multiplier"].nunique() > 1


def test_a_manifest_says_where_the_numbers_come_from(finished):
    manifest = json.loads((finished / f"results/tiny/{POINT}/trqam/seed0/online.json").read_text())
    run = load(ROOT / "tests/tiny.yaml").run(POINT, "trqam")
    assert manifest["configuration"] == run.resolved("online")
    assert manifest["digest"] == run.digest("online")
    assert manifest["versions"].keys() >= {"torch", "mujoco", "ogbench", "gymnasium", "numpy", "python"}
    assert manifest.keys() >= {"git_commit", "hardware", "command", "seed", "status", "seconds"}


def test_a_second_run_has_nothing_to_do(finished):
    output = snakemake(finished, "paper", "--configfile", "tests/tiny.yaml", "-n")
    assert "Nothing to be done" in output


EDITED = [
    "trqam/report/figures/overall_bars.py",
    "paper/main.tex",
    "paper/templates/success.tex.j2",
    "config/methods.yaml",
    "trqam/sde.py",
    "trqam/training.py",
]


@pytest.mark.parametrize("edited", EDITED)
def test_an_edit_redraws_and_never_retrains(finished, edited):
    path = finished / edited  # a changed content: Snakemake sees through a mere touch of a small file
    content = path.read_text()
    path.write_text(content + ("\n% edited\n" if path.suffix == ".tex" else "\n# edited\n"))
    jobs = planned(snakemake(finished, "paper", "--configfile", "tests/tiny.yaml", "-n"))
    path.write_text(content)
    assert not [name for name in jobs if name.startswith(("offline", "online", "pretrain", "dataset"))]
    assert ("theory_figure" in jobs) == (edited == "trqam/sde.py")
    assert ("pdf" in jobs) == (edited != "trqam/training.py")
    drawn = {name for name in jobs if name.startswith("figure_")}
    if edited == "config/methods.yaml":
        assert "figure_overall_bars" in drawn
        assert len(drawn) > 1
    else:
        assert drawn == ({"figure_overall_bars"} if edited.endswith("overall_bars.py") else set())


def test_an_edited_hyper_parameter_stops_the_aggregation(finished):
    out = finished / "results/tiny/paper/metrics.csv"
    content = out.read_bytes()
    options = ["--configfile", "tests/tiny.yaml", "--config", "learning_rate=0.002", "--forcerun", "collect"]
    output = snakemake(finished, "paper", *options, code=1)
    lines = [line for line in output.splitlines() if line.startswith("trqam: error:")]
    assert len(set(lines)) == 1
    assert re.search(r"seed0/offline.json: learning_rate: trained with 0.001, .* says 0.002", lines[0])
    snakemake(finished, "paper", "--configfile", "tests/tiny.yaml")
    assert out.read_bytes() == content


def test_dry_runs_of_both_scales(tmp_path):
    folder = copy_of_the_project(tmp_path)
    assert planned(snakemake(folder, "paper", "-n"))["pretrain"] == 1
    jobs = planned(snakemake(folder, "paper", "-n", "--configfile", "config/paper.yaml"))
    assert (jobs["dataset"], jobs["pretrain"]) == (10, 10)
    compared, ablated = 8, 5 + 8  # behaviour cloning and seven methods; ablations and budgets, on two tasks
    assert jobs["offline_seeds_0to7"] == 50 * compared + 2 * ablated
    assert jobs["online_seeds_0to7"] == 50 * (compared - 1) + 2 * ablated


def test_nothing_of_the_small_scale_survives_in_the_paper_scale(tmp_path):
    folder = copy_of_the_project(tmp_path)
    output = snakemake(folder, "results/paper/paper/facts.tex", "-n", "-p", "--configfile", "config/paper.yaml")
    commands = [line for line in output.splitlines() if "python -m trqam" in line]
    assert commands
    assert all("--config config/paper.yaml " in line and "--set" not in line for line in commands)


def test_a_mistake_in_the_configuration_is_one_line(tmp_path):
    folder = copy_of_the_project(tmp_path)
    output = snakemake(folder, "-n", "--config", "batch_size=many", code=2)
    errors = [line for line in output.splitlines() if "error" in line]
    assert errors == [
        "trqam: error: config/config.yaml: batch_size: found 'many'; write a whole number from 1 to 1,048,576"
    ]
    assert "Traceback" not in output


class Blocks:
    """Seeds of one cell, trained through Snakemake in differing blocks."""

    def __init__(self, folder):
        self.folder, self.weights = folder, {}

    def make(self, seeds, per_job, *more, code=0):
        """Asks for the offline metrics of seeds 0 .. seeds - 1; all weights seen before must be untouched."""
        options = [f"tasks=[{POINT}]", "methods=[trqam]", "scale=blocks", f"seeds={max(seeds) + 1}"]
        targets = [str(self.cell(seed).path.relative_to(self.folder) / "offline.csv") for seed in seeds]
        config = ["--config", *options, f"seeds_per_job={per_job}"]
        output = snakemake(self.folder, *targets, "--configfile", "tests/tiny.yaml", *config, *more, code=code)
        for seed, stamp in self.weights.items():
            assert self.stamp(seed) == stamp, f"seed {seed} was trained again"
        if code == 0:
            self.weights |= {seed: self.stamp(seed) for seed in seeds}
            assert all((self.folder / target).exists() for target in targets)
        return output

    def cell(self, seed):
        return Cell(self.folder / "results/blocks" / POINT / "trqam" / f"seed{seed}", seed)

    def stamp(self, seed):
        """When the final weights were written, in nanoseconds."""
        (path,) = self.cell(seed).directory("offline").glob("*.safetensors")
        return path.stat().st_mtime_ns

    def tables(self):
        return {seed: (self.cell(seed).path / "offline.csv").read_bytes() for seed in self.weights}


def test_each_seed_is_trained_exactly_once(finished):
    blocks = Blocks(finished)
    blocks.make([0], per_job=1)
    blocks.make([0, 1, 2, 3], per_job=4)
    blocks.make(range(6), per_job=4)
    blocks.make(range(8), per_job=4)
    assert sorted(blocks.weights) == list(range(8))
    tables = blocks.tables()

    (blocks.cell(2).path / "offline.csv").unlink()  # a lost file, and then the job that would restore it fails
    with locked([blocks.cell(1)]):
        output = blocks.make(range(8), per_job=4, code=1)
    assert "another process is training this run" in output
    blocks.make(range(8), per_job=4)
    assert blocks.tables() == tables

    blocks.make(range(8), 4, "--forcerun", "offline_seeds_0to3")
    assert blocks.tables() == tables
    assert "Nothing to be done" in blocks.make(range(8), 4, "-n")
    assert "Nothing to be done" in blocks.make(range(8), 2, "-n")  # other blocks of a complete grid


TOY_AGENT = '''"""QAM that follows the critic at a temperature of its own."""

from trqam.agents.qam import QAM
from trqam.config import Strict


class Parameters(Strict):
    warmth: float
    clip_adjoint: bool


class Toy(QAM):
    def inverse_temperature(self) -> float:
        return self.parameters.warmth


AGENT = Toy
'''
TOY_BLOCK = """
toy:
  agent: toy
  label: Toyland
  group: Ours
  colour: "#123456"
  stages: [pretrain, offline, online]
  parameters: {warmth: 0.5, clip_adjoint: true}
  domains: {}
"""


def test_a_method_is_one_file_and_one_block_and_a_task_one_line(tmp_path):
    folder = copy_of_the_project(tmp_path)
    (folder / "trqam/agents/toy.py").write_text(TOY_AGENT)
    with (folder / "config/methods.yaml").open("a") as file:
        file.write(TOY_BLOCK)
    added = POINT.replace("task2", "task5")
    tasks, methods = f"tasks=[{POINT},{added}]", "methods=[behaviour_cloning,toy]"
    table = "results/tiny/paper/tables/success.tex"
    snakemake(folder, table, "--configfile", "tests/tiny.yaml", "--config", tasks, methods, "seeds=1")
    text = (folder / table).read_text()
    assert "Toyland" in text
    assert "pointmaze-medium task 5" in text
