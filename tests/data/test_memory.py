"""Datasets need memory for a batch or a part of a file, not for themselves; benchmarks/memory.py shows it at size."""

import mmap
import re
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.stores import write_store
from trqam.data import convert as conversion
from trqam.data.convert import convert
from trqam.data.dataset import Dataset, draw_indices, sample_chunks
from trqam.environments import environment, ogbench_tasks

MAZE = "pointmaze-medium-navigate"
STATUS = Path("/proc/self/status")
MB = 1 << 20
LINUX = pytest.mark.skipif(not STATUS.is_file(), reason="needs Linux's /proc")


def anonymous_bytes():
    """Memory of this process that no file backs."""
    return 1024 * int(re.search(r"RssAnon:\s+(\d+) kB", STATUS.read_text())[1])


@LINUX
def test_sampling_everything_takes_no_anonymous_memory(tmp_path):
    rows, rng = 400_000, np.random.default_rng(0)
    shapes = {"observations": (rows, 40), "actions": (rows, 5)}
    shapes |= dict.fromkeys(("terminals", "rewards-task1", "masks-task1"), (rows,))
    arrays = {key: np.zeros(shape, np.float32) for key, shape in shapes.items()}
    for key in ("observations", "actions"):
        arrays[key][:] = rng.random(shapes[key], np.float32)
    arrays["terminals"][1000::1001] = arrays["terminals"][-1] = 1
    write_store(tmp_path, MAZE, arrays)
    del arrays
    Dataset.open(tmp_path, ogbench_tasks.task_name(MAZE, 1))  # verifies it, a piece at a time
    before = anonymous_bytes()
    dataset = Dataset.open(tmp_path, ogbench_tasks.task_name(MAZE, 1))
    for indices in np.array_split(np.arange(dataset.size), 2000):  # every row
        dataset.gather(indices)
    for _ in range(200):
        sample_chunks(dataset, draw_indices(rng, dataset.size, 5, 256), 5, 0.99)
    assert anonymous_bytes() - before < 8 * MB
    # what this test would notice; np.empty might be given memory freed before
    with mmap.mmap(-1, 60 * MB, mmap.MAP_PRIVATE) as copy:
        copy.write(b"1" * len(copy))
        assert anonymous_bytes() - before > 40 * MB


@LINUX
def test_the_benchmark_runs():
    """Small; at 100 million transitions it is docs/data.md's table."""
    command = [sys.executable, "-m", "benchmarks.memory", "--transitions", "3000", "--updates", "2"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[1].startswith("3,000 transitions in 1 shards")
    stages = [float(found[1]) for line in lines if (found := re.search(r"RssAnon at most ([\d.]+) GB", line))]
    assert len(stages) == 8
    assert 0.05 < max(stages) < 8


def test_a_conversion_takes_memory_for_a_part_of_a_file(tmp_path, monkeypatch):
    rows = 200_000
    arrays = {key: np.ones((rows, 2), np.float32) for key in ("observations", "actions", "qpos", "qvel")}
    np.savez_compressed(tmp_path / "official.npz", **arrays, terminals=np.arange(rows) % 1000 == 999)
    monkeypatch.setattr(conversion, "PART", 10_000)
    environment.make(ogbench_tasks.task_name(MAZE, 1)).close()  # what importing takes is not counted
    tracemalloc.start()
    try:
        convert(MAZE, [tmp_path / "official.npz"], tmp_path / "store")
        assert tracemalloc.get_traced_memory()[1] < 4 * MB
    finally:
        tracemalloc.stop()
    assert sum(path.stat().st_size for path in (tmp_path / "store").glob("*.npy")) > 11 * MB
