"""Where batches come from: uniformly from all data, or shard by shard as a function of the step."""

from collections import Counter
from dataclasses import dataclass

import msgspec
import numpy as np
import pytest

from tests.data.test_dataset import dataset_of_lengths
from trqam.config import load
from trqam.data.dataset import SHARD_STEPS
from trqam.training.experience import Offline, Online

POINT = "pointmaze-medium-navigate-singletask-task2-v0"
EPISODES = [30, 10, 20, 40]


@dataclass
class Policy:
    """What `Online` asks for."""

    noise_size: int = 10

    def act(self, observations, noise):
        return noise


def run_of(**values):
    return msgspec.structs.replace(
        load.load("tests/tiny.yaml").run(POINT, "trqam"), **{"horizon": 1, "batch_size": 400, **values}
    )


def episodes(batch):
    """How often each episode of `dataset_of_lengths` was drawn, by seed."""
    return [Counter(seed[:, 0].astype(int).tolist()) for seed in batch["observations"]]


def test_uniform_draws_from_all_shards_by_their_size():
    dataset = dataset_of_lengths(EPISODES, shards=(1, 2, 1))
    drawn = episodes(Offline(run_of(batch_size=20_000), dataset, [0], "offline").batch(1))[0]
    for episode, length in enumerate(EPISODES):
        assert drawn[episode] / 20_000 == pytest.approx(length / 100, abs=0.015)


def test_uniform_batches_do_not_know_of_shards():
    """So results from before there were shards stand."""
    run = run_of()
    whole, split = (Offline(run, dataset_of_lengths(EPISODES, shards=s), [3], "offline") for s in [(), (1, 2, 1)])
    for key, array in whole.batch(7).items():
        np.testing.assert_array_equal(array, split.batch(7)[key])


@pytest.mark.parametrize(
    ("step", "shard"), [(1, {0}), (999, {0}), (1000, {1, 2}), (2999, {3}), (3000, {0}), (4500, {1, 2})]
)
def test_shards_come_in_turn_and_for_all_seeds_alike(step, shard):
    assert SHARD_STEPS == 1000
    experience = Offline(run_of(sampling="shards"), dataset_of_lengths(EPISODES, shards=(1, 2, 1)), [0, 5], "offline")
    first, second = episodes(experience.batch(step))
    assert set(first) == set(second) == shard
    assert first != second or len(shard) == 1
    again = Offline(run_of(sampling="shards"), dataset_of_lengths(EPISODES, shards=(1, 2, 1)), [0, 5], "offline")
    for key, array in again.batch(step).items():  # a resumed run
        np.testing.assert_array_equal(array, experience.batch(step)[key])


def test_a_store_of_one_piece_is_its_only_shard():
    dataset = dataset_of_lengths(EPISODES)
    for sampling in ("uniform", "shards"):
        batch = Offline(run_of(sampling=sampling), dataset, [0], "offline").batch(5500)
        assert set(episodes(batch)[0]) == {0, 1, 2, 3}


def test_online_the_shard_changes_and_new_transitions_stay(tmp_path):
    """As the authors' buffer: they overwrite its old part with the next shard."""
    run = run_of(sampling="shards", offline_steps=2000, batch_size=2000)
    dataset = dataset_of_lengths(EPISODES, shards=(1, 2, 1))
    dataset.raw["actions"] = dataset.raw["actions"][:, :2]  # of the point
    online = Online(run, dataset, [0], [tmp_path / "replay.bin"], None)
    try:
        for step in range(1, 41):
            online.advance(step, Policy(noise_size=2))
        new = online.source(0).gather(np.arange(100, 140))["observations"]
        for step, episode, length in ((41, 3, 40), (1000, 0, 30)):  # after two shards offline the third, then the first
            observed = online.batch(step)["observations"][0]
            is_new = (observed[:, None] == new[None]).all(axis=-1).any(axis=1)
            assert is_new.mean() == pytest.approx(40 / (40 + length), abs=0.05)
            assert set(observed[~is_new][:, 0]) == {episode}
    finally:
        online.close()
