"""Where a training's time goes: PyTorch's profiler on some of its steps, for `--profile`.

The steps traced are ordinary steps of the training, which goes on unchanged. The first ones after a start are left out:
libraries warm up in them, and a step is captured or compiled.
"""

import sys
import tempfile
import time
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.profiler import ProfilerActivity, record_function

from trqam.config.reading import read_bytes
from trqam.experiment.files import refuse_foreign, write_atomically

SKIPPED, TRACED = 20, 20  # steps after the first update
ROWS, WIDTH = 15, 60  # of the table: its rows, and the characters of a name
PREFIX = "trqam: "  # of the names of regions in a trace
LAUNCHES = ("LaunchKernel", "GraphLaunch")  # cudaLaunchKernel, cuLaunchKernelEx, cudaGraphLaunch ..
_tracing = False


def region(name: str) -> AbstractContextManager[Any]:
    """Names what happens inside it in a trace: a part of a step. Costs nothing while none is taken."""
    if torch.compiler.is_compiling() or not _tracing:
        return nullcontext()
    return record_function(PREFIX + name)


class Request(NamedTuple):
    """That a training shall be profiled, and the folder for what comes of it (None: where the run is kept)."""

    folder: Path | None = None


def window(start: int, warm_up: int, total: int) -> tuple[int, int]:
    """The first and the last step to trace of those from ``start`` + 1 to ``total``, of which the first ``warm_up``
    make no update; half of them where they are few."""
    begin = max(start, warm_up)
    skipped = min(SKIPPED, (total - begin) // 2)
    return begin + skipped + 1, min(begin + skipped + TRACED, total)


class Profile:
    """Traces the steps of a `window`, then writes ``path`` (for chrome://tracing or Perfetto), and the summary beside
    it and on stderr."""

    def __init__(self, path: Path, title: str, steps: tuple[int, int], device: torch.device):
        for file, mark in ((path, f'"{PREFIX}'), (path.with_suffix(".txt"), "profile of ")):
            ours = partial(_holds, mark.encode())
            refuse_foreign(file, ours, "profile of a training", "move it away, or give another --profile-folder")
        self._path, self._title, self._device = path, title, device
        self._first, self._last = steps
        self._profiler: torch.profiler.profile | None = None
        self._step, self._began = 0, 0.0

    def begin_step(self, step: int) -> None:
        """Called before every step."""
        if self._profiler is not None and step > self._last:
            self.close()
        self._step = step
        if self._profiler is None and step == self._first:
            activities = [ProfilerActivity.CPU]
            if self._device.type == "cuda":
                torch.cuda.synchronize()
                activities.append(ProfilerActivity.CUDA)
            self._profiler = torch.profiler.profile(activities=activities)
            self._profiler.start()
            _trace(True)
            self._began = time.perf_counter()

    def close(self) -> None:
        """Ends the trace, if one is being taken, where the training is: after the step that was begun last."""
        if (profiler := self._profiler) is None:
            return
        if self._device.type == "cuda":
            with region("waiting for the device"):
                torch.cuda.synchronize()
        seconds, self._profiler = time.perf_counter() - self._began, None
        _trace(False)
        profiler.stop()
        with tempfile.TemporaryDirectory() as folder:
            profiler.export_chrome_trace(exported := str(Path(folder) / "trace.json"))
            write_atomically(self._path, Path(exported).read_bytes())
        text = self._summary(profiler, seconds)
        write_atomically(self._path.with_suffix(".txt"), text)
        print(f"{text}trace: {self._path}", file=sys.stderr)

    def _summary(self, profiler: torch.profiler.profile, seconds: float) -> str:
        """The shares of regions, of which one may lie in another, what is launched and copied, and the costliest."""
        averages, steps = profiler.key_averages(), self._step - self._first + 1
        where = f"steps {self._first} to {self._step}, on {self._device.type}"
        parts = {e.key.removeprefix(PREFIX): e.cpu_time_total for e in averages if e.key.startswith(PREFIX)}
        shares = [f"{name} {time / 1e6 / seconds:.1%}" for name, time in sorted(parts.items(), key=lambda p: -p[1])]
        launches = sum(e.count for e in averages if any(launch in e.key for launch in LAUNCHES))
        copies = sum(e.count for e in averages if e.key.startswith("Memcpy"))
        costliest = "self_device_time_total" if self._device.type == "cuda" else "self_cpu_time_total"
        return "\n".join(
            [
                f"profile of {self._title}, {where}: {seconds / steps * 1e3:.3g} ms a step",
                f"host: {', '.join(shares)}",
                f"a step launches {launches / steps:.4g} kernels or graphs and makes {copies / steps:.4g} copies",
                averages.table(sort_by=costliest, row_limit=ROWS, max_name_column_width=WIDTH),
            ]
        )


def _holds(mark: bytes, path: Path) -> bool:
    return mark in read_bytes(path)


def _trace(on: bool) -> None:
    global _tracing
    _tracing = on
