"""Offline and new transitions are one sequence, and the file survives interruptions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.stores import Arrays
from trqam.config.errors import UserError
from trqam.data.dataset import sample_chunks
from trqam.data.replay import Replay

KEYS = Arrays.KEYS


def transitions(count, seed, episode=7):
    rng = np.random.default_rng(seed)
    arrays = {"observations": rng.normal(size=(count, 4)), "actions": rng.uniform(-1, 1, (count, 2))}
    arrays |= {"rewards": rng.normal(size=count), "masks": rng.integers(0, 2, count)}
    arrays |= {"terminals": np.arange(1, count + 1) % episode == 0, "next_observations": rng.normal(size=(count, 4))}
    arrays["terminals"][-1] = True
    return {key: array.astype(np.float32) for key, array in arrays.items()}


def append(replay, arrays, start=0, stop=None):
    for row in zip(*(arrays[key][start:stop] for key in KEYS), strict=True):
        replay.append(*row)


def assert_holds(replay, *parts):
    expected = {key: np.concatenate([part[key] for part in parts]) for key in KEYS}
    assert replay.size == len(expected["rewards"])
    batch = replay.gather(np.arange(replay.size))
    for key in KEYS:
        np.testing.assert_array_equal(batch[key], expected[key], err_msg=key)


@pytest.fixture
def old():
    return transitions(20, seed=0)


@pytest.fixture
def new():
    return transitions(3000, seed=1)  # more than the first capacity


def test_new_transitions_follow_the_old_ones(tmp_path, old, new):
    replay = Replay(Arrays(old), tmp_path / "replay.bin")
    assert_holds(replay, old)
    append(replay, new)
    assert_holds(replay, old, new)
    union = Arrays({key: np.concatenate([old[key], new[key]]) for key in KEYS})
    indices = np.arange(10, 60).reshape(5, 10)  # chunks on both sides of the border and across it
    for key, array in sample_chunks(replay, indices, 5, 0.9).items():
        np.testing.assert_array_equal(array, sample_chunks(union, indices, 5, 0.9)[key])


def test_resume_forgets_what_came_after_the_checkpoint(tmp_path, old, new):
    path = tmp_path / "run" / "replay.bin"
    replay = Replay(Arrays(old), path)
    append(replay, new, 0, 500)
    replay.flush()
    append(replay, new, 500, 1200)
    checkpoint = replay.flush()
    assert checkpoint["rows"] == 1200
    append(replay, transitions(50, seed=2))
    replay.flush()  # lost work: the run dies before its next checkpoint

    resumed = Replay.resume(Arrays(old), path, checkpoint)
    assert path.stat().st_size == 1250 * (4 + 2 + 3 + 4) * 4  # not yet: a newer checkpoint may need them
    assert_holds(resumed, old, {key: new[key][:1200] for key in KEYS})
    resumed.flush()
    assert path.stat().st_size == 1200 * (4 + 2 + 3 + 4) * 4
    append(resumed, new, 1200)
    whole = Replay(Arrays(old), tmp_path / "whole.bin")
    append(whole, new)
    assert resumed.flush() == whole.flush()
    assert path.read_bytes() == (tmp_path / "whole.bin").read_bytes()
    assert_holds(resumed, old, new)


def test_flushing_twice_changes_nothing_and_a_new_run_empties_the_file(tmp_path, old, new):
    path = tmp_path / "replay.bin"
    replay = Replay(Arrays(old), path)
    append(replay, new, 0, 10)
    assert replay.flush() == replay.flush()
    fresh = Replay(Arrays(old), path)
    assert fresh.flush() == {"rows": 0, "width": 13, "crc32": 0}
    assert path.stat().st_size == 0
    assert Replay.resume(Arrays(old), path, {"rows": 0, "crc32": 0}).size == 20


def shorten(path):
    path.write_bytes(path.read_bytes()[:-1])


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("damage", [shorten, flip_a_bit, lambda path: path.unlink()])
def test_damage_is_a_user_error_naming_the_file(tmp_path, old, new, damage):
    path = tmp_path / "replay.bin"
    replay = Replay(Arrays(old), path)
    append(replay, new, 0, 100)
    checkpoint = replay.flush()
    damage(path)
    with pytest.raises(UserError) as error:
        Replay.resume(Arrays(old), path, checkpoint)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@settings(max_examples=25)
@given(parts=st.lists(st.integers(0, 40), min_size=1, max_size=5), lost=st.integers(0, 40), start=st.integers(0, 10))
def test_whatever_is_flushed_comes_back_and_nothing_else(tmp_path_factory, parts, lost, start):
    """A replay resumed at any flush, however the rows before were cut into flushes, is one that never stopped."""
    path, old, new = tmp_path_factory.mktemp("replay") / "replay.bin", transitions(20, seed=0), transitions(240, seed=1)
    replay, done = Replay(Arrays(old), path), 0
    for count in parts:
        append(replay, new, done, done + count)
        done += count
        checkpoint = replay.flush()
    append(replay, new, 200, 200 + lost)  # never to be seen again
    replay.flush()
    resumed = Replay.resume(Arrays(old), path, checkpoint)
    whole = Arrays({key: np.concatenate([old[key], new[key][:done]]) for key in KEYS})
    assert resumed.size == whole.size
    indices = np.arange(start, whole.size - 4)
    for key, array in sample_chunks(resumed, indices, 5, 0.9).items():
        np.testing.assert_array_equal(array, sample_chunks(whole, indices, 5, 0.9)[key], err_msg=key)
