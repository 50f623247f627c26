"""The script for a GPU: it runs through without one, and with nothing installed but PyTorch and NumPy."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks import bare, gpu_cases, gpu_table
from trqam.config import load

ROOT = Path(__file__).parents[2]
# PyTorch's own needs, and NumPy.
NEEDED = ("torch", "torchgen", "functorch", "numpy", "numpy.libs", "typing_extensions", "sympy", "mpmath", "networkx")
NEEDED += ("jinja2", "markupsafe", "fsspec", "filelock")


def machine_with_only(folder, packages):
    """A folder to import from that has these packages and no others."""
    site = Path(find_spec("torch").origin).parent.parent
    for name in packages:
        for path in (site / name, site / f"{name}.py"):
            if path.exists():
                (folder / path.name).symlink_to(path)
    return folder


@pytest.mark.campaign
def test_the_script_runs_on_a_bare_machine(tmp_path):
    site = machine_with_only(tmp_path, NEEDED)
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{site}"}
    command = [sys.executable, "-S", "-m", "benchmarks.gpu", "--quick", "--device", "cpu", "--out", "out/gpu.json"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out" / "gpu.json").read_text())
    assert found["machine"]["stand_ins"] == ["msgspec", "yaml", "gymnasium"]
    assert len(found["checks"]) > 8
    assert [check for check in found["checks"] if not check["passed"]] == []
    assert {(row["size"], row["replicas"]) for row in found["rows"]} == {("tiny", 1), ("tiny", 2)}
    assert all(row["replica_updates_s"] > 0 and 0 < row["of_products"] < 1 for row in found["rows"])
    assert found["training"]["updates"] == 60
    assert found["skipped"] == []
    assert len(found["profile"]) == 2
    assert all(len(lines) >= 10 for lines in found["profile"])
    printed = done.stdout.splitlines()
    assert printed[-1] == "saved as out/gpu.json"
    assert sum("not measured" in line for line in printed) == 4


def test_hyper_parameters_are_those_of_the_configuration():
    method = load.load("tests/tiny.yaml").methods["trqam"]
    assert {key: value for key, value in gpu_cases.TRQAM.items() if key != "kl_budget"} == method.parameters


def row(size, replicas, mode, rate, share=0.1):
    return {
        **{"size": size, "replicas": replicas, "mode": mode, "precision": "tf32", "ms": 1.0, "updates_s": 1.0},
        **{"replica_updates_s": rate, "flops_s": 1e12, "of_products": share, "peak_gb": 1.0},
    }


def test_targets_are_judged_in_the_fastest_precision():
    rows = [
        row("paper", 16, "captured", 100, share=0.31),
        row("paper", 1, "eager", 10),
        row("paper", 1, "captured", 29),
    ]
    rows += [row("small", 16, "captured", 800), row("small", 1, "captured", 100)]
    lines = gpu_table.targets({"rows": rows, "products": {"tf32": 1.0, "float32": 1.0}})
    verdicts = ["met", "met", "not measured", "NOT MET"]
    assert [line[:12].strip() for line in lines] == verdicts


def test_structs_stand_in_for_msgspecs():
    class Base(bare.Struct, frozen=True):
        first: int
        second: int = 2

    class Longer(Base):
        third: int

    made = Longer(first=1, third=3)
    assert Longer.__struct_fields__ == ("first", "second", "third")
    assert bare._values(bare._replaced(made, third=4)) == {"first": 1, "second": 2, "third": 4}
    for wrong in ({"first": 1}, {"first": 1, "third": 3, "fourth": 4}):
        with pytest.raises(TypeError):
            Longer(**wrong)
