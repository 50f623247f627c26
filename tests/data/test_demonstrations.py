"""Demonstrations of Robomimic as a store: every transition as it is in the file, and wrong files in one line."""

# ruff: noqa: F401, F811 (fixtures are imported, and then are arguments)

import json

import numpy as np
import pytest
import yaml

from tests.helpers.fetching import left, server, waits
from tests.helpers.robomimic import NEEDED, demos
from tests.helpers.stores import contents
from trqam.config.errors import UserError
from trqam.data import demonstrations
from trqam.data.convert import convert
from trqam.data.dataset import Dataset, sample_chunks
from trqam.data.fetch import fetch, placed
from trqam.data.generate import generate

pytestmark = NEEDED
NAME = "lift-mh"


@pytest.fixture
def file(tmp_path):
    """A file of two demonstrations: six steps of which the last two are successes, and four that fail."""
    path = tmp_path / "lift.hdf5"
    demonstrations.save(path, NAME, demos(), "1.5.1")
    return path


def test_every_transition_is_as_in_the_file(file, tmp_path):
    card = convert(NAME, [file], tmp_path / "store")
    assert (card["transitions"], card["episodes"], card["source"]) == (10, 3, "official")
    assert card["tasks"] == {"1": {"successes": 2, "reward_histogram": {"-1": 8, "0": 2}}}
    dataset = Dataset.open(tmp_path / "store", NAME, "range")
    found = dataset.gather(np.arange(10))
    wanted = [np.concatenate(arrays) for arrays in zip(*map(flat, demos()), strict=True)]
    for key, array in zip(("observations", "next_observations", "actions", "rewards", "masks"), wanted, strict=True):
        np.testing.assert_allclose(found[key], array, rtol=1e-6, err_msg=key)
    assert found["terminals"].tolist() == [0, 0, 0, 0, 1, 1, 0, 0, 0, 1]
    chunks = sample_chunks(dataset, np.array([3, 4, 5, 6]), 3, 1.0)
    assert chunks["valid"].tolist() == [[1, 1, 0], [1, 0, 0], [1, 0, 0], [1, 1, 1]]
    assert chunks["masks"][:, -1].tolist() == [0, 0, 0, 1]


def test_what_generate_made_is_not_taken_for_the_official_file(tmp_path):
    demonstrations.save(path := tmp_path / "demo.hdf5", NAME, demos())
    with pytest.raises(UserError, match=r"demo.hdf5: `trqam generate` made it; give Robomimic's own file of"):
        convert(NAME, [path], tmp_path / "store")


def flat(demo):
    return demo["obs"], demo["next_obs"], demo["actions"], demo["rewards"] - 1, 1 - demo["dones"]


def test_observations_are_scaled_to_their_range(file, tmp_path):
    convert(NAME, [file], tmp_path / "store")
    dataset = Dataset.open(tmp_path / "store", NAME, "range")
    rows = np.concatenate([np.concatenate([demo["obs"], demo["next_obs"][-1:]]) for demo in demos()])
    least, most = rows.min(0), rows.max(0)
    theirs = 2 * ((rows - least) / (most - least + 1e-6) - 0.5)  # as TRQAM's code has it
    np.testing.assert_allclose(dataset.normaliser(rows), theirs, atol=1e-5)


def edited(change):
    """Change an open file in some way."""

    def edit(path):
        import h5py

        with h5py.File(path, "r+") as file:
            change(file["data"])

    return edit


def of_another_environment(data):
    data.attrs["env_args"] = data.attrs["env_args"].replace('"Lift"', '"PickPlaceCan"')


def of_another_controller(data):
    made = json.loads(data.attrs["env_args"])
    made["env_kwargs"]["controller_configs"]["body_parts"]["right"]["kp"] = 300
    data.attrs["env_args"] = json.dumps(made)


def with_shaped_rewards(data):
    data["demo_1/rewards"][2] = 0.4


def with_a_gap(data):
    data["demo_0/obs/object"][3] += 1


def with_short_actions(data):
    actions = data["demo_0/actions"][:-1]
    del data["demo_0/actions"]
    data["demo_0/actions"] = actions


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:3000]), "missing, damaged or not Robomimic's"),
        (lambda path: path.write_bytes(b"no such format"), "missing, damaged or not Robomimic's"),
        (lambda path: path.unlink(), "missing, damaged or not Robomimic's"),
        (edited(lambda data: data.attrs.pop("env_args")), "missing, damaged or not Robomimic's .*env_args"),
        (edited(lambda data: data["demo_1/obs"].pop("object")), "missing, damaged or not Robomimic's .*object"),
        (edited(of_another_environment), "env_args: env_name: PickPlaceCan, and the environment of lift-mh has Lift"),
        (edited(of_another_controller), "env_args: kp: 300, and the environment of lift-mh has 150; give Robomimic's"),
        (edited(with_shaped_rewards), "demo_1: a reward or done that is neither 0 nor 1"),
        (edited(with_a_gap), "demo_0: next_obs is not the observation that follows"),
        (edited(with_short_actions), r"demo_0: actions have the shape \(5, 7\), not \(6, 7\)"),
    ],
)
def test_a_wrong_file_is_one_line_and_no_store(file, tmp_path, damage, expected):
    damage(file)
    with pytest.raises(UserError, match=f"lift.hdf5: .*{expected}") as caught:
        convert(NAME, [file], tmp_path / "store")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "store/card.json").exists()


def test_one_file_makes_a_set(file, tmp_path):
    with pytest.raises(UserError, match="a second file, and lift-mh has one"):
        convert(NAME, [file, file], tmp_path / "store")


def test_lift_alone_can_be_made(tmp_path):
    with pytest.raises(UserError, match=r"can-mh: cannot be generated here \(only lift-mh can\) and needs Robomimic"):
        generate("can-mh", tmp_path, 100, 0)


def test_the_same_arguments_make_the_same_bytes(tmp_path):
    card = generate(NAME, tmp_path / "one", 70, seed=3)
    generate(NAME, tmp_path / "two", 70, seed=3)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert (card["transitions"], card["seed"], card["source"]) == (70, 3, "generated")
    assert generate(NAME, tmp_path / "one", 70, seed=3) == card  # is there, and is not made again
    with pytest.raises(UserError, match="transitions: holds 70, not 80"):
        generate(NAME, tmp_path / "one", 80, seed=3)


def test_a_file_that_other_versions_made_is_made_anew_unless_it_is_stored(tmp_path, monkeypatch, capsys):
    generate(NAME, tmp_path, 70, seed=3)
    (path,) = tmp_path.glob("*.hdf5")
    made, here = path.read_bytes(), demonstrations._versions(NAME)
    assert here.startswith("robosuite ")
    monkeypatch.setattr(demonstrations, "_versions", lambda dataset: "robosuite 9")
    generate(NAME, tmp_path, 70, seed=3)
    assert path.read_bytes() == made
    for stored in set(tmp_path.iterdir()) - {path}:
        stored.unlink()
    capsys.readouterr()
    generate(NAME, tmp_path, 70, seed=3)
    assert f"{path}: made by {here}, and here are robosuite 9; made again\n" in capsys.readouterr().err
    again = path.read_bytes()
    assert again != made
    generate(NAME, tmp_path, 70, seed=3)
    assert path.read_bytes() == again
    assert "made by" not in capsys.readouterr().err


def test_a_file_is_fetched_checked_and_stored(file, server, waits, tmp_path):
    table = tmp_path / "mirrors.yaml"
    official = {"shards": 0, "folder": "v1.5/lift/mh", "file": "low_dim.hdf5", "mirrors": ["a"]}
    table.write_text(yaml.safe_dump({"mirrors": {"a": f"{server.url}/a"}, "datasets": {NAME: official}, "known": {}}))
    address, folder = "/a/v1.5/lift/mh/low_dim.hdf5", tmp_path / "official"
    for body, said in ((b"<html>", "no hdf5 file"), (file.read_bytes()[:3000], "not a whole file of demonstrations")):
        server.files[address] = body
        with pytest.raises(UserError, match=said):
            fetch(NAME, folder, table)
        assert not (folder / "lift-mh-low_dim.hdf5").exists()
    server.files[address] = file.read_bytes()
    (path,) = fetch(NAME, folder, table)
    assert left(folder) == ["checksums.json", "lift-mh-low_dim.hdf5"]
    assert convert(NAME, placed(NAME, folder, table), tmp_path / "store")["shards"][0]["file"] == path.name
