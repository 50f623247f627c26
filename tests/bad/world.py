"""A user's folder as it is in the middle of work, small: configuration, data, runs, collected results, an archive."""

import contextlib
import hashlib
import io
import pickle
import shutil
from pathlib import Path

import numpy as np

from tests.helpers.episodes import shortened
from tests.helpers.stores import write_npz
from trqam.config import load as configuration
from trqam.data.generate import generate
from trqam.report.archive import pack
from trqam.report.collect import collect
from trqam.report.importing import import_curves
from trqam.training import blocks

ROOT = Path(__file__).parents[2]
DOMAIN = "pointmaze-medium-navigate"
TASK = f"{DOMAIN}-singletask-task2-v0"
NAMES = {
    "TASK": TASK,
    "DOMAIN": DOMAIN,
    "STORE": f"data/tiny/{DOMAIN}",
    "NPZ": f"data/tiny/official/{DOMAIN}-v0.npz",
    "RUN": f"results/tiny/{TASK}/trqam/seed0",
    "BASE": f"results/tiny/pretrained/{DOMAIN}",
    "PAPER": "results/tiny/paper",
}
CHANGES = {
    "tasks: [pointmaze-medium-navigate-singletask-task2-v0, cube-single-play-singletask-task1-v0]": f"tasks: [{TASK}]",
    "methods: [behaviour_cloning, qam, trqam]": "methods: [behaviour_cloning, trqam]",
    "seeds: 2\n": "seeds: 1\n",
    "seeds_per_job: 2\n": "seeds_per_job: 1\n",
}
CURVES = {(TASK, "QAM"): np.linspace(0, 1, 60).reshape(30, 2), ("all", "QAM"): np.full((30, 2), 0.5)}


def build(folder: Path) -> None:
    """Fill ``folder``, which is also the working folder; takes some five seconds."""
    shutil.copytree(ROOT / "config", folder / "config")
    text = (ROOT / "tests" / "tiny.yaml").read_text()
    for old, new in CHANGES.items():
        assert old in text, old
        text = text.replace(old, new)
    (folder / "scale.yaml").write_text(text)
    with contextlib.redirect_stderr(io.StringIO()), shortened():  # their progress; their evaluations
        _work(folder)


def _work(folder: Path) -> None:
    config = configuration.load("scale.yaml")
    store = config.data_directory(DOMAIN)
    generate(DOMAIN, store, config.scale.transitions, config.scale.data_seed)
    (folder / NAMES["NPZ"]).parent.mkdir()
    write_npz(store, folder / NAMES["NPZ"])
    blocks.pretrain(config, DOMAIN)
    for method in config.compared:
        for stage in config.stages(method):
            blocks.train(config, TASK, method, stage, [0])
    paper = folder / NAMES["PAPER"]
    collect(config, paper)
    (folder / "curves.pkl").write_bytes(pickle.dumps(CURVES))
    import_curves(config, "curves.pkl", "authors")
    pack(config, paper, "made.zip")
    shutil.copy(ROOT / "tests" / "golden" / "trqam_bc_f32.npz", folder / "reference.npz")


def tree(folder: Path) -> dict[str, str]:
    """What is in ``folder``, to be compared: files' sums and links' targets.

    Without locks, what is begun, and notes of what was verified.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        elif path.is_file() and not path.name.endswith(("lock", ".verified.json")) and ".unfinished" not in path.parts:
            found[name] = f"{path.stat().st_size} {hashlib.sha256(_beginning(path)).hexdigest()}"
    return found


def _beginning(path: Path) -> bytes:
    """All of a file, unless somebody made it enormous."""
    with open(path, "rb") as file:
        return file.read(2**24)
