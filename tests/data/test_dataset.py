"""Stores open or say why not; chunks are the authors' and never mix episodes."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from tests.helpers import stores
from trqam.config.errors import UserError
from trqam.config.reading import read_json, sha256
from trqam.data import verified
from trqam.data.dataset import (
    ACTION_BOUND,
    UNCHANGED,
    Dataset,
    Window,
    draw_indices,
    sample_chunks,
    training_batch,
)
from trqam.data.replay import Replay
from trqam.experiment.files import write_atomically, write_json

GOLDEN = Path(__file__).parents[1] / "golden" / "sequence_sampler.npz"
MAZE = "pointmaze-medium-navigate"
TASK = f"{MAZE}-singletask-task1-v0"


def raw_arrays(lengths, seed=0):
    """Episodes in the raw layout, ``lengths`` transitions each; the first observation tells (episode, row)."""
    rng = np.random.default_rng(seed)
    episodes = np.concatenate([np.full(length + 1, index) for index, length in enumerate(lengths)])
    rows = len(episodes)
    return {
        "observations": np.stack([episodes, np.arange(rows)], axis=1).astype(np.float32),
        "actions": rng.uniform(-1.5, 1.5, (rows, 3)).astype(np.float32),
        "terminals": np.append(np.diff(episodes), 1).astype(np.float32),
        "rewards": rng.normal(size=rows).astype(np.float32),
        "masks": rng.integers(0, 2, rows).astype(np.float32),
    }


def dataset_of_lengths(lengths, seed=0, shards=()):
    """``shards``: how many of the episodes each file has."""
    ends = np.cumsum(np.array(lengths) + 1)
    rows = np.diff([0, *ends[np.cumsum(shards, dtype=int) - 1]]) if shards else []
    card = {"observation_mean": [0, 0], "observation_std": [1, 1]}
    card |= {"shards": [{"file": "x.npz", "rows": int(count)} for count in rows]} if shards else {}
    return Dataset(raw_arrays(lengths, seed), card)


def write_store(directory, lengths=(5, 3)):
    arrays = raw_arrays(lengths)
    arrays["rewards-task1"], arrays["masks-task1"] = arrays.pop("rewards"), arrays.pop("masks")
    stores.write_store(directory, MAZE, arrays)
    return directory


def test_gather_pairs_rows_with_their_successors():
    arrays, dataset = raw_arrays([4, 1, 3]), dataset_of_lengths([4, 1, 3])
    assert dataset.size == 8
    batch = dataset.gather(np.arange(8))
    rows = [0, 1, 2, 3, 5, 7, 8, 9]
    np.testing.assert_array_equal(batch["observations"][:, 1], rows)
    np.testing.assert_array_equal(batch["next_observations"][:, 1], np.array(rows) + 1)
    np.testing.assert_array_equal(batch["terminals"], [0, 0, 0, 1, 1, 0, 0, 1])
    for key in ("rewards", "masks"):
        np.testing.assert_array_equal(batch[key], arrays[key][rows])
    np.testing.assert_array_equal(batch["actions"], arrays["actions"][rows].clip(-ACTION_BOUND, ACTION_BOUND))
    assert np.abs(batch["actions"]).max() < 1 < np.abs(arrays["actions"]).max()
    assert dataset.gather(np.arange(6).reshape(2, 3))["actions"].shape == (2, 3, 3)


def test_a_horizon_beyond_all_episodes_is_refused(load):
    """No chunk would fit in, and nothing would be learned."""
    config = load()
    run = config.run(config.tasks[0], "trqam")
    folder = config.data_directory(run.domain)
    dataset = Dataset.open(folder, run.task)
    dataset.check_belongs(structs.replace(run, horizon=1000), folder, config.path)
    with pytest.raises(UserError, match=r"card.json: horizon: 1001 is longer than any episode, 1000 transitions; "):
        dataset.check_belongs(structs.replace(run, horizon=1001), folder, config.path)


def test_a_stored_dataset_is_mapped_not_read(tmp_path):
    dataset = Dataset.open(write_store(tmp_path), TASK)
    expected = dataset_of_lengths([5, 3])
    for key, array in dataset.gather(np.arange(8)).items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, expected.gather(np.arange(8))[key])
    assert dataset.normaliser is UNCHANGED
    normaliser = Dataset.open(tmp_path, TASK, normalised=True).normaliser
    inner = raw_arrays([5, 3])["observations"][[0, 1, 2, 3, 4, 6, 7, 8]]
    np.testing.assert_allclose(normaliser.mean, inner.mean(axis=0))
    assert normaliser.std.dtype == np.float32
    assert isinstance(dataset.raw["observations"].base, np.memmap)


def flip(directory):
    path = directory / "observations.npy"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


def put(key, value):
    def change(directory):
        np.load(directory / f"{key}.npy", mmap_mode="r+").flat[3] = value

    return change


def summed(change):
    """``change``, and a card whose sums agree with it."""

    def made_by_hand(directory):
        change(directory)
        sums = {path.stem: sha256(path) for path in directory.glob("*.npy")}
        stores.change_card(directory, lambda card: card.update(sha256=sums))

    return made_by_hand


def swap(directory):
    first, second, free = (directory / f"{name}.npy" for name in ("masks-task3", "rewards-task3", "free"))
    first.rename(free)
    second.rename(first)
    free.rename(second)


def lengthen(directory):
    with open(directory / "rewards-task4.npy", "ab") as file:
        file.write(bytes(4))


def as_an_archive(directory):
    with open(directory / "actions.npy", "wb") as file:
        np.savez(file, a=np.zeros((10, 3), np.float32))


def in_columns(directory):
    np.save(directory / "actions.npy", np.asfortranarray(np.load(directory / "actions.npy")))


def say(key, value):
    return lambda directory: stores.change_card(directory, lambda card: card.update({key: value}))


def lose(name):
    return lambda directory: (directory / name).unlink()


CHANGED = [
    (lose("rewards-task1.npy"), "rewards-task1.npy: missing or damaged"),
    (flip, "observations.npy: its SHA-256 is not the one in card.json"),
    (put("observations", np.inf), r"observations.npy: holds inf where a number within \+-1,000,000 is stored"),
    (put("actions", np.nan), "actions.npy: holds nan"),
    (put("rewards-task5", 1e7), "rewards-task5.npy: holds 1e.07"),
    (put("terminals", 1), "terminals.npy: its SHA-256"),
    (swap, "(masks|rewards)-task3.npy: "),
    (lengthen, "rewards-task4.npy: not row after row to the end of the file"),
    (as_an_archive, "actions.npy: an archive of arrays"),
    (in_columns, "actions.npy: not row after row"),
    (summed(put("observations", 3)), "card.json: observation_mean: not what the arrays hold"),
    (summed(put("observations", 1e38)), "observations.npy: holds 1e.38"),
    (summed(put("masks-task3", 7)), "masks-task3.npy: holds 7"),
    (summed(put("rewards-task1", 7)), "card.json: tasks: not what"),
    (summed(put("terminals", 1)), "card.json: transitions: not what"),
    (say("observation_std", [0.0, 0.0]), "card.json: observation_std: not what the arrays hold"),
    (say("transitions", 7), "card.json: transitions and episodes"),
    (say("sha256", {"../x": "0" * 64}), r"card.json: sha256: found '\.\./x'"),
]


@pytest.mark.parametrize(("change", "says"), CHANGED)
def test_a_store_that_is_not_what_its_card_says_is_not_opened(tmp_path, change, says):
    Dataset.open(write_store(tmp_path), TASK)  # so that it was found right before
    change(tmp_path)
    for _ in range(2):  # nothing is remembered of what is wrong
        with pytest.raises(UserError, match=rf"^{tmp_path}/{says}.*; run `trqam generate {MAZE}` .*again$"):
            Dataset.open(tmp_path, TASK)


def test_a_card_that_differs_from_the_record_is_not_believed(tmp_path):
    card = write_store(tmp_path) / "card.json"
    (tmp_path / "store.json").write_bytes(card.read_bytes())
    Dataset.open(tmp_path, TASK)
    card.write_text(card.read_text().replace('"seed": 0', '"seed": 1'))
    with pytest.raises(UserError, match=r"card.json: differs from store.json beside it"):
        Dataset.open(tmp_path, TASK)


def test_a_version_of_a_store_is_read_once(tmp_path, monkeypatch):
    read, compare = [], verified._compare
    monkeypatch.setattr(verified, "_compare", lambda *given: (read.append(given[0]), compare(*given)))
    directory = write_store(tmp_path / "store")
    for _ in range(3):
        Dataset.open(directory, TASK)
    assert read == [directory]
    shutil.copytree(directory, tmp_path / "copy")
    for _ in range(2):
        Dataset.open(tmp_path / "copy", TASK)
    assert read == [directory, tmp_path / "copy"]
    stamp = (directory / "actions.npy").stat()
    put("actions", 0.25)(directory)
    os.utime(directory / "actions.npy", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))  # the time alone proves nothing
    with pytest.raises(UserError, match=r"actions.npy: its SHA-256"):
        Dataset.open(directory, TASK)
    for text in ("", "[]", '{"card": 3}'):
        (tmp_path / "copy" / ".verified.json").write_text(text)
        Dataset.open(tmp_path / "copy", TASK)
    assert len(read) == 6


def test_where_nothing_can_be_written_every_opening_verifies_and_says_so(tmp_path, monkeypatch, capsys):
    def refused(path, _):
        raise UserError(f"{path}: cannot be written (Read-only file system); make it writable")

    def no_lock(*_, **__):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(verified, "write_json", refused)
    monkeypatch.setattr("filelock.FileLock.acquire", no_lock)
    write_store(tmp_path)
    for _ in range(2):
        assert Dataset.open(tmp_path, TASK).size == 8
        said = capsys.readouterr().err
        assert said == (
            f"{tmp_path}/.verified.json: cannot be written (Read-only file system); "
            "verified, and will be each time that it is opened\n"
        )
    flip(tmp_path)
    with pytest.raises(UserError, match="SHA-256"):
        Dataset.open(tmp_path, TASK)


OPENING = """
import sys, time
from trqam.data import verified
from trqam.data.dataset import Dataset
compare = verified._compare
verified._compare = lambda *given: (print("read", flush=True), time.sleep(1), compare(*given))
print(Dataset.open(*sys.argv[1:]).size)
"""


def test_of_several_trainings_one_verifies(tmp_path):
    command = [sys.executable, "-c", OPENING, str(write_store(tmp_path)), TASK]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    said = sorted(process.communicate()[0] for process in processes)
    assert said == ["8\n", "8\n", "read\n8\n"]


def test_a_range_that_is_not_known_is_one_line(tmp_path):
    with pytest.raises(
        UserError, match="normalise_observations: range: its card has no observation_min; write true or"
    ):
        Dataset.open(write_store(tmp_path), TASK, "range")


def test_an_observation_that_never_changes_is_not_divided_by_its_deviation(tmp_path):
    directory = write_store(tmp_path, lengths=(5,))  # the first number is the episode's
    dataset = Dataset.open(directory, TASK, normalised=True)
    assert dataset.card["observation_std"][0] == 0
    normal = dataset.normaliser(dataset.gather(np.arange(5))["observations"])
    assert normal.dtype == np.float32
    np.testing.assert_allclose(normal.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(normal.std(axis=0), [0, 1], rtol=1e-5)


def test_shards_are_the_transitions_of_each_file():
    assert dataset_of_lengths([4, 1, 3]).shards == [(0, 8)]
    dataset = dataset_of_lengths([4, 1, 3, 2], shards=(1, 2, 1))
    assert dataset.shards == [(0, 4), (4, 8), (8, 10)]
    assert dataset.size == 10


@pytest.mark.parametrize("number", [0, 1, 2, 3, 7])
def test_a_window_is_one_shard_and_what_follows_the_dataset(tmp_path, number):
    dataset = dataset_of_lengths([4, 1, 3, 2], shards=(1, 2, 1))
    start, stop = dataset.shards[number % 3]
    shard = Window(dataset, dataset, number)
    assert shard.size == stop - start
    for key, array in shard.gather(np.arange(shard.size)).items():
        np.testing.assert_array_equal(array, dataset.gather(np.arange(start, stop))[key])
    replay = Replay(dataset, tmp_path / "replay.bin")
    for step in range(3):
        replay.append(np.full(2, 100.0 + step), np.zeros(3), step, 1, step == 2, np.full(2, 101.0 + step))
    both = Window(replay, dataset, number)
    assert both.size == stop - start + 3
    rows = both.gather(np.arange(both.size).reshape(1, -1))["observations"][0]
    np.testing.assert_array_equal(rows[:-3], dataset.gather(np.arange(start, stop))["observations"])
    np.testing.assert_array_equal(rows[-3:, 0], [100, 101, 102])
    chunks = sample_chunks(both, np.arange(both.size - 1), 2, 0.9)
    assert chunks["valid"][stop - start - 1, 1] == 0  # the shard ends with an episode


def test_chunks_equal_the_authors_exactly():
    with np.load(GOLDEN, allow_pickle=False) as file:
        golden = {key: file[key] for key in file.files}
    source = stores.Arrays({key.removeprefix("data/"): golden[key] for key in golden if key.startswith("data/")})
    horizon = int(golden["sequence_length"])
    chunks = sample_chunks(source, golden["idxs"], horizon, float(golden["discount"]))
    assert {f"out/{key}" for key in chunks} == {key for key in golden if key.startswith("out/")}
    for key, array in chunks.items():
        np.testing.assert_array_equal(array, golden[f"out/{key}"], err_msg=key)
    drawn = draw_indices(np.random.default_rng(0), source.size, horizon, 10_000)
    assert drawn.min() == 0
    assert drawn.max() == golden["randint_high"] - 1


def test_data_shorter_than_a_chunk_is_a_user_error():
    assert set(draw_indices(np.random.default_rng(0), 5, 5, 10)) == {0}
    with pytest.raises(UserError, match="horizon"):
        draw_indices(np.random.default_rng(0), 4, 5, 10)


@settings(max_examples=60)
@given(
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=6),
    horizon=st.integers(1, 8),
    discount=st.floats(0.5, 1.0),
    seed=st.integers(0, 2**20),
)
def test_a_chunk_never_mixes_episodes_while_valid(lengths, horizon, discount, seed):
    dataset = dataset_of_lengths(lengths, seed)
    if dataset.size < horizon:
        return
    indices = np.arange(dataset.size - horizon + 1)
    chunks = sample_chunks(dataset, indices, horizon, discount)
    single = dataset.gather(np.arange(dataset.size))
    episodes = single["observations"][:, 0]
    for chunk, start in enumerate(indices):
        total, mask = 0.0, 1.0
        for offset in range(horizon):
            same = episodes[start + offset] == episodes[start]
            assert chunks["valid"][chunk, offset] == same
            assert chunks["next_observations"][chunk, offset, 0] == episodes[start]
            if same:
                last = start + offset
                total += discount**offset * float(single["rewards"][last])
                mask = min(mask, single["masks"][last])
            assert chunks["rewards"][chunk, offset] == pytest.approx(total, abs=1e-5)
            assert chunks["masks"][chunk, offset] == mask
            np.testing.assert_array_equal(chunks["next_observations"][chunk, offset], single["next_observations"][last])
            np.testing.assert_array_equal(chunks["actions"][chunk, offset], single["actions"][start + offset])


def test_training_batch_takes_the_last_step_and_flattens_the_chunk():
    chunks = sample_chunks(dataset_of_lengths([6, 6]), np.array([[0, 3], [5, 8]]), 3, 0.9)
    batch = training_batch(chunks)
    shapes = {key: array.shape for key, array in batch.items()}
    scalars = dict.fromkeys(("rewards", "masks", "valid"), (2, 2))
    assert shapes == {"observations": (2, 2, 2), "next_observations": (2, 2, 2), "actions": (2, 2, 9), **scalars}
    assert {array.dtype for array in batch.values()} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(batch["actions"][0, 0, 3:6], chunks["actions"][0, 0, 1])
    np.testing.assert_array_equal(batch["rewards"], chunks["rewards"][..., -1].astype(np.float32))
    np.testing.assert_array_equal(batch["valid"], [[1, 1], [0, 1]])  # the chunk at 5 ends before its last step
    np.testing.assert_array_equal(batch["next_observations"][1, 0], [0, 6])


def test_files_are_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "folder" / "card.json"
    write_json(path, {"b": 1, "a": [1.5, None]})
    assert path.read_text() == '{\n "a": [\n  1.5,\n  null\n ],\n "b": 1\n}\n'
    assert read_json(path) == {"a": [1.5, None], "b": 1}
    write_atomically(path, b"abc")
    assert sha256(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "disk full")))
    with pytest.raises(UserError, match="disk full"):
        write_atomically(path, "other")
    assert path.read_bytes() == b"abc"
    assert list(path.parent.iterdir()) == [path]
