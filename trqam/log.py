"""What a command says on stderr, which is often a file on the disk that the run is saved to."""

from typing import Any, TextIO


class Tolerant:
    """A text stream that drops what the system refuses to write: a full disk ends a training at a save, not at a line
    of its log, and the exit code stays what it should be."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> int:
        """Writes, or does not."""
        try:
            return self._stream.write(text)
        except OSError:
            return len(text)

    def flush(self) -> None:
        """What is left in the buffer may be written later, or be lost."""
        try:
            self._stream.flush()
        except OSError:
            return

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def tolerant(stream: TextIO) -> TextIO:
    """``stream``, made tolerant once."""
    return stream if isinstance(stream, Tolerant) else Tolerant(stream)
