"""What a command says: on stderr, which is often a file on the disk that a run is saved to, and on stdout."""

import os
from contextlib import suppress
from typing import Any, TextIO

from trqam.config.errors import UserError


class Unread(Exception):
    """Nobody reads stdout any more, as behind `| head`."""

    exit_code = 141  # as a shell reports what SIGPIPE ends


class Tolerant:
    """A text stream that drops what the system refuses to write: a full disk ends a training at a save, not at a line
    of its log, and the exit code stays what it should be."""

    def __init__(self, stream: TextIO):
        self._stream = stream

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

    def _failed(self, error: OSError) -> None:
        """What cannot be written was not worth an end."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class Listing(Tolerant):
    """A text stream that a command is for: Unread where nobody reads it, a UserError where it cannot be written."""

    def _failed(self, error: OSError) -> None:
        with suppress(OSError):  # or Python would try again at its end, and say so
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
        if isinstance(error, BrokenPipeError):
            raise Unread from None
        raise UserError(f"stdout: cannot be written ({error.strerror}); make room, or write elsewhere") from None


def tolerant(stream: TextIO) -> TextIO:
    """``stream``, made tolerant once."""
    return stream if isinstance(stream, Tolerant) else Tolerant(stream)


def listing(stream: TextIO) -> TextIO:
    """``stream`` as a `Listing`, made once."""
    return stream if isinstance(stream, Listing) else Listing(stream)
