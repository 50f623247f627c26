"""Official npz files become one store, shard by shard, in bounded memory, and damage is named."""

import numpy as np
import pytest

from tests.helpers.stores import contents, raw_arrays, write_npz
from trqam.config.errors import UserError
from trqam.config.reading import sha256
from trqam.data import convert as conversion
from trqam.data.convert import convert
from trqam.data.dataset import Dataset
from trqam.data.generate import generate
from trqam.environments import ogbench_tasks

MAZE = "pointmaze-medium-navigate"
STORED = ["actions", "observations", "terminals"]


@pytest.fixture(scope="module")
def maze(tmp_path_factory):
    """2500 transitions of three episodes: (folder, card, the same as an npz file)."""
    directory = tmp_path_factory.mktemp("stores") / MAZE
    card = generate(MAZE, directory, 2500, seed=3)
    return directory, card, write_npz(directory, directory.parent / "official-v0.npz")


@pytest.fixture
def shards(maze, tmp_path):
    """Its episodes in three npz files, one without compression."""
    arrays = raw_arrays(maze[0])
    paths = [tmp_path / f"official-v0-{shard:03d}.npz" for shard in range(3)]
    for shard, path in enumerate(paths):
        save = np.savez if shard == 1 else np.savez_compressed
        save(path, **{key: array[1001 * shard : 1001 * (shard + 1)] for key, array in arrays.items()})
    return paths


def of_training(card):
    """The sums of what both kinds of store have."""
    return {key: value for key, value in card["sha256"].items() if key not in ("qpos", "qvel")}


def test_a_converted_store_is_the_generated_one_without_what_training_does_not_read(maze, tmp_path):
    _, card, path = maze
    converted = convert(MAZE, [path], tmp_path)
    assert converted["sha256"] == of_training(card)
    assert sorted(key for key in converted["shapes"] if "task" not in key) == STORED
    assert (converted["source"], converted["seed"]) == ("official", None)
    assert converted["shards"] == [{"file": path.name, "rows": 2503, "sha256": sha256(path)}]
    assert converted["tasks"] == card["tasks"]
    for key in ("observation_mean", "observation_std"):
        np.testing.assert_allclose(converted[key], card[key], rtol=1e-12)  # summed in another order


@pytest.mark.parametrize(("part", "workers"), [(300, 1), (1 << 16, 2)])
def test_shards_make_the_store_of_the_whole(maze, shards, tmp_path, monkeypatch, part, workers):
    monkeypatch.setattr(conversion, "PART", part)  # rows that are read at once
    card = convert(MAZE, shards, tmp_path / "store", workers)
    assert card["sha256"] == of_training(maze[1])
    assert [shard["rows"] for shard in card["shards"]] == [1001, 1001, 501]
    dataset = Dataset.open(tmp_path / "store", ogbench_tasks.task_name(MAZE, 2))
    assert dataset.shards == [(0, 1000), (1000, 2000), (2000, 2500)]
    whole = Dataset.open(maze[0], ogbench_tasks.task_name(MAZE, 2))
    assert whole.shards == [(0, 2500)]
    for key, array in dataset.gather(np.arange(2500)).items():
        np.testing.assert_array_equal(array, whole.gather(np.arange(2500))[key])


def test_a_conversion_goes_on_at_the_shard_where_it_stopped(shards, tmp_path, monkeypatch):
    undisturbed = convert(MAZE, shards, tmp_path / "undisturbed")
    read, parts = [], conversion.Shards.parts

    def interrupt(self, block):
        if block == 2:
            raise KeyboardInterrupt
        return parts(self, block)

    def note(self, block):
        read.append(block)
        return parts(self, block)

    monkeypatch.setattr(conversion.Shards, "parts", interrupt)
    with pytest.raises(KeyboardInterrupt):
        convert(MAZE, shards, tmp_path / "store")
    monkeypatch.setattr(conversion.Shards, "parts", note)
    assert convert(MAZE, shards, tmp_path / "store") == undisturbed
    assert read == [2]
    assert convert(MAZE, shards, tmp_path / "store") == undisturbed
    assert read == [2]


def changed(key, change):
    def write(path, arrays):
        with np.errstate(divide="ignore", invalid="ignore"):
            np.savez(path, **arrays | {key: change(arrays[key])})

    return write


def without_rows(path, arrays):
    np.savez(path, **{key: array[:0] for key, array in arrays.items()})


def packed_as(offset, value):
    """The directory says something else of how the first member is packed."""

    def write(path, arrays):
        np.savez(path, **arrays)
        content = bytearray(path.read_bytes())
        for position, of_header in ((content.index(b"PK\x01\x02"), 0), (0, 2)):  # the header of the member, too
            content[position + offset - of_header] = value
        path.write_bytes(content)

    return write


BAD = {  # beside those of tests/bad
    "encrypted": (packed_as(8, 1), "missing or damaged"),
    "packed by LZMA": (packed_as(10, 14), "missing or damaged"),
    "in columns": (changed("actions", np.asfortranarray), "key 'actions' is not an array of rows of numbers"),
    "of no rows": (without_rows, "is not an array of rows of numbers"),
    "of ends in a column": (changed("terminals", lambda x: x[:, None]), "key 'terminals' has (2503 x )?1"),
    "with an end of two": (changed("terminals", lambda x: np.float32(2) * x), "key 'terminals' holds 2"),
    "beyond float32": (changed("observations", lambda x: x.astype(float) * 1e300), "key 'observations' holds -?inf"),
    "infinite": (changed("actions", lambda x: x / np.float32(0)), "key 'actions' holds"),
    "of another model": (changed("qpos", lambda x: x[:, :1]), "key 'qpos' has"),
    "that is not there": (lambda path, arrays: None, "No such file"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_official_file_is_a_user_error_naming_it(maze, tmp_path, name):
    write, says = BAD[name]
    path = tmp_path / "official.npz"
    write(path, raw_arrays(maze[0]))
    for paths in ([path], [maze[2], path]):
        with pytest.raises(UserError, match=rf"^{path}: .*{says}") as error:
            convert(MAZE, paths, tmp_path / "store")
        assert "\n" not in str(error.value)
    assert not (tmp_path / "store" / "card.json").exists()


def test_a_file_of_another_dataset_among_the_shards_is_named(maze, tmp_path):
    path, arrays = tmp_path / "other.npz", raw_arrays(maze[0])
    np.savez(path, **arrays | {"observations": np.zeros((2503, 7), np.float32)})
    with pytest.raises(UserError, match=r"other\.npz: key 'observations' has 2503 x 7 numbers"):
        convert(MAZE, [maze[2], path], tmp_path / "store")


def test_a_file_given_twice_is_named(shards, tmp_path):
    (tmp_path / "copy.npz").write_bytes(shards[0].read_bytes())
    for again in (shards[0], tmp_path / "copy.npz"):
        with pytest.raises(UserError, match=rf"{again.name}: is given twice; it has the bytes of {shards[0].name}"):
            convert(MAZE, [shards[0], again], tmp_path / "store")
    assert not (tmp_path / "store" / "card.json").exists()


def test_neither_a_generated_store_nor_other_shards_are_replaced(maze, shards, tmp_path, monkeypatch):
    directory, before = maze[0], contents(maze[0])
    monkeypatch.setattr(conversion, "Shards", None)  # nothing is read before that is known
    with pytest.raises(UserError, match=rf"{directory}/store.json: source: holds generated, not official; remove"):
        convert(MAZE, shards, directory)
    assert contents(directory) == before
    monkeypatch.undo()
    convert(MAZE, shards[:2], tmp_path / "store")
    before = contents(tmp_path / "store")
    with pytest.raises(UserError, match=r"store.json: shards: holds 2 files from official-v0-000.npz on, .* 3 files"):
        convert(MAZE, shards, tmp_path / "store")
    with pytest.raises(UserError, match=r"source: holds official, not generated"):
        generate(MAZE, tmp_path / "store", 2500, seed=3)
    assert contents(tmp_path / "store") == before


def test_no_file_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="no npz file"):
        convert(MAZE, [], tmp_path)
