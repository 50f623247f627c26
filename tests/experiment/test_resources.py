"""What jobs ask a cluster for: measured by the plan, read by the workflow, harmless on one machine."""

import json
import re

import pytest
import yaml

from tests.conftest import ROOT
from tests.helpers.project import copy_of_the_project
from tests.operations.test_plan import lines  # noqa: F401  (a fixture)
from tests.workflow.test_workflow import snakemake
from trqam.config import load
from trqam.config.errors import UserError
from trqam.experiment import resources
from trqam.operations import plan

ONE = {"tasks": ["cube-double-play-singletask-task1-v0"], "baseline_tasks": [], "ablation_tasks": []}
SHARED = ("scheduler", "rerun-triggers", "rerun-incomplete", "keep-going")


def profile(name):
    return yaml.safe_load((ROOT / f"workflow/profiles/{name}/config.yaml").read_text())


def test_both_profiles_have_the_settings_that_protect_results():
    default, slurm = profile("default"), profile("slurm")
    assert set(default) == set(SHARED)
    assert {key: slurm[key] for key in SHARED} == default


def test_the_profile_of_a_cluster_has_three_lines_to_edit():
    text = (ROOT / "workflow/profiles/slurm/config.yaml").read_text()
    marked = [line.split(":")[0].strip() for line in text.splitlines() if "# EDIT:" in line]
    assert marked == ["slurm_account", "slurm_partition", "gpu_model"]
    settings = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    plain = [line for line in settings if "#" not in line]
    assert {line.split(":")[0] for line in plain} <= {"default-resources", "slurm-array-jobs", "slurm-status-command"}


def test_arrays_are_never_left_waiting_for_members_that_may_not_start():
    slurm = profile("slurm")
    assert slurm["slurm-array-jobs"] == "all"
    assert slurm["jobs"] == "unlimited"
    assert int(slurm["max-jobs-per-timespan"].split("/")[0]) > 10_000


def test_no_rule_retries_by_itself():
    for path in (ROOT / "workflow").rglob("*.smk"):
        assert not re.search(r"^\s*retries:", path.read_text(), re.MULTILINE), path


@pytest.fixture
def measured(lines, tmp_path, monkeypatch):  # noqa: F811
    """A function that saves the requests of a scale, in a folder of its own, and returns them as the workflow reads."""

    def measured(path, longest=None, **changes):
        loaded = load.load(path, changes)
        monkeypatch.setattr(plan, "resident_peak", lambda: 1e9)
        costs = plan.measure(loaded)
        told = resources.save(loaded, plan.requests(loaded, costs, longest))
        return resources.load(loaded), told

    for name in ("config", "tests"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    return measured


def test_a_job_asks_for_what_its_block_of_seeds_was_measured_to_take(measured):
    asked, _ = measured("config/paper.yaml", **ONE)
    seconds = 8 * 1_000_000 * 0.5 + 8 * 21 * 50 * 1000 / 500 / 8  # updates, and 21 evaluations by eight workers
    assert asked.offline.runtime == pytest.approx(1.5 * seconds / 60 + 10, abs=1)
    assert asked.offline.mem_mb > 1.5 * 9 * 1000  # the trainer and eight workers
    half, _ = measured("config/paper.yaml", **ONE, seeds_per_job=4)
    assert half.offline.runtime - 10 == pytest.approx((asked.offline.runtime - 10) / 2, rel=0.01)
    assert asked.dataset == resources.DEFAULTS.dataset  # a download is not timed


def test_a_cluster_that_allows_less_is_asked_for_less(measured):
    asked, told = measured("config/paper.yaml", **ONE, longest=24 * 60)
    assert asked.offline.runtime > 24 * 60
    assert asked.runtime("offline", 1) == asked.runtime("offline", 3) == 24 * 60
    turns = -(-asked.offline.runtime // (24 * 60))
    assert any(f"--retries {turns}" in line for line in told)


def test_a_retry_asks_for_more():
    asked = resources.DEFAULTS
    assert [asked.runtime("online", attempt) for attempt in (1, 2, 3)] == [1440, 2880, 4320]
    assert [asked.mem_mb("online", attempt) for attempt in (1, 2, 3)] == [32_000, 64_000, 64_000]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"online": {"runtime": 0, "mem_mb": 5}}, "online: runtime: found 0; write a whole number"),
        ({"online": {"runtime": 1, "mem_mb": "5"}}, "online: mem_mb: found '5'; write 5"),
        ({"longest": -1}, "longest: found -1; write a whole number"),
        ({"gpus": 3}, "gpus: unknown key"),
    ],
)
def test_a_damaged_file_is_one_line(measured, change, problem):
    measured("tests/tiny.yaml")
    path = resources.path_of(load.load("tests/tiny.yaml"))
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match=re.escape(problem)) as caught:
        resources.load(load.load("tests/tiny.yaml"))
    assert str(path) in str(caught.value)


def test_the_workflow_reads_the_file_and_a_laptop_ignores_it(tmp_path):
    folder = copy_of_the_project(tmp_path)
    loaded = load.load(ROOT / "tests/tiny.yaml")
    path = folder / resources.path_of(loaded)
    path.parent.mkdir(parents=True)
    asked = {kind: {"runtime": 77, "mem_mb": 10**9} for kind in resources.KINDS}  # more memory than a laptop has
    text = json.dumps({"measured_on": "a test", "longest": None, **asked})
    path.write_text(text)
    target = f"results/tiny/{loaded.tasks[0]}/trqam/seed0/offline.csv"
    dry = snakemake(folder, target, "-n", "--configfile", "tests/tiny.yaml", "--config", "device=auto")
    asked = re.search(
        r"^ +resources: (.*gpu=1.*runtime=.*)$", dry[dry.index("rule offline_seeds_0to1:") :], re.MULTILINE
    )[1]
    assert {"gpu=1", "runtime=77", "mem_mb=1000000000"} <= set(asked.split(", "))
    snakemake(folder, "data/tiny/pointmaze-medium-navigate/card.json", "--configfile", "tests/tiny.yaml")
