"""What a training notes of its speed for `trqam status` and the workflow's estimate."""

import pytest

from trqam.experiment import progress


def test_what_comes_before_the_first_step_is_no_part_of_the_speed(tmp_path, monkeypatch):
    """An untrained policy is evaluated first, which may take as long as hundreds of steps."""
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    directories = [tmp_path / "a", tmp_path / "b"]
    for directory in directories:
        directory.mkdir()
    shown = progress.Progress("a title", 100, 40, directories)
    now[0] += 60
    shown.advance()
    assert progress.noted(directories[0]) is None
    for _ in range(11):
        now[0] += 2
        shown.advance()
    note = progress.noted(directories[1])
    assert (note.step, note.pace) == (52, pytest.approx(2 / len(directories)))
    shown.close()
    assert progress.noted(directories[1]) is None
