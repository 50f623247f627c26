"""The online phase: its protocol, step by step, and the same bytes whoever steps the environments and whoever dies."""

import os
import signal

import gymnasium
import msgspec
import numpy as np
import pytest

from tests.helpers.campaigns import sampled
from tests.helpers.stores import write_store
from tests.training.test_training import CUBE, POINT, assert_same, everything, killed
from trqam.agents.base import Agent
from trqam.data.dataset import Dataset, sample_chunks
from trqam.environments import environment, ogbench_tasks
from trqam.environments.pool import Fleet
from trqam.training.blocks import pretrain, train
from trqam.training.experience import Online
from trqam.training.trainer import Trainer

HORIZON = 7
FAMILIES = [
    "antmaze-large-navigate",
    "humanoidmaze-medium-navigate",
    "cube-double-play",
    "scene-play",
    "puzzle-3x3-play",
]


class Scripted:
    """A policy that executes its noise, and what it was asked."""

    def __init__(self):
        self.observations, self.chunks = [], []
        self.noise_size = HORIZON * 2

    def act(self, observations, noise):
        self.observations.append(observations[:, 0])
        self.chunks.append(noise[:, 0].reshape(len(noise), HORIZON, 2))
        return noise


def shorten(monkeypatch, *limits):
    """Ends the episodes of the environments made from here on after so many steps, in turn."""
    original, made = environment.make, []

    def make(task):
        made.append(gymnasium.wrappers.TimeLimit(original(task), limits[len(made) % len(limits)]))
        return made[-1]

    monkeypatch.setattr(environment, "make", make)


@pytest.fixture
def explore(load, tiny_data, tmp_path):
    """A function that begins the exploration of some seeds in the point's maze, where nothing learns."""
    run = msgspec.structs.replace(load().run(POINT, "trqam"), horizon=HORIZON, batch_size=16)
    dataset = Dataset.open(tiny_data / run.domain, POINT)
    opened = []

    def explore(seeds, workers=0, saved=None):
        paths = [tmp_path / f"replay{seed}.bin" for seed in seeds]
        opened.append(Online(run, dataset, seeds, paths, saved, workers))
        return opened[-1]

    yield explore
    for online in opened:
        online.close()


def advance(online, steps, policy=None):
    policy = policy or Scripted()
    for step in steps:
        online.advance(step, policy)
    return policy


def transitions(online, position):
    """What the environment has added to the data."""
    source = online.source(position)
    return source.gather(np.arange(online.dataset.size, source.size))


def test_chunks_are_executed_open_loop_and_cut_at_episode_ends(explore, monkeypatch):
    """One seed's episodes have 10 steps, the other's 16; the policy is asked for both, and used where it is due."""
    shorten(monkeypatch, 10, 16)
    online, policy = explore([3, 4]), Scripted()
    due = {0: [1, 8, 11, 18, 21, 28, 31], 1: [1, 8, 15, 17, 24, 31]}  # the 15th has 2 steps left, the 8th 3
    asked = sorted({*due[0], *due[1]})
    for step in range(1, 33):
        before = len(policy.chunks)
        advance(online, [step], policy)
        assert len(policy.chunks) - before == (step in asked)
    for position, steps in due.items():
        made = transitions(online, position)
        executed = [
            policy.chunks[asked.index(start)][position][: stop - start]
            for start, stop in zip(steps, [*steps[1:], 33], strict=True)
        ]
        np.testing.assert_array_equal(made["actions"], np.concatenate(executed))
        for start in steps:  # it sees where the environment stands, after an episode's end in the next one's start
            np.testing.assert_array_equal(
                policy.observations[asked.index(start)][position], made["observations"][start - 1]
            )
        ends = np.flatnonzero(made["terminals"]) + 1
        assert ends.tolist() == [[10, 20, 30], [16, 32]][position]
        assert made["masks"].all()  # time ran out, which is no end of returns
        fresh = made["observations"][[0, *ends[ends < 32]]]
        expected = [
            environment.reset(environment.make(POINT), online.explorers[position].reset_seed(n))
            for n in range(len(fresh))
        ]
        np.testing.assert_array_equal(fresh, expected)


def test_reaching_the_goal_ends_the_episode_and_its_returns(explore, monkeypatch):
    original, calls = environment.step, []

    def step(env, action):
        calls.append(action)
        return original(env, action)._replace(terminated=len(calls) == 5)

    monkeypatch.setattr(environment, "step", step)
    online = explore([3])
    advance(online, range(1, 9))
    made = transitions(online, 0)
    assert np.flatnonzero(made["terminals"]).tolist() == np.flatnonzero(made["masks"] == 0).tolist() == [4]


def test_chunks_of_the_replay_never_cross_episodes(explore, monkeypatch):
    shorten(monkeypatch, 10)
    online = explore([3])
    advance(online, range(1, 41))
    made, offline = transitions(online, 0), online.dataset.size
    starts = np.arange(40 - HORIZON + 1)
    chunks = sample_chunks(online.source(0), offline + starts, HORIZON, 0.9)
    left = 10 - starts % 10  # of the episode, from the chunk's start
    np.testing.assert_array_equal(chunks["valid"].sum(axis=-1), np.minimum(left, HORIZON))
    last = starts + np.minimum(left, HORIZON) - 1
    np.testing.assert_array_equal(chunks["next_observations"][:, -1], made["next_observations"][last])
    rewards = [sum(0.9**i * made["rewards"][s + i] for i in range(min(n, HORIZON))) for s, n in zip(starts, left)]  # noqa: B905
    np.testing.assert_allclose(chunks["rewards"][:, -1], rewards, rtol=1e-6)
    before = sample_chunks(online.source(0), np.arange(offline - HORIZON, offline), HORIZON, 0.9)
    np.testing.assert_array_equal(before["valid"].sum(axis=-1), np.arange(HORIZON, 0, -1))  # nor from old to new


def test_batches_are_uniform_over_old_and_new(explore, monkeypatch):
    online = explore([3])
    monkeypatch.setattr(online.dataset, "size", 90)  # as if it had no more
    advance(online, range(1, 31))
    online.run = msgspec.structs.replace(online.run, batch_size=57_000)
    drawn = online.batch(31)["observations"][0]
    first = online.source(0).gather(np.arange(120 - HORIZON + 1))["observations"]
    counts = (drawn[:, None] == first).all(axis=-1).sum(axis=0)
    assert counts.sum() == len(drawn)
    expected = len(drawn) / len(first)
    assert ((counts - expected) ** 2 / expected).sum() < len(first) + 5 * np.sqrt(2 * len(first))  # chi-squared
    assert counts[90:].sum() / len(drawn) == pytest.approx(24 / 114, abs=0.01)


def test_updates_begin_after_the_warm_up_one_a_step(load, monkeypatch):
    config = load(tasks=[POINT], seeds=1, online_start=6, online_steps=20)
    pretrain(config, config.run(POINT, "trqam").domain)
    train(config, POINT, "trqam", "offline", [0])
    done = []

    def noting(owner, name, letter):
        original = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *args: (done.append(letter), original(*args))[1])

    monkeypatch.setattr(Trainer, "_evaluate", lambda self, _: [{}])
    noting(environment, "step", "s")
    noting(Agent, "update", "u")
    train(config, POINT, "trqam", "online", [0])
    assert "".join(done) == "s" * 6 + "su" * 14


@pytest.mark.parametrize("workers", [0, 2])
def test_a_seed_that_is_dropped_changes_no_other(explore, workers):
    alone = explore([4])
    advance(alone, range(1, 31))
    pair = explore([3, 4], workers)
    policy = advance(pair, range(1, 16))
    pair.keep([1])
    advance(pair, range(16, 31), policy)
    assert pair.seeds == [4]
    for key, array in transitions(alone, 0).items():
        np.testing.assert_array_equal(transitions(pair, 0)[key], array)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_saved_in_the_middle_of_a_chunk_it_goes_on_in_other_processes(explore, monkeypatch, workers):
    whole = explore([3, 4])
    advance(whole, range(1, 31))
    part = explore([3, 4])
    policy = advance(part, range(1, 18))  # 3 steps into the third chunk
    saved = [part.save(position) for position in (0, 1)]
    assert [len(saved[0][0][f"environment/{name}"]) for name in ("taken", "chunk")] == [17, 4]
    advance(part, range(18, 25), policy)  # lost
    resumed = explore([3, 4], workers, saved)
    advance(resumed, range(18, 31))
    for position in (0, 1):
        for key, array in transitions(whole, position).items():
            np.testing.assert_array_equal(transitions(resumed, position)[key], array)


@pytest.mark.parametrize(("task", "seeds", "workers"), sampled([(POINT, [0, 1], 2), (CUBE, [0], 1)]))
def test_workers_and_kills_change_no_byte(task, seeds, workers, load, monkeypatch, capfd):
    """The trainer killed inside an episode, resumed; and then one of its workers."""
    here = load(scale="here", tasks=[task], eval_interval=20, ablation_eval_interval=20)
    everything(here, task, seeds=seeds)
    shared = load(scale="shared", tasks=[task], eval_interval=20, ablation_eval_interval=20, env_workers=workers)
    pretrain(shared, shared.run(task, "trqam").domain)
    train(shared, task, "trqam", "offline", seeds)
    assert killed(lambda: train(shared, task, "trqam", "online", seeds), Online, "advance", 13)
    original = Online.advance

    def advance(self, step, *arguments):
        if step == 17:
            os.kill(self.fleet.pids[-1], signal.SIGKILL)
        original(self, step, *arguments)

    monkeypatch.setattr(Online, "advance", advance)
    capfd.readouterr()
    train(shared, task, "trqam", "online", seeds)
    lines = capfd.readouterr().err.splitlines()
    assert sum("exploration worker" in line and "killed by SIGKILL" in line for line in lines) == 1
    assert "evaluated" in lines[-1]
    assert "episodes/s" in lines[-1]
    assert_same(here, shared, task, seeds)


def store_of_random_actions(task, directory, episodes=3, length=30):
    """A dataset with the shapes of ``task``'s, in the layout that `Dataset.open` reads."""
    env, rng = environment.make(task), np.random.default_rng(0)
    size = env.action_space.shape[0]
    rows = {"observations": [], "actions": [], "rewards-task1": [], "terminals": []}
    for episode in range(episodes):
        observation = environment.reset(env, episode)
        for row in range(length):
            action = rng.uniform(-1, 1, size).astype(np.float32)
            result = environment.step(env, action)
            values = (observation, action, result.reward, float(row == length - 1))
            for column, value in zip(rows.values(), values, strict=True):
                column.append(value)
            observation = result.observation
    arrays = {key: np.array(values, np.float32) for key, values in rows.items()}
    arrays["masks-task1"] = np.ones(len(arrays["terminals"]), np.float32)
    write_store(directory, environment.dataset_of(task), arrays)


@pytest.mark.parametrize("domain", sampled(FAMILIES))
def test_a_run_killed_inside_an_episode_ends_in_the_same_bytes(domain, load, tmp_path, monkeypatch):
    """On every family of domains; the second episode is under way at the checkpoint, three steps old."""
    task = ogbench_tasks.task_name(domain, 1)
    store_of_random_actions(task, tmp_path / domain)
    shorten(monkeypatch, 12)
    monkeypatch.setattr(Trainer, "_evaluate", lambda self, _: [{}] * len(self.seeds))
    configs = {}
    for scale in ("undisturbed", "disturbed"):
        changes = {"data_dir": str(tmp_path), "transitions": 87, "online_steps": 30}
        configs[scale] = load(scale=scale, tasks=[task], seeds=1, **changes)
        pretrain(configs[scale], domain)
        train(configs[scale], task, "trqam", "offline", [0])
    train(configs["undisturbed"], task, "trqam", "online", [0])
    work = lambda: train(configs["disturbed"], task, "trqam", "online", [0])  # noqa: E731
    assert killed(work, Fleet, "run", 18)
    restored, original = [], environment.restore
    monkeypatch.setattr(
        environment,
        "restore",
        lambda env, seed, actions: (restored.append(len(actions)), original(env, seed, actions))[1],
    )
    work()
    assert restored == [3]
    assert_same(configs["undisturbed"], configs["disturbed"], task, (0,))
