"""The trainer: exact resume after SIGKILL, blocks of seeds, divergence, locks, and damaged files.

A process that is to be killed is a fork of this one: it shares what is imported, and its SIGKILL is a real one.
"""

import os
import shutil
import signal
import traceback
from collections import Counter

import pandas
import pytest
import torch

from tests.helpers.campaigns import sampled
from trqam.__main__ import main
from trqam.agents.base import Agent
from trqam.config.errors import Busy, UserError
from trqam.config.reading import read_json
from trqam.data import verified
from trqam.environments import environment
from trqam.environments.evaluator import Evaluator
from trqam.experiment import checkpoint, published, verdict
from trqam.experiment.run import cell_of, locked, pretraining_cell
from trqam.experiment.survey import survey
from trqam.networks.replicas import replicas_at_once
from trqam.report.collect import collect
from trqam.training.blocks import pretrain, train
from trqam.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("short_episodes")
POINT, CUBE = "pointmaze-medium-navigate-singletask-task2-v0", "cube-single-play-singletask-task1-v0"


def killed(work, owner, name, call):
    """Runs ``work`` in a fork that kills itself at the ``call``-th call of ``owner.name``; True if it came to that."""
    child = os.fork()
    if child == 0:
        original, calls = getattr(owner, name), 0

        def counting(*arguments, **keywords):
            nonlocal calls
            calls += 1
            if calls == call:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*arguments, **keywords)

        setattr(owner, name, counting)
        try:
            work()
        except BaseException:  # whatever it is must not unwind into pytest's copy here
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def everything(config, task, method="trqam", seeds=(0, 1)):
    pretrain(config, config.run(task, method).domain)
    train(config, task, method, "offline", list(seeds))
    train(config, task, method, "online", list(seeds))


def outcome(config, task, method="trqam", seeds=(0, 1)):
    """The bytes that must not depend on how often the run was killed."""
    run = config.run(task, method)
    found = {"base": (pretraining_cell(config, run.domain).path / "base.safetensors").read_bytes()}
    for seed in seeds:
        cell = cell_of(config, task, method, seed)
        for stage, total in (("offline", run.offline_steps), ("online", run.online_steps)):
            found[f"{stage} {seed}"] = (cell.path / f"{stage}.csv").read_bytes()
            found[f"{stage} weights {seed}"] = (cell.directory(stage) / f"step{total:09d}.safetensors").read_bytes()
        found[f"replay {seed}"] = (cell.directory("online") / "replay.bin").read_bytes()
        assert found[f"replay {seed}"]
    return found


def assert_same(one, other, task, seeds=(0, 1)):
    """Of two configurations, that their runs have the same bytes."""
    expected, found = (outcome(config, task, seeds=seeds) for config in (one, other))
    assert [key for key in expected if expected[key] != found[key]] == []


@pytest.mark.parametrize(
    ("step", "whole"), [("captured", "eager"), pytest.param("compiled", "compiled", marks=pytest.mark.campaign)]
)
def test_a_run_of_recorded_steps_goes_on_after_a_kill_to_the_same_bytes(step, whole, load):
    """Captured, they are those of eager steps; compiled, those of a run that was not killed."""
    if step == "compiled" and shutil.which(os.environ.get("CXX", "g++")) is None:
        pytest.skip("no C++ compiler")
    undisturbed, disturbed = load(scale="whole", step=whole, tasks=[POINT]), load(scale="cut", step=step, tasks=[POINT])
    everything(undisturbed, POINT)
    work = lambda: everything(disturbed, POINT)  # noqa: E731
    assert killed(work, Agent, "descend", 33)  # offline
    work()
    assert_same(undisturbed, disturbed, POINT)


@pytest.mark.parametrize("task", sampled([POINT, CUBE]))
def test_a_killed_run_ends_in_the_same_bytes(task, load):
    undisturbed = load(scale="undisturbed", tasks=[task])
    everything(undisturbed, task)
    disturbed = load(scale="disturbed", tasks=[task])
    work = lambda: everything(disturbed, task)  # noqa: E731
    assert killed(work, Agent, "update", 13)  # pretraining, after two checkpoints
    assert killed(work, checkpoint, "write_json", 1)  # pretraining, between a checkpoint's two files
    assert killed(work, Evaluator, "evaluate", 2)  # offline, in an evaluation
    assert killed(work, Agent, "update", 8)  # offline
    assert killed(work, checkpoint, "write_json", 2)  # offline, when one seed of two has saved
    assert killed(work, environment, "step", 45)  # online, in the environment
    assert killed(work, Evaluator, "evaluate", 1)  # online, in an evaluation
    work()
    assert_same(undisturbed, disturbed, task)


@pytest.mark.parametrize("write", [2, 8])
def test_a_block_killed_amid_its_first_or_last_save_goes_back_together(load, monkeypatch, write):
    """When one seed of two has the record of step 5, or of 20."""
    config = load(tasks=[POINT])
    pretrain(config, config.run(POINT, "trqam").domain)
    work = lambda: train(config, POINT, "trqam", "offline", [0, 1])  # noqa: E731
    assert killed(work, checkpoint, "write_json", write)
    trained = []
    original = Trainer.train
    monkeypatch.setattr(Trainer, "train", lambda self: (trained.append((self.seeds, self.start)), original(self)))
    work()
    assert trained == [([0, 1], None if write == 2 else 15)]
    for seed in (0, 1):  # and the older generation is deleted
        assert len(list(cell_of(config, POINT, "trqam", seed).directory("offline").iterdir())) == 2


def test_a_command_hashes_each_file_once_and_who_only_looks_none(load, monkeypatch):
    config = load(tasks=[POINT])
    pretrain(config, config.run(POINT, "trqam").domain)
    work = lambda: train(config, POINT, "trqam", "offline", [0, 1])  # noqa: E731
    assert killed(work, Agent, "update", 13)
    passes, original = Counter(), checkpoint.sha256
    for module in (checkpoint, published):
        monkeypatch.setattr(module, "sha256", lambda path: (passes.update([path]), original(path))[1])
    monkeypatch.setattr(verified, "_compare", lambda directory, *_: passes.update([directory]))
    list(survey(config))
    assert verdict.refusal(config) is None
    assert not passes
    folders = [cell_of(config, POINT, "trqam", seed).path / "run" for seed in (0, 1)]
    name = "step{:09d}.safetensors".format
    work()
    assert passes == {folder / "offline" / name(step): 1 for folder in folders for step in (5, 10, 15, 20)}
    passes.clear()
    train(config, POINT, "trqam", "online", [0, 1])
    read = [("offline", 20), ("online", 15), ("online", 20)]
    assert passes == {folder / stage / name(step): 1 for folder in folders for stage, step in read}
    passes.clear()
    train(config, POINT, "qam", "offline", [0, 1])  # names the data and the cloned policy in two manifests
    run = config.run(POINT, "qam")
    folders = [cell_of(config, POINT, "qam", seed).directory("offline") for seed in (0, 1)]
    base = pretraining_cell(config, run.domain).path / "base.safetensors"
    assert passes == {base: 1} | {folder / name(step): 1 for folder in folders for step in (15, 20)}


@pytest.mark.parametrize("damaged", ["tail", "all"])
def test_a_replay_damaged_past_a_generation_costs_that_generation_only(load, capsys, damaged):
    config = load(tasks=[POINT], seeds=1)
    pretrain(config, config.run(POINT, "trqam").domain)
    train(config, POINT, "trqam", "offline", [0])
    work = lambda: train(config, POINT, "trqam", "online", [0])  # noqa: E731
    assert killed(work, checkpoint, "write_json", 4)  # steps 10 and 15 are saved
    replay = cell_of(config, POINT, "trqam", 0).directory("online") / "replay.bin"
    content = bytearray(replay.read_bytes())
    content[len(content) * 15 // 20 - 1 if damaged == "tail" else 0] ^= 1  # 20 rows, the last 5 of no checkpoint yet
    replay.write_bytes(content)
    capsys.readouterr()
    if damaged == "all":
        with pytest.raises(UserError, match=r"replay.bin: damaged"):
            work()
        assert replay.read_bytes() == content
        return
    work()
    warnings = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert len(warnings) == 1
    assert "replay.bin: damaged, not the 15 rows" in warnings[0]


def test_finished_seeds_are_published_again_not_trained(load, monkeypatch):
    config = load(tasks=[POINT], seeds=8)
    trained = []
    original = Trainer.train
    monkeypatch.setattr(Trainer, "train", lambda self: (trained.append(list(self.seeds)), original(self)))
    pretrain(config, config.run(POINT, "trqam").domain)
    trained.clear()
    for seeds in ([0], [0, 1, 2, 3], [0, 1, 2, 3, 4, 5], [4, 5, 6, 7]):
        train(config, POINT, "trqam", "offline", seeds)
    assert trained == [[0], [1, 2, 3], [4, 5], [6, 7]]
    published = cell_of(config, POINT, "trqam", 2).path / "offline.csv"
    before = published.read_bytes()
    published.unlink()
    train(config, POINT, "trqam", "offline", [0, 1, 2, 3])
    assert published.read_bytes() == before
    assert len(trained) == 4


def test_seeds_do_not_depend_on_their_block(load):
    tables = []
    for scale, blocks in (("alone", [[1]]), ("together", [[2, 1, 0]])):
        config = load(scale=scale, tasks=[POINT], seeds=3)
        pretrain(config, config.run(POINT, "trqam").domain)
        for block in blocks:
            train(config, POINT, "trqam", "offline", block)
        tables.append(pandas.read_csv(cell_of(config, POINT, "trqam", 1).path / "offline.csv"))
    pandas.testing.assert_frame_equal(*tables, rtol=1e-4, atol=1e-6)


def diverging(seed, from_step):
    """An update that turns one seed's weights into NaN."""
    original = Agent.update

    def update(self, state, batch, noise):
        metrics = original(self, state, batch, noise)
        if state.step.item() == from_step and "critic" in state.online:
            with torch.no_grad():
                state.online["critic"]["0.weight"][seed] = float("nan")
        return metrics

    return update


def test_divergence_is_a_result(load, monkeypatch, tmp_path):
    config = load(tasks=[POINT], methods=["trqam"], seeds=2)
    pretrain(config, config.run(POINT, "trqam").domain)
    with monkeypatch.context() as patch:
        patch.setattr(Agent, "update", diverging(0, from_step=7))
        train(config, POINT, "trqam", "offline", [0, 1])
    train(config, POINT, "trqam", "online", [0, 1])
    lost, kept = (cell_of(config, POINT, "trqam", seed).path for seed in (0, 1))
    rows = pandas.read_csv(lost / "offline.csv")
    assert rows["status"].tolist() == ["OK", "OK", "DIVERGED"]  # steps 0 and 5, and 10 where it was noticed
    assert pandas.read_csv(lost / "online.csv")["status"].tolist() == ["DIVERGED"]
    assert set(pandas.read_csv(kept / "online.csv")["status"]) == {"OK"}
    collect(config, tmp_path / "paper")
    metrics = pandas.read_csv(tmp_path / "paper/metrics.csv").query("seed == 0")
    evaluated = metrics.dropna(subset="success")
    assert evaluated.query("stage == 'offline'")["step"].tolist() == [0, 10, 20]
    assert evaluated.query("total_step > 0")["success"].tolist() == [0] * len(evaluated.query("total_step > 0"))
    assert evaluated.query("stage == 'online'")["step"].max() == config.scale.online_steps


def test_a_kill_around_a_divergence_changes_nothing(load, monkeypatch):
    results = {}
    monkeypatch.setattr(Agent, "update", diverging(0, from_step=7))
    for scale in ("undisturbed", "disturbed"):
        config = load(scale=scale, tasks=[POINT], seeds=2)
        pretrain(config, config.run(POINT, "trqam").domain)
        work = lambda config=config: train(config, POINT, "trqam", "offline", [0, 1])  # noqa: E731
        if scale == "disturbed":
            assert killed(work, checkpoint, "write_json", 3)  # the survivor's save at the step of the divergence
        work()
        results[scale] = [(cell_of(config, POINT, "trqam", s).path / "offline.csv").read_bytes() for s in (0, 1)]
    assert results["undisturbed"] == results["disturbed"]


def test_one_writer_per_run(load):
    config = load(tasks=[POINT])
    with locked([cell_of(config, POINT, "trqam", 1)]), pytest.raises(Busy, match="another process") as caught:
        train(config, POINT, "trqam", "offline", [0, 1])
    assert caught.value.exit_code == 75


def test_a_changed_configuration_is_refused_with_cell_key_old_and_new(load):
    config = load(tasks=[POINT], methods=["behaviour_cloning"], seeds=1)
    pretrain(config, config.run(POINT, "behaviour_cloning").domain)
    train(config, POINT, "behaviour_cloning", "offline", [0])
    changed = load(tasks=[POINT], methods=["behaviour_cloning"], seeds=1, eval_episodes=3)
    pattern = r"behaviour_cloning/seed0/.*eval_episodes: trained with 1, the configuration now says 3.*trqam .*clean"
    with pytest.raises(UserError, match=pattern):
        train(changed, POINT, "behaviour_cloning", "offline", [0])


def test_clean_makes_a_run_train_anew(load, monkeypatch, capsys):
    config = load(tasks=[POINT], seeds=2)
    pretrain(config, config.run(POINT, "trqam").domain)
    train(config, POINT, "trqam", "offline", [0, 1])
    command = ["trqam", "--config", "tests/tiny.yaml", "--set", f"data_dir={config.scale.data_dir}", "clean"]
    monkeypatch.setattr("sys.argv", [*command, POINT, "trqam", "--seed", "0"])
    main()
    assert "seed0: deleted" in capsys.readouterr().out
    assert not cell_of(config, POINT, "trqam", 0).path.exists()
    assert cell_of(config, POINT, "trqam", 1).path.exists()


def test_metrics_hold_no_clock_and_timing_does(load):
    config = load(tasks=[POINT])
    everything(config, POINT)
    cell = cell_of(config, POINT, "trqam", 0).path
    columns = set(pandas.read_csv(cell / "online.csv").columns)
    wanted = "step success episode_length episode_return critic_loss flow_loss adjoint_loss path_kl kl_ema multiplier"
    assert columns >= {*wanted.split(), "adjoint_norm", "q_mean", "status"}
    assert not columns & {"seconds", "updates_per_second"}
    timing = pandas.read_csv(cell / "timing.csv")
    assert timing["stage"].unique().tolist() == ["offline", "online"]
    assert (timing["seconds"].diff().dropna()[timing["stage"].eq(timing["stage"].shift())] >= 0).all()


def test_seeds_beyond_the_stack_follow_it(load):
    together, one_by_one = load(), load(replicas=1, scale="apart")
    tables = []
    for config in (together, one_by_one):
        pretrain(config, config.run(POINT, "trqam").domain)
        train(config, POINT, "trqam", "offline", [0, 1])
        folders = [cell_of(config, POINT, "trqam", seed).path for seed in (0, 1)]
        assert [read_json(f / "offline.json")["block"] for f in folders] == (
            [[0, 1], [0, 1]] if config is together else [[0], [1]]
        )
        tables.append(pandas.concat([pandas.read_csv(f / "offline.csv") for f in folders]).select_dtypes("number"))
    pandas.testing.assert_frame_equal(*tables, rtol=1e-4)


def test_how_many_are_stacked(load):
    narrow, wide = load().run(POINT, "trqam"), load(hidden_width=512).run(POINT, "trqam")
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert replicas_at_once("auto", wide, cpu) == 1 < replicas_at_once("auto", narrow, cpu)
    assert replicas_at_once("auto", wide, gpu) > 1
    assert replicas_at_once(3, wide, cpu) == 3


def test_a_finished_cell_keeps_its_policy_and_its_numbers(load):
    whole, kept = load(), load(keep="policy", scale="kept")
    for config in (whole, kept):
        everything(config, POINT)
    for seed in (0, 1):
        cells = [cell_of(config, POINT, "trqam", seed) for config in (whole, kept)]
        for stage in ("offline", "online"):
            assert (cells[0].path / f"{stage}.csv").read_bytes() == (cells[1].path / f"{stage}.csv").read_bytes()
            size = [sum(f.stat().st_size for f in cell.directory(stage).glob("*.safetensors")) for cell in cells]
            assert size[1] < 0.3 * size[0]
            (tensors,) = [checkpoint.Checkpoints(cells[1].directory(stage)).load(20)[0]]
            assert {name.split("/")[1] for name in tensors if name.startswith("online")} == {"finetuned"}
        assert not (cells[1].directory("online") / "replay.bin").exists()
        manifest = (cells[1].path / "online.json").read_bytes()
        (cells[1].path / "online.json").unlink()  # restored without training
        train(kept, POINT, "trqam", "online", [0, 1])
        assert (cells[1].path / "online.json").read_bytes() == manifest


def test_a_kept_policy_is_not_trained_on(load):
    config = load(keep="policy", ablations=["constant_lambda"], ablation_tasks=[POINT])
    pretrain(config, config.run(POINT, "trqam").domain)
    train(config, POINT, "constant_lambda", "offline", [0])
    further = load(ablations=["constant_lambda"], ablation_tasks=[POINT], ablation_stages=["offline", "online"])
    with pytest.raises(UserError, match=r"only the policy was kept \(keep: policy\); run `python -m trqam .*clean"):
        train(further, POINT, "constant_lambda", "online", [0])
