"""Fetching under every fault that a server, a network, a disk or a kill can bring; all on the loopback."""

import io
import os
import resource
import signal
import subprocess
import sys
import threading
import time
import zipfile

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import ROOT
from tests.loopback import Server, serve, status
from trqam import __main__ as command_line
from trqam import config
from trqam.artefacts import read_json, sha256
from trqam.data import download as downloading
from trqam.data.dataset import Dataset
from trqam.data.download import Patience, Refused
from trqam.data.fetch import MEMBERS, fetch, official_files, placed
from trqam.data.generate import generate
from trqam.errors import UserError

CUBE, MAZE = "cube-double-play", "pointmaze-medium-navigate"
NAME = f"{CUBE}-v0.npz"


def npz(seed, rows=4000, leave_out=()):
    """An npz file with OGBench's members, about 160 kB of noise, as bytes."""
    rng = np.random.default_rng(seed)
    names = sorted({member.removesuffix(".npy") for member in MEMBERS} - set(leave_out))
    file = io.BytesIO()
    np.savez(file, **{name: rng.integers(256, size=rows * 8, dtype=np.uint8) for name in names})
    return file.getvalue()


BODY, OTHER = npz(0), npz(1)
HALF = len(BODY) // 2


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.delenv("TRQAM_OFFLINE", raising=False)


@pytest.fixture
def server():
    server = Server()
    server.files = {f"/{mirror}/{NAME}": BODY for mirror in "ab"}
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.gate.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def waits():
    """The waits between attempts, none of them waited."""
    return []


@pytest.fixture
def get(server, tmp_path, waits):
    """A function that fetches the cube set into tmp_path/official; returns the path of its (first) file."""

    def get(mirrors="a", shards=0, known=None, folder="", offline=False, dataset=CUBE, **patience):
        table = write_table(server, tmp_path, mirrors, shards, known, folder, dataset)
        patience = Patience(**{"attempts": 3, "stall": 0.3, "sleep": waits.append, **patience})
        return fetch(dataset, tmp_path / "official", table, offline, patience)[0]

    return get


def write_table(server, folder, mirrors="a", shards=0, known=None, subfolder="", dataset=CUBE):
    path = folder / "mirrors.yaml"
    bases = {mirror: f"{server.url}/{mirror}" for mirror in mirrors}
    official = {"shards": shards, "folder": subfolder, "mirrors": list(mirrors)}
    path.write_text(yaml.safe_dump({"mirrors": bases, "datasets": {dataset: official}, "known": known or {}}))
    return path


def known(body, name=NAME):
    import hashlib

    return {name: {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}}


def left(folder):
    """Names in the folder but for locks."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def assert_whole(path, body=BODY):
    assert path.read_bytes() == body
    assert not list(path.parent.glob("*.part*"))


# --- what is whole -----------------------------------------------------------------------------------------------


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


def other_zip():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("holiday.jpg", b"x" * 1000)
    return file.getvalue()


PAGE = b"<!DOCTYPE html><html>please log in</html>" * 5000


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (serve(PAGE, Content_Type="text/html; charset=utf-8"), "HTML page"),
        (serve(PAGE), "not an npz file"),
        (serve(PAGE[: len(BODY)], etag=None), "not an npz file"),
        (serve(BODY[:-100]), "not a whole npz file"),  # truncated at its source: the length agrees
        (serve(without(HALF)), "CRC|not a whole"),
        (serve(other_zip()), "without actions.npy"),
        (serve(npz(0, leave_out=["qpos"])), "without qpos.npy"),
        (serve(b""), "not a whole npz file"),
        (serve(Content_Encoding="gzip"), "compressed"),
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


# --- transfers that break off ------------------------------------------------------------------------------------


@pytest.mark.parametrize("then", ["close", "reset", "stall"])
def test_a_broken_transfer_goes_on_where_it_stopped(get, server, waits, then):
    server.script["a"] = [serve(stop=HALF, then=then)]
    assert_whole(get())
    assert server.ranges == [None, f"bytes={HALF}-"]
    assert server.requests[1][1]["If-Range"] == '"1"'
    assert waits == [1]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, HALF), max_size=4))
def test_whatever_the_cuts_every_byte_is_sent_once(server, tmp_path_factory, cuts):
    folder = tmp_path_factory.mktemp("cuts")
    server.requests.clear()
    server.sent, server.script["a"] = 0, [serve(stop=cut) for cut in cuts]
    patience = Patience(attempts=6, sleep=lambda _: None)
    assert_whole(fetch(CUBE, folder, write_table(server, folder), patience=patience)[0])
    assert server.sent == len(BODY)


def test_attempts_are_bounded_and_wait_longer_each_time(get, server, waits):
    server.script["a"] = [status(500)] * 9
    with pytest.raises(UserError, match="HTTP 500, 4 times") as error:
        get(attempts=4)
    assert "by hand" in str(error.value)
    assert len(server.requests) == 4
    assert waits == [1, 2, 4]


def test_a_transfer_that_makes_headway_does_not_use_up_its_attempts(get, server, waits, monkeypatch):
    monkeypatch.setattr(downloading, "HEADWAY", 1000)
    server.script["a"] = [serve(stop=2000)] * 6
    assert_whole(get(attempts=2))
    assert waits == [1] * 6


@pytest.mark.parametrize(
    ("code", "after", "waited"),
    [
        (429, "7", 7),
        (503, "7", 7),
        (429, "0", 1),
        (429, None, 1),
        (429, "99999", 300),
        (429, "Fri, 31 Dec 2100 23:59:59 GMT", 300),
        (429, "Fri, 01 Jan 2010 00:00:00 GMT", 1),
        (429, "soon", 1),
    ],
)
def test_the_server_says_how_long_to_wait_within_reason(get, server, waits, code, after, waited):
    server.script["a"] = [status(code, Retry_After=after)]
    assert_whole(get())
    assert waits == [waited]


def test_a_server_that_ignores_ranges_sends_all_of_it_again(get, server, capsys):
    server.script["a"] = [serve(stop=HALF), serve(ranges=False)]
    assert_whole(get())
    assert server.ranges == [None, f"bytes={HALF}-"]
    assert "sends the whole file again" in capsys.readouterr().err


@pytest.mark.parametrize("heeded", [True, False])
@pytest.mark.parametrize("validator", ["etag", "modified"])
def test_a_file_that_changed_meanwhile_starts_again(get, server, heeded, validator):
    old, new = ('"1"', '"2"')
    if validator == "modified":
        old, new = "Mon, 01 Jan 2024 00:00:00 GMT", "Tue, 02 Jan 2024 00:00:00 GMT"
    no_etag = {} if validator == "etag" else {"etag": None}
    changed = serve(OTHER, if_range=heeded, **no_etag | {validator: new})
    server.script["a"] = [serve(stop=HALF, **no_etag | {validator: old})] + [changed] * 2
    assert_whole(get(), OTHER)
    assert server.requests[1][1]["If-Range"] == old
    assert server.ranges == [None, f"bytes={HALF}-", None][: 2 if heeded else 3]


def test_a_weak_validator_is_not_sent_but_compared(get, server):
    server.script["a"] = [serve(stop=HALF, etag='W/"1"'), serve(OTHER, etag='W/"2"'), serve(OTHER, etag='W/"2"')]
    assert_whole(get(), OTHER)
    assert ["If-Range" in headers for _, headers in server.requests] == [False] * 3


@pytest.mark.parametrize("said", ["bytes 5-9/10", "bytes */*", "bytes", "kilobytes 1-2/3", "", "bytes x-y/z"])
def test_a_range_that_is_not_the_rest_starts_again(get, server, said):
    server.script["a"] = [serve(stop=HALF), serve(Content_Range=said)]
    assert_whole(get())
    assert server.ranges == [None, f"bytes={HALF}-", None]


def test_an_answer_with_less_than_the_rest_is_not_the_end(get, server):
    span = {"Content_Range": f"bytes {HALF}-{HALF + 99}/{len(BODY)}"}
    server.script["a"] = [serve(stop=HALF), lambda handler, _: handler.send(206, BODY[HALF : HALF + 100], **span)]
    assert_whole(get())
    assert server.ranges == [None, f"bytes={HALF}-", f"bytes={HALF + 100}-"]


def test_a_part_longer_than_the_file_starts_again(get, server):
    server.script["a"] = [serve(stop=HALF)] + [status(500)] * 2
    with pytest.raises(UserError):
        get()
    smaller = npz(2, rows=1000)
    assert len(smaller) < HALF
    server.files[f"/a/{NAME}"] = smaller
    server.script["a"] = [serve(if_range=False)]
    assert_whole(get(), smaller)


def test_a_part_that_is_complete_is_not_asked_for_again(get, server, tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("trqam.data.fetch.publish", killed)
        with pytest.raises(KeyboardInterrupt):
            get()
    assert left(tmp_path / "official") == ["checksums.json", f"{NAME}.part", f"{NAME}.part.json"]
    assert_whole(get())
    assert len(server.requests) == 1


@pytest.mark.parametrize("notes", [None, b"", b"{}", b"\xff", b'{"url": 3}'])
def test_a_part_of_unknown_origin_is_not_trusted(get, server, tmp_path, notes):
    (tmp_path / "official").mkdir()
    (tmp_path / "official" / f"{NAME}.part").write_bytes(OTHER[:HALF])
    if notes is not None:
        (tmp_path / "official" / f"{NAME}.part.json").write_bytes(notes)
    assert_whole(get())
    assert server.ranges == [None]


def test_a_full_disk_keeps_what_came_and_says_so(get, server, tmp_path):
    """A limit on the size of files stands for the full disk: the write itself fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (HALF, before[1]))
    try:
        with pytest.raises(UserError, match="make room") as error:
            get()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert f"{NAME}.part: cannot be written" in str(error.value)
    assert_whole(get())
    assert server.ranges == [None, f"bytes={HALF}-"]


# --- mirrors -----------------------------------------------------------------------------------------------------


def test_mirrors_are_asked_in_order_and_the_one_that_gave_a_shard_first_for_the_next(get, server, waits):
    shards = [f"{CUBE}-v0-{shard:03d}.npz" for shard in range(3)]
    server.files = {f"/b/100m/{name}": npz(seed, 100) for seed, name in enumerate(shards)}
    assert get("ab", shards=3, folder="100m").name == shards[0]
    expected = [f"/a/100m/{shards[0]}", *(f"/b/100m/{name}" for name in shards)]
    assert server.paths == expected
    assert waits == []


def test_a_part_waits_for_the_mirror_it_came_from(get, server):
    """Another mirror's failure does not cost the part, and it is finished where it began."""
    server.script = {"a": [status(404)], "b": [serve(stop=HALF)] + [status(500)] * 2}
    with pytest.raises(UserError, match=r"a: HTTP 404; b: HTTP 500, 3 times"):
        get("ab")
    assert_whole(get("ab"))
    assert server.paths[-1] == f"/b/{NAME}"
    assert server.ranges[-1] == f"bytes={HALF}-"


def test_another_mirror_starts_from_nothing(get, server):
    server.script["a"] = [serve(stop=HALF)] + [status(500)] * 2
    assert_whole(get("ab"))
    assert server.ranges == [None, f"bytes={HALF}-", f"bytes={HALF}-", None]


def test_nobody_there(get, server):
    url = server.url
    server.files.clear()
    with pytest.raises(UserError, match="404"):
        get("ab")
    server.shutdown()
    server.server_close()
    with pytest.raises(UserError, match="no connection") as error:
        get()
    assert "\n" not in str(error.value)
    assert url not in str(error.value)


def redirect(target, code=302):
    return lambda handler, _: handler.send(code, Location=target)


def test_redirects_are_followed_with_the_range_and_resumed_at_the_first_address(get, server):
    server.files[f"/cdn/{NAME}"] = BODY
    server.script = {"a": [redirect(f"/cdn/{NAME}?signature=1"), redirect(f"{server.url}/cdn/{NAME}", 307)]}
    server.files[f"/cdn/{NAME}?signature=1"] = BODY
    server.script["cdn"] = [serve(stop=HALF)]
    assert_whole(get())
    assert [path.split("/")[1] for path in server.paths] == ["a", "cdn"] * 2
    assert server.ranges == [None, None, f"bytes={HALF}-", f"bytes={HALF}-"]


def test_redirects_end_and_do_not_leave_https(get, server, monkeypatch):
    server.script["a"] = [redirect(f"/a/{NAME}")] * 9
    with pytest.raises(UserError, match="more than 5 redirects"):
        get()
    server.script["a"] = [redirect("file:///etc/passwd")]
    with pytest.raises(UserError, match="file:///etc/passwd, which is not HTTPS"):
        get()

    class Redirect:
        is_redirect, headers, close = True, {"Location": f"{server.url}/a/{NAME}"}, staticmethod(lambda: None)

    monkeypatch.setattr(downloading.requests, "get", lambda *_, **__: Redirect)
    with pytest.raises(Refused, match="not HTTPS"):
        downloading._get("https://example.org/file", {}, Patience())


def test_no_credentials_are_sent(get, server, tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    server.script["a"] = [redirect(f"/b/{NAME}")]
    assert_whole(get())
    assert len(server.requests) == 2
    for _, headers in server.requests:
        assert not {"Authorization", "Cookie"} & set(headers)


# --- processes ---------------------------------------------------------------------------------------------------

CALL = "import sys; from trqam.data.fetch import fetch; fetch(*sys.argv[1:])"


def start(dataset, folder, table, log):
    command = [sys.executable, "-c", CALL, dataset, str(folder), str(table)]
    return subprocess.Popen(command, cwd=ROOT, stderr=log.open("wb"))


def until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_kill_in_the_middle_costs_only_the_rest(get, server, tmp_path):
    server.script["a"] = [serve(stop=HALF, then="hang")]
    part = tmp_path / "official" / f"{NAME}.part"
    process = start(CUBE, tmp_path / "official", write_table(server, tmp_path), tmp_path / "log")
    until(lambda: part.is_file() and part.stat().st_size == HALF)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    server.gate.set()
    assert server.sent == HALF
    assert_whole(get())
    assert server.ranges == [None, f"bytes={HALF}-"]
    assert server.sent == len(BODY)


def test_eight_processes_download_once(server, tmp_path):
    server.script["a"] = [serve(stop=HALF, then="stall")]
    table, folder = write_table(server, tmp_path), tmp_path / "official"
    logs = [tmp_path / f"log{number}" for number in range(8)]
    processes = [start(CUBE, folder, table, log) for log in logs]
    until(lambda: sum("waiting" in log.read_text() for log in logs) == 7)
    server.gate.set()
    assert [process.wait() for process in processes] == [0] * 8
    assert len(server.requests) == 1
    assert server.sent == len(BODY)
    assert_whole(folder / NAME)
    assert sum("recorded" in log.read_text() for log in logs) == 1


# --- without a network -------------------------------------------------------------------------------------------


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


def test_a_wrong_file_in_place_is_moved_aside(get, server, tmp_path, capsys):
    (tmp_path / "official").mkdir()
    (tmp_path / "official" / NAME).write_bytes(BODY[:-1])
    with pytest.raises(UserError, match="offline"):
        get(offline=True)
    assert left(tmp_path / "official") == [f"{NAME}.wrong"]
    assert f"moved to {NAME}.wrong" in capsys.readouterr().err
    assert_whole(get())


def test_a_damaged_record_and_a_folder_that_cannot_be_written(get, tmp_path):
    path = get()
    for text in ("[]", "{", '{"x": 1}'):
        (path.parent / "checksums.json").write_text(text)
        with pytest.raises(UserError, match=r"checksums\.json: damaged"):
            get()
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        fetch(CUBE, tmp_path / "file" / "official", tmp_path / "mirrors.yaml")


# --- the table of mirrors ----------------------------------------------------------------------------------------


def test_every_dataset_of_the_paper_has_its_files():
    """The sizes of protocol and model card: 1M sets in one file, 10M in ten shards, 100M in a hundred."""
    table = ROOT / "config/mirrors.yaml"
    loaded = config.load(ROOT / "tests/tiny.yaml", {"domains_file": str(ROOT / "config/domains.yaml")})
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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"datasets": {}}, "no 'cube-double-play'"),
        ({"mirrors": {"b": "https://example.org"}}, "unknown 'a'"),
        ({"mirrors": {"a": "https://me:secret@example.org"}}, "match"),
        ({"mirrors": {"a": "ftp://example.org"}}, "match"),
        ({"known": {NAME: {"bytes": 3, "sha256": "abc"}}}, "match"),
        ({"more": 1}, "more: unknown key"),
    ],
)
def test_a_mistake_in_the_table_is_one_line(server, tmp_path, change, message):
    table = write_table(server, tmp_path)
    table.write_text(yaml.safe_dump(yaml.safe_load(table.read_text()) | change))
    with pytest.raises(UserError, match=message) as error:
        official_files(CUBE, tmp_path, table)
    assert str(error.value).startswith(str(table))
    assert "\n" not in str(error.value)


def test_placed_names_what_is_missing(get, server, tmp_path):
    table = write_table(server, tmp_path, shards=2)
    server.files = {f"/a/{CUBE}-v0-{shard:03d}.npz": npz(shard, 10) for shard in range(2)}
    with pytest.raises(UserError, match=rf"{CUBE}-v0-000.npz to {CUBE}-v0-001.npz .*trqam fetch {CUBE}"):
        placed(CUBE, tmp_path / "official", table)
    get(shards=2)
    assert [path.name for path in placed(CUBE, tmp_path / "official", table)] == [
        f"{CUBE}-v0-000.npz",
        f"{CUBE}-v0-001.npz",
    ]


# --- to the store ------------------------------------------------------------------------------------------------


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

    def run(*arguments, code=None):
        options = ["--config", "tests/tiny.yaml", "--set", f"data_dir={tmp_path}"]
        monkeypatch.setattr(sys, "argv", ["trqam", *options, *arguments, "--mirrors", str(table)])
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
    assert read_json(tmp_path / MAZE / "card.json")["source"] == "official"
    assert len(server.requests) == 1


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
    command = [sys.executable, "-m", "snakemake", "--cores", "1", card, "--configfile", "tests/tiny.yaml"]
    options = {"cwd": tmp_path, "capture_output": True, "text": True}
    environment = {**os.environ, "PATH": f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run([*command, "--config", "data_source=official"], env=environment, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert read_json(tmp_path / card)["source"] == "official"
    assert len(server.requests) == 1
    log = (tmp_path / f"results/tiny/logs/dataset/{MAZE}.log").read_text()
    assert "verified, in data/tiny/official" in log
