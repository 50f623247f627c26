"""A method that nobody here knows of: its numbers reach the tables, and its cost the benchmark."""

import json
import shutil
import subprocess
import sys

import pandas
import pytest

from tests.conftest import ROOT
from tests.helpers.toy import add_toy
from trqam.config.load import load
from trqam.config.parameters import OF_AGENT
from trqam.experiment.published import COLUMNS

POINT = "pointmaze-medium-navigate-singletask-task2-v0"
RUN = """
import json, sys
from pathlib import Path
from tests.helpers.episodes import shortened
from trqam.config.load import load
from trqam.operations.bench.cases import Case, Updates, sized
from trqam.report.collect import collect
from trqam.training.blocks import pretrain, train

changes = {"tasks": [sys.argv[1]], "methods": ["behaviour_cloning", "trqam", "toy"], "seeds": 1}
config = load("tests/tiny.yaml", {**changes, "data_dir": sys.argv[2]})
shortened().start()
pretrain(config, config.run(sys.argv[1], "toy").domain)
for method in changes["methods"]:
    for stage in config.stages(method):
        train(config, sys.argv[1], method, stage, [0])
collect(config, Path("paper"))
updates = Updates(Case(size=sized("profile", config.run(sys.argv[1], "toy"), 4, 2)))
updates("prepare")
print(json.dumps(updates("facts")))
"""


def test_every_agent_has_a_class_of_hyper_parameters():
    files = {path.stem for path in (ROOT / "trqam/agents").glob("*.py")} - {"__init__", "base"}
    assert files == OF_AGENT.keys()


@pytest.fixture(scope="module")
def added(tmp_path_factory, tiny_data):
    """A copy of the project with the method, trained, collected and measured; and what the measurement said."""
    folder = tmp_path_factory.mktemp("copy")
    for name in ("trqam", "config", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    add_toy(folder)
    command = [sys.executable, "-c", RUN, POINT, str(tiny_data)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout.splitlines()[-1])


def test_its_own_metric_is_in_its_csv_behind_those_of_all_and_in_no_other(added):
    seeds = added[0] / "results/tiny" / POINT
    for stage in ("offline", "online"):
        table = pandas.read_csv(seeds / f"toy/seed0/{stage}.csv")
        assert list(table) == [*COLUMNS, "warm_adjoint"]
        logged = table.dropna(subset="loss")
        assert len(logged) > 0
        assert logged["warm_adjoint"].to_numpy() == pytest.approx(0.5 * logged["adjoint_norm"].to_numpy(), rel=1e-6)
        assert list(pandas.read_csv(seeds / f"trqam/seed0/{stage}.csv")) == COLUMNS


def test_it_is_collected_with_the_others(added):
    metrics = pandas.read_csv(added[0] / "paper/metrics.csv")
    assert list(metrics)[-1] == "warm_adjoint"
    assert set(metrics.dropna(subset="warm_adjoint")["method"]) == {"toy"}
    assert set(metrics["method"]) == {"behaviour_cloning", "trqam", "toy"}


def test_what_it_inherits_and_adds_is_recorded(added):
    manifest = json.loads((added[0] / "results/tiny" / POINT / "toy/seed0/online.json").read_text())
    trqam = load(ROOT / "tests/tiny.yaml").run(POINT, "trqam").parameters
    parameters = manifest["configuration"]["parameters"]
    assert parameters.keys() == {*trqam, "warmth"}
    assert parameters["kl_budget"] == trqam["kl_budget"]  # the domain's


def test_its_cost_is_counted_from_what_it_does(added):
    facts = added[1]
    assert facts["flops"] == facts["multiplied"] > 0
