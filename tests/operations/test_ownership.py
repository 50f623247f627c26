"""Nothing of a user's is replaced: every command, in a folder full of foreign files, with hostile and sensible outputs.

A command or an option that names a file must have its place in `RUNS` or `PATHS`, or a test fails.
"""

import argparse
import shlex
import shutil
import zipfile

import pytest

from tests.bad import corpus, world
from trqam import __main__ as command_line
from trqam.experiment import run as cells

MINE = b"\x00mine, and nobody else's\r\n"
SEED = "results/tiny/<TASK>/trqam/seed3"
NAMED = ("notes.txt", "thesis.zip", "film.mp4", "film.gif", "bench.json", "config/own.yaml")  # any file of a user's
# What a command could take for a file of its own, or replace, because it has the right name.
PLACES = (
    "results/tiny/notes.txt",
    "results/tiny/resources.json",
    "results/tiny/trqam-tiny.zip",
    "results/tiny/<TASK>/trqam/seed0/notes.txt",
    "results/tiny/<TASK>/behaviour_cloning/seed0/run/offline/step000000020 (copy).safetensors",
    "results/tiny/pretrained/<DOMAIN>/base copy.safetensors",
    f"{SEED}/offline.csv",
    "results/tiny-rebuilt/MANIFEST.json",
    "results/tiny/paper/notes.tex",
    "results/tiny/paper/rollouts/<TASK>.json",
    "data/imported/mine.json",
    "data/imported/.mine.csv",
    "data/tiny/notes.txt",
    "data/tiny/<DOMAIN>/notes.txt",
    "data/tiny/official/notes.txt",
    "benchmarks/results/notes.json",
)
# A folder in which everything has a name that some command writes.
INSIDE = (
    *("toy_facts.tex", "toy.csv", "toy.txt", "theory.txt", "figures/toy.pdf"),
    *("metrics.csv", "runs.csv", "datasets.json", "manifests.json", "collected.json", "claims.json", "facts.tex"),
    *("per_task.csv", "per_task.json", "curves.csv", "compute.csv"),
    *("theory_facts.tex", "paper.pdf", "report.html", "figures/theory.pdf", "figures/theory.png", "MANIFEST.json"),
    *("figures/overall_bars.pdf", "tables/success.tex", "latex/main.tex", "REBUILT.json", "base.safetensors"),
    *("offline.csv", "offline.json", "timing.csv"),
    *("profile-offline-<TASK>-trqam-seed4.json", "profile-offline-<TASK>-trqam-seed4.txt", "card.json", "store.json"),
    *("observations.npy", "actions.npy", "terminals.npy"),
    *("paper/paper.pdf", "config/scale.yaml", "imported/authors.csv"),
)
OUTS = ("notes.txt", "thesis.zip", "config/own.yaml", "scale.yaml", "link", "dangling", "foreign", "folder-link")
RUNS = {
    "archive": [
        (2, "archive"),
        (0, "archive --out new/a.zip"),
        (0, "archive --out made.zip"),
        *((2, f"archive --out {out}") for out in (*OUTS, "config")),
    ],
    "bench": [(2, f"bench --quick --out {out} {force}") for out in OUTS for force in ("", "--force")],
    "clean": [(2, "clean <TASK> trqam"), (2, "clean <TASK> behaviour_cloning --seed 0"), (2, "clean <DOMAIN>")],
    "collect": [(0, "collect")],
    "convert": [
        *((2, f"convert <DOMAIN> <NPZ> --out {out}") for out in OUTS),
        (None, "convert <DOMAIN> <NPZ> --out config"),
        (None, "convert <DOMAIN>"),
    ],
    "doctor": [(None, "doctor --clear")],
    "evaluate": [
        *((2, f"evaluate <RUN> --episodes 1 --video {name}") for name in ("film.mp4", "film.gif", "link.mp4")),
        *((2, f"evaluate <RUN> --episodes 1 --video {name}") for name in ("dangling.gif", "folder.mp4")),
    ],
    "fetch": [(0, "fetch <DOMAIN> --offline")],
    "generate": [
        *((2, f"generate <DOMAIN> --out {out}") for out in OUTS),
        (None, "generate <DOMAIN> --out config"),
        (None, "generate <DOMAIN>"),
        (None, "generate <DOMAIN> --seed 7"),
    ],
    "golden": [(0, "golden reference.npz --tolerance 1")],
    "import": [
        (0, "import curves.pkl --as authors"),
        (0, "import curves.pkl --as new"),
        *((2, f"import curves.pkl --as {name} {force}") for name in ("mine",) for force in ("", "--force")),
    ],
    "plan": [(2, "plan --save")],
    "pretrain": [(0, "pretrain <DOMAIN> --profile-folder foreign")],
    "rebuild": [(2, "rebuild made.zip"), *((2, f"rebuild made.zip --out {out}") for out in (*OUTS, "config"))],
    "render": [(0, "render facts")],
    "rollouts": [(2, "rollouts <TASK>")],
    "status": [(0, "status")],
    "train": [
        (0, "train <TASK> trqam --stage offline --profile-folder foreign"),
        (2, "train <TASK> trqam --stage offline --seeds 3"),
        (2, "train <TASK> trqam --stage offline --seeds 4 --profile-folder foreign"),
    ],
}
# Options that name a file or folder: those that write there are in a run above.
PATHS = {
    "write": {"--out", "--video", "--profile-folder"},
    "read": {"--config", "--mirrors", "--data", "--show", "--compare"},
}


def filled(text):
    return corpus._filled(text)


def commands():
    """The parser of every command, by name."""
    (tree,) = [a for a in command_line.parser()._actions if isinstance(a, argparse._SubParsersAction)]
    return tree.choices


def litter(folder):
    """A user's own files, at every place that a command might write to; returns their names."""
    for name in ("new", "folder.mp4"):
        (folder / name).mkdir()
    with zipfile.ZipFile(folder / "thesis.zip", "w") as archive:
        archive.writestr("MANIFEST.json", "{}")
    names = [*NAMED, *PLACES, *(f"foreign/{name}" for name in INSIDE)]
    for name in map(filled, names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if name != "thesis.zip":
            (folder / name).write_bytes(MINE)
    for name in ("link", "link.mp4"):
        (folder / name).symlink_to("notes.txt")
    for name in ("dangling", "dangling.gif"):
        (folder / name).symlink_to("nowhere")
    (folder / "folder-link").symlink_to("foreign")
    return [*map(filled, names), "link", "link.mp4", "dangling", "dangling.gif", "folder-link", "scale.yaml"]


def test_every_command_and_every_option_that_names_a_file_is_here():
    assert commands().keys() == RUNS.keys()
    written = set()
    for name, parser in commands().items():
        for action in parser._actions:
            path = (action.metavar or "").startswith(("FILE", "FOLDER")) or "folder" in action.dest
            if action.option_strings and path:
                (option,) = action.option_strings
                assert option in PATHS["write"] | PATHS["read"], f"{name} {option}: may it replace a user's file?"
                written |= {(name, option)} & {(name, other) for other in PATHS["write"]}
    shown = {(name, word) for name, runs in RUNS.items() for _, run in runs for word in shlex.split(run)}
    assert written <= shown


@pytest.mark.parametrize(
    ("code", "run"), [run for runs in RUNS.values() for run in runs], ids=lambda value: str(value).replace("/", "|")
)
def test_no_command_touches_a_foreign_file(code, run, users_folder, tmp_path):
    folder = tmp_path / "work"
    shutil.copytree(users_folder, folder, symlinks=True)
    names = litter(folder)
    before = world.tree(folder)
    outcome = corpus.run(["--config", "scale.yaml", *shlex.split(filled(run))], folder)
    after = world.tree(folder)
    assert {name: after.get(name) for name in names} == {name: before[name] for name in names}, outcome.stderr
    if code is not None:
        assert outcome.code == code, outcome.stderr
    assert "Traceback" not in outcome.stderr
    if code == 2:
        assert len(outcome.stderr.splitlines()) == 1
        assert "foreign" not in run or "foreign" in outcome.stderr


def test_a_run_folder_goes_only_if_all_in_it_is_a_run_s(users_folder, tmp_path):
    folder = shutil.copytree(users_folder, tmp_path / "work", symlinks=True)
    for run in ("clean <TASK> trqam", "clean <DOMAIN>"):
        assert corpus.run(["--config", "scale.yaml", *shlex.split(filled(run))], folder).code == 0
    cell = cells.Cell(folder / filled("<RUN>"), 0)
    assert not cell.path.exists()
    cell.directory("offline").mkdir(parents=True)
    (folder / "elsewhere").mkdir()
    cell.directory("online").symlink_to(folder / "elsewhere")
    outcome = corpus.run(["--config", "scale.yaml", *shlex.split(filled("clean <TASK> trqam"))], folder)
    assert "run/online: no file of a run; move it away, then clean again" in outcome.stderr
    assert outcome.code == 2


def test_an_archive_of_the_same_scale_is_replaced_and_no_other(users_folder, tmp_path):
    folder = shutil.copytree(users_folder, tmp_path / "work", symlinks=True)
    made = (folder / "made.zip").read_bytes()
    for old, new, code in ((b"", b"", 0), (b'"scale": "tiny"', b'"scale": "ours"', 2)):
        with zipfile.ZipFile(folder / "made.zip") as archive:
            entries = {name: archive.read(name) for name in archive.namelist()}
        entries["MANIFEST.json"] = entries["MANIFEST.json"].replace(old, new)
        with zipfile.ZipFile(folder / "other.zip", "w") as archive:
            for name, content in entries.items():
                archive.writestr(name, content)
        before = (folder / "other.zip").read_bytes()
        outcome = corpus.run(shlex.split("--config scale.yaml archive --out other.zip"), folder)
        assert outcome.code == code, outcome.stderr
        assert (folder / "other.zip").read_bytes() == (before if code else made)
