"""A function applied in several processes; what they die of is reported, and no process is left behind."""

import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import TypeVar

from trqam.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")


def cores() -> int:
    """Cores that this process may use, which can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_processes(function: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """``function`` of each item, as the results come; with one worker in this process and in order.

    Workers are spawned (a forked one would inherit threads), and ``function`` is pickled once for each. They are
    killed when this generator ends or is closed, whatever they are doing. A UserError of theirs is raised here; a
    RuntimeError tells of any other failure.
    """
    if workers == 1:
        yield from map(function, items)
        return
    remaining, running = iter(items), {}
    try:
        for _, item in zip(range(workers), remaining, strict=False):
            pipe, process = _start(function)
            running[pipe] = process
            pipe.send(item)
        while running:
            for pipe in wait(list(running)):
                yield _receive(pipe, running[pipe])
                try:
                    pipe.send(next(remaining))
                except StopIteration:
                    _stop(pipe, running.pop(pipe))
    finally:
        for pipe, process in running.items():
            _stop(pipe, process)


def _start(function: Callable) -> tuple[Connection, BaseProcess]:
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, function), daemon=True)
    process.start()
    theirs.close()  # so that its death is seen as the end of the pipe
    return mine, process


def _receive(pipe: Connection, process: BaseProcess) -> object:
    try:
        failure, result = pipe.recv()
    except (EOFError, OSError) as error:
        process.join()
        message = f"a worker died with exit code {process.exitcode} (out of memory, or killed); run it again to go on"
        raise UserError(message) from error
    if failure:
        raise failure
    return result


def _stop(pipe: Connection, process: BaseProcess) -> None:
    pipe.close()
    process.kill()
    process.join()


def _serve(pipe: Connection, function: Callable) -> None:
    """A worker's loop; ends with the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the caller decides what an interrupt means
    while True:
        try:
            item = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            answer = (None, function(item))
        except UserError as error:
            answer = (error, None)
        except Exception:  # whatever it is, the caller reports it
            answer = (RuntimeError(f"a worker failed:\n{traceback.format_exc()}"), None)
        try:
            pipe.send(answer)
        except OSError:  # nobody listens any more
            return
