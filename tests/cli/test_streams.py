"""A log that cannot be written ends nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from trqam.cli.streams import tolerant

FULL = Path("/dev/full")  # every write to it fails as on a full disk


@pytest.mark.skipif(not FULL.exists(), reason="needs Linux's /dev/full")
def test_a_line_on_a_full_disk_is_dropped():
    stream = FULL.open("w", buffering=1)
    with pytest.raises(OSError, match="No space"):
        print("a line", file=stream)
    log = tolerant(stream)
    print("another", file=log, flush=True)
    assert not log.isatty()
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # or closing it would fail


@pytest.mark.skipif(not FULL.exists(), reason="needs Linux's /dev/full")
def test_the_exit_code_survives_a_full_disk():
    command = [sys.executable, "-m", "trqam", "--config", "nothing.yaml", "train", "a", "b", "--stage", "online"]
    with FULL.open("w") as full:
        assert subprocess.run(command, stderr=full).returncode == 2
