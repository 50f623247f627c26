"""Training from 100 million transitions: how much memory it takes, how many pages it reads.

    python -m benchmarks.memory [--transitions 100000000] [--updates 300] [--folder FOLDER] [--keep]

Writes a store of random rows in shards of a million through the code that converts official shards (real blocks, not
holes in a file), drops it from the page cache, then clones behaviour and fine-tunes with TRQAM from it, batch 256 and
tiny networks, once with ``sampling: uniform`` and once with ``shards``. Prints for each stage:

* RssAnon: memory that only this process has (weights, batches, interpreter, PyTorch, MuJoCo), sampled every 20 ms.
  This is what a job must be given;
* RssFile: pages of mapped files, the dataset's among them. They are the page cache's: the kernel takes them back;
* major page faults: pages that had to come from the disk. Each brings its neighbours along (read-ahead).

Observations are narrow (a point's two numbers), so that 100 million rows fit into 6.8 GB of disk; wider rows need
more disk and no more memory than a wider batch. The store and the runs are deleted afterwards. Linux only.
"""

import argparse
import os
import re
import resource
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from trqam.config import load
from trqam.config.load import domain_of
from trqam.data import store
from trqam.data.dataset import Dataset, draw_indices, sample_chunks
from trqam.training import blocks

ROOT = Path(__file__).parent.parent
TASK = "pointmaze-medium-navigate-singletask-task2-v0"
EPISODE, SHARD = 1001, 1000  # rows of an episode, episodes of a shard
BATCH, HORIZON = 256, 5


class Noise:
    """Shards of random rows in the layout of a point's maze."""

    dataset, verb = domain_of(TASK), "inventing"

    def __init__(self, transitions: int):
        """Whole episodes, at least one."""
        episodes = max(1, transitions // (EPISODE - 1))
        sizes = [min(SHARD, episodes - first) for first in range(0, episodes, SHARD)]
        self.rows = [EPISODE * size for size in sizes]
        shards = [
            {"file": f"{shard:03d}", "rows": rows, "sha256": f"{shard:064d}"} for shard, rows in enumerate(self.rows)
        ]
        self.origin = {"source": "official", "seed": None, "shards": shards}

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """See ``store.Blocks``."""
        return {"observations": (2,), "actions": (2,), "terminals": (), "qpos": (2,)}

    def parts(self, block: int) -> Iterator[store.Rows]:
        """One shard, some episodes at a time."""
        rng = np.random.default_rng(block)
        for first in range(0, self.rows[block], 50 * EPISODE):
            rows = min(50 * EPISODE, self.rows[block] - first)
            points = rng.random((rows, 2), np.float32) * 24 - 2
            ends = (np.arange(rows) % EPISODE == EPISODE - 1).astype(np.float32)
            actions = rng.random((rows, 2), np.float32) * 2 - 1
            yield {"observations": points, "actions": actions, "terminals": ends, "qpos": points}

    def close(self) -> None:
        """Nothing is open."""


@contextmanager
def measured(label: str) -> Iterator[None]:
    """Prints the peak of memory, the page faults and the seconds of what happens meanwhile."""
    peaks = {"RssAnon": 0, "RssFile": 0}
    done = threading.Event()

    def watch() -> None:
        ended = False
        while not ended:
            ended = done.wait(0.02)
            status = Path("/proc/self/status").read_text()
            for key in peaks:
                peaks[key] = max(peaks[key], int(re.search(rf"{key}:\s+(\d+) kB", status)[1]))

    watcher = threading.Thread(target=watch)
    before, began = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
    after, seconds = resource.getrusage(resource.RUSAGE_SELF), time.monotonic() - began
    sizes = ", ".join(f"{key} at most {kilobytes / 1e6:.2f} GB" for key, kilobytes in peaks.items())
    print(f"{label}: {seconds:.1f} s; {sizes}; {after.ru_majflt - before.ru_majflt:,} major page faults", flush=True)


def forget(directory: Path) -> None:
    """Drop a store's files from the page cache, so that training finds them on the disk."""
    for path in directory.glob("*.npy"):
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def gather(directory: Path, batches: int) -> None:
    """Batches alone: from the disk, then the same rows again."""
    forget(directory)
    with measured("opening it"):
        dataset = Dataset.open(directory, TASK)
    for label in ("from the disk", "again, from the page cache"):
        rng, began = np.random.default_rng(0), time.monotonic()
        with measured(f"{batches} batches {label}"):
            for _ in range(batches):
                sample_chunks(dataset, draw_indices(rng, dataset.size, HORIZON, BATCH), HORIZON, 0.99)
        print(f"  {1e3 * (time.monotonic() - began) / batches:.2f} ms a batch of {BATCH} x {HORIZON}")


def train(data: Path, sampling: str, updates: int) -> None:
    """Cloning and fine-tuning, through the code of `trqam pretrain` and `trqam train`, in the working directory."""
    tables = {f"{name}_file": str(ROOT / f"config/{name}.yaml") for name in ("domains", "methods")}
    steps = dict.fromkeys(("pretrain_steps", "offline_steps", "eval_interval", "log_interval"), updates)
    steps |= dict.fromkeys(("ablation_eval_interval", "checkpoint_interval"), updates)
    steps |= {"online_steps": updates, "online_start": 0}
    values = {**tables, **steps, "data_dir": str(data), "sampling": sampling}
    values |= {"data_source": "official", "tasks": [TASK], "batch_size": BATCH, "scale": sampling, "eval_episodes": 1}
    loaded = load.load(ROOT / "tests/tiny.yaml", values)
    forget(data / domain_of(TASK))
    with measured(f"{sampling}: {updates} updates of behaviour cloning"):
        blocks.pretrain(loaded, domain_of(TASK))
    with measured(f"{sampling}: {updates} updates of TRQAM, two seeds stacked"):
        blocks.train(loaded, TASK, "trqam", "offline", [0, 1])


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--transitions", type=int, default=100_000_000)
    parser.add_argument("--updates", type=int, default=300)
    parser.add_argument("--folder", type=Path, help="on the disk to be measured (default: the temporary folder)")
    parser.add_argument("--keep", action="store_true", help="leave the store there")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="trqam-memory-", dir=arguments.folder)).absolute()
    try:
        directory = folder / "data" / domain_of(TASK)
        with measured("writing the store"):
            card = store.write(Noise(arguments.transitions), directory)
        weight = sum(path.stat().st_blocks * 512 for path in directory.glob("*.npy"))
        print(f"{card['transitions']:,} transitions in {len(card['shards'])} shards, {weight / 1e9:.2f} GB of blocks")
        gather(directory, arguments.updates)
        os.chdir(folder)
        for sampling in ("uniform", "shards"):
            train(folder / "data", sampling, arguments.updates)
    finally:
        os.chdir(ROOT)
        if arguments.keep:
            print(f"left in {folder}")
        else:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
