"""Official files: what is taken for whole, from which mirror, without a network, and on to the store."""
# ruff: noqa: F401, F811 (fixtures are imported, and then are arguments)

import io
import json
import os
import sys
import zipfile

import numpy as np
import pytest
import yaml

from tests.conftest import ROOT
from tests.helpers.fetching import (
    BODY,
    CUBE,
    HALF,
    NAME,
    OTHER,
    assert_whole,
    get,
    known,
    left,
    npz,
    server,
    waits,
    write_table,
)
from tests.helpers.forks import forking
from tests.helpers.loopback import serve, status
from tests.helpers.stores import contents
from tests.workflow.test_workflow import snakemake
from trqam import __main__ as command_line
from trqam.config import load
from trqam.config.errors import UserError
from trqam.config.reading import read_json, sha256
from trqam.data.dataset import Dataset
from trqam.data.fetch import MEMBERS, fetch, official_files, placed
from trqam.data.generate import generate

MAZE = "pointmaze-medium-navigate"


def test_the_first_complete_download_records_its_sum_and_the_next_run_asks_nobody(get, server, capsys):
    path = get()
    assert_whole(path)
    assert left(path.parent) == ["checksums.json", NAME]
    recorded = read_json(path.parent / "checksums.json")
    assert recorded == {NAME: {"bytes": len(BODY), "sha256": sha256(path), "source": f"{server.url}/a/{NAME}"}}
    said = capsys.readouterr().err
    assert said.count("no sum is published; recorded") == 1
    assert get() == path
    assert len(server.requests) == 1
    assert "recorded" not in capsys.readouterr().err


def test_a_known_sum_needs_no_record(get, capsys):
    assert left(get(known=known(BODY)).parent) == [NAME]
    assert "recorded" not in capsys.readouterr().err


def test_a_recorded_sum_holds_ever_after(get, server):
    path = get()
    path.unlink()
    server.files[f"/a/{NAME}"] = OTHER
    with pytest.raises(UserError, match=r"not the recorded .*checksums\.json"):
        get()
    assert left(path.parent) == ["checksums.json"]
    server.files[f"/b/{NAME}"] = BODY
    assert_whole(get("ab"))


def test_a_file_of_unknown_length_is_judged_by_its_end(get, server):
    server.script["a"] = [serve(Content_Length=None, stop=len(BODY) - 10)] * 3
    with pytest.raises(UserError, match="not a whole npz file"):
        get()
    server.script["a"] = [serve(Content_Length=None)]
    assert_whole(get())


def without(position):
    body = bytearray(BODY)
    body[position] ^= 0xFF
    return bytes(body)


PAGE = b"<!DOCTYPE html><html>please log in</html>" * 5000


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (serve(PAGE, Content_Type="text/html"), "no npz file, but text/html"),
        (serve(BODY[:-100]), "not a whole npz file"),  # truncated at its source: the length agrees
        (serve(without(HALF)), "CRC|not a whole"),
        (serve(npz(0, leave_out=["qpos"])), "without qpos.npy"),
        (serve(b""), "not a whole npz file"),
        (status(403), "HTTP 403"),
    ],
)
def test_what_is_not_the_file_is_never_taken_for_it(get, server, waits, answer, reason):
    server.script["a"] = [answer]
    with pytest.raises(UserError, match=reason) as error:
        get()
    folder = error.value.args[0].split(NAME)[0]
    assert "\n" not in str(error.value)
    assert not os.path.exists(folder + NAME)
    assert not os.path.exists(folder + "checksums.json")
    assert waits == []  # no use in asking again
    server.script["a"] = [answer]
    assert_whole(get("ab"))


def test_wrong_bytes_are_thrown_away_and_the_next_mirror_asked(get, server, capsys):
    server.files[f"/a/{NAME}"] = OTHER  # sound, and of the same size
    assert len(OTHER) == len(BODY)
    assert_whole(get("ab", known=known(BODY)))
    assert server.paths == [f"/a/{NAME}", f"/b/{NAME}"]
    lines = capsys.readouterr().err.splitlines()
    assert sum("SHA-256" in line and "/a/" in line for line in lines) == 1


def test_a_wrong_size_is_seen_before_the_body_is_read(get, server):
    server.files[f"/a/{NAME}"] = npz(0, rows=400_000)  # 16 MB, more than the socket's buffers hold
    assert_whole(get("ab", known=known(BODY)))
    assert server.sent < len(server.files[f"/a/{NAME}"])
    assert server.paths == [f"/a/{NAME}", f"/b/{NAME}"]


# --- mirrors ---------------------------------------------------------------------------------------------------------


def test_mirrors_are_asked_in_order_and_the_one_that_gave_a_shard_first_for_the_next(get, server, waits):
    shards = [f"{CUBE}-v0-{shard:03d}.npz" for shard in range(3)]
    server.files = {f"/b/100m/{name}": npz(seed, 100) for seed, name in enumerate(shards)}
    assert get("ab", shards=3, folder="100m").name == shards[0]
    expected = [f"/a/100m/{shards[0]}", *(f"/b/100m/{name}" for name in shards)]
    assert server.paths == expected
    assert waits == []


def test_a_part_waits_for_the_mirror_it_came_from(get, server):
    """Another mirror's failure does not cost the part, and it is finished where it began."""
    server.script = {"a": [status(404)], "b": [serve(stop=HALF)] + [status(500)] * 3}
    with pytest.raises(UserError, match=r"a: HTTP 404; b: HTTP 500"):
        get("ab")
    assert_whole(get("ab"))
    assert server.paths[-1] == f"/b/{NAME}"
    assert server.ranges[-1] == f"bytes={HALF}-"


def test_another_mirror_starts_from_nothing(get, server):
    server.script["a"] = [serve(stop=HALF), status(403)]
    assert_whole(get("ab"))
    assert server.ranges == [None, f"bytes={HALF}-", None]


def test_nobody_there(get, server):
    url = server.url
    server.files.clear()
    with pytest.raises(UserError, match="404"):
        get("ab")
    server.shutdown()
    server.server_close()
    with pytest.raises(UserError, match=r"no answer \(Connection refused\)") as error:
        get()
    assert "\n" not in str(error.value)
    assert url not in str(error.value)


# --- without a network -----------------------------------------------------------------------------------------------


def test_offline_names_the_file_to_place_and_takes_it(get, server, tmp_path, monkeypatch):
    for way in ("argument", "environment"):
        monkeypatch.setenv("TRQAM_OFFLINE", "1" if way == "environment" else "0")
        with pytest.raises(UserError, match="offline") as error:
            get(offline=way == "argument")
        assert str(error.value).startswith(f"{tmp_path / 'official'}: {NAME}:")
        assert "\n" not in str(error.value)
    (tmp_path / "official" / NAME).write_bytes(BODY)
    assert_whole(get(offline=True))
    assert read_json(tmp_path / "official/checksums.json")[NAME]["source"] == "found in place"
    assert server.requests == []


def test_offline_lists_missing_shards_as_ranges(get, tmp_path):
    with pytest.raises(UserError):
        get(shards=100, offline=True)
    for shard in (3, 50):
        (tmp_path / "official" / f"{CUBE}-v0-{shard:03d}.npz").write_bytes(npz(shard, 10))
    with pytest.raises(UserError) as error:
        get(shards=100, offline=True)
    stem = f"{CUBE}-v0"
    runs = f"{stem}-000.npz to {stem}-002.npz, {stem}-004.npz to {stem}-049.npz, {stem}-051.npz to {stem}-099.npz"
    assert f": {runs} (98 files): not here, and offline" in str(error.value)


@pytest.mark.parametrize(
    ("text", "offline"),
    [("No", False), ("", False), ("off", False), ("1", True), ("true", True), ("YES", True), ("maybe", None)],
)
def test_offline_means_what_people_write(get, monkeypatch, text, offline):
    monkeypatch.setenv("TRQAM_OFFLINE", text)
    if offline is False:
        assert_whole(get())
    else:
        says = "not here, and offline" if offline else rf"TRQAM_OFFLINE: found '{text}'; write 1 to forbid a network"
        with pytest.raises(UserError, match=says):
            get()


def test_nothing_that_was_placed_by_hand_is_lost(get, server, tmp_path, capsys):
    folder = tmp_path / "official"
    folder.mkdir()
    (folder / f"{NAME}.wrong").write_bytes(b"an older one")
    (folder / NAME).write_bytes(b"not it")
    (folder / f"{NAME}.part").write_bytes(b"of a browser's")
    with pytest.raises(UserError, match="download it elsewhere and place it there"):
        get(offline=True)
    assert (folder / NAME).read_bytes() == b"not it"  # only to verify changes nothing
    assert_whole(get())
    said = capsys.readouterr().err
    assert f"{NAME}: not a whole npz file" in said
    assert f"moved to {NAME}.wrong2" in said
    assert f"{NAME}.part: of unknown origin; moved to {NAME}.wrong3" in said
    assert (folder / f"{NAME}.wrong").read_bytes() == b"an older one"
    assert (folder / f"{NAME}.wrong2").read_bytes() == b"not it"
    assert (folder / f"{NAME}.wrong3").read_bytes() == b"of a browser's"


def test_a_file_that_was_placed_during_the_download_stays(get, server, tmp_path):
    path = tmp_path / "official" / NAME

    inodes = []

    def place(handler, body):
        path.write_bytes(body)
        inodes.append(path.stat().st_ino)
        handler.send(200, body)

    server.script["a"] = [place]
    assert get() == path
    assert inodes == [path.stat().st_ino]
    assert left(path.parent) == ["checksums.json", NAME]


def test_what_is_no_file_is_named_and_stays(get, tmp_path):
    path = tmp_path / "official" / NAME
    path.parent.mkdir()
    path.symlink_to(tmp_path / "scratch" / "not mounted")
    with pytest.raises(UserError, match=rf"{path}: no file \(a folder, or a link to nothing\); "):
        get()
    assert path.is_symlink()


def test_a_damaged_record_and_a_folder_that_cannot_be_written(get, tmp_path):
    path = get()
    for text in ("[]", "{", json.dumps({NAME: {"sha256": "x"}})):
        (path.parent / "checksums.json").write_text(text)
        with pytest.raises(UserError, match=r"checksums\.json: .*; delete it"):
            get()
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        fetch(CUBE, tmp_path / "file" / "official", tmp_path / "mirrors.yaml")


# --- the table of mirrors --------------------------------------------------------------------------------------------


def test_every_dataset_of_the_paper_has_its_files():
    """The sizes of protocol and model card: 1M sets in one file, 10M in ten shards, 100M in a hundred."""
    table = ROOT / "config/mirrors.yaml"
    loaded = load.load(ROOT / "tests/tiny.yaml", {"domains_file": str(ROOT / "config/domains.yaml")})
    counts = {domain: len(official_files(domain, "x", table)) for domain in loaded.domains}
    assert {domain: count for domain, count in counts.items() if count > 1} == {
        "antmaze-giant-navigate": 10,
        "puzzle-4x4-play": 10,
        "cube-triple-play": 10,
        "cube-quadruple-play": 100,
    }
    assert official_files(CUBE, "x", table)[0].urls["berkeley"].endswith(f"/datasets/ogbench/{NAME}")
    last = official_files("cube-quadruple-play", "x", table)[-1]
    assert last.urls["berkeley"].endswith("/ogbench/cube-quadruple-play-100m-v0/cube-quadruple-play-v0-099.npz")
    for domain in counts:
        first = next(iter(official_files(domain, "x", table)[0].urls.values()))
        assert first.startswith("https://")
    names = {file.path.name for domain in counts for file in official_files(domain, "x", table)}
    assert set(yaml.safe_load(table.read_text())["known"]) <= names


def test_placed_names_what_is_missing(get, server, tmp_path):
    table = write_table(server, tmp_path, shards=2)
    server.files = {f"/a/{CUBE}-v0-{shard:03d}.npz": npz(shard, 10) for shard in range(2)}
    with pytest.raises(UserError, match=rf"{CUBE}-v0-000.npz to {CUBE}-v0-001.npz .*trqam fetch {CUBE}"):
        placed(CUBE, tmp_path / "official", table)
    first = get(shards=2)
    assert placed(CUBE, tmp_path / "official", table) == [first, first.with_name(f"{CUBE}-v0-001.npz")]


# --- to the store ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def maze_npz(tmp_path_factory):
    """A small maze dataset as OGBench's own file holds it."""
    folder = tmp_path_factory.mktemp("maze")
    generate(MAZE, folder, 60, seed=0)
    file = io.BytesIO()
    np.savez_compressed(file, **{m.removesuffix(".npy"): np.load(folder / m) for m in MEMBERS})
    return file.getvalue()


def test_fetch_and_convert_on_the_command_line(server, tmp_path, maze_npz, monkeypatch, capsys):
    name = f"{MAZE}-v0.npz"
    server.files[f"/a/{name}"] = maze_npz
    table = write_table(server, tmp_path, dataset=MAZE)
    monkeypatch.chdir(ROOT)
    folder = tmp_path / "official"

    def run(*arguments, code=None, mirrors=True):
        options = ["--config", "tests/tiny.yaml", "--set", f"data_dir={tmp_path}"]
        monkeypatch.setattr(
            sys, "argv", ["trqam", *options, *arguments, *(["--mirrors", str(table)] if mirrors else [])]
        )
        if code is None:
            return command_line.main()
        with pytest.raises(SystemExit) as stop:
            command_line.main()
        assert stop.value.code == code
        return capsys.readouterr().err

    assert f"{name}: not here" in run("convert", MAZE, code=2)
    assert name in run("fetch", MAZE, "--offline", code=2)
    run("fetch", MAZE)
    run("convert", MAZE)
    assert left(folder) == ["checksums.json", name]
    assert Dataset.open(tmp_path / MAZE, f"{MAZE}-singletask-task1-v0").size == 60
    run("convert", MAZE, "--delete-npz")
    assert left(folder) == ["checksums.json"]
    store = contents(tmp_path / MAZE)
    assert read_json(tmp_path / MAZE / "card.json")["source"] == "official"
    assert "source: holds official, not generated; remove" in run("generate", MAZE, code=2, mirrors=False)
    (tmp_path / MAZE / "card.json").unlink()  # as Snakemake does
    for arguments in (["fetch", MAZE, "--offline"], ["convert", MAZE, "--delete-npz"]):
        run(*arguments)
        assert "is stored, verified; its npz files are not needed any more" in capsys.readouterr().err
        assert contents(tmp_path / MAZE) == store
    assert len(server.requests) == 1
    np.load(tmp_path / MAZE / "actions.npy", mmap_mode="r+")[0] = 0.5
    assert "actions.npy: its SHA-256 is not the one" in run("convert", MAZE, code=2)
    assert f"{name}: not here, and offline" in run("fetch", MAZE, "--offline", code=2)
    run("fetch", MAZE)
    run("convert", MAZE)
    assert contents(tmp_path / MAZE) == store


def test_a_generated_store_is_said_before_files_that_could_not_replace_it_are_fetched(
    server, tmp_path, maze_npz, monkeypatch, capsys
):
    generate(MAZE, tmp_path / MAZE, 60, seed=0)
    server.files[f"/a/{MAZE}-v0.npz"] = maze_npz
    options = ["--config", "tests/tiny.yaml", "--set", f"data_dir={tmp_path}"]
    table = str(write_table(server, tmp_path, dataset=MAZE))
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["trqam", *options, "fetch", MAZE, "--mirrors", table])
    command_line.main()
    said = capsys.readouterr().err
    assert f"trqam: warning: {tmp_path}/{MAZE}/store.json: source: holds generated, not official; remove" in said
    assert (tmp_path / "official" / f"{MAZE}-v0.npz").is_file()


def test_the_workflow_fetches_and_stores(server, tmp_path, maze_npz):
    """The rule itself, through Snakemake, with the loopback for a mirror."""
    for name in ("workflow", "trqam", "tests", "paper", "environment.yml"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "config").mkdir()
    for path in (ROOT / "config").glob("*.yaml"):
        (tmp_path / "config" / path.name).symlink_to(path)
    (tmp_path / "config/mirrors.yaml").unlink()
    write_table(server, tmp_path / "config", dataset=MAZE)
    server.files[f"/a/{MAZE}-v0.npz"] = maze_npz
    card = f"data/tiny/{MAZE}/card.json"
    official = ("--configfile", "tests/tiny.yaml", "--config", "data_source=official")
    with forking(tmp_path):
        snakemake(tmp_path, card, *official)
        assert read_json(tmp_path / card)["source"] == "official"
        assert len(server.requests) == 1
        log = tmp_path / f"results/tiny/logs/dataset/{MAZE}.log"
        assert "verified, in data/tiny/official" in log.read_text()

        (tmp_path / f"data/tiny/official/{MAZE}-v0.npz").unlink()  # as `convert --delete-npz` does
        store = contents((tmp_path / card).parent)
        for arguments in (["--forceall"], ["--delete-all-output"], []):
            snakemake(tmp_path, card, *arguments, *official, TRQAM_OFFLINE="1")
    assert contents((tmp_path / card).parent) == store
    assert "is stored, verified; its npz files are not needed any more" in log.read_text()
    assert len(server.requests) == 1
