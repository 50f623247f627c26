"""When a training must stop before it is done: a time limit that comes near, or a signal.

The trainer looks at `Stop.due` after every update and at every action of an evaluation. When it is due, the trainer
saves where it stands and raises `Stopped`, so that the command ends with exit code 85, before the limit; the same
command, or a scheduler's retry, goes on from that very step and ends in the bytes of an undisturbed run.

A limit is `30m`, `2h`, `1h30m` or a number of seconds from now; `slurm`, the end of the job that this runs in; `none`;
or `auto`, which is `slurm` in a job whose end can be known, and else `none`.
"""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from trqam.config.errors import UserError
from trqam.config.strict import shown

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
LEAST = 10.0  # seconds of margin: for what follows a save, the end of the processes
FIRST_SAVE = 20.0  # seconds that a save is thought to take until one was measured
LONGEST = 10**9  # seconds; a clock cannot count what has hundreds of digits
UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
FIX = "say seconds, a time such as 30m, 2h or 1h30m, slurm, none or auto"


class Stop:
    """Tells when to stop. ``seconds`` is what is left from now on (None: no limit); ``clock`` is the time, in seconds;
    ``limit`` is what is given as the reason when they are over.

    The margin before the limit is thrice the time of a save and twice the longest pause between two looks (an update,
    the end of a logging interval, an environment's step), both as measured, at least `LEAST`, at most half the limit.
    """

    def __init__(
        self,
        seconds: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        limit: str = "the time limit is near",
    ):
        self.reason: str | None = None
        self._limit = limit
        self._clock, self._given = clock, seconds
        self._began = self._looked = clock()
        self._save: float | None = None
        self._pause = 0.0

    def ask(self, reason: str) -> None:
        """Stop at the next look."""
        self.reason = self.reason or reason

    @property
    def margin(self) -> float:
        """Seconds before the limit at which to stop."""
        save = FIRST_SAVE if self._save is None else self._save
        return min(max(LEAST, 3 * save + 2 * self._pause), (self._given or 0.0) / 2)

    def due(self) -> bool:
        """Whether to save and stop now."""
        now = self._clock()
        self._pause, self._looked = max(self._pause, now - self._looked), now
        if self._given is not None and now - self._began >= self._given - self.margin:
            self.ask(self._limit)
        return self.reason is not None

    def begin(self) -> None:
        """A training begins: making ready for it, once, was no pause of the kind that is measured."""
        self._pause, self._looked = 0.0, self._clock()

    def begin_saving(self) -> None:
        """What follows, up to `end_saving`, is a save of all seeds."""
        self._looked = self._clock()

    def end_saving(self) -> None:
        """All seeds are saved; a pause of long ago counts half from here on, and a quarter from the next save."""
        now = self._clock()
        self._save = max(now - self._looked, (self._save or 0.0) / 2)
        self._pause, self._looked = self._pause / 2, now


@contextmanager
def listening(limit: str = "none") -> Iterator[Stop]:
    """A `Stop` for ``limit`` that SIGTERM and SIGUSR1 ask, too. Raises UserError as `seconds_left` does."""
    said = "SLURM's: --time-limit none ignores it" if limit in ("auto", "slurm") else f"--time-limit {limit}"
    stop = Stop(seconds_left(limit), limit=f"the time limit is near, {said}")
    if threading.current_thread() is not threading.main_thread():
        yield stop  # only the main thread may listen
        return
    before = {
        number: signal.signal(number, lambda received, _: stop.ask(signal.Signals(received).name)) for number in SIGNALS
    }
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def seconds_left(limit: str) -> float | None:
    """Seconds from now to ``limit``; None where there is none. UserError if it is no limit, or cannot be known."""
    if limit in ("auto", "slurm"):
        left = _slurm() if "SLURM_JOB_ID" in os.environ or "SLURM_JOB_END_TIME" in os.environ else None
        if left is None and limit == "slurm":
            raise UserError("--time-limit slurm: no SLURM job whose end can be known; say a time, such as 2h, or none")
        return left
    if limit == "none":
        return None
    parts = re.fullmatch(r"(\d+)|(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", limit, re.ASCII)
    if not limit or len(limit) > 40 or parts is None:
        raise UserError(f"--time-limit {shown(limit)!r}: not a time; {FIX}")
    plain, *rest = (int(part or 0) for part in parts.groups())
    seconds = plain + sum(n * unit for n, unit in zip(rest, UNITS.values(), strict=True))
    if not 0 < seconds <= LONGEST:
        problem = "longer than 30 years" if seconds else "nothing can be done in no time"
        raise UserError(f"--time-limit {limit!r}: {problem}; {FIX}")
    return float(seconds)


def _slurm() -> float | None:
    """Seconds that the SLURM job has left, from its environment or else from squeue; None if neither tells.

    An end in the past is that of another job, whose environment a shell has kept: no limit, and a line that says so.
    """
    end, job = os.environ.get("SLURM_JOB_END_TIME", ""), os.environ.get("SLURM_JOB_ID", "")
    if re.fullmatch("[0-9]{1,15}", end):
        if (left := int(end) - time.time()) > 0:
            return min(left, LONGEST)
        problem = "a time in the past, so there is no time limit; unset it, or give --time-limit"
        print(f"trqam: notice: SLURM_JOB_END_TIME={end}: {problem}", file=sys.stderr)
        return None
    if not re.fullmatch("[0-9_]{1,30}", job):
        return None
    command = ["squeue", "--noheader", "--format=%L", "--jobs", job]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()
    except (OSError, ValueError, subprocess.SubprocessError):  # ValueError: no text
        return None
    # UNLIMITED and INVALID are none
    parts = re.fullmatch(r"(?:(\d{1,6})-)?(?:(\d{1,6}):)?(\d{1,6}):(\d{1,6})", answer, re.ASCII)
    return sum(int(n or 0) * unit for n, unit in zip(parts.groups(), UNITS.values(), strict=True)) if parts else None
