"""`trqam status` and `trqam doctor` are asked when something is wrong: what they meet is a line, never their end."""

import base64
import json
import os
import re
import shutil
import time
from contextlib import contextmanager

import pytest

from tests.helpers.campaigns import sampled
from tests.helpers.episodes import shortened
from tests.operations.test_status import POINT, diverge, held, save
from trqam.config import load
from trqam.config.errors import UserError
from trqam.experiment import checkpoint, published, resources, survey
from trqam.experiment.files import write_json
from trqam.experiment.run import cell_of, locked
from trqam.operations import doctor
from trqam.operations.doctor import FAIL, OK, WARN, Finding
from trqam.operations.rollouts import saved_policy
from trqam.operations.status import status
from trqam.training.blocks import pretrain, train

DOMAIN = "pointmaze-medium-navigate"
LONGEST = 5.0  # seconds that a look may take; it takes hundredths


def a_loop(path):
    path.with_name("loop").symlink_to(path)
    path.symlink_to(path.with_name("loop"))


def sparse(path):
    with open(path, "wb") as file:
        file.truncate(3 * 2**30)


INSTEAD = {
    "missing": lambda path: None,
    "empty": lambda path: path.touch(),
    "mapping": lambda path: path.write_text("{}"),
    "list": lambda path: path.write_text("[]"),
    "null": lambda path: path.write_text("null"),
    "number": lambda path: path.write_text("7"),
    "other bytes": lambda path: path.write_bytes(bytes(range(256)) * 20),
    "folder": lambda path: path.mkdir(),
    "pipe": os.mkfifo,
    "dangling link": lambda path: path.symlink_to("nowhere"),
    "loop of links": a_loop,
    "3 GB": sparse,
    "not to be read": lambda path: (path.touch(), path.chmod(0)),
}
SEVERE = ("missing", "list", "loop of links")
INSTEAD_OF_A_FILE = [*SEVERE, *(name for name in INSTEAD if name not in SEVERE)]


@pytest.fixture(scope="module")
def model(tiny_data, tmp_path_factory):
    """A folder in which everything has been begun: finished and interrupted runs, data, leftovers of Snakemake."""
    folder = tmp_path_factory.mktemp("model")
    with pytest.MonkeyPatch.context() as patch, shortened():
        for name in ("config", "tests"):
            (folder / name).symlink_to(doctor.ROOT / name)
        patch.chdir(folder)
        loaded = configured()
        for domain in loaded.task_domains:
            shutil.copytree(tiny_data / domain, folder / "data/tiny" / domain)
        pretrain(loaded, DOMAIN)
        train(loaded, POINT, "trqam", "offline", [0])
        train(loaded, POINT, "trqam", "online", [0])
        run, ended = loaded.run(POINT, "trqam"), cell_of(loaded, POINT, "trqam", 1)
        save(cell_of(loaded, POINT, "qam", 0), loaded.run(POINT, "qam"), "offline", 5, 20, [0])
        save(cell_of(loaded, POINT, "qam", 0), loaded.run(POINT, "qam"), "offline", 10, 20, [0])
        published.publish(ended, run, "offline", diverge(ended, run, "offline", 10, [1]))
        (folder / "data/tiny" / DOMAIN / ".unfinished").mkdir()
        for name in ("plan.json", "blocks.jsonl", "card.json"):
            write_json(folder / "data/tiny" / DOMAIN / ".unfinished" / name, {})
        resources.save(loaded, resources.DEFAULTS)
        for place in ("locks/0.input.lock", "locks/1.output.lock", "log/2026-01-01T000000.000000.snakemake.log"):
            write_json(folder / ".snakemake" / place, "a")
        write_json(folder / ".snakemake/incomplete" / base64.urlsafe_b64encode(b"there.csv").decode(), {})
    return folder


def configured():
    return load.load("tests/tiny.yaml", {"tasks": [POINT], "methods": ["behaviour_cloning", "qam", "trqam"]})


@pytest.fixture
def looks(model, monkeypatch):
    """A function that gives what both say, without white space; of doctor's checks those that read files."""
    monkeypatch.chdir(model)
    for name in ("source", "processor", "gpu", "rendering", "environments", "tex", "slurm", "workflow"):
        monkeypatch.setattr(doctor, name, lambda *_, name=name: Finding(OK, name, ""))

    def look():
        loaded, began = configured(), time.monotonic()
        lines, findings = status(loaded), list(doctor.examine(loaded))
        assert time.monotonic() - began < LONGEST
        assert lines[-1].split()  # the last line is there, whatever it says
        assert {finding.verdict for finding in findings} <= {OK, WARN, FAIL}
        assert len(findings) > 10
        assert not any("\n" in finding.text for finding in findings)
        return re.sub(r"\s", "", "".join(lines) + "".join(finding.text for finding in findings))

    return look


def inside(model):
    """All files and folders of ours: below results, data and Snakemake's folder, as they were found."""
    return sorted(p.relative_to(model) for top in ("results", "data", ".snakemake") for p in (model / top).rglob("*"))


@contextmanager
def replaced(path, instead):
    """In which the file or folder at ``path`` is ``instead``."""
    aside = path.with_name("aside")
    path.rename(aside)
    try:
        INSTEAD[instead](path)
        yield
    finally:
        for left in (path, path.with_name("loop")):
            if left.is_dir() and not left.is_symlink():
                left.rmdir()
            else:
                left.unlink(missing_ok=True)
        aside.rename(path)


UNREAD = {".verified.json", "store.json", "timing.csv", "resources.json", "plan.json", "blocks.jsonl"}
UNREAD |= {"step000000005.json", "step000000020.json"}


@pytest.mark.parametrize("instead", sampled(INSTEAD_OF_A_FILE, len(SEVERE)))
def test_any_file_may_be_anything(model, looks, instead):
    if instead == "not to be read" and os.geteuid() == 0:
        pytest.skip("root may read everything")
    alive = cell_of(configured(), POINT, "qam", 0)
    with held(alive):
        note = {"step": 12, "pace": 1.0, "moment": time.time()}
        write_json(alive.directory("offline") / "progress.json", note)
        assert [s.step for s in survey.survey(configured()) if s.state == survey.RUNNING] == [12]
        names = [name for name in inside(model) if (model / name).is_file() and name.suffix != ".npy"]
        assert len(names) > 30
        for name in names:
            with replaced(model / name, instead):
                said = looks()
            unread = name.name in UNREAD or ".unfinished" in name.parts or "trqam/seed1/run/offline" in str(name)
            if name.suffix in (".json", ".csv") and instead in ("list", "folder", "loop of links", "pipe"):
                assert unread or str(name) in said


@pytest.mark.parametrize("instead", sampled(["missing", "loop of links", "empty", "pipe", "dangling link"], 2))
def test_any_folder_may_be_anything(model, looks, instead):
    for name in inside(model):
        if (model / name).is_dir() and ".unfinished" not in name.parts:
            with replaced(model / name, instead):
                looks()


SEED = f"results/tiny/{POINT}/trqam/seed0"
HELD = {"host": "h", "machine": "m", "pid": 1, "started": 1, "since": 1.0}


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        *((f"{SEED}/offline.json", {key: "drop"}) for key in ("digest", "status", "block")),
        *((f"{SEED}/offline.json", {"seconds": value}) for value in ("x", -1, 1e300, True)),
        *((f"{SEED}/offline.json", {"block": value}) for value in ([], "x", [-1], 3)),
        (f"{SEED}/offline.json", {"status": "FINE"}),
        *((f"results/tiny/{POINT}/trqam/seed1/run/diverged.json", {key: value}) for key, value in (
            ("rows", []), ("rows", [{}]), ("rows", "drop"), ("stage", "no"), ("stage", "drop"))),
        *((f"results/tiny/{POINT}/qam/seed0/run/offline/step000000010.json", {"record": value}) for value in (
            {}, {"block": [], "timing": [], "rows": []}, {"block": [0], "timing": [{"step": "x"}], "rows": []})),
        *((f"data/tiny/{DOMAIN}/card.json", {key: "drop"}) for key in ("dataset", "shapes")),
    ],
)  # fmt: skip
def test_a_record_of_ours_that_is_not_as_we_write_it_is_named(model, looks, name, changes):
    with replaced(model / name, "missing"):
        content = {**json.loads((model / name).with_name("aside").read_text()), **changes}
        write_json(model / name, {key: value for key, value in content.items() if value != "drop"})
        assert name in looks()


@pytest.mark.parametrize("changes", [{"pid": 10**30}, {"pid": -1}, {"pid": 0}, {"pid": True}, {"since": 1e300},
                                     {"started": "x"}, {"host": "a\x1b[2J\nb"}, {"machine": 3}])  # fmt: skip
def test_a_lock_may_say_anything(model, looks, changes):
    write_json(lock := model / SEED / "run/lock", {**HELD, **changes})
    try:
        assert "\x1b" not in looks()
    finally:
        lock.unlink(missing_ok=True)


@pytest.mark.parametrize("instead", ["folder", "pipe", "dangling link", "loop of links", "3 GB"])
def test_a_lock_that_is_none_is_one_line_for_a_training(model, instead, monkeypatch):
    monkeypatch.chdir(model)
    lock = model / SEED / "run/lock"
    lock.touch()
    with replaced(lock, instead), pytest.raises(UserError, match=r"run/lock: .*; .*delete it"):
        train(configured(), POINT, "trqam", "offline", [0])
    lock.unlink()


FOREIGN = [
    "step000000020 (conflicted copy 2026-01-01).json", "step000000020 (conflicted copy 2026-01-01).safetensors",
    "step000000020.sync-conflict-20260101-000000-ABCDEFG.json", ".step000000020.json.swp", "step000000020.json~",
    "._step000000020.json", ".DS_Store", "step.json", "step٠٠٠٠٠٠٠٢٠.json", "step20.json", "step0000000020.json",
    "step000000020.safetensors.part", "lock.sync-conflict-20260101-000000-ABCDEFG", "lock (conflicted copy)",
]  # fmt: skip


def test_what_a_synchroniser_or_an_editor_leaves_is_left_alone(model, looks, capsys):
    loaded = configured()
    begun, before = cell_of(loaded, POINT, "qam", 0), looks()
    foreign = [folder / name for name in FOREIGN for folder in (begun.directory("offline"), begun.path / "run")]
    foreign += [cell_of(loaded, POINT, "trqam", 0).directory("offline") / name for name in FOREIGN]
    for path in foreign:
        path.write_text("{")
    assert re.sub("[0-9.:]", "", looks()) == re.sub("[0-9.:]", "", before)
    checkpoint.save(begun.directory("offline"), 12_345_678_901, {}, {"block": [0], "timing": [], "rows": []}, keep=3)
    assert "12345678901/20" not in looks()  # nobody holds it
    assert checkpoint.recorded(begun.directory("offline")) == [12_345_678_901, 10, 5]
    checkpoint.prune(begun.directory("offline"), 10, keep=2)
    with locked([begun]):
        assert checkpoint.Checkpoints(begun.directory("offline")).steps == [10, 5]
    train(loaded, POINT, "trqam", "offline", [0])
    assert saved_policy.load(cell_of(loaded, POINT, "trqam", 0).path).stage == "online"
    assert "finished; not trained again" in capsys.readouterr().err
    assert all(path.read_text() == "{" for path in foreign)
    for path in foreign:
        path.unlink()
