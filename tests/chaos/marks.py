"""What a process is doing at the instant at which it is killed, told through memory that it shares with its parent."""

import mmap
import os
import select
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from unittest import mock

from trqam.experiment import checkpoint
from trqam.training import blocks
from trqam.training.experience import Offline, Online
from trqam.training.trainer import Trainer

PHASES = ("starting", "training", "evaluating", "saving", "publishing")
FIELDS = ("phase", "step", "start", "saved", "aim")
LONGEST = struct.calcsize(f"<{len(FIELDS)}i")  # where the longest duration of every phase stands, in seconds


class Marks:
    """The numbers that the instrumented trainer writes.

    ``phase`` as in `PHASES`, ``step`` of the trainer, ``start`` where it began (-1: it has not), ``saved`` the newest
    step whose checkpoints were all written when the save returned (-1: none). A phase that is the ``aim`` is
    announced through a pipe when it begins.
    """

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 4096)
        self._told, self._tell = os.pipe()
        os.set_blocking(self._tell, False)
        self.reset()

    def __getitem__(self, field: str) -> int:
        return struct.unpack_from("<i", self._memory, 4 * FIELDS.index(field))[0]

    def __setitem__(self, field: str, value: int) -> None:
        struct.pack_into("<i", self._memory, 4 * FIELDS.index(field), value)

    def reset(self, aim: int = -1) -> None:
        """As before a process begins."""
        for field, value in zip(FIELDS, (0, 0, -1, -1, aim), strict=True):
            self[field] = value
        while select.select([self._told], [], [], 0)[0]:
            os.read(self._told, 4096)

    def longest(self, phase: int) -> float:
        """The longest time that a phase has taken in any process so far."""
        return struct.unpack_from("<d", self._memory, LONGEST + 8 * phase)[0]

    def wait(self, pid: int) -> bool:
        """Until the aim begins in the process; False if that ended before."""
        ended = os.pidfd_open(pid)
        try:
            ready = select.select([self._told, ended], [], [])[0]
        finally:
            os.close(ended)
        return bool(self._told in ready and os.read(self._told, 1))

    @contextmanager
    def within(self, name: str) -> Iterator[None]:
        """Marks a phase; what surrounds it goes on afterwards."""
        phase, before, began = PHASES.index(name), self["phase"], time.monotonic()
        self["phase"] = phase
        if self["aim"] == phase:
            os.write(self._tell, b"!")
        yield
        self["phase"] = before
        if (spent := time.monotonic() - began) > self.longest(phase):
            struct.pack_into("<d", self._memory, LONGEST + 8 * phase, spent)

    @contextmanager
    def instrumented(self) -> Iterator[None]:
        """The trainer writes these marks, in this process and in its forks."""

        def marked(owner: object, name: str, phase: str, after: Callable | None = None) -> mock._patch:
            original = getattr(owner, name)

            def method(*arguments, **keywords):
                with self.within(phase):
                    result = original(*arguments, **keywords)
                if after:
                    after(*arguments)
                return result

            return mock.patch.object(owner, name, method)

        def advanced(_: Offline, step: int, *__: object) -> None:
            self["step"] = step

        def saved(trainer: Trainer) -> None:
            self["saved"] = trainer.step

        def began(trainer: Trainer, *_: object) -> None:
            self["start"], self["phase"] = trainer.step, PHASES.index("training")

        with ExitStack() as stack:
            for patch in (
                marked(Trainer, "__init__", "starting", began),
                marked(Offline, "advance", "training", advanced),
                marked(Online, "advance", "training", advanced),
                marked(Trainer, "_evaluate", "evaluating"),
                marked(Trainer, "_save", "saving", saved),
                marked(checkpoint, "prune", "saving"),
                marked(blocks, "publish", "publishing"),
            ):
                stack.enter_context(patch)
            yield
