"""What a command says: on stderr, which is often a file on the disk that a run is saved to, and on stdout."""

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TextIO, cast

from trqam.config.errors import UserError


class Unread(Exception):
    """Nobody reads stdout any more, as behind `| head`."""

    exit_code = 141  # as a shell reports what SIGPIPE ends


class Guarded:
    """A text stream; ``failed`` is called with what the system says where it refuses to write."""

    def __init__(self, stream: TextIO, failed: Callable[[OSError], object]):
        self._stream, self._failed = stream, failed

    def write(self, text: str) -> int:
        """Writes, or does not."""
        try:
            return self._stream.write(text)
        except OSError as error:
            self._failed(error)
            return len(text)

    def flush(self) -> None:
        """What is left in the buffer may be written later, or be lost."""
        try:
            self._stream.flush()
        except OSError as error:
            self._failed(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def tolerant(stream: TextIO) -> TextIO:
    """``stream``, which drops what cannot be written: a full disk ends a training at a save, not at a line of its log,
    and the exit code stays what it should be."""
    return cast(TextIO, Guarded(stream, lambda error: None))


def listing(stream: TextIO) -> TextIO:
    """``stream``, which a command is for: Unread where nobody reads it, a UserError where it cannot be written."""

    def failed(error: OSError) -> None:
        with suppress(OSError):  # or Python would try again at its end, and say so
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        if isinstance(error, BrokenPipeError):
            raise Unread from None
        raise UserError(f"stdout: cannot be written ({error.strerror}); make room, or write elsewhere") from None

    return cast(TextIO, Guarded(stream, failed))
