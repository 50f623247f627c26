"""Generated stores are complete, reproducible with any number of workers, and agree with OGBench's own loader."""

import json

import numpy as np
import ogbench
import pytest

from tests.helpers.stores import contents, load, write_npz
from trqam.config.errors import UserError
from trqam.config.reading import sha256
from trqam.data import gait
from trqam.data import generate as collectors
from trqam.data.card import describe
from trqam.data.dataset import Dataset
from trqam.data.generate import Episodes, generate
from trqam.data.store import write
from trqam.environments import environment, ogbench_tasks

MAZE = "pointmaze-medium-navigate"
CUBE = "cube-double-play"
ANT = "antmaze-large-navigate"


@pytest.fixture(scope="module")
def maze(tmp_path_factory):
    """2500 transitions: two whole episodes and a shorter one; (folder, card)."""
    directory = tmp_path_factory.mktemp("stores") / MAZE
    return directory, generate(MAZE, directory, 2500, seed=3)


@pytest.fixture(scope="module", params=[CUBE, "scene-play", "puzzle-3x3-play"])
def play(request, tmp_path_factory):
    directory = tmp_path_factory.mktemp("stores") / request.param
    return request.param, directory, generate(request.param, directory, 150, seed=0)


def assert_agrees_with_ogbench(name, directory, tmp_path):
    """Transitions of the store = OGBench's loading and relabelling of an npz of the same rows, for every task."""
    path = write_npz(directory, tmp_path / "data.npz")
    write_npz(directory, tmp_path / "data-val.npz")
    for number in (1, 4):
        task = ogbench_tasks.task_name(name, number)
        env = environment.make(task)
        expected, _ = ogbench.make_env_and_datasets(task, dataset_path=str(path), dataset_only=True, cur_env=env)
        dataset = Dataset.open(directory, task)
        batch = dataset.gather(np.arange(dataset.size))
        assert set(batch) == set(expected)
        for key in set(batch) - {"actions"}:
            np.testing.assert_array_equal(batch[key], expected[key], err_msg=key)
        np.testing.assert_allclose(batch["actions"], expected["actions"], atol=1.1e-5)  # clipped


def test_the_store_is_complete(maze):
    directory, card = maze
    assert json.loads((directory / "card.json").read_text()) == card
    assert (card["transitions"], card["rows"], card["episodes"]) == (2500, 2503, 3)
    assert (card["dataset"], card["source"], card["seed"]) == (MAZE, "generated", 3)
    assert contents(directory).keys() == {
        "card.json",
        "store.json",
        *(f"{key}.npy" for key in card["shapes"]),
    }
    for key, shape in card["shapes"].items():
        array = load(directory, key)
        assert list(array.shape) == shape
        assert array.dtype == np.float32
        assert np.isfinite(array).all()
        assert sha256(directory / f"{key}.npy") == card["sha256"][key]
    np.testing.assert_array_equal(np.flatnonzero(load(directory, "terminals")), [1000, 2001, 2502])
    inner = load(directory, "observations")[load(directory, "terminals") == 0]
    np.testing.assert_allclose(card["observation_mean"], inner.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(card["observation_std"], inner.std(axis=0), rtol=1e-4)
    for task in card["tasks"].values():
        assert sum(task["reward_histogram"].values()) == 2500
        assert task["reward_histogram"].get("0", 0) == task["successes"]
    assert sum(task["successes"] for task in card["tasks"].values()) > 0


def test_the_point_walks_through_the_maze(maze):
    directory, _ = maze
    observations = load(directory, "observations")
    moves = np.linalg.norm(np.diff(observations, axis=0), axis=1)[load(directory, "terminals")[:-1] == 0]
    assert moves.max() < 0.3  # no jumps within an episode
    cells = np.unique(((observations + 6) // 4).astype(int), axis=0)
    assert len(cells) > 15  # of 26
    assert len(np.unique(((observations[[0, 1001, 2002]] + 6) // 4).astype(int), axis=0)) > 1  # random starts


def test_the_same_seed_gives_the_same_bytes(maze, tmp_path):
    directory, card = maze
    assert generate(MAZE, tmp_path / "again", 2500, seed=3) == card
    more = generate(MAZE, tmp_path / "more", 2600, seed=3)
    np.testing.assert_array_equal(load(tmp_path / "more", "actions")[:2502], load(directory, "actions")[:2502])
    other = generate(MAZE, tmp_path / "other", 2500, seed=4)
    assert len({c["sha256"]["observations"] for c in (card, more, other)}) == 3


def test_the_oracles_are_seeded_too(play, tmp_path):
    """They draw from the global generator."""
    name, _, card = play
    np.random.seed(99)  # noqa: NPY002
    assert generate(name, tmp_path / "again", 150, seed=0)["sha256"] == card["sha256"]


@pytest.mark.parametrize(("name", "several"), [(MAZE, (2, 3)), pytest.param(CUBE, (3,), marks=pytest.mark.campaign)])
def test_the_bytes_do_not_depend_on_the_number_of_workers(tmp_path, name, several):
    lengths = [50, 30, 20]
    card = write(Episodes(name, lengths, seed=1), tmp_path / "one")
    assert card["transitions"] == sum(lengths)
    for workers in several:
        assert write(Episodes(name, lengths, seed=1), tmp_path / str(workers), workers) == card
        assert contents(tmp_path / "one") == contents(tmp_path / str(workers))


@pytest.mark.parametrize("name", [MAZE, ANT, "cube-single-play"])
def test_episodes_differ_and_do_not_depend_on_those_before(name):
    episodes, others = Episodes(name, [60, 3], seed=0), Episodes(name, [2, 3], seed=0)
    first, second = (next(episodes.parts(block)) for block in (0, 1))
    for key in ("observations", "actions"):
        assert not np.array_equal(first[key][:4], second[key])
        np.testing.assert_array_equal(next(others.parts(1))[key], second[key])
    assert not np.array_equal(first["observations"][0], second["observations"][0])


def test_play_moves_the_arm(play):
    name, directory, card = play
    actions = load(directory, "actions")
    assert actions.shape == (151, 5)
    assert np.abs(actions).max() <= 1
    assert np.ptp(load(directory, "observations")[:, 12:15], axis=0).min() > 0.3  # the hand travels, in units of 10 cm
    assert ("button_states" in card["shapes"]) == (not name.startswith("cube"))


def test_maze_agrees_with_ogbench(maze, tmp_path):
    assert_agrees_with_ogbench(MAZE, maze[0], tmp_path)


def test_the_ant_walks_from_cell_to_cell_and_agrees_with_ogbench(tmp_path):
    generate(ANT, tmp_path / "ant", 400, seed=0)
    observations = load(tmp_path / "ant", "observations")
    assert observations.shape == (401, 29)
    assert np.abs(load(tmp_path / "ant", "actions")).max() <= 1
    cells = ((observations[:, :2] + 6) // 4).astype(int)
    assert len(np.unique(cells, axis=0)) > 6
    assert np.abs(np.diff(cells, axis=0)).sum(axis=1).max() == 1  # to a neighbour at a time, not through corners
    assert_agrees_with_ogbench(ANT, tmp_path / "ant", tmp_path)


def test_an_episode_in_which_the_ant_falls_is_made_again(monkeypatch):
    episodes, turned = Episodes(ANT, [3], seed=0), []
    whole = next(episodes.parts(0))
    collect = collectors._navigate

    def clumsy(*arguments):
        record = collect(*arguments)
        if not turned:
            turned.append(record)
            record["qpos"][2, 3:7] = [0, 1, 0, 0]  # on its back
        return record

    monkeypatch.setattr(collectors, "_navigate", clumsy)
    again = next(episodes.parts(0))
    assert len(turned) == 1
    assert not np.array_equal(again["observations"], whole["observations"])
    assert gait.upright(again["qpos"]).min() > 0


def test_play_agrees_with_ogbench(play, tmp_path):
    assert_agrees_with_ogbench(play[0], play[1], tmp_path)


@pytest.mark.parametrize("name", ["humanoidmaze-medium-navigate", "pointmaze-large-stitch", "antmaze-large-stitch"])
def test_what_cannot_be_generated_says_so(name, tmp_path):
    with pytest.raises(UserError, match="official") as error:
        generate(name, tmp_path, 10, seed=0)
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="transitions"):
        generate(MAZE, tmp_path, 0, seed=0)


def test_a_description_for_people(maze):
    directory, card = maze
    lines = describe(card, directory).splitlines()
    weight = sum(path.stat().st_size for path in directory.glob("*.npy")) / 1000
    assert lines[0] == (
        f"{directory}: {MAZE}, 2,500 transitions in 3 episodes, {weight:.0f} kB; generated, not OGBench's release"
    )
    for number, line in enumerate(lines[1:], start=1):
        successes = card["tasks"][str(number)]["successes"]
        assert line.startswith(f"  task {number}: {successes} successes; rewards -1: {100 - successes / 25:.4g} %")
    assert "official" in describe(card | {"source": "official"}, directory)
