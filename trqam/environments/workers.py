"""A function applied in several processes; what they die of is reported, and no process is left behind."""

import os
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import wait
from typing import TypeVar, cast

from trqam.config.errors import UserError
from trqam.environments.processes import Lost, Process

Item = TypeVar("Item")
Result = TypeVar("Result")


def cores() -> int:
    """Cores that this process may use, which can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_processes(function: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """``function`` of each item, as the results come; with one worker in this process and in order.

    ``function`` is pickled once for each process. They are killed when this generator ends or is closed, whatever they
    are doing. A UserError of theirs is raised here, or one that says what a process died of; a RuntimeError tells of
    any other failure.
    """
    if workers == 1:
        yield from map(function, items)
        return
    remaining = iter(items)
    running: list[Process] = []
    try:
        for number, item in zip(range(workers), remaining, strict=False):
            running.append(Process(function, f"worker {number}"))
            running[-1].send(item)
        while running:
            for process in cast(list[Process], wait(cast(list[int], running))):  # asks for a `fileno` only
                yield process.receive()
                try:
                    process.send(next(remaining))
                except StopIteration:
                    process.close()
                    running.remove(process)
    except Lost as loss:
        raise UserError(f"{loss}; run it again to go on") from loss
    finally:
        for process in running:
            process.close()
