"""Offline data followed by the transitions of online training, which also live in an append-only file.

The file holds rows of little-endian float32: observation, action, reward, mask, terminal, next observation. A
checkpoint keeps what ``flush`` returned, rows, width and CRC-32, so that a resumed run forgets what
was written after its checkpoint and knows that the rest is intact.
"""

import os
import zlib
from pathlib import Path

import numpy as np

from trqam.config.errors import UserError
from trqam.data.dataset import Source
from trqam.experiment.files import synchronise, writing


class Replay:
    """The union of ``dataset`` (first) and appended transitions; a ``Source`` for ``sample_chunks``.

    An episode must end with terminal = 1 also where time ran out (with mask = 1 then), or chunks run on into the
    next episode. New transitions are taken as they are; clip actions before. ``count`` is the number of them,
    ``columns`` where each key stands in a row.
    """

    def __init__(self, dataset: Source, path: Path | str):
        """Begin with no new transition; the first ``flush`` makes or empties the file at ``path``."""
        self._dataset, self._path = dataset, Path(path)
        self.columns: dict[str, int | slice] = {}
        self._width = 0
        example = dataset.gather(np.zeros(1, dtype=np.int64))
        for key in ("observations", "actions", "rewards", "masks", "terminals", "next_observations"):
            scalar = example[key].ndim == 1
            width = 1 if scalar else example[key].shape[-1]
            self.columns[key] = self._width if scalar else slice(self._width, self._width + width)
            self._width += width
        self._rows = np.empty((1024, self._width), dtype="<f4")  # doubled when full
        self.count = self._flushed = self._crc = 0

    @classmethod
    def resume(cls, dataset: Source, path: Path | str, flushed: dict[str, int]) -> "Replay":
        """The replay as it was when ``flush`` returned ``flushed``; the next ``flush`` cuts off what was written later.

        Until then the file is left alone: a newer checkpoint may need it. Raises UserError if the file is missing, too
        short or not what was flushed.
        """
        replay = cls(dataset, path)
        rows = flushed["rows"]
        if rows == 0:
            return replay
        content = _read(path, flushed, replay._width)
        replay._rows = np.frombuffer(content, "<f4").reshape(rows, replay._width).copy()
        replay.count = replay._flushed = rows
        replay._crc = flushed["crc32"]
        return replay

    @property
    def size(self) -> int:
        """Transitions, old and new."""
        return self._dataset.size + self.count

    def rows(self, first: int) -> np.ndarray:
        """The new transitions from number ``first`` on, one a row; do not write into it."""
        return self._rows[first : self.count]

    def gather(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """See ``Source``; an index of ``dataset.size`` or more is a new transition."""
        offline = self._dataset.size
        new = indices >= offline
        batch = self._dataset.gather(np.minimum(indices, offline - 1))
        rows = self._rows[: self.count][indices[new] - offline]
        for key, column in self.columns.items():
            batch[key][new] = rows[:, column]
        return batch

    def append(
        self,
        observation: np.ndarray,
        action: np.ndarray,
        reward: float,
        mask: float,
        terminal: float,
        next_observation: np.ndarray,
    ) -> None:
        """Add one transition: observations [O], action [A]; in memory until ``flush``."""
        if self.count == len(self._rows):
            self._rows = np.concatenate([self._rows, np.empty_like(self._rows)])
        row = self._rows[self.count]
        values = (observation, action, reward, mask, terminal, next_observation)
        for column, value in zip(self.columns.values(), values, strict=True):
            row[column] = value
        self.count += 1

    def flush(self) -> dict[str, int]:
        """Write the new rows durably; what ``resume`` needs: the number of rows, their width and running CRC-32."""
        content = self._rows[self._flushed : self.count].tobytes()
        with writing(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o666)
            with os.fdopen(descriptor, "wb") as file:
                file.seek(self._flushed * self._width * 4)
                file.write(content)  # over rows of a lost attempt, which were the same
                file.truncate()
                synchronise(file.fileno())
        self._crc = zlib.crc32(content, self._crc)
        self._flushed = self.count
        return {"rows": self.count, "width": self._width, "crc32": self._crc}


def check(path: Path | str, flushed: dict[str, int]) -> None:
    """A UserError if the file at ``path`` does not hold what was ``flushed``."""
    _read(path, flushed, flushed["width"])


def _read(path: Path | str, flushed: dict[str, int], width: int) -> bytes:
    """The rows of a checkpoint; a UserError if they are missing, too few or not what was flushed."""
    fix, length = "restore it or start the run again", flushed["rows"] * width * 4
    if length == 0:
        return b""  # the file need not exist
    try:
        with open(path, "rb") as file:
            content = file.read(length)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); {fix}") from error
    if len(content) < length or zlib.crc32(content) != flushed["crc32"]:
        raise UserError(f"{path}: damaged, not the {flushed['rows']} rows of the checkpoint (key 'crc32'); {fix}")
    return content
