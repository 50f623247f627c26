"""Where a training's time goes: the trace of some steps, and ten lines about it, for `--profile`.

The steps traced are ordinary steps of the training, which goes on unchanged. The first ones after a start are left out:
libraries warm up in them, and a step is captured or compiled.
"""

import json
import sys
import tempfile
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.profiler import ProfilerActivity, record_function

from trqam.config.reading import read_bytes
from trqam.experiment.files import refuse_foreign, write_atomically
from trqam.training.trace import Trace

SKIPPED, TRACED = 20, 20  # steps after the first update
PREFIX = "trqam: "  # of the names of regions in a trace
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
        self._step = 0

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

    def close(self) -> None:
        """Ends the trace, if one is being taken, where the training is: after the step that was begun last."""
        if self._profiler is None:
            return
        if self._device.type == "cuda":
            with region("waiting for the device"):
                torch.cuda.synchronize()
        _trace(False)
        self._profiler.stop()
        content = _exported(self._profiler)
        write_atomically(self._path, content)
        self._profiler, steps = None, self._step - self._first + 1
        what = f"{self._title}, steps {self._first} to {self._step}, on {self._device.type}"
        lines = Trace(json.loads(content)["traceEvents"], steps, PREFIX).summary(what)
        write_atomically(self._path.with_suffix(".txt"), "\n".join(lines) + "\n")
        print(*lines, f"trace: {self._path}", sep="\n", file=sys.stderr)


def _holds(mark: bytes, path: Path) -> bool:
    return mark in read_bytes(path)


def _trace(on: bool) -> None:
    global _tracing
    _tracing = on


def _exported(profiler: torch.profiler.profile) -> bytes:
    """The trace's text, which PyTorch writes into a file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        return path.read_bytes()
