"""The archive: what goes in comes out, bit for bit, and nothing else does."""

import errno
import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.helpers import fake_results
from tests.helpers.illustrations import shorten
from tests.helpers.project import copy_of_the_project
from trqam.config.errors import UserError
from trqam.experiment.files import write_atomically, write_json
from trqam.report import archive
from trqam.report.archive import rebuild
from trqam.report.build import Build
from trqam.report.statistics import round_half_up

ROOT = Path(__file__).parents[2]
TASK = fake_results.TASK


def write_results(config, folder):
    """Invented results in ``folder``/paper and ``folder``/imported, as the pipeline leaves them."""
    paper = folder / "paper"
    fake_results.write(config, paper)
    write_atomically(folder / "imported" / "authors.csv", imported_curves())
    write_atomically(paper / "rollouts" / f"{TASK}.png", b"\x89PNG picture")
    strip = {"task": TASK, "rendered": True, "caption": "One episode.", "text": "success"}
    write_json(paper / "rollouts" / f"{TASK}.json", strip)
    return folder


def imported_curves() -> str:
    """Two seeds of a domain in the middle and at the end of each stage."""
    header = "task,domain,method,seed,stage,step,total_step,status,success,source"
    rows = [
        f",cube-triple-play,{method},{seed},{stage},{step},{total},OK,0.{5 + seed},authors"
        for method in ("qam", "trqam")
        for seed in (0, 1)
        for stage, step, total in (("offline", 50_000, 50_000), ("online", 50_000, 1_050_000))
    ]
    return "\n".join([header, *rows]) + "\n"


@pytest.fixture(scope="module")
def config():
    return fake_results.small_config()


@pytest.fixture(scope="module")
def results(config, tmp_path_factory):
    """Results, with a checkpoint that must stay out."""
    folder = write_results(config, tmp_path_factory.mktemp("results"))
    write_atomically(folder / "paper" / "checkpoint.safetensors", b"not for the archive")
    return folder


@pytest.fixture(scope="module")
def packed(config, results):
    return archive.pack(config, results / "paper", results / "made.zip", results / "imported")


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_goes_in_comes_out(config, results, packed):
    manifest, found = archive.read(packed)
    assert found.keys() == manifest.members.keys()
    for name in archive.COLLECTED:
        assert found[f"paper/{name}"] == (results / "paper" / name).read_bytes()
    assert found[f"paper/rollouts/{TASK}.png"] == b"\x89PNG picture"
    assert found["imported/authors.csv"].decode() == imported_curves()
    for name, path in (("scale", "config"), ("domains", "domains"), ("methods", "methods"), ("claims", "claims")):
        assert found[f"config/{name}.yaml"] == (ROOT / "config" / f"{path}.yaml").read_bytes()
    assert not any("checkpoint" in name or "safetensors" in name for name in found)
    assert manifest.versions["numpy"]


def test_equal_results_give_equal_bytes(config, results, packed, tmp_path, monkeypatch):
    for path in results.rglob("*"):
        os.utime(path, (1e9, 1e9))
    again = archive.pack(config, results / "paper", tmp_path / "again.zip", results / "imported")
    assert again.read_bytes() == packed.read_bytes()
    with zipfile.ZipFile(packed) as opened:
        names = opened.namelist()
        assert names == sorted(names)
        assert {entry.date_time for entry in opened.infolist()} == {archive.EPOCH}


@pytest.mark.parametrize("name", archive.COLLECTED)
def test_what_is_missing_is_named_with_what_makes_it(config, results, tmp_path, name):
    folder = shutil.copytree(results / "paper", tmp_path / "paper")
    (folder / name).unlink()
    with pytest.raises(UserError, match=rf"{name}: missing; run `snakemake --cores all paper --configfile config/"):
        archive.pack(config, folder, tmp_path / "x.zip", results / "imported")
    assert not (tmp_path / "x.zip").exists()


def test_only_regular_files_of_ours_go_in(config, results, packed, tmp_path):
    folder = shutil.copytree(results, tmp_path / "results")
    for part in (folder / "imported", folder / "paper" / "rollouts"):
        for name in (".DS_Store", "x.csv~", "x.csv.bak", "notes.txt", "._authors.csv"):
            (part / name).write_text("x")
        for suffix in (".csv", ".png", ".json"):
            (part / f"folder{suffix}").mkdir()
            os.mkfifo(part / f"pipe{suffix}")
            (part / f"dangling{suffix}").symlink_to("nowhere")
    again = archive.pack(config, folder / "paper", tmp_path / "again.zip", folder / "imported")
    assert again.read_bytes() == packed.read_bytes()
    (folder / "imported" / "mine.csv").write_text("my,own\n1,2\n")
    with pytest.raises(UserError, match=r"mine\.csv: not an imported table"):
        archive.pack(config, folder / "paper", tmp_path / "again.zip", folder / "imported")


def test_results_of_another_configuration_are_refused(results, tmp_path):
    for overrides in ({"batch_size": 32}, {"seeds": 2}, {"tasks": [TASK]}):
        with pytest.raises(UserError, match=r"made for another configuration than config/config.yaml .*; give the --c"):
            archive.pack(fake_results.small_config(**overrides), results / "paper", tmp_path / "x.zip", tmp_path)


# Archives that were tampered with; most ways are cases in tests/bad. Each takes the entries of a sound one, and leaves
# those of another.


def declared(name, content=b"x"):
    """One member more, or other, and named in the manifest, as an attacker would."""

    def change(entries):
        manifest = json.loads(entries[archive.MANIFEST])
        manifest["members"][name] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
        return {**entries, name: content, archive.MANIFEST: json.dumps(manifest).encode()}

    return change


def collected(name, content):
    """Another table, which collected.json and the manifest both name."""

    def change(entries):
        record = json.loads(entries["paper/collected.json"])
        record["files"][name] = hashlib.sha256(content).hexdigest()
        entries = declared("paper/collected.json", json.dumps(record).encode())(entries)
        return declared(f"paper/{name}", content)(entries)

    return change


def said(**values):
    return lambda entries: {
        **entries,
        archive.MANIFEST: json.dumps({**json.loads(entries[archive.MANIFEST]), **values}).encode(),
    }


def replaced(name, content=b"x"):
    return lambda entries: {**entries, name: content}


def without(name):
    return lambda entries: {key: content for key, content in entries.items() if key != name}


def write_zip(path, entries, mode=0):
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
        warnings.simplefilter("ignore")  # of names that are there twice
        for name, content in entries:
            entry = zipfile.ZipInfo(name)
            entry.external_attr = mode << 16
            opened.writestr(entry, content)
    return path


def entries_of(path):
    with zipfile.ZipFile(path) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


@pytest.fixture
def refuse(tmp_path, monkeypatch):
    """Expects that ``rebuild`` refuses the archive in one line, and that no file appears anywhere."""
    place = tmp_path / "place" / "deep"
    place.mkdir(parents=True)
    monkeypatch.chdir(place)

    def check(path, match):
        with pytest.raises(UserError, match=match) as error:
            rebuild(path)
        assert str(error.value).isprintable()
        assert not files(tmp_path / "place"), "something was left behind"

    return check


METRICS = b"task,domain,method,seed,stage,step,total_step,status,success\n" + f"{TASK},d,trqam,0,offline,".encode()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        *((declared(name), "no archive has such a member") for name in (
            "paper/../../evil", "imported/..", "C:\\evil", "paper/rollouts/a/b", "paper/rollouts/.hidden", "evil.py",
            "config/evil.yaml", "imported/a\nb", "paper/", "imported/", "MANIFEST.JSON",
        )),
        (replaced("imported/x.csv"), "imported/x.csv: missing, twice or not in MANIFEST.json; copy it again"),
        (without("paper/metrics.csv"), "paper/metrics.csv: missing, twice or not in"),
        (lambda entries: said(members={})(without("paper/metrics.csv")(entries)), "missing, twice or not in"),
        (replaced("paper/runs.csv", b"task\n"), r"paper/runs\.csv: not the file that MANIFEST\.json names"),
        (said(format=2), "format 2, this code reads 3; use the code that wrote it, commit"),
        (said(format="1"), "MANIFEST.json: damaged"),
        (said(overrides={"no_such_key": 1}), "no_such_key: unknown key"),
        (said(overrides={"tasks": ["../../etc"]}), "tasks"),
        (replaced("MANIFEST.json", b"{"), "no sound archive"),
        (replaced("MANIFEST.json", b"\xff"), "no sound archive"),
        (replaced("MANIFEST.json", b"[" * 100_000), "damaged"),
        (declared("config/scale.yaml", b"[" * 20_000), "nested too deeply"),
        (declared("paper/metrics.csv", b"task\n1\n"), r"metrics\.csv: not what `trqam collect` wrote"),
        (collected("metrics.csv", b""), r"bad\.zip/paper/metrics\.csv: damaged, not a table"),
        (collected("metrics.csv", b"task\n1\n"), r"metrics\.csv: domain: column missing"),
        (collected("metrics.csv", METRICS + b"0,0,OK,2\n"), "success: is not from 0 to 1 in every row"),
        (collected("metrics.csv", METRICS + b"0,last,OK,1\n"), "total_step: holds what is no number"),
        (collected("metrics.csv", METRICS.replace(b"trqam", b"x") + b"0,0,OK,1\n"), "method: 'x' is not of config/"),
        (collected("runs.csv", b"task\n1\n"), r"runs\.csv: method: column missing"),
        (collected("datasets.json", b"[]"), r"datasets\.json: damaged"),
        (collected("manifests.json", b"{}"), r"manifests\.json: damaged"),
        (collected("manifests.json", b"[" * 100_000), r"manifests\.json: damaged"),
        (declared("imported/authors.csv", b"x"), "authors.csv"),
    ],
)  # fmt: skip
def test_tampering_is_one_line_and_leaves_nothing(packed, tmp_path, refuse, change, match):
    refuse(write_zip(tmp_path / "bad.zip", change(entries_of(packed)).items()), match)


def test_sizes_are_what_they_are_declared_to_be(packed, tmp_path, refuse):
    manifest = json.loads(entries_of(packed)["MANIFEST.json"])
    wrong = r"paper/runs\.csv: not the file|size: found|unpacks to more than 1024 MiB"
    for size in (0, 10**15, -1):
        manifest["members"]["paper/runs.csv"]["size"] = size
        changed = replaced("MANIFEST.json", json.dumps(manifest).encode())(entries_of(packed))
        refuse(write_zip(tmp_path / "bad.zip", changed.items()), wrong)


def test_a_link_is_a_plain_file_and_a_double_is_refused(packed, tmp_path, refuse, quick):
    entries = [*declared("paper/rollouts/a.png", b"/etc/passwd")(entries_of(packed)).items()]
    rebuild(write_zip(tmp_path / "links.zip", entries, stat.S_IFLNK | 0o777), tmp_path / "out")
    assert not any(path.is_symlink() for path in (tmp_path / "out").rglob("*"))
    assert (tmp_path / "out/paper/rollouts/a.png").read_bytes() == b"/etc/passwd"
    refuse(write_zip(tmp_path / "bad.zip", [*entries, entries[-1]]), "missing, twice or not in")


def test_a_bomb_that_lies_about_its_size_is_stopped(packed, tmp_path, refuse):
    """The directory says that a member is small, and it is not."""
    large = b"0" * 50_000_000
    entries = declared("imported/b.csv", large)(entries_of(packed)).items()
    content = write_zip(tmp_path / "bad.zip", entries).read_bytes()
    true, small = len(large).to_bytes(4, "little"), (100).to_bytes(4, "little")
    assert content.count(true) >= 2
    (tmp_path / "bad.zip").write_bytes(content.replace(true, small))
    refuse(tmp_path / "bad.zip", "no sound archive|not the file")


def test_unknown_methods_of_packing_are_refused(packed, tmp_path, refuse):
    content = packed.read_bytes()
    for method in (99, 14):  # unknown, and LZMA
        changed = bytearray(content)
        changed[content.index(b"PK\x01\x02") + 10] = method
        (tmp_path / "bad.zip").write_bytes(changed)
        refuse(tmp_path / "bad.zip", "no sound archive")


def test_every_damaged_byte_is_found(packed, tmp_path):
    """A flipped bit anywhere leaves either the same content or one line."""
    content, (_, expected) = packed.read_bytes(), archive.read(packed)
    for position in range(0, len(content), len(content) // 150):
        changed = bytearray(content)
        changed[position] ^= 0x10
        (tmp_path / "bad.zip").write_bytes(changed)
        try:
            assert archive.read(tmp_path / "bad.zip")[1] == expected
        except UserError:
            continue


FULL = r"cannot be written \(File too large\); make room on the disk, then run the same command again"


def test_a_full_disk_is_named_and_not_the_archive(packed, tmp_path, small_files):
    for size in (0, 1000, 5000):
        with small_files(size), pytest.raises(UserError, match=rf"^{tmp_path}/out/\S+: {FULL}$"):
            rebuild(packed, tmp_path / "out")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=rf"^{tmp_path}/file/out/\S+: cannot be written \(Not a directory\)"):
        rebuild(packed, tmp_path / "file" / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"file"}


def test_an_archive_that_the_disk_does_not_take_is_named(config, results, packed, tmp_path, small_files):
    out = tmp_path / "a.zip"
    out.write_bytes(packed.read_bytes())
    with small_files(1000), pytest.raises(UserError, match=rf"^{out}: {FULL}$"):
        archive.pack(config, results / "paper", out, results / "imported")
    assert out.read_bytes() == packed.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_an_archive_that_the_disk_does_not_give_is_named(packed, tmp_path, refuse, monkeypatch):
    def read(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(zipfile.ZipExtFile, "read", read)
    refuse(packed, rf"^{packed}: cannot be read \(Input/output error\); give a file that")


@pytest.mark.campaign
@pytest.mark.parametrize("scale", ["small", "overnight", "beyond"])
def test_an_archive_in_the_repository_makes_the_paper_that_the_docs_show(scale, tmp_path):
    packed = ROOT / f"archives/{scale}.zip"
    pdf, page = rebuild(packed, tmp_path / "out")
    assert pdf.read_bytes().startswith(b"%PDF")
    assert "puzzle-3x3 task 1" in page.read_text()
    config = archive.configuration_in(tmp_path / "out", archive.read(packed)[0])
    lines = [*shown(config, pdf.parent)]
    assert len(lines) >= len({method for _, method in config.cells})
    for line in lines:
        assert line in (ROOT / f"docs/{scale}.md").read_text()


def shown(config, folder: Path):
    """The rows of the tables that the docs have of an archive's paper: success offline and online and the last path
    KL, of every method on task 1; and of a method with several tasks the success on each, a row a stage."""
    success, curves = (pd.read_csv(folder / name) for name in ("per_task.csv", "curves.csv"))
    final = success[success.convention == "final"].set_index(["method", "stage", "task"])
    cells = {key: f"{round_half_up(row['mean'])} ± {round_half_up(row['std'])}" for key, row in final.iterrows()}
    task = config.tasks[0]
    logged = curves[(curves.stage == "offline") & (curves.task == task)].sort_values("step")
    last = logged.groupby("method").path_kl.last()
    for method in dict.fromkeys(success.method):
        kl = last.get(method, np.nan)
        values = [cells.get((method, stage, task), "") for stage in ("offline", "online")]
        yield _row(config.methods[method].label, *values, "" if np.isnan(kl) else f"{kl:.3g}")
        tasks = [task for task, other in config.cells if other == method]
        for stage in config.stages(method) if len(tasks) > 1 else ():
            values = [cells[method, stage, task] for task in tasks]
            yield _row(f"{config.methods[method].label}, {stage}", *values)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |".replace("|  ", "| ")


@pytest.fixture
def quick(monkeypatch):
    """Rebuilds that write one file in place of the report; returns what they are given."""
    built = []

    def everything(build):
        built.append(build)
        (build.folder / "paper.pdf").write_text(f"{len(built)}")

    monkeypatch.setattr(Build, "everything", everything)
    return built


def test_an_earlier_rebuild_is_replaced_and_nothing_else_is(packed, tmp_path, monkeypatch, quick):
    monkeypatch.chdir(tmp_path)
    pdf, page = rebuild(packed)
    assert (pdf, page) == (Path("results/small-rebuilt/paper/paper.pdf"), pdf.with_name("report.html"))
    (pdf.parent / "metrics.csv").unlink()  # nothing that would be lost
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    killed, alive = (Path(f"results/.small-rebuilt.{number}.tmp") for number in (gone.pid, os.getppid()))
    for folder in (killed, alive, killed.with_name(f".small-rebuilt.{os.getpid()}.tmp")):
        (folder / "paper").mkdir(parents=True)
    assert rebuild(packed) == (pdf, page)
    assert [path.name for path in Path("results").glob(".small-rebuilt.*")] == [alive.name]
    shutil.rmtree(alive)
    assert pdf.read_text() == "2"
    assert (pdf.parent / "metrics.csv").exists()
    Path("mine").mkdir()
    assert rebuild(packed, "mine")[0] == Path("mine/paper/paper.pdf")  # it was empty
    Path("data").mkdir()
    Path("data/precious").touch()
    Path("file").touch()
    Path("link").symlink_to("mine")
    Path("dangling").symlink_to("nowhere")
    for name in ("data", "file", "link", "dangling"):
        with pytest.raises(UserError, match=f"{name}: exists and is no earlier rebuild; name another folder"):
            rebuild(packed, name)
    assert Path("data/precious").exists()
    assert os.listdir("results") == ["small-rebuilt"]
    assert {*os.listdir()} == {"results", "mine", "data", "file", "link", "dangling"}


@pytest.mark.parametrize(
    ("touch", "match"),
    [
        (lambda folder: (folder / "notes.txt").write_text("mine"), "notes.txt: not as the rebuild wrote it, and would"),
        (lambda folder: (folder / "paper" / "x" / "y").mkdir(parents=True), "paper/x/y: not as the rebuild wrote"),
        (lambda folder: (folder / "paper" / "a\nb").touch(), r"paper/a\\nb: not as the rebuild wrote"),
        (lambda folder: os.mkfifo(folder / "pipe"), "pipe: not as the rebuild wrote"),
        (lambda folder: (folder / "link").symlink_to("paper"), "link: not as the rebuild wrote"),
        (lambda folder: (folder / "paper" / "paper.pdf").write_text("mine"), "paper.pdf: not as the rebuild wrote"),
        (lambda folder: (folder / "REBUILT.json").write_text("{}"), "REBUILT.json: files: missing; name another"),
        (lambda folder: (folder / "REBUILT.json").write_text("mine"), "REBUILT.json: damaged, not JSON"),
    ],
)  # fmt: skip
def test_a_rebuild_in_which_somebody_worked_is_left_alone(packed, tmp_path, quick, touch, match):
    rebuild(packed, tmp_path / "out")
    touch(tmp_path / "out")
    before = files(tmp_path)
    with pytest.raises(UserError, match=match) as error:
        rebuild(packed, tmp_path / "out")
    assert str(error.value).isprintable()
    assert files(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_is_added_while_it_is_made_is_not_lost(packed, tmp_path, monkeypatch, quick):
    rebuild(packed, tmp_path / "out")
    monkeypatch.setattr(Build, "everything", lambda build: (tmp_path / "out" / "late").touch())
    with pytest.raises(UserError, match="late: not as the rebuild wrote"):
        rebuild(packed, tmp_path / "out")
    assert (tmp_path / "out" / "late").exists()


def test_a_rebuild_that_fails_leaves_the_earlier_one(packed, tmp_path, monkeypatch, quick):
    rebuild(packed, tmp_path / "out")
    before = files(tmp_path)

    def fail(build):
        (build.folder / "half done").touch()
        raise UserError(f"{build.folder}/latex/main.log: ! broken")

    monkeypatch.setattr(Build, "everything", fail)
    with pytest.raises(UserError, match=rf"^{packed}/paper/latex/main\.log: ! broken$"):
        rebuild(packed, tmp_path / "out")
    assert files(tmp_path) == before


def test_other_versions_are_noticed_and_no_hindrance(packed, tmp_path, capsys, quick, monkeypatch):
    rebuild(packed, tmp_path / "same")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(archive, "provenance", lambda: {"git_commit": 40 * "1"})
    manifest = json.loads(entries_of(packed)["MANIFEST.json"])
    versions = {**manifest["versions"], "numpy": "1.0", "a package of tomorrow": "3"}
    entries = said(versions=versions, git_commit="0" * 40)(entries_of(packed))
    rebuild(write_zip(tmp_path / "old.zip", entries.items()), tmp_path / "other")
    notice = capsys.readouterr().err
    assert notice.count("\n") == 1
    assert "made with numpy 1.0, here " in notice
    assert "commit 000000000000, here 111111111111" in notice


def test_the_report_is_made_of_what_the_archive_holds(config, packed, tmp_path, quick, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where no configuration is
    rebuild(packed, tmp_path / "out")
    assert quick[0].config == config
    inside = quick[0].folder.parent
    assert all(Path(path).is_relative_to(inside) for path in quick[0].sources.values())
    assert quick[0].sources.keys() == {"imported", "reported", "claims"}


def test_a_rebuild_has_the_bytes_of_the_workflow(config, tmp_path, smaller, monkeypatch):
    """One build as the rules do it, one from the archive in another process, folder and order of hashing."""
    made = write_results(config, tmp_path / "made")
    monkeypatch.setattr("trqam.report.build.cores", lambda: 1)
    Build(config, made / "paper", imported=made / "imported").everything()
    packed = archive.pack(config, made / "paper", tmp_path / "a.zip", made / "imported")
    place = tmp_path / "elsewhere"
    place.mkdir()
    (project := tmp_path / "project").mkdir()
    shorten(copy_of_the_project(project))
    environment = {**os.environ, "PYTHONPATH": str(project), "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"}
    command = [sys.executable, "-m", "trqam", "rebuild", str(packed)]
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = files(place / "results" / "small-rebuilt" / "paper")
    assert found.pop("reported.csv")
    assert found.pop("protocol.json")
    expected = files(made / "paper")
    assert found.keys() == expected.keys()
    assert [name for name in found if found[name] != expected[name]] == []
    assert {
        "paper.pdf",
        "report.html",
        "claims.json",
        "per_task.csv",
        "per_task.json",
        "figures/theory.pdf",
    } <= found.keys()
    assert "tables/imported.tex" in found
    assert done.stdout.split() == [f"results/small-rebuilt/paper/{name}" for name in ("paper.pdf", "report.html")]


@pytest.mark.parametrize(("given", "program"), [(["FROM=a file.zip"], 'trqam rebuild "a file.zip"'), ([], "snakemake")])
def test_make_rebuilds_from_an_archive(given, program):
    alone = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}  # not as make's own child
    asked = subprocess.run(["make", "-n", "paper", *given], cwd=ROOT, env=alone, capture_output=True, text=True).stdout
    assert program in asked
    assert ("snakemake" in asked) == (program == "snakemake")
