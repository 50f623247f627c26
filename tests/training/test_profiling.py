"""A profile changes nothing, and says where the time went."""

import json
import re
from contextlib import nullcontext

import pytest

from tests.training.test_training import POINT
from trqam.experiment.run import cell_of, pretraining_cell
from trqam.training import profiling
from trqam.training.blocks import pretrain, train
from trqam.training.profiling import PREFIX, Request, region, window
from trqam.training.trace import LINES, Trace, nested, short


def event(category, name, start, duration, **values):
    return {"ph": "X", "cat": category, "name": name, "ts": start, "dur": duration, "pid": 1, "tid": 1, **values}


def test_own_times_leave_out_what_is_inside():
    events = [event("cpu_op", *row) for row in [("a", 0, 10), ("b", 1, 4), ("c", 2, 2), ("d", 6, 3), ("e", 10, 5)]]
    elsewhere = event("cpu_op", "f", 1, 100, tid=2)
    found = {spent.event["name"]: (spent.own, spent.inner) for spent in nested([*events, elsewhere])}
    assert found == {
        "a": (3, False),
        "b": (2, True),
        "c": (2, True),
        "d": (3, True),
        "e": (5, False),
        "f": (100, False),
    }


def of_a_gpu():
    """Two steps of 100 microseconds: an eager update of two operators that launch a kernel each, and a graph's."""
    events = [{"ph": "M", "name": "process_name", "ts": 0}]
    for start in (0, 100):
        events.append(event("user_annotation", f"{PREFIX}sampling", start, 10))
        events.append(event("user_annotation", f"{PREFIX}update", start + 10, 60))
        events.append(event("cuda_runtime", "cudaMemcpyAsync", start + 1, 2))
        copied = {"tid": 7, "args": {"bytes": 4000}}
        events.append(event("gpu_memcpy", "Memcpy HtoD (Pinned -> Device)", start + 4, 6, **copied))
        events.append(event("kernel", "void at::native::gemm<float, 4>(float*, int)", start + 20, 50, tid=7))
        events.append(event("kernel", "void at::native::gemm<float, 8>(float*, int)", start + 70, 20, tid=7))
    events.append(event("cpu_op", "aten::baddbmm", 12, 20))
    events.append(event("cpu_op", "aten::empty", 13, 5))
    events.append(event("cuda_runtime", "cudaLaunchKernel", 20, 3))
    events.append(event("cpu_op", "aten::add", 40, 10))
    events.append(event("cuda_driver", "cuLaunchKernelEx", 42, 3))
    events.append(event("cuda_runtime", "cudaGraphLaunch", 115, 3))
    events.append(event("cpu_op", "aten::item", 85, 15))  # outside updates
    events.append(event("gpu_memcpy", "Memcpy DtoH (Device -> Pageable)", 190, 10, tid=7, args={"bytes": 8}))
    return Trace(events, 2, PREFIX)


def test_the_summary_of_a_gpu():
    assert of_a_gpu().summary("it") == [
        "profile of it: 0.1 ms a step",
        "host: update 60.0%, sampling 10.0%, rest 30.0%",
        "an update calls 1 operators and launches 1.5 kernels or graphs",
        "device: 81.0% busy, 3.5 kernels and copies",
        "copies: 1 host to device (4,000 bytes), 0.5 device to host (4 bytes), 0 within the device (0 bytes)",
        "70.0% at::native::gemm: 0.07 ms, 2 times",
        " 6.0% Memcpy HtoD (Pinned -> Device): 0.006 ms, 1 times",
        " 5.0% Memcpy DtoH (Device -> Pageable): 0.005 ms, 0.5 times",
    ]


def test_names_of_kernels():
    long = "void (anonymous namespace)::softmax_warp_forward<float, float, 2>(float*, float const*, int)"
    assert short(long) == "softmax_warp_forward"
    assert short("ampere_sgemm_128x64_nn") == "ampere_sgemm_128x64_nn"


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
        lines = (where / f"profile-{stage}.txt").read_text().splitlines()
        assert len(lines) == LINES
        assert "\n".join(lines) in said
        assert lines[0].startswith(f"profile of {stage} trqam {POINT} seeds [0], steps {first} to 20, on cpu:")
        parts = {"sampling", "noise", "update", "evaluation", "saving", "rest"}
        parts |= {"environments", "acting"} if stage == "online" else set()
        shares = {name: float(share) for name, share in re.findall(r"(\w+) (-?[\d.]+)%", lines[1])}
        assert shares.keys() == parts
        assert sum(shares.values()) == pytest.approx(100, abs=0.5)
        assert min(shares.values()) >= 0
        assert re.match(r"an update calls [1-9]\d+ operators; [\d.]+ copies, none from or to a device", lines[2])
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
    assert len((tmp_path / "profile.txt").read_text().splitlines()) <= LINES
