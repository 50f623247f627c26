"""Whatever is done to a file of a finished run, it is refused in one line that names a file, or changes no result."""

import contextlib
import csv
import json
import os
import shlex
import shutil
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.helpers.episodes import shortened
from tests.training.test_training import POINT
from trqam.__main__ import main, parsed
from trqam.config import command_line
from trqam.config import load as config
from trqam.config.errors import UserError
from trqam.config.reading import read_json, seal
from trqam.experiment import run as runs
from trqam.experiment import verdict
from trqam.experiment.files import write_json
from trqam.experiment.run import cell_of, pretraining_cell, refuse_lone
from trqam.report.collect import collect, outdated_stamp
from trqam.report.collected import Collected
from trqam.report.record import RECORD, TABLES
from trqam.training.blocks import pretrain, train
from trqam.training.trainer import Trainer

DOMAIN = POINT.partition("-singletask")[0]
PAPER = Path("results/tiny/paper")
STAGES = ("offline", "online")


def load_with(data, **changes):
    changes = {"tasks": [POINT], "methods": ["qam", "trqam"], "data_dir": str(data), **changes}
    return config.load("tests/tiny.yaml", changes)


@pytest.fixture(scope="module")
def made(tiny_data, tmp_path_factory):
    """A folder with the runs of two methods and two seeds, and what was collected of them; never changed."""
    folder = tmp_path_factory.mktemp("finished")
    for name in ("config", "tests"):
        (folder / name).symlink_to(ROOT / name)
    with contextlib.chdir(folder), shortened():
        loaded = load_with(tiny_data)
        pretrain(loaded, DOMAIN)
        for method in loaded.compared:
            for stage in STAGES:
                train(loaded, POINT, method, stage, [0, 1])
        collect(loaded, PAPER)
    return folder


@pytest.fixture
def finished(made, tiny_data, tmp_path, monkeypatch):
    """A copy of it, in which the test works, and its configuration."""
    monkeypatch.chdir(shutil.copytree(made, tmp_path / "work", symlinks=True))
    return load_with(tiny_data)


def path_of(config, stage, seed=0, method="trqam", kind="csv"):
    return cell_of(config, POINT, method, seed).path / f"{stage}.{kind}"


def tables():
    return {name: (PAPER / name).read_bytes() for name in (*TABLES, RECORD)}


def changed(path, content):
    """``path`` with another content and its old times, by which nobody would notice."""
    times = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def refused(config, *names):
    """The line in which all refuse: collect, what Snakemake and status ask before anything is trained; it names
    one of ``names``, and nothing that was collected has changed."""
    before = tables()
    with pytest.raises(UserError) as caught:
        collect(config, PAPER)
    line = str(caught.value)
    assert line == verdict.refusal(config)
    assert "\n" not in line
    assert any(str(name) in line for name in names), line
    assert tables() == before
    return line


def harmless(config):
    before = tables()
    assert verdict.refusal(config) is None
    collect(config, PAPER)
    return tables() == before


def rows(change):
    """A change of a table's rows."""
    return lambda content: b"".join(change(content.splitlines(keepends=True)))


BYTES = {
    "a success of 0 that becomes 1": lambda content: content.replace(b"OK,0,", b"OK,1,", 1),
    "a digit in the middle": lambda content: _digit(content, len(content) // 2),
    "a digit at the end": lambda content: _digit(content, len(content) - 30),
    "a bit of the header": lambda content: bytes([content[0] ^ 1]) + content[1:],
    "cut short": lambda content: content[: len(content) // 2],
    "its last row cut": rows(lambda lines: lines[:-1]),
    "its last row twice": rows(lambda lines: [*lines, lines[-1]]),
    "all rows twice": rows(lambda lines: [*lines, *lines[1:]]),
    "two rows exchanged": rows(lambda lines: [*lines[:2], lines[3], lines[2], *lines[4:]]),
    "other ends of lines": lambda content: content.replace(b"\n", b"\r\n"),
    "a row of white space": lambda content: content + b" \n",
    "nothing": lambda content: b"",
}


def _says_the_same(one, other):
    try:
        return json.loads(one) == json.loads(other)
    except ValueError:
        return False


def _digit(content, after):
    """Another digit in place of the first after a position."""
    place = next(at for at in range(after, len(content)) if content[at : at + 1].isdigit())
    return content[:place] + (b"7" if content[place : place + 1] != b"7" else b"8") + content[place + 1 :]


@pytest.mark.parametrize("change", BYTES)
def test_no_byte_of_a_run_changes_unseen(change, finished):
    for stage in STAGES:
        for kind in ("csv", "json"):
            path = path_of(finished, stage, kind=kind)
            content = path.read_bytes()
            other = BYTES[change](content)
            changed(path, other)
            if kind == "json" and _says_the_same(other, content):
                assert harmless(finished)
            elif other != content:  # a manifest has no such row
                refused(finished, path)
            changed(path, content)
    assert harmless(finished)


def test_no_key_of_a_manifest_goes_or_changes_unseen(finished):
    for path in (path_of(finished, "online", kind="json"), pretraining_cell(finished, DOMAIN).path / "pretrain.json"):
        content, whole = path.read_bytes(), read_json(path)
        for key, value in whole.items():
            for other in ({k: v for k, v in whole.items() if k != key}, {**whole, key: [value]}, {**whole, key: None}):
                if other == whole:
                    continue
                write_json(path, other)
                refused(finished, path)
        write_json(path, {**whole, "note": "by hand"})
        refused(finished, path)
        changed(path, content)
    assert harmless(finished)


@pytest.mark.parametrize("key", ["seed", "stage", "digest", "metrics_sha256", "configuration"])
def test_a_sealed_manifest_of_another_run_is_found_by_what_it_says(key, finished):
    path = path_of(finished, "online", kind="json")
    other = read_json(path_of(finished, "offline", seed=1, method="qam", kind="json"))
    content = {**read_json(path), key: other[key]}
    del content["seal"]
    write_json(path, {**content, "seal": seal(content)})
    refused(finished, path, path.with_suffix(".csv"))


@pytest.mark.parametrize("source", [("online", 1, "trqam"), ("offline", 0, "trqam"), ("online", 0, "qam")])
@pytest.mark.parametrize("kinds", [["csv"], ["json"], ["csv", "json"]])
def test_a_file_of_another_run_is_refused(source, kinds, finished):
    stage, seed, method = source
    for kind in kinds:
        shutil.copy2(path_of(finished, stage, seed, method, kind), path_of(finished, "online", kind=kind))
    line = refused(finished, path_of(finished, "online"), path_of(finished, "online", kind="json"))
    assert "delete it and run the same `snakemake` command" in line
    for kind in ("csv", "json"):  # which is what helps: it is published again, and nothing is trained
        path_of(finished, "online", kind=kind).unlink()
    before = tables()
    train(finished, POINT, "trqam", "online", [0, 1])
    collect(finished, PAPER)
    assert tables() == before


def test_a_seed_copied_whole_is_neither_collected_nor_published_nor_trained_on(finished):
    there, here = (cell_of(finished, POINT, "trqam", seed).path for seed in (1, 0))
    shutil.rmtree(there)
    shutil.copytree(here, there)
    assert "seed: is of seed 0, in the place of seed 1" in refused(finished, there)
    for name in ("offline.csv", "offline.json", "online.csv", "online.json"):
        (there / name).unlink()
    for stage in STAGES:
        with pytest.raises(UserError, match=r"seed1/run/\w+: seed: is of seed 0, in the place of seed 1; put back"):
            train(finished, POINT, "trqam", stage, [0, 1])
    shutil.rmtree(there / "run" / "online")  # trained no further, too
    with pytest.raises(UserError, match=r"seed1/run/offline: seed: is of seed 0, in the place of seed 1; put back"):
        train(finished, POINT, "trqam", "online", [1])


def test_a_stage_copied_over_another_is_not_gone_on_from(finished):
    cell = cell_of(finished, POINT, "trqam", 0)
    shutil.rmtree(cell.directory("online"))
    shutil.copytree(cell.directory("offline"), cell.directory("online"))
    with pytest.raises(UserError, match=r"run/online: stage: is of stage offline, in the place of stage online"):
        train(finished, POINT, "trqam", "online", [0])


def test_the_cloned_policy_and_its_manifest_count(finished):
    cell = pretraining_cell(finished, DOMAIN)
    base = cell.path / "base.safetensors"
    content = base.read_bytes()
    changed(base, content[:-1] + bytes([content[-1] ^ 1]))
    refused(finished, base)
    base.unlink()
    base.mkdir()
    refused(finished, base)
    base.rmdir()
    base.write_bytes(content)
    assert harmless(finished)


def test_what_no_result_rests_on_changes_none(finished):
    cell = cell_of(finished, POINT, "trqam", 0).path
    for path in (cell / "timing.csv", cell / "run" / "offline" / "step000000020.safetensors"):
        path.write_bytes(b"x")
        assert harmless(finished)
    (cell / "timing.csv").unlink()
    shutil.rmtree(cell / "run")
    for path in Path("results").rglob("*"):
        os.utime(path)
    assert harmless(finished)


def test_training_a_finished_stage_again_changes_no_byte(finished):
    folder = cell_of(finished, POINT, "trqam", 0).path
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert b"\nonline," in before[folder / "timing.csv"]
    for stage in STAGES:
        train(finished, POINT, "trqam", stage, [0, 1])
        assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", [*TABLES, RECORD])
def test_what_was_collected_is_drawn_as_it_was_collected(name, finished):
    Collected.load(finished, PAPER)
    path = PAPER / name
    content = path.read_bytes()
    for other in (_digit(content, 2), content[:-9], b"{}"):
        changed(path, other)
        with pytest.raises(UserError, match=rf"paper/{name}: .*; .*(run `trqam collect` again|make it again)"):
            Collected.load(finished, PAPER)


@pytest.mark.parametrize(
    "key", ["learning_rate=0.002", "seeds=1", "methods=[qam]", "eval_episodes=2", "online_start=5"]
)
def test_results_are_drawn_for_their_own_configuration(key, finished, tiny_data):
    name, _, value = key.partition("=")
    other = load_with(tiny_data, **{name: ["qam"] if name == "methods" else json.loads(value)})
    pattern = r"collected.json: made for another configuration|metrics.csv: method: 'trqam' is not of tests/tiny.yaml"
    with pytest.raises(UserError, match=rf"({pattern}).*(;|, or) run `trqam collect` again"):
        Collected.load(other, PAPER)
    same = load_with(tiny_data, device="auto", env_workers=1, checkpoint_interval=10, mixed=True, seeds_per_job=1)
    Collected.load(same, PAPER)


def test_the_commands_of_a_run_mean_its_very_configuration_and_stack(made, monkeypatch):
    monkeypatch.chdir(made)
    lines = {(r["method"], r["seed"], r["stage"]): r for r in csv.DictReader((PAPER / "runs.csv").open())}
    line = lines["trqam", "1", "online"]
    loaded = load_with(read_json(PAPER / "manifests.json")["command"].partition("data_dir=")[2].split()[0])
    words = shlex.split(line["command"])
    assert words[:4] == ["snakemake", "--cores", "all", f"results/tiny/{POINT}/trqam/seed1/online.csv"]
    assert words[4:6] == ["--configfile", "tests/tiny.yaml"]
    assert words[6] == "--config"
    assert command_line.from_snakemake(["tests/tiny.yaml"], words[7:])[0].scale == loaded.scale
    asked = parsed(shlex.split(line["train"])[3:])
    assert (asked.task, asked.method, asked.stage, asked.seeds) == (POINT, "trqam", "online", [0, 1])
    assert command_line.from_command(asked.config, asked.set).scale == loaded.scale


@pytest.mark.parametrize(
    "entries",
    [
        [],
        ["scale=x", "learning_rate=0.001"],
        ["scale=2024", "chosen=of: odd 'words' é", "methods=[behaviour_cloning, trqam]", "keep=all"],
    ],
)
def test_a_command_of_a_variant_names_what_was_changed(entries):
    variant = command_line.from_snakemake([], entries)[0]
    words = shlex.split(variant.snakemake("paper"))
    assert words[:4] == ["snakemake", "--cores", "all", "paper"]
    assert words[4:5] == ["--config"] * bool(entries)
    assert command_line.from_snakemake([], words[5:])[0].scale == variant.scale
    asked = parsed(shlex.split(variant.command("status").strip("`"))[3:])
    assert command_line.from_command(asked.config, asked.set).scale == variant.scale


def test_time_is_shared_by_a_stack_and_cloning_is_recorded_once(made, monkeypatch):
    monkeypatch.chdir(made)
    for line in csv.DictReader((PAPER / "runs.csv").open()):
        folder = Path("results/tiny") / line["task"] / line["method"] / f"seed{line['seed']}"
        manifest = read_json(folder / f"{line['stage']}.json")
        assert manifest["block"] == [0, 1]
        assert float(line["wall_time_s"]) == manifest["seconds"] / 2
    seconds = read_json(f"results/tiny/pretrained/{DOMAIN}/pretrain.json")["seconds"]
    assert read_json(PAPER / "manifests.json")["pretrained"] == {DOMAIN: seconds}


def test_the_fingerprint_asks_for_collecting_again_only_where_it_would_differ(finished, tiny_data):
    def stamp(loaded):
        return outdated_stamp(loaded, PAPER, verdict.check_everything(loaded))

    fewer = load_with(tiny_data, seeds=1)
    assert stamp(finished) == []
    assert stamp(fewer) == ["results/tiny/asked_for.json"]
    content = Path("results/tiny/asked_for.json").read_bytes()
    assert stamp(fewer) == ["results/tiny/asked_for.json"]
    assert Path("results/tiny/asked_for.json").read_bytes() == content  # jobs read the Snakefile, too
    assert stamp(finished) == []
    collect(fewer, PAPER)
    assert stamp(fewer) == []
    assert stamp(finished) != []
    assert Path("results/tiny/asked_for.json").read_bytes() != content


def test_code_that_would_make_a_mixture_is_said_before_anything_trains(finished, monkeypatch):
    monkeypatch.setattr(verdict, "code_digest", lambda agent: "0123")
    assert harmless(finished)  # all that was asked for is there: nothing will be trained by today's code
    shutil.rmtree(cell_of(finished, POINT, "trqam", 1).path)
    collect(finished, PAPER)
    line = verdict.refusal(finished)
    assert "trqam/seed0/offline.json: code: trained under " in line
    assert "what is left to train would have 0123; train anew what is older" in line
    assert "clean --outdated`" in line
    found = list(verdict.outdated(finished))
    assert [run.cell.path.name for run in found] == ["seed0"]
    assert found[0].steps == 40
    verdict.check_before(finished, POINT, "qam", "offline", [0, 1])  # other cells' trouble
    monkeypatch.setattr(verdict, "code_digest", lambda agent: "0123" if agent == "qam" else "4567")
    assert "seed0/offline.json: code" in verdict.refusal(finished)


def test_a_run_that_has_begun_otherwise_is_said_before_anything_trains(finished, tiny_data, monkeypatch):
    cell = cell_of(finished, POINT, "trqam", 0)
    for name in ("offline.csv", "offline.json", "online.csv", "online.json"):
        (cell.path / name).unlink()
    (cell.directory("online") / "step000000020.json").rename(cell.directory("online") / "step000000010.json")
    changed_rate = load_with(tiny_data, learning_rate=0.002, methods=["trqam"])
    assert "learning_rate: trained with 0.001" in verdict.refusal(changed_rate)
    assert verdict.refusal(finished) is None
    line = verdict.refusal(load_with(tiny_data, data_seed=1))  # cleaning leaves the data, which are in the way
    assert "data_seed: trained with 0" in line
    assert line.endswith("such as scale=mine data_dir=data/mine")
    monkeypatch.setattr(verdict, "code_digest", lambda agent: "0123" if agent == "trqam" else "x")
    assert "what is left to train would have 0123" in verdict.refusal(finished)


def clean(config, monkeypatch, *words, changes=()):
    given = (f"data_dir={config.scale.data_dir}", f"tasks=[{POINT}]", "methods=[qam,trqam]", *changes)
    options = [f"--set={key}" for key in given]
    monkeypatch.setattr("sys.argv", ["trqam", "--config", "tests/tiny.yaml", *options, "clean", *words])
    main()


def test_outdated_runs_are_listed_and_deleted_when_told(finished, monkeypatch, capsys):
    before = sorted(Path("results").rglob("*"))
    clean(finished, monkeypatch, "--outdated")
    assert "nothing is outdated" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stopped:
        clean(finished, monkeypatch, "--outdated", changes=["learning_rate=0.002"])
    said = capsys.readouterr()
    assert stopped.value.code == 2
    assert said.out.count("learning_rate 0.001, now 0.002") == 5
    assert "5 runs to train anew, 180 steps in all" in said.out
    assert "nothing is deleted, as nobody can be asked here; run `python -m trqam --config tests/tiny.yaml" in said.err
    assert "--set learning_rate=0.002" in said.err
    assert sorted(Path("results").rglob("*")) == before

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda prompt: "no")
    with pytest.raises(SystemExit):
        clean(finished, monkeypatch, "--outdated", changes=["learning_rate=0.002"])
    assert sorted(Path("results").rglob("*")) == before
    monkeypatch.setattr("builtins.input", lambda prompt: "yes")
    clean(finished, monkeypatch, "--outdated", changes=["learning_rate=0.002"])
    assert not list(Path("results").rglob("seed*"))
    assert not list(Path("results").rglob("base.safetensors"))
    assert (PAPER / "metrics.csv").is_file()


def test_runs_that_changed_while_the_user_was_asked_are_not_deleted(finished, monkeypatch, capsys):
    def answer(prompt):
        shutil.rmtree(path_of(finished, "offline", seed=1).parent)  # as somebody who cleans it to train it anew
        return "yes"

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", answer)
    with pytest.raises(SystemExit):
        clean(finished, monkeypatch, "--outdated", changes=["learning_rate=0.002"])
    assert "runs have changed since they were listed; run the same command again" in capsys.readouterr().err
    assert path_of(finished, "offline").is_file()


def test_no_seed_is_deleted_if_one_has_a_foreign_file(finished, monkeypatch, capsys):
    (path_of(finished, "offline", seed=1).parent / "notes.txt").touch()
    with pytest.raises(SystemExit):
        clean(finished, monkeypatch, POINT, "trqam")
    assert "seed1/notes.txt: no file of a run; move it away" in capsys.readouterr().err
    assert path_of(finished, "offline").is_file()


def test_what_is_accepted_as_mixed_is_not_outdated(finished, tiny_data):
    assert list(verdict.outdated(load_with(tiny_data, learning_rate=0.002)))
    assert not list(verdict.outdated(load_with(tiny_data, learning_rate=0.002, mixed=True)))
    assert list(verdict.outdated(load_with(tiny_data, offline_steps=40, mixed=True)))


def test_a_seed_that_diverged_is_outdated_once(finished, tiny_data):
    cell, run = cell_of(finished, POINT, "trqam", 0), finished.run(POINT, "trqam")
    write_json(cell.diverged, runs.new_record(run, "offline", 0, [0]) | {"rows": [{"step": 5}], "timing": []})
    for stage in STAGES:
        path_of(finished, stage).unlink()
    found = {lost.cell.path: lost for lost in verdict.outdated(load_with(tiny_data, learning_rate=0.002))}
    assert (found[cell.path].stages, found[cell.path].steps) == (["offline"], 5)


def test_copies_of_checkpoints_are_no_checkpoints(finished):
    """Training would begin at step 0 and replace what is published."""
    cell = cell_of(finished, POINT, "trqam", 0)
    refuse_lone(cell, "offline")
    for path in cell.directory("offline").glob("step*.json"):
        path.rename(path.with_stem(f"{path.stem} (conflicted copy)"))
    with pytest.raises(UserError, match=r"offline.csv: is there without checkpoints"):
        refuse_lone(cell, "offline")


def test_a_folder_that_may_not_be_looked_into_is_one_line(finished, monkeypatch):
    lstat = os.lstat

    def denied(path, **options):
        if "results" in str(path):
            raise PermissionError(13, "Permission denied", str(path))
        return lstat(path, **options)

    monkeypatch.setattr(os, "lstat", denied)
    for look in (lambda: collect(finished, PAPER), lambda: list(verdict.outdated(finished))):
        with pytest.raises(UserError, match=r"cannot be read \(Permission denied\); make it readable"):
            look()


def test_an_outdated_online_stage_leaves_the_offline_one(finished, monkeypatch, tiny_data, capsys):
    clean(finished, monkeypatch, "--outdated", "--yes", changes=["online_start=5"])
    assert "4 runs to train anew, 80 steps in all" in capsys.readouterr().out
    assert path_of(finished, "offline").is_file()
    assert not path_of(finished, "online").exists()
    later, trained = load_with(tiny_data, online_start=5), []
    original = Trainer.train
    monkeypatch.setattr(Trainer, "train", lambda self: (trained.append(self.stage), original(self)))
    for stage in STAGES:
        train(later, POINT, "trqam", stage, [0, 1])
    assert trained == ["online"]


def test_cleaning_a_pretraining_says_what_began_from_it(finished, monkeypatch, capsys):
    clean(finished, monkeypatch, DOMAIN)
    said = capsys.readouterr().out
    assert "4 runs began from it" in said
    assert "deleted (pretrain)" in said


def test_what_the_scale_does_not_have_is_said(finished, tiny_data):
    with pytest.raises(UserError, match=r"seeds: has 2, from 0 to 1, and no seed 7; write seeds=8 after --config"):
        verdict.check_asked(finished, POINT, "trqam", "offline", [7])
    cloning = load_with(tiny_data, methods=["behaviour_cloning"])
    with pytest.raises(UserError, match="'online' is not listed, so behaviour_cloning has offline"):
        verdict.check_asked(cloning, POINT, "behaviour_cloning", "online", [0])
    partly = load_with(tiny_data, tasks=[DOMAIN], ablations=["external_kl"], ablation_tasks=[POINT])
    with pytest.raises(UserError, match=r"'pointmaze.*task3-v0' is not listed, so external_kl does not run there"):
        verdict.check_asked(partly, POINT.replace("task2", "task3"), "external_kl", "offline", [0])


def test_a_diverged_seed_is_published_the_same_every_time(finished):
    """Its online stage never began: no time is counted twice, and the rows of the offline stage stay."""
    cell, run = cell_of(finished, POINT, "trqam", 0), finished.run(POINT, "trqam")
    record = runs.new_record(run, "offline", 0, [0])
    timing = [{"step": 5, "seconds": 2.0, "evaluation_seconds": 1.0, "updates_per_second": 3.0}]
    record |= {"rows": [{"step": 5, "status": "DIVERGED"}], "timing": timing}
    write_json(cell.diverged, record)
    published = []
    for _ in range(2):
        for stage in STAGES:
            train(finished, POINT, "trqam", stage, [0])
        published.append({path: path.read_bytes() for path in cell.path.glob("*.*")})
    assert published[0] == published[1]
    assert read_json(cell.path / "online.json")["seconds"] == 0
    collect(finished, PAPER, mixed=True)
