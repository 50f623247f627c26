"""A store is filled in any order, resumed wherever it was interrupted, and complete or absent."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest

from tests.helpers.stores import change_card, contents
from trqam.config.errors import UserError
from trqam.config.reading import read_json
from trqam.data import store
from trqam.data.dataset import Dataset
from trqam.data.generate import generate
from trqam.environments import ogbench_tasks
from trqam.experiment.files import publish

MAZE = "pointmaze-medium-navigate"
TASK = ogbench_tasks.task_name(MAZE, 1)


class Walks:
    """Blocks of random rows, two parts each, that count how often they are made."""

    dataset, verb = MAZE, "inventing"

    def __init__(self, rows=(6, 4, 8), seed=0, stop=None):
        self.rows, self.stop, self.made, self.closed = list(rows), stop, [], 0
        self.origin = {"source": "generated", "seed": seed}

    def shapes(self):
        return {"observations": (2,), "actions": (2,), "terminals": (), "qpos": (2,)}

    def parts(self, block):
        if block == self.stop:
            raise KeyboardInterrupt
        self.made.append(block)
        rows, rng = self.rows[block], np.random.default_rng([self.origin["seed"], block])
        arrays = {key: rng.uniform(-4, 24, (rows, *shape)) for key, shape in self.shapes().items()}
        arrays["terminals"] = np.arange(rows) == rows - 1
        for half in (slice(0, rows // 2), slice(rows // 2, rows)):
            yield {key: array[half] for key, array in arrays.items()}

    def close(self):
        self.closed += 1


def interrupted(directory, stop=2):
    """A store whose filling was interrupted at block ``stop``, and the folder of what is there of it."""
    with pytest.raises(KeyboardInterrupt):
        store.write(Walks(stop=stop), directory)
    assert not (directory / "card.json").exists()
    return directory / ".unfinished"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What an undisturbed run leaves."""
    directory = tmp_path_factory.mktemp("whole")
    blocks = Walks()
    store.write(blocks, directory)
    assert (blocks.made, blocks.closed > 0) == ([0, 1, 2], True)
    return contents(directory)


def test_an_interrupted_store_goes_on_at_the_block_where_it_stopped(whole, tmp_path, capsys):
    interrupted(tmp_path)
    blocks = Walks()
    store.write(blocks, tmp_path)
    assert blocks.made == [2]
    assert "going on; 2 of 3 parts are there" in capsys.readouterr().err
    assert contents(tmp_path) == whole


def test_blocks_made_in_another_order_are_the_same_store(whole, tmp_path):
    unfinished = interrupted(tmp_path, stop=2)
    lines = (unfinished / "blocks.jsonl").read_text().splitlines()
    (unfinished / "blocks.jsonl").write_text(f"{lines[1]}\n")  # as if a worker had been faster
    blocks = Walks()
    store.write(blocks, tmp_path)
    assert blocks.made == [0, 2]
    assert contents(tmp_path) == whole


def cut_short(unfinished):
    (unfinished / "blocks.jsonl").write_bytes((unfinished / "blocks.jsonl").read_bytes()[:-20])


def change_a_line(unfinished):
    text = (unfinished / "blocks.jsonl").read_text()
    (unfinished / "blocks.jsonl").write_text("[]\n{\n" + text.replace('"block": 1', '"block": 9'))


def lose_rows(unfinished):
    np.load(unfinished / "observations.npy", mmap_mode="r+")[7] = 0  # the second block's, as after a power cut


@pytest.mark.parametrize("damage", [cut_short, change_a_line, lose_rows])
def test_what_is_damaged_of_a_begun_store_is_made_again(whole, tmp_path, damage):
    damage(interrupted(tmp_path))
    blocks = Walks()
    store.write(blocks, tmp_path)
    assert blocks.made == [1, 2]
    assert contents(tmp_path) == whole


@pytest.mark.parametrize(("other", "key"), [(Walks(seed=1), "seed"), (Walks(rows=(6, 4, 8, 3)), "rows")])
def test_what_was_begun_by_another_plan_is_not_thrown_away(whole, tmp_path, other, key):
    unfinished = interrupted(tmp_path)
    with pytest.raises(UserError, match=rf"{unfinished}/plan.json: {key}: begun with .*remove {unfinished}"):
        store.write(other, tmp_path)
    assert other.made == []
    store.write(Walks(), tmp_path)
    assert contents(tmp_path) == whole


def test_another_plan_of_which_nothing_was_made_is_in_nobodys_way(whole, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        store.write(Walks(seed=1, stop=0), tmp_path)
    store.write(Walks(), tmp_path)
    assert contents(tmp_path) == whole


def test_the_last_renaming_can_be_interrupted_anywhere(whole, tmp_path, monkeypatch):
    for files_moved in range(len(whole) - 1):  # the card is a copy
        directory, moved = tmp_path / str(files_moved), []

        def move(*paths, moved=moved, last=files_moved):
            if len(moved) == last:
                raise KeyboardInterrupt
            moved.append(paths)
            publish(*paths)

        monkeypatch.setattr(store, "publish", move)
        with pytest.raises(KeyboardInterrupt):
            store.write(Walks(), directory)
        monkeypatch.undo()
        with pytest.raises(UserError, match=r"card\.json"):
            Dataset.open(directory, TASK)
        blocks = Walks()
        store.write(blocks, directory)
        assert blocks.made == []
        assert contents(directory) == whole


def change_a_number(directory):
    np.load(directory / "actions.npy", mmap_mode="r+")[0] = 9


def lose_an_array(directory):
    (directory / "masks-task2.npy").unlink()


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (change_a_number, "actions.npy: its SHA-256 is not the one in card.json"),
        (lose_an_array, "masks-task2.npy: missing or damaged"),
    ],
)
def test_a_damaged_store_stays_until_it_is_made_again(whole, tmp_path, capsys, damage, says):
    store.write(Walks(), tmp_path)
    damage(tmp_path)
    damaged = contents(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        store.write(Walks(stop=1), tmp_path)
    assert f"{tmp_path}/{says}; making it again" in capsys.readouterr().err
    (tmp_path / ".unfinished" / "mine.txt").write_text("mine")
    assert damaged == {name: (tmp_path / name).read_bytes() for name in damaged}
    store.write(Walks(), tmp_path)
    assert (tmp_path / ".unfinished" / "mine.txt").read_text() == "mine"
    assert {name: (tmp_path / name).read_bytes() for name in whole} == whole


OTHERS = [
    (lambda card: card.update(seed=7), Walks(), "seed: holds 7, not 0"),
    (lambda card: card.update(source="official", seed=None), Walks(), "source: holds official, not generated"),
    (lambda card: card.update(dataset="cube-single-play"), Walks(), f"dataset: holds cube-single-play, not {MAZE}"),
    (lambda card: card["shapes"].update(qvel=[18, 2]), Walks(), "qvel: no shape or no SHA-256"),
    (lambda card: None, Walks(rows=(6, 4, 8, 3)), "rows: holds 18, not 21"),
]


@pytest.mark.parametrize(("change", "blocks", "says"), OTHERS)
def test_a_store_of_other_data_is_never_replaced(tmp_path, change, blocks, says):
    store.write(Walks(), tmp_path)
    change_card(tmp_path, change)
    before = contents(tmp_path)
    with pytest.raises(UserError, match=rf"{tmp_path}/store.json: ({says}).*; remove {tmp_path} .*--out or data_dir"):
        store.write(blocks, tmp_path)
    assert (contents(tmp_path), blocks.made) == (before, [])


def test_a_store_that_other_versions_made_is_kept_and_if_damaged_not_replaced(tmp_path, capsys):
    store.write(Walks(), tmp_path)
    change_card(tmp_path, lambda card: card["versions"].update(mujoco="2.0"))
    before = contents(tmp_path)
    assert store.write(Walks(), tmp_path)["versions"]["mujoco"] == "2.0"
    assert {**contents(tmp_path), "card.json": None} == {**before, "card.json": None}
    np.load(tmp_path / "actions.npy", mmap_mode="r+")[0] = 9
    with pytest.raises(UserError, match=r"actions.npy: its SHA-256 .* other versions made it, .*2\.0.*; restore it"):
        store.write(Walks(), tmp_path)


@pytest.mark.parametrize("name", ["observations.npy", "masks-task5.npy"])
def test_files_that_no_card_speaks_of_are_never_replaced(tmp_path, name):
    (tmp_path / name).write_bytes(b"mine")
    (tmp_path / "letter.txt").write_text("mine, too")
    blocks = Walks()
    with pytest.raises(UserError, match=rf"{tmp_path}/{name}: is there, and no store.json says what it is; "):
        store.write(blocks, tmp_path)
    assert contents(tmp_path) == {name: b"mine", "letter.txt": b"mine, too"}
    (tmp_path / name).unlink()
    store.write(blocks, tmp_path)
    assert (tmp_path / "letter.txt").read_text() == "mine, too"


@pytest.mark.parametrize("text", [None, "{", "{}"])
def test_the_card_that_snakemake_deletes_is_put_back(whole, tmp_path, text):
    store.write(Walks(), tmp_path)
    (tmp_path / "card.json").unlink()
    if text is not None:
        (tmp_path / "card.json").write_text(text)
    blocks = Walks()
    store.write(blocks, tmp_path)
    assert (contents(tmp_path), blocks.made) == (whole, [])


@pytest.mark.parametrize(
    ("key", "value"),
    [("observations", np.nan), ("observations", -2e6), ("actions", np.inf), ("terminals", 0.5), ("terminals", np.nan)],
)
def test_numbers_that_no_store_can_have_are_not_stored(tmp_path, key, value):
    class Wild(Walks):
        def parts(self, block):
            for part in super().parts(block):
                part[key] = part[key].astype(float)
                part[key].flat[0] = value
                yield part

    with pytest.raises(UserError, match=rf"{MAZE}: part 1: {key} holds .* where .* is stored; "):
        store.write(Wild(), tmp_path)
    assert not (tmp_path / "card.json").exists()


def test_data_without_a_transition_are_no_data(tmp_path):
    with pytest.raises(UserError, match="no transition"):
        store.write(Walks(rows=(1, 1)), tmp_path)


def test_a_complete_store_is_verified_and_left(whole, tmp_path, capsys):
    store.write(Walks(), tmp_path)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.*")}
    blocks = Walks()
    assert store.write(blocks, tmp_path) == read_json(tmp_path / "card.json")
    assert blocks.made == []
    assert "not made again" in capsys.readouterr().err
    assert times == {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.*")}


def test_a_disk_that_is_too_small_is_said_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    blocks = Walks(rows=[1000])
    with pytest.raises(UserError, match=r"68 kB more are needed, 1 kB are free; make room") as error:
        store.write(blocks, tmp_path)
    assert str(tmp_path) in str(error.value)
    assert blocks.made == []


def test_a_disk_that_fills_up_is_a_user_error_and_can_be_resumed(whole, tmp_path):
    """A limit on the size of files stands for the full disk: the write itself fails."""
    unfinished, before = interrupted(tmp_path), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, before[1]))  # headers, and some of the rows
    try:
        with pytest.raises(UserError, match=rf"{unfinished}/\S+: cannot be written \(File too large\); make room"):
            store.write(Walks(), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    store.write(Walks(), tmp_path)
    assert contents(tmp_path) == whole


def test_a_folder_that_cannot_be_made_is_a_user_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file/store: cannot be written"):
        store.write(Walks(), tmp_path / "file" / "store")


def test_generation_survives_sigkill(tmp_path, monkeypatch):
    """Killed with its workers at it, run again with another number of them: the same bytes, fewer episodes made."""
    episodes = 10
    arguments = ["generate", MAZE, "--transitions", str(1000 * episodes), "--out", str(tmp_path / "killed")]
    command = [sys.executable, "-m", "trqam", "--config", "tests/tiny.yaml", *arguments, "--workers", "2"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    journal, deadline = tmp_path / "killed/.unfinished/blocks.jsonl", time.monotonic() + 300
    while not (journal.is_file() and len(journal.read_bytes().splitlines()) >= 3):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    kept = len([line for line in journal.read_bytes().splitlines() if line.endswith(b"}")])
    assert 3 <= kept < episodes
    made = []
    fill = store.Filler.__call__
    monkeypatch.setattr(store.Filler, "__call__", lambda self, block: made.append(block) or fill(self, block))
    generate(MAZE, tmp_path / "killed", 1000 * episodes, seed=0)
    assert len(made) == episodes - kept
    made.clear()
    generate(MAZE, tmp_path / "undisturbed", 1000 * episodes, seed=0)
    assert len(made) == episodes
    assert contents(tmp_path / "killed") == contents(tmp_path / "undisturbed")


def test_another_process_is_waited_for(tmp_path):
    """The second finds the store complete."""
    arguments = ["generate", MAZE, "--transitions", "2000", "--out", str(tmp_path)]
    command = [sys.executable, "-m", "trqam", "--config", "tests/tiny.yaml", *arguments]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    errors = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert sorted("verified; not made again" in error for error in errors) == [False, True]
    assert json.loads((tmp_path / "card.json").read_text())["transitions"] == 2000
