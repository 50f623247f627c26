"""A method that another one clones for, through Snakemake and beside it."""

import json
import shutil

import pandas
import pytest

from tests.helpers.forks import forking
from tests.helpers.project import copy_of_the_project
from tests.workflow.test_workflow import POINT, planned, snakemake
from trqam.operations.rollouts import saved_policy

TINY = ("--configfile", "tests/tiny.yaml", "--config", f"tasks=[{POINT}]", "methods=[trqam]", "seeds=1")
TINY += ("ablations=[trqam_diffusion,diffusion_cloning]", f"ablation_tasks=[{POINT}]")
DOMAIN = POINT.partition("-singletask")[0]
pytestmark = pytest.mark.campaign  # it trains five cells
APART = f"results/tiny/pretrained/{DOMAIN}+diffusion_cloning"
PAPER = "results/tiny/paper"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = copy_of_the_project(tmp_path_factory.mktemp("project"))
    with forking(folder):
        snakemake(folder, f"{PAPER}/figures/diffusion.pdf", f"{PAPER}/compute.csv", *TINY)
        yield folder


def test_each_method_begins_from_its_own_clone(trained):
    begun = {}
    for method in ("trqam", "trqam_diffusion", "diffusion_cloning"):
        begun[method] = json.loads((trained / f"results/tiny/{POINT}/{method}/seed0/offline.json").read_text())
    bases = [
        trained / f"results/tiny/pretrained/{name}/pretrain.json" for name in (DOMAIN, f"{DOMAIN}+diffusion_cloning")
    ]
    usual, apart = (json.loads(path.read_text()) for path in bases)
    assert begun["trqam"]["base_sha256"] == usual["base_sha256"]
    assert begun["trqam_diffusion"]["base_sha256"] == begun["diffusion_cloning"]["base_sha256"] == apart["base_sha256"]
    assert usual["base_sha256"] != apart["base_sha256"]
    assert "cloned_by" not in usual["configuration"]
    assert apart["configuration"]["cloned_by"] == "diffusion_cloning"
    spent = pandas.read_csv(trained / PAPER / "compute.csv")
    assert set(spent[spent.stage == "pretrain"].method) == {"behaviour_cloning", "diffusion_cloning"}
    metrics = pandas.read_csv(trained / PAPER / "metrics.csv").query("method == 'trqam_diffusion' and step == 20")
    assert (metrics.path_kl > 0).all()


def test_a_cloned_policy_is_loaded_as_what_it_is(trained):
    for name, agent in ((APART, "diffusion_cloning"), (f"results/tiny/pretrained/{DOMAIN}", "behaviour_cloning")):
        assert saved_policy.load(trained / name, task=POINT, flow_steps=3).run.agent == agent


def test_a_clone_that_is_gone_is_made_anew_and_one_of_another_kind_is_refused(trained):
    """The last of them: it takes files away."""
    shutil.rmtree(trained / f"results/tiny/{POINT}/trqam_diffusion")
    base = trained / APART / "base.safetensors"
    kept = base.read_bytes()
    shutil.copy(trained / f"results/tiny/pretrained/{DOMAIN}/base.safetensors", base)
    said = snakemake(trained, f"{PAPER}/metrics.csv", *TINY, code=1)
    assert f"{APART}/base.safetensors: damaged (checksum differs from pretrain.json)" in said
    base.write_bytes(kept)
    jobs = planned(snakemake(trained, f"{PAPER}/metrics.csv", "-n", *TINY))
    assert (jobs["offline_seeds_0to0"], "pretrain" in jobs) == (1, False)
    shutil.rmtree(trained / APART)
    assert planned(snakemake(trained, f"{PAPER}/metrics.csv", "-n", *TINY))["pretrain"] == 1
