"""Kept policies, their evaluation, films and strips; what renders is skipped where there is no OpenGL."""

import contextlib
import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import imageio.v3
import numpy as np
import pytest
from PIL import Image

from tests.conftest import ROOT
from tests.helpers.episodes import shortened
from trqam.config import load as config
from trqam.config.errors import UserError
from trqam.config.reading import read_json
from trqam.data.dataset import UNCHANGED
from trqam.environments import environment
from trqam.experiment import checkpoint
from trqam.experiment.run import RunFolder, cell_of, pretraining_cell
from trqam.operations.rollouts import camera, film_strip, saved_policy
from trqam.report.selection import STRIP_METHODS, rollout_tasks
from trqam.training.blocks import pretrain, train
from trqam.training.stop import Stop
from trqam.training.trainer import Trainer

POINT, CUBE = "pointmaze-medium-navigate-singletask-task2-v0", "cube-single-play-singletask-task1-v0"


@pytest.fixture(scope="module")
def trained(tiny_data, tmp_path_factory):
    """Behaviour cloning and TRQAM of one task, through all stages; the configuration and the folder."""
    folder = tmp_path_factory.mktemp("trained")
    for name in ("config", "tests"):
        (folder / name).symlink_to(ROOT / name)
    with contextlib.chdir(folder), shortened():
        loaded = config.load("tests/tiny.yaml", {"tasks": [POINT], "data_dir": str(tiny_data)})
        pretrain(loaded, config.domain_of(POINT))
        for method in STRIP_METHODS:
            for stage in loaded.stages(method):
                train(loaded, POINT, method, stage, [0])
    return loaded, folder


@pytest.fixture
def here(trained, monkeypatch):
    """The configuration, in the folder of the runs."""
    monkeypatch.chdir(trained[1])
    return trained[0]


@pytest.fixture
def run(here, tmp_path):
    """A copy of the run of TRQAM, to be spoilt."""
    return shutil.copytree(cell_of(here, POINT, "trqam", 0).path, tmp_path / "results/tiny/task/trqam/seed0")


@pytest.fixture(scope="session")
def opengl():
    """Skips where nothing renders."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MUJOCO_GL", "disable")
        if trouble := camera.find()[1]:
            pytest.skip(trouble)


@pytest.fixture
def hidden(tmp_path):
    """A folder for PYTHONPATH that hides whatever OpenGL there is."""
    (tmp_path / "hidden/OpenGL").mkdir(parents=True)
    (tmp_path / "hidden/OpenGL/__init__.py").write_text("raise ImportError('hidden by the test')")
    return tmp_path / "hidden"


def load(here, *arguments, **options):
    return saved_policy.load(*arguments, data=here.scale.data_dir, **options)


def trqam(*arguments, code=0, opengl="disable", hidden=None):
    """Runs the command line in a process of its own: output and errors."""
    paths = os.pathsep.join(map(str, [*([hidden] if hidden else []), ROOT]))
    environment = {**os.environ, "PYTHONPATH": paths, "MUJOCO_GL": opengl}
    command = [sys.executable, "-m", "trqam", *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    return done.stdout, done.stderr


def draw(here, **options):
    """`trqam rollouts`; the picture, what the JSON says, and the errors."""
    scale = ["--config", "tests/tiny.yaml", "--set", f"tasks=[{POINT}]", "--set", f"data_dir={here.scale.data_dir}"]
    _, errors = trqam(*scale, "rollouts", POINT, **options)
    path = here.results / "paper" / "rollouts" / f"{POINT}.png"
    return path, read_json(path.with_suffix(".json")), errors


@pytest.mark.parametrize(("method", "stage"), [("behaviour_cloning", "offline"), ("trqam", "offline"), ("trqam", None)])
def test_a_kept_policy_is_the_one_that_was_trained(here, method, stage):
    cell, trained_stage = cell_of(here, POINT, method, 0), stage or "online"
    policy = load(here, cell.path, stage)
    assert (policy.stage, policy.seed, policy.diverged) == (trained_stage, 0, False)
    run = here.run(POINT, method)
    trainer = Trainer(here, [RunFolder(cell, run, trained_stage)], policy.step, Stop())
    trainer.experience.close()
    rng = np.random.default_rng(0)
    observations = rng.uniform(0, 20, (1, 3, 2)).astype(np.float32)
    noise = rng.standard_normal((1, 3, trainer.agent.noise_size), np.float32)
    expected = trainer.policy.act(observations, noise)
    np.testing.assert_allclose(policy.act(observations, noise), expected, rtol=1e-5, atol=1e-6)


def test_a_chunk_is_one_row_of_acting_with_noise_from_the_generator(here):
    policy = load(here, cell_of(here, POINT, "trqam", 0).path)
    noise = np.random.default_rng(1).standard_normal((1, 1, policy.policy.noise_size), np.float32)
    chunk = policy.chunk([3.0, 4.0], np.random.default_rng(1))
    assert chunk.shape == (policy.run.horizon, policy.action_size)
    np.testing.assert_array_equal(chunk.ravel(), policy.act(np.array([[[3.0, 4.0]]], np.float32), noise)[0, 0])
    assert (chunk != policy.chunk([3.0, 4.0], np.random.default_rng(2))).any()


@pytest.mark.usefixtures("short_episodes")
def test_where_only_the_policy_is_kept_it_acts_as_before(here, tmp_path, monkeypatch):
    shutil.copytree(".", tmp_path, symlinks=True, dirs_exist_ok=True)
    before = draw(here)[1]
    monkeypatch.chdir(tmp_path)
    reduced = config.load("tests/tiny.yaml", {"tasks": [POINT], "data_dir": here.scale.data_dir, "keep": "policy"})
    for method in STRIP_METHODS:
        train(reduced, POINT, method, reduced.stages(method)[-1], [0])  # has finished: only reduces all stages
        for stage in set(reduced.stages(method)) - {"pretrain"}:
            policy = load(reduced, cell_of(reduced, POINT, method, 0).path, stage)
            assert policy.record["kept"] == "policy"
            saved_policy.evaluate(policy, 1)
    assert draw(here)[1] == before


def test_the_cloned_policy_of_a_domain_is_that_of_its_tasks(here):
    folder = pretraining_cell(here, config.domain_of(POINT)).path
    whole = load(here, folder, task=POINT, flow_steps=here.scale.flow_steps)
    own = load(here, cell_of(here, POINT, "behaviour_cloning", 0).path)
    observations, noise = np.full((1, 2, 2), 8, np.float32), np.ones((1, 2, 10), np.float32)
    np.testing.assert_array_equal(whole.act(observations, noise), own.act(observations, noise))
    assert load(here, folder, task=POINT.replace("task2", "task4"), flow_steps=2).run.task.endswith("task4-v0")


class Spy:
    """A policy that remembers what it saw."""

    def __init__(self, policy):
        self.noise_size, self.seen, self._policy = policy.noise_size, [], policy

    def act(self, observations, noise):
        self.seen.append(np.concatenate([observations, noise], axis=-1)[0])
        return self._policy.act(observations, noise)


def test_an_episode_is_the_same_among_few_and_among_many(here):
    policy = load(here, cell_of(here, POINT, "trqam", 0).path)

    def spied(episodes_, seed=0):
        spy = Spy(policy.policy)
        return saved_policy.evaluate(dataclasses.replace(policy, policy=spy), episodes_, seed), np.array(spy.seen)

    many, seen = spied(saved_policy.ROWS + 1)
    few, alone = spied(2)
    assert [episode[:3] for episode in few] == [episode[:3] for episode in many[:2]]
    np.testing.assert_array_equal(few[1].actions, many[1].actions)
    chunks = -(-many[1].length // here.run(POINT, "trqam").horizon)
    np.testing.assert_array_equal(alone[:chunks, 1], seen[:chunks, 1])
    assert not np.array_equal(spied(2, seed=1)[1][0, 1], alone[0, 1])


class Blind(contextlib.AbstractContextManager):
    """A camera that renders nothing and remembers what it was shown: where the agent of a maze is."""

    def __init__(self, env, size):
        self.env, self.size = env.unwrapped, size

    def follow(self):
        pass

    def picture(self):
        return np.array(self.env.get_xy())

    def __exit__(self, *_):
        pass


def test_a_film_goes_as_its_evaluation_did(here, monkeypatch):
    monkeypatch.setattr(camera, "Camera", Blind)
    policy = load(here, cell_of(here, POINT, "trqam", 0).path)
    number = saved_policy.ROWS  # the eleventh follows the first in its row
    spy = Spy(policy.policy)
    (first, *_, episode) = saved_policy.evaluate(dataclasses.replace(policy, policy=spy), number + 1)
    assert len(episode.actions) == episode.length
    horizon = policy.run.horizon
    moments = range(0, episode.length, horizon)
    frames = camera.pictures(POINT, episode, moments, size=8)
    assert [step for step, _ in frames] == list(moments)
    begins = -(-first.length // horizon)
    seen = np.array(spy.seen)[begins:, 0, :2]
    np.testing.assert_array_equal(np.array([picture for _, picture in frames], np.float32), seen[: len(frames)])
    with pytest.raises(RuntimeError, match="went otherwise when filmed"):
        camera.pictures(POINT, episode._replace(return_=1.0), (), size=8)


def resave(run, **changes):
    """Seals the record again, with another configuration."""
    tensors, record = checkpoint.Checkpoints(run / "run/online").load(20)
    record["configuration"] |= changes
    checkpoint.save(run / "run/online", 20, tensors, record)


def test_what_does_not_fit_the_run_is_refused(here, run):  # tests/bad has what is damaged or missing
    domain = pretraining_cell(here, config.domain_of(POINT)).path
    for match, folder, options in (
        ("--flow-steps 4: this run has recorded its own", run, {"flow_steps": 4}),
        ("a whole domain; add --flow-steps", domain, {"task": POINT}),
        ("this policy was cloned for pointmaze-medium-navigate", domain, {"task": CUBE, "flow_steps": 4}),
    ):
        with pytest.raises(UserError, match=match):
            load(here, folder, **options)
    with pytest.raises(UserError, match=r"data/tiny/pointmaze-medium-navigate/card.json: no dataset card.*--data"):
        saved_policy.load(run)
    resave(run, data_seed=7)
    with pytest.raises(UserError, match=r"card.json: seed: 0, but the run was trained on 7"):
        load(here, run)


def test_a_run_of_other_settings_or_another_version_still_loads(here, run, tiny_data, tmp_path):
    resave(run, learning_rate=0.5, kl_temper=3, normalise_observations=False)
    policy = saved_policy.load(run)  # without normalisation no dataset is needed
    assert policy.run.horizon == 5
    assert policy.policy.normaliser is UNCHANGED
    resave(run, normalise_observations=True)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/tiny").symlink_to(tiny_data)  # beside results/tiny
    mean = saved_policy.load(run).policy.normaliser.mean.tolist()
    assert mean != [0, 0]
    assert saved_policy.load(run, data=tiny_data / policy.run.domain).policy.normaliser.mean.tolist() == mean
    (tmp_path / "data/tiny").unlink()
    options = ["--config", "tests/tiny.yaml", "--set", f"data_dir={tiny_data}", "--episodes", 1]
    trqam("evaluate", run, *options)


def test_the_data_that_a_run_has_recorded_are_found_under_another_name(here, run, tiny_data, tmp_path):
    own = saved_policy.load(run, data=tiny_data).policy.normaliser.mean.tolist()
    domain = config.domain_of(POINT)
    right = read_json(tiny_data / domain / "card.json")
    wrong = {**right, "sha256": {**right["sha256"], "actions": "0" * 64}, "observation_mean": [0.0, 0.0]}
    for name, card in (("other", wrong), ("shared", right), ("tiny", wrong)):  # the last has the name of the scale
        (tmp_path / "data" / name / domain).mkdir(parents=True)
        (tmp_path / "data" / name / domain / "card.json").write_text(json.dumps(card))
    assert saved_policy.load(run).policy.normaliser.mean.tolist() == own
    (tmp_path / "data/other" / domain / "card.json").write_text("[]")  # no concern of this run
    assert saved_policy.load(run).policy.normaliser.mean.tolist() == own


def test_a_diverged_run_says_so(here, run):
    (run / "run/diverged.json").write_text("{}")
    policy = load(here, run)
    episode = saved_policy.Episode(False, 3, -3.0, 0, np.zeros((3, 2)))
    assert "DIVERGED" in saved_policy.report(saved_policy.summary(policy, [episode], 0))


def test_evaluate_prints_the_same_numbers_with_and_without_a_film(here, tmp_path, opengl):
    run, out = cell_of(here, POINT, "trqam", 0).path, tmp_path / "films/out.mp4"
    common = ["evaluate", run, "--data", here.scale.data_dir, "--episodes", 1]
    plain, _ = trqam(*common)
    policy = load(here, run)
    (episode,) = saved_policy.evaluate(policy, 1)
    assert plain == saved_policy.report(saved_policy.summary(policy, [episode], 0)) + "\n"
    assert trqam(*common, "--video", out)[0] == plain
    frames = imageio.v3.imread(out)
    assert min(frames.shape[1:3]) >= camera.FILM_SIZE
    shown = 1 + -(-episode.length // 10)  # every tenth step of 1000
    assert len(frames) == shown + camera.FILM_RATE - 1  # the last is held for a second


@pytest.mark.parametrize("name", ["a.mp4", "new/a.GIF"])
def test_films_hold_what_was_drawn(name, tmp_path):
    shades = [0, 90, 180]
    frames = [camera.titled(np.full((301, 301, 3), shade, np.uint8), ["title", "more"]) for shade in shades]
    camera.write_film(tmp_path / name, frames, rate=10)
    seen = imageio.v3.imread(tmp_path / name)[..., :3]
    assert seen.shape == (3, *frames[0].shape)
    assert not seen.shape[1] % 2
    assert not seen.shape[2] % 2
    np.testing.assert_allclose(seen[:, -50, 50, 1], shades, atol=6)
    assert (seen[:, :30, :100].min((1, 2, 3)) < 60).all()  # the title's ink
    assert [path.name for path in (tmp_path / name).parent.iterdir()] == [Path(name).name]


@pytest.mark.parametrize("name", ["a.mp4", "a.gif"])
def test_a_film_that_the_disk_does_not_take_is_no_film(name, tmp_path, small_files):
    noise = np.random.default_rng(0).integers(0, 255, (12, 300, 300, 3), np.uint8)
    for size in (0, 50_000):
        match = rf"{name}: cannot be written \((File too large|ffmpeg failed)\); make room on the disk"
        with small_files(size), pytest.raises(UserError, match=match):
            camera.write_film(tmp_path / name, noise, rate=10)
        assert not [*tmp_path.iterdir()]
    camera.write_film(tmp_path / name, noise, rate=10)
    before = (tmp_path / name).read_bytes()
    with pytest.raises(UserError, match=f"--video .*{name}: exists; delete it, or give another name"):
        camera.write_film(tmp_path / name, noise, rate=10)
    assert (tmp_path / name).read_bytes() == before


def test_without_opengl_the_numbers_stand(here, tmp_path, hidden):
    run, out = cell_of(here, POINT, "trqam", 0).path, tmp_path / "out.mp4"
    command = ["evaluate", run, "--data", here.scale.data_dir, "--episodes", 1, "--video", out]
    printed, errors = trqam(*command, code=2, opengl="nonsense", hidden=hidden)
    assert "of 1 episode (95 % Wilson interval" in printed
    (line,) = errors.splitlines()
    assert "no picture: neither MUJOCO_GL=nonsense (" in line
    assert "install libosmesa6" in line
    assert not out.exists()


WHERE = """
import json, numpy, sys
from trqam.operations.rollouts import camera as rendering
rendering.prepare()
from trqam.environments import environment as envs
env = envs.make(sys.argv[1])
envs.reset(env, 0)
with rendering.Camera(env, 200) as camera:
    camera.follow()
    env.unwrapped.set_xy(env.unwrapped.get_xy() + [0, -4])
    camera.follow()
    at = env.unwrapped.get_xy()
    env.unwrapped.set_xy(at + [0, 9])  # does not hide the line
    picture = camera.picture().astype(int)
red, green, blue = picture[..., 0], picture[..., 1], picture[..., 2]
centres = []
for mask in ((red > 200) & (green < 160) & (blue > 90), (red > 200) & (green > 200) & (blue < 80)):
    rows, columns = numpy.nonzero(mask)
    centres.append([columns.mean(), rows.mean()])
view, inner = env.unwrapped.custom_camera, env.unwrapped
scale = 100 / numpy.tan(numpy.radians(inner.model.vis.global_.fovy / 2)) / view.distance
def project(x, y):
    return [100 + scale * (x - view.lookat[0]), 100 - scale * (y - view.lookat[1])]
x, y = at
print(json.dumps([centres, [project(*inner.cur_goal_xy), project(x, y + 2)]]))
"""


@pytest.mark.parametrize("backend", camera.BACKENDS)
def test_the_camera_shows_goal_and_path_where_they_are(backend):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MUJOCO_GL": backend}
    if failure := camera._failure(backend):
        pytest.skip(f"{backend}: {failure}")
    command = [sys.executable, "-c", WHERE, POINT]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found, expected = json.loads(done.stdout)
    np.testing.assert_allclose(found, expected, atol=3)  # pixels; the goal is 6 wide
    assert done.stderr == ""


def test_a_strip_shows_both_policies_and_is_the_same_twice(here, opengl):
    path, record, errors = draw(here, opengl="nonsense")
    (line,) = errors.splitlines()
    assert "notice: MUJOCO_GL=nonsense (" in line
    assert "is used" in line
    assert record["rendered"]
    labels = [here.methods[method].label for method in STRIP_METHODS]
    assert [row.partition(":")[0] for row in record["text"].split("; ")] == labels
    assert "episode 0 of the evaluation stream and training seed 0, fixed in advance" in record["caption"]
    size, step = film_strip.SIZE, film_strip.SIZE + film_strip.GAP
    with Image.open(path) as image:
        assert image.width == film_strip.FRAMES * step - film_strip.GAP
        grey = np.asarray(image.convert("L"))
    for row in range(len(labels)):
        top = film_strip.HEAD + row * (film_strip.HEAD + size + film_strip.FOOT)
        for left in range(0, grey.shape[1], step):  # a picture in every place
            assert grey[top + 10 : top + size - 10, left + 10 : left + size - 10].std() > 5
    first = path.read_bytes()
    _, again, errors = draw(here)
    assert errors == ""
    assert again == record
    assert path.read_bytes() == first


def test_without_opengl_a_strip_says_so(here, hidden):
    path, record, errors = draw(here, opengl="nonsense", hidden=hidden)
    assert len(errors.splitlines()) == 1
    assert "everything else goes on" in errors
    assert not record["rendered"]
    assert "Not drawn on this machine: no picture: neither MUJOCO_GL=nonsense (" in record["caption"]
    policy = load(here, cell_of(here, POINT, "trqam", 0).path)
    (episode,) = saved_policy.evaluate(policy, 1)
    played = film_strip.Played("TRQAM", "", "", episode, [])
    assert record["text"].endswith(f"; TRQAM: {played.outcome}")
    with Image.open(path) as image:
        assert image.convert("L").getextrema() == (0, 255)  # words


def test_a_strip_refuses_another_configuration_and_shows_no_diverged_policy(here, tmp_path, monkeypatch):
    changed = config.load(here.path, {"tasks": [POINT], "data_dir": here.scale.data_dir, "learning_rate": 0.5})
    with pytest.raises(UserError, match=r"learning_rate: trained with 0.001, .* now says 0.5"):
        film_strip.make(changed, POINT, tmp_path, "none here")
    (tmp_path / "results").symlink_to(shutil.copytree("results", tmp_path / "copied"))
    (tmp_path / "config").symlink_to(ROOT / "config")
    monkeypatch.chdir(tmp_path)
    cell_of(here, POINT, "trqam", 0).diverged.write_text("{}")
    film_strip.make(here, POINT, tmp_path, "none here")
    cloning, ours = read_json(tmp_path / f"{POINT}.json")["text"].split("; ")
    assert "diverged" not in cloning
    assert ours == "TRQAM: diverged in training: no policy to show"


def test_the_tasks_shown(here):
    assert rollout_tasks(here) == [POINT]
    assert rollout_tasks(config.load("tests/tiny.yaml", {"methods": ["qam"]})) == []
    shown = rollout_tasks(config.load("config/paper.yaml"))
    assert len({config.domain_of(task) for task in shown}) == len(shown) == 5
    both = [POINT, POINT.replace("task2", "task4"), CUBE]
    assert rollout_tasks(config.load("tests/tiny.yaml", {"tasks": both})) == both
    assert {environment.task_number(task) for task in shown} == {1}
