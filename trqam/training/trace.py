"""What a trace says of a training's steps: which parts, operators and kernels take time, what is launched and copied.

The input are the events of PyTorch's profiler in Chrome's format: times and durations in microseconds, and categories
``cpu_op`` (operators), ``user_annotation`` (regions), ``cuda_runtime`` and ``cuda_driver`` (calls of CUDA), ``kernel``,
``gpu_memcpy`` and ``gpu_memset`` (what a GPU did).
"""

import re
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable
from functools import cached_property
from math import inf
from typing import Any, NamedTuple

LINES = 10
HOST = ("cpu_op", "user_annotation", "cuda_runtime", "cuda_driver")
DEVICE = ("kernel", "gpu_memcpy", "gpu_memset")
LAUNCHES = ("LaunchKernel", "GraphLaunch")  # cudaLaunchKernel, cuLaunchKernelEx, cudaGraphLaunch ..
WIDTH = 60  # characters of an operator's or kernel's name

Event = dict[str, Any]


class Spent(NamedTuple):
    """Time in microseconds without what is inside it, and whether something of the same kind is around it."""

    event: Event
    own: float
    inner: bool


def nested(events: Iterable[Event]) -> list[Spent]:
    """Own times of events that contain one another, thread by thread."""
    found: list[Spent] = []
    threads: dict[Any, list[Event]] = defaultdict(list)
    for event in events:
        threads[event.get("pid"), event.get("tid")].append(event)
    for thread in threads.values():
        open_: list[tuple[Event, list[float]]] = []  # an event and the time of what is directly inside it
        for event in sorted(thread, key=lambda e: (e["ts"], -e["dur"])):
            while open_ and open_[-1][0]["ts"] + open_[-1][0]["dur"] <= event["ts"]:
                found.append(_closed(open_))
            if open_:
                open_[-1][1].append(event["dur"])
            open_.append((event, []))
        while open_:
            found.append(_closed(open_))
    return found


def _closed(open_: list[tuple[Event, list[float]]]) -> Spent:
    event, inside = open_.pop()
    return Spent(event, max(event["dur"] - sum(inside), 0.0), bool(open_))


class Trace:
    """The events of ``steps`` steps; regions are those whose names begin with ``prefix``, "update" is one of them."""

    def __init__(self, events: Iterable[Event], steps: int, prefix: str):
        self.steps, self._prefix = steps, prefix
        self._events: dict[str, list[Event]] = defaultdict(list)
        for event in events:
            if event.get("ph") == "X" and event.get("cat") in HOST + DEVICE:
                self._events[event["cat"]].append(event)

    @cached_property
    def wall(self) -> float:
        """From the first event to the end of the last."""
        events = [event for group in self._events.values() for event in group]
        return max(e["ts"] + e["dur"] for e in events) - min(e["ts"] for e in events) if events else 0.0

    @cached_property
    def regions(self) -> dict[str, float]:
        """Time of the host in each region, without regions inside it, the longest first."""
        own = Counter()
        marks = [e for e in self._events["user_annotation"] if e["name"].startswith(self._prefix)]
        for spent in nested(marks):
            own[spent.event["name"].removeprefix(self._prefix)] += spent.own
        return dict(own.most_common())

    @cached_property
    def _updates(self) -> list[tuple[float, float]]:
        """When the host was in an update, from first to last."""
        marks = [e for e in self._events["user_annotation"] if e["name"] == f"{self._prefix}update"]
        return sorted((mark["ts"], mark["ts"] + mark["dur"]) for mark in marks)

    def _per_update(self, events: Iterable[Event]) -> float:
        """How many of them begin in an update, for one update."""
        count = 0
        for event in events:
            place = bisect_right(self._updates, (event["ts"], inf)) - 1
            count += place >= 0 and event["ts"] < self._updates[place][1]
        return count / max(len(self._updates), 1)

    @cached_property
    def operators(self) -> tuple[Counter, Counter]:
        """Own time and number of operators by name."""
        time, number = Counter(), Counter()
        for spent in nested(self._events["cpu_op"]):
            time[spent.event["name"]] += spent.own
            number[spent.event["name"]] += 1
        return time, number

    @property
    def called(self) -> float:
        """Operators that an update calls; those that operators call are not counted."""
        return self._per_update(spent.event for spent in nested(self._events["cpu_op"]) if not spent.inner)

    @cached_property
    def kernels(self) -> tuple[Counter, Counter]:
        """Time and number of a GPU's kernels, copies and fills by name."""
        time, number = Counter(), Counter()
        for category in DEVICE:
            for event in self._events[category]:
                name = short(event["name"])
                time[name] += event["dur"]
                number[name] += 1
        return time, number

    @property
    def launches(self) -> float:
        """Kernels and graphs that the host launches in an update."""
        calls = self._events["cuda_runtime"] + self._events["cuda_driver"]
        return self._per_update(call for call in calls if any(launch in call["name"] for launch in LAUNCHES))

    def copied(self, direction: str) -> tuple[int, int]:
        """Copies of a GPU and their bytes, in "HtoD", "DtoH" or "DtoD"."""
        found = [e for e in self._events["gpu_memcpy"] if direction in e["name"]]
        return len(found), sum(int(e.get("args", {}).get("bytes", 0)) for e in found)

    def summary(self, what: str) -> list[str]:
        """At most ten lines; numbers are for one step or update, shares are of the time that passed."""
        time, number = self.operators
        rest = self.wall - sum(self.regions.values())
        parts = [*self.regions.items(), ("rest", rest)]
        lines = [
            f"profile of {what}: {self.wall / self.steps / 1e3:.3g} ms a step",
            "host: " + ", ".join(f"{name} {self._share(t)}" for name, t in parts),
        ]
        operators = f"{self.called:.4g} operators"
        if self._events["kernel"]:
            time, number = self.kernels
            busy = sum(e["dur"] for category in DEVICE for e in self._events[category])
            lines.append(f"an update calls {operators} and launches {self.launches:.4g} kernels or graphs")
            lines.append(f"device: {self._share(busy)} busy, {number.total() / self.steps:.4g} kernels and copies")
            ways = {"HtoD": "host to device", "DtoH": "device to host", "DtoD": "within the device"}
            copies = [(name, *self.copied(way)) for way, name in ways.items()]
            said = [f"{n / self.steps:.4g} {name} ({size / self.steps:,.0f} bytes)" for name, n, size in copies]
            lines.append("copies: " + ", ".join(said))
        else:
            copies = self._per_update(e for e in self._events["cpu_op"] if e["name"] == "aten::copy_")
            lines.append(f"an update calls {operators}; {copies:.4g} copies, none from or to a device")
        for name, spent in time.most_common(LINES - len(lines)):
            each = f"{spent / self.steps / 1e3:.3g} ms, {number[name] / self.steps:.4g} times"
            lines.append(f"{self._share(spent):>5} {name[:WIDTH]}: {each}")
        return lines

    def _share(self, time: float) -> str:
        return f"{time / self.wall:.1%}" if self.wall else "0%"


def short(kernel: str) -> str:
    """A kernel's name without its return type, template arguments and parameters."""
    name = kernel.removeprefix("void ")
    if name.startswith("Mem"):
        return name  # Memcpy HtoD (Pinned -> Device)
    return re.split(r"[<(]", name.replace("(anonymous namespace)::", ""))[0] or kernel
