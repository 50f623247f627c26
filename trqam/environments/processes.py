"""A callable in a process of its own, asked by messages, or in several: it answers, or one learns what it died of.

Processes are spawned (a forked one would inherit threads and devices) and never outlive their parent, not even one
that was killed: the end of the pipe ends those that wait, and a thread those that are at work.
"""

import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar, cast

from trqam.config.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")


class Lost(Exception):
    """A process died, or did not answer in time; one line says which, how, and of what most likely."""


class Here:
    """The same interface without a process."""

    def __init__(self, function: Callable[[Any], Any]):
        self._function = function
        self._reply: Any = None

    def send(self, message: Any) -> None:
        """Do what is asked."""
        self._reply = self._function(message)

    def receive(self, limit: float | None = None) -> Any:
        """The answer, which is there."""
        return self._reply

    def close(self) -> None:
        """There is nobody to end."""


class Process:
    """``function``, which is pickled once and may keep a state, in a process of its own."""

    def __init__(self, function: Callable[[Any], Any], name: str):
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, function), name=name, daemon=True)
        self._process.start()
        theirs.close()  # so that its death is seen as the end of the pipe

    @property
    def name(self) -> str:
        """As given, for people."""
        return self._process.name

    @property
    def pid(self) -> int:
        """The process's number."""
        assert self._process.pid is not None  # it was started
        return self._process.pid

    def send(self, message: Any) -> None:
        """Ask; one `receive` must follow. Raises Lost."""
        try:
            self._pipe.send(message)
        except OSError as error:
            raise self._lost() from error

    def fileno(self) -> int:
        """Readable when there is an answer, or when there will be none (`multiprocessing.connection.wait`)."""
        return self._pipe.fileno()

    def receive(self, limit: float | None = None) -> Any:
        """The answer to the last message. Raises Lost if the process died or needs more than ``limit`` seconds, its
        own UserError, and RuntimeError with the traceback of any other failure of ``function``."""
        try:
            if not self._pipe.poll(limit):
                self._process.kill()
                raise Lost(f"{self.name} gave no answer within {limit:.0f} s, so it hangs (killed)")
            failure, reply = self._pipe.recv()
        except (EOFError, OSError) as error:
            raise self._lost() from error
        if failure:
            raise failure
        return reply

    def close(self) -> None:
        """End the process at once, whatever it is doing; harmless when repeated."""
        self._pipe.close()
        self._process.kill()
        self._process.join()

    def _lost(self) -> Lost:
        self._process.join(timeout=5)
        code = self._process.exitcode
        if code is None:
            self._process.kill()
            return Lost(f"{self.name} closed its pipe without ending (killed)")
        if code == -signal.SIGKILL:
            return Lost(f"{self.name} was killed by SIGKILL: most likely the machine ran out of memory")
        if code < 0:
            name = signal.Signals(-code).name
            return Lost(f"{self.name} was killed by {name}: most likely by hand, or a fault in native code")
        return Lost(f"{self.name} ended with exit code {code}: what it printed above may say why")


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


def _serve(pipe: Connection, function: Callable[[Any], Any]) -> None:
    """The loop of a process."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):  # a group gets them all; the caller decides
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            message = pipe.recv()
        except (EOFError, OSError):
            return
        answer: tuple[Exception | None, Any]
        try:
            answer = (None, function(message))
        except UserError as error:
            answer = (error, None)
        except Exception:  # whatever it is, the caller reports it
            name = multiprocessing.current_process().name
            answer = (RuntimeError(f"{name} failed:\n{traceback.format_exc()}"), None)
        try:
            pipe.send(answer)
        except OSError:  # nobody listens any more
            return


def _end_with_parent() -> None:
    """A message can be a minute's work, which an orphan should not finish."""
    if parent := multiprocessing.parent_process():
        parent.join()
    os._exit(1)
