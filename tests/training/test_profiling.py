"""A profile changes nothing, and says where the time went."""

import json
import re
from contextlib import nullcontext

import pytest

from tests.training.test_training import POINT
from trqam.experiment.run import cell_of, pretraining_cell
from trqam.training import profiling
from trqam.training.blocks import pretrain, train
from trqam.training.profiling import Request, region, window

pytestmark = pytest.mark.usefixtures("short_episodes")


@pytest.mark.parametrize(
    ("start", "warm_up", "total", "steps"),
    [
        (0, 0, 1000, (21, 40)),
        (500, 0, 1000, (521, 540)),
        (0, 50, 1000, (71, 90)),
        (0, 6, 20, (14, 20)),
        (9, 0, 10, (10, 10)),
    ],
)
def test_steps_that_are_traced(start, warm_up, total, steps):
    assert window(start, warm_up, total) == steps


def files(config):
    """What training leaves, by name and bytes, timing aside."""
    cells = [pretraining_cell(config, config.task_domains[0]), cell_of(config, POINT, "trqam", 0)]
    paths = [path for cell in cells for path in sorted(cell.path.rglob("*")) if path.is_file()]
    kept = [path for path in paths if path.suffix in (".csv", ".safetensors", ".bin") and path.name != "timing.csv"]
    return {str(path.relative_to(config.results)): path.read_bytes() for path in kept}


@pytest.mark.campaign
def test_a_profile_changes_nothing(load, tmp_path, capfd):
    found = {}
    for scale, stages, elsewhere in (("plain", None, None), ("profiled", Request(), Request(tmp_path / "profiles"))):
        config = load(scale=scale, tasks=[POINT], eval_interval=20, ablation_eval_interval=20)
        pretrain(config, config.task_domains[0], profile=elsewhere)
        train(config, POINT, "trqam", "offline", [0], profile=stages)
        train(config, POINT, "trqam", "online", [0], profile=stages)
        found[scale] = files(config)
    assert found["plain"] == found["profiled"]
    assert isinstance(region("update"), nullcontext)  # none is being traced any more
    said, where = capfd.readouterr().err, cell_of(config, POINT, "trqam", 0).path / "run"
    for stage, first in (("offline", 11), ("online", 14)):
        text = (where / f"profile-{stage}.txt").read_text()
        assert text in said
        head, host, device, *table = text.splitlines()
        assert head.startswith(f"profile of {stage} trqam {POINT} seeds [0], steps {first} to 20, on cpu:")
        parts = {"sampling", "noise", "update", "evaluation", "saving"}
        parts |= {"environments", "acting"} if stage == "online" else set()
        shares = {name: float(share) for name, share in re.findall(r"(\w+) ([\d.]+)%", host)}
        assert shares.keys() == parts
        assert 0 < sum(shares.values()) < 100.5
        assert device == "a step launches 0 kernels or graphs and makes 0 copies"
        assert sum("aten::" in row for row in table) > 5
        assert json.loads((where / f"profile-{stage}.json").read_text())["traceEvents"]
    named = f"profile-pretrain-{config.task_domains[0]}"
    assert {path.name for path in (tmp_path / "profiles").iterdir()} == {f"{named}.json", f"{named}.txt"}


def test_a_trace_ends_with_the_training_that_is_stopped(tmp_path, capfd):
    profile = profiling.Profile(tmp_path / "profile.json", "it", (1, 20), profiling.torch.device("cpu"))
    for step in (1, 2):
        profile.begin_step(step)
        with region("update"):
            pass
    profile.close()
    profile.close()
    assert "profile of it, steps 1 to 2, on cpu" in capfd.readouterr().err
