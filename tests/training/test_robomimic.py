"""The whole way of a task of Robomimic, as its commands go it, and a kill that changes nothing."""

import sys
from pathlib import Path

import pandas
import pytest

from tests.conftest import ROOT
from tests.helpers.robomimic import NEEDED
from tests.training.test_training import killed
from trqam.__main__ import main
from trqam.config import load
from trqam.config.reading import read_json
from trqam.environments import environment, robomimic_tasks
from trqam.training.blocks import train

pytestmark = NEEDED
TASK = "lift-mh"
CHANGES = {"tasks": [TASK], "transitions": 160, "seeds": 1, "methods": ["behaviour_cloning", "trqam", "qam"]}
CHANGES |= {"ablations": ["external_kl"], "ablation_tasks": [TASK], "ablation_stages": ["offline", "online"]}
EPISODE = 12  # steps, in place of 300


@pytest.fixture
def command(tmp_path, monkeypatch):
    """A function that runs a command of the tiny scale with ``CHANGES``, in a folder of its own."""
    (tmp_path / "config").symlink_to(ROOT / "config")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(robomimic_tasks.LONGEST, TASK, EPISODE)
    options = [f"{key}={str(value).replace(chr(39), '')}" for key, value in CHANGES.items()]
    settings = [word for option in options for word in ("--set", option)]

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["trqam", "--config", str(ROOT / "tests/tiny.yaml"), *settings, *words])
        main()

    return run


def test_from_demonstrations_to_evaluated_policies(command, capsys):
    command("generate", TASK)
    command("pretrain", TASK)
    for method in ("trqam", "qam", "external_kl"):
        for stage in ("offline", "online"):
            command("train", TASK, method, "--stage", stage)
            rows = pandas.read_csv(f"results/tiny/{TASK}/{method}/seed0/{stage}.csv")
            assert rows.adjoint_loss.notna().any()
            assert rows.success.dropna().isin([0, 1]).all()
            assert (rows.episode_return.dropna() == -rows.episode_length.dropna() + rows.success.dropna()).all()
            assert rows.episode_length.max() <= EPISODE
    manifest = read_json(f"results/tiny/{TASK}/trqam/seed0/online.json")
    assert manifest["versions"]["robosuite"] == "1.5.2"
    assert manifest["configuration"]["normalise_observations"] == "range"
    capsys.readouterr()
    command("evaluate", f"results/tiny/{TASK}/trqam/seed0", "--episodes", "2")
    assert "of 2 episodes" in capsys.readouterr().out


def test_a_killed_run_ends_in_the_same_bytes(command):
    command("generate", TASK)
    command("pretrain", TASK)
    config = load.load(ROOT / "tests/tiny.yaml", CHANGES)
    folder = Path(f"results/tiny/{TASK}/trqam/seed0")

    def work():
        train(config, TASK, "trqam", "offline", [0])
        train(config, TASK, "trqam", "online", [0])

    assert killed(work, environment, "step", 50)  # online
    assert (folder / "offline.csv").exists()
    assert not (folder / "online.csv").exists()
    work()
    ended = (folder / "online.csv").read_bytes()
    command("clean", TASK, "trqam", "--yes")
    work()
    assert (folder / "online.csv").read_bytes() == ended
