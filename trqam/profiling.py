"""Named regions of a training step, for `--profile`."""

from contextlib import AbstractContextManager, nullcontext


def region(name: str) -> AbstractContextManager:
    """Labels what happens inside it."""
    return nullcontext()
