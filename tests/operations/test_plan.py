"""The plan's counts are the workflow's, and its sizes those of what is stored."""

import numpy as np
import pytest

from tests.helpers.learners import METHODS, make_learner
from trqam.config import load
from trqam.data.generate import generate
from trqam.operations import plan


@pytest.fixture
def lines(monkeypatch):
    """A function that plans a scale without measuring anything."""
    monkeypatch.setattr(plan, "_spaces", lambda domain: plan.Spaces(40, 5, 1000, 500.0, 0))
    monkeypatch.setattr(plan, "_time_updates", lambda case: 0.5 * case.replicas)

    def lines(path, **changes):
        loaded = load.load(path, changes)
        found = plan.plan(loaded, cores=4)
        cells = [line.split("  ") for line in found]
        return found, {row[0]: [cell.strip().replace("\u00a0", "") for cell in row if cell.strip()] for row in cells}

    return lines


def test_the_whole_grid_is_counted(lines):
    text, rows = lines("config/paper.yaml")
    assert text[0].startswith("config/paper.yaml: 50 tasks, 8 seeds, ")
    ablated = 6 + 7  # and other budgets than TRQAM's own, on two tasks
    assert rows["datasets (official)"][1] == rows["behaviour cloning"][1] == "10"
    assert rows["behaviour cloning"][2] == str(10 * 300_000)
    assert rows["offline"][1] == str(50 * 8 + 2 * ablated)
    assert rows["offline"][2] == str(8 * 1_000_000 * (50 * 7 + 2 * ablated))  # cloning trains nothing offline
    assert rows["online"][1] == str(50 * 7 + 2 * ablated)
    assert rows["online"][3] == str(8 * 500_000 * (50 * 7 + 2 * ablated))
    hours = float(rows["offline"][-1].replace(",", ""))
    assert hours == pytest.approx(8 * 1e6 * (350 + 2 * ablated) * 0.5 / 3600, abs=0.06)
    assert "on 4 cores at best" in text[-3]


def test_what_a_plan_leaves_out_is_said(lines):
    text, _ = lines("tests/tiny.yaml", step="compiled", ablations=["constant_lambda"])
    assert text[1].startswith("tests/tiny.yaml: ablation_tasks: lists no task, so 1 method of this scale will not run")
    assert text[-1] == "step    compiled: each training first compiles for minutes, which the time above leaves out"
    assert not any("compil" in line for line in lines("tests/tiny.yaml")[0])


def test_blocks_of_seeds_are_jobs(lines):
    _, rows = lines("tests/tiny.yaml", seeds=5, seeds_per_job=2)
    assert rows["offline"][1] == str(2 * 3 * 3)
    assert rows["online"][1] == str(2 * 2 * 3)


@pytest.mark.parametrize("name", METHODS)
def test_the_size_of_a_kept_policy_is_that_of_its_tensors(name):
    agent, (tensors,) = make_learner(name, [0])
    kept = agent.acting_part(tensors)
    stored = {key.split("/", 1)[1]: t for key, t in kept.items() if key.startswith(("online/", "target/"))}
    assert plan._bytes(agent, acting=True) == sum(4 * t.numel() for t in stored.values())


@pytest.mark.parametrize("domain", ["pointmaze-medium-navigate", "cube-single-play", "puzzle-3x3-play", "scene-play"])
def test_a_generated_set_weighs_what_the_plan_says(domain, tiny_data, tmp_path, monkeypatch):
    loaded = load.load("tests/tiny.yaml", {"tasks": [f"{domain}-singletask-task1-v0"]})
    folder = tiny_data / domain
    if not folder.is_dir():
        folder = tmp_path
        loaded = load.load("tests/tiny.yaml", {"tasks": loaded.tasks, "transitions": 60})
        generate(domain, folder, loaded.scale.transitions, seed=0)
    monkeypatch.setattr(plan, "SECONDS", 0.01)
    planned = plan._datasets(loaded, {domain: plan._spaces(domain)}).disk
    header = np.lib.format.ARRAY_ALIGN * 2
    stored = sum(path.stat().st_size - header for path in folder.glob("*.npy"))
    assert planned == stored


def test_measured_rates_make_hours(capsys):
    found = plan.plan(load.load("tests/tiny.yaml", {"tasks": ["pointmaze-medium-navigate-singletask-task2-v0"]}))
    assert "measuring an update of trqam" in capsys.readouterr().err
    assert any(line.startswith("time ") for line in found)
    assert any(line.startswith("memory ") for line in found)
