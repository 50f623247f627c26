"""Batches made on the device are those of the sampler, to the bit."""

import numpy as np
import pytest
import torch

from tests.data.test_dataset import dataset_of_lengths
from trqam.data import dataset as data
from trqam.data import on_device
from trqam.data.on_device import Resident, discount_powers, place
from trqam.data.replay import Replay

CPU = torch.device("cpu")
LENGTHS = [9, 4, 1, 12, 7]


def sampled(source, first, horizon):
    """What the trainer takes on a CPU."""
    return data.training_batch(data.sample_chunks(source, first, horizon, 0.97))


def assert_equal(batch, parts):
    assert batch.keys() == parts[0].keys()
    for key, tensor in batch.items():
        assert tensor.dtype == torch.float32
        np.testing.assert_array_equal(tensor.numpy(), np.stack([part[key] for part in parts]), err_msg=key)


def window(start, length):
    return on_device.Window(torch.tensor(start), torch.tensor(length))


def firsts(size, horizon, replicas=2):
    """Every first transition there is, in another order for each replica."""
    return np.stack([np.random.default_rng(r).permutation(size - horizon + 1) for r in range(replicas)])


@pytest.mark.parametrize("horizon", [1, 5, 13])
def test_offline_batches_are_the_samplers(horizon):
    dataset = dataset_of_lengths(LENGTHS, shards=(2, 3))
    device, powers = Resident(dataset, CPU), discount_powers(0.97, horizon, CPU)
    first = firsts(dataset.size, horizon)
    batch = device.batch(torch.from_numpy(first), window(0, dataset.size), powers)
    assert_equal(batch, [sampled(dataset, row, horizon) for row in first])
    for number, (start, stop) in enumerate(dataset.shards):
        shard = data.Window(dataset, dataset, number)
        first = firsts(shard.size, horizon)
        batch = device.batch(torch.from_numpy(first), window(start, stop - start), powers)
        assert_equal(batch, [sampled(shard, row, horizon) for row in first])


def extend(replay, dataset, count, seed):
    """New transitions whose episodes end now and then."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        observations, action = rng.normal(size=(2, 2)), rng.uniform(-1, 1, 3)
        replay.append(observations[0], action, rng.normal(), *rng.integers(0, 2, 2), observations[1])


@pytest.mark.parametrize("horizon", [1, 5])
def test_online_batches_are_the_samplers(horizon, tmp_path):
    dataset = dataset_of_lengths(LENGTHS, shards=(2, 3))
    replays = [Replay(dataset, tmp_path / str(seed)) for seed in range(2)]
    device, powers = Resident(dataset, CPU), discount_powers(0.97, horizon, CPU)
    for seed, replay in enumerate(replays):
        extend(replay, dataset, 6, seed)
    device.follow(replays, capacity=20)  # as at a resume: some are there already
    assert device.append() == 6
    for seed, replay in enumerate(replays):
        extend(replay, dataset, 5, seed + 2)
    assert device.append() == device.append() == 11
    windows = [(0, dataset.size, replays)]
    windows += [
        (start, stop - start, [data.Window(replay, dataset, number) for replay in replays])
        for number, (start, stop) in enumerate(dataset.shards)
    ]
    for start, length, sources in windows:
        first = firsts(length + 11, horizon)
        batch = device.batch(torch.from_numpy(first), window(start, length), powers)
        assert_equal(batch, [sampled(source, row, horizon) for source, row in zip(sources, first, strict=True)])


def test_the_first_of_the_new_replicas_is_not_the_seconds(tmp_path):
    """After a seed is dropped, rows are those of the seeds that are left."""
    dataset = dataset_of_lengths(LENGTHS)
    replays = [Replay(dataset, tmp_path / str(seed)) for seed in range(2)]
    for seed, replay in enumerate(replays):
        extend(replay, dataset, 6, seed)
    device = Resident(dataset, CPU)
    for followed in (replays, replays[1:]):
        device.follow(followed, capacity=6)
        device.append()
    first = np.arange(dataset.size, dataset.size + 6)[None]
    batch = device.batch(torch.from_numpy(first), window(0, dataset.size), discount_powers(0.97, 1, CPU))
    assert_equal(batch, [sampled(replays[1], first[0], 1)])


def test_data_that_do_not_fit_stay_where_they_are(monkeypatch):
    dataset = dataset_of_lengths(LENGTHS)
    store = sum(array.nbytes for array in dataset.raw.values())
    row = 4 * (2 + 3 + 1 + 1 + 1 + 2)
    monkeypatch.setattr(on_device, "free_memory", lambda device: 1e12)
    assert place(dataset, 0, 0, CPU) is None
    monkeypatch.setattr(on_device, "DEVICES", ("cpu",))
    for free, replicas, fits in [(2 * store, 0, True), (2 * store - 1, 0, False), (2 * store, 1, False)]:
        monkeypatch.setattr(on_device, "free_memory", lambda device, free=free: free)
        assert (place(dataset, replicas, 10, CPU) is not None) == fits
    monkeypatch.setattr(on_device, "free_memory", lambda device: 2 * (store + 3 * 10 * row))
    assert place(dataset, 3, 10, CPU) is not None
    assert place(dataset, 3, 11, CPU) is None
