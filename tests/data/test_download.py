"""Transfers under every fault that a server, a network, a disk or a kill can bring; all on the loopback."""
# ruff: noqa: F401, F811 (fixtures are imported, and then are arguments)

import contextlib
import re
import resource
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import ROOT
from tests.helpers.fetching import (
    BODY,
    CUBE,
    HALF,
    NAME,
    OTHER,
    assert_whole,
    get,
    left,
    npz,
    server,
    waits,
    write_table,
)
from tests.helpers.loopback import serve, status
from trqam.config.errors import UserError
from trqam.data import download as downloading
from trqam.data.download import Refused
from trqam.data.fetch import fetch


@pytest.mark.parametrize("then", ["close", "reset", "stall"])
def test_a_broken_transfer_goes_on_where_it_stopped(get, server, waits, then, monkeypatch):
    server.script["a"] = [serve(stop=HALF, then=then)]
    if then == "stall":
        monkeypatch.setattr(downloading, "TIMEOUT", (20, 1))
    assert_whole(get())
    assert server.ranges[0] is None
    assert set(server.ranges[1:]) == {f"bytes={HALF}-"}  # one, unless this machine stalls as well
    assert server.requests[1][1]["If-Range"] == '"1"'
    assert waits[0] == 1


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, HALF), max_size=2))
def test_whatever_the_cuts_every_byte_is_sent_once(server, waits, tmp_path_factory, cuts):
    folder = tmp_path_factory.mktemp("cuts")
    server.requests.clear()
    server.sent, server.script["a"] = 0, [serve(stop=cut) for cut in cuts]
    assert_whole(fetch(CUBE, folder, write_table(server, folder))[0])
    assert server.sent == len(BODY)


def test_attempts_are_bounded_and_wait_longer_each_time(get, server, waits):
    server.script["a"] = [serve(stop=100)] * 9
    with pytest.raises(UserError, match=r"broke \(.*\), 3 times") as error:
        get()
    assert "by hand" in str(error.value)
    assert len(server.requests) == 3
    assert waits == [1, 2]


def test_a_transfer_that_makes_headway_does_not_use_up_its_attempts(get, server, waits, monkeypatch):
    monkeypatch.setattr(downloading, "HEADWAY", 1000)
    server.script["a"] = [serve(stop=2000)] * 6
    assert_whole(get())
    assert waits == [1] * 6


@pytest.mark.parametrize(("after", "waited"), [("7", [7]), ("99999", [300]), (None, [])])
@pytest.mark.parametrize("code", [429, 503])
def test_the_server_says_how_long_to_wait_within_reason(get, server, waits, code, after, waited):
    server.script["a"] = [status(code, Retry_After=after)]
    assert_whole(get())
    assert waits == waited


def test_a_server_that_is_out_of_order_is_given_up(get, server, waits):
    server.script["a"] = [status(500)] * 3
    assert_whole(get("ab"))
    assert server.paths == [f"/a/{NAME}"] * 3 + [f"/b/{NAME}"]
    assert waits == [2]


def test_a_server_that_ignores_ranges_sends_all_of_it_again(get, server, capsys):
    server.script["a"] = [serve(stop=HALF), serve(ranges=False)]
    assert_whole(get())
    assert server.ranges == [None, f"bytes={HALF}-"]
    assert "sends the whole file again" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"etag": '"1"'}, {"etag": '"2"'}),
        ({"etag": None, "modified": "Mon, 01 Jan 2024 00:00:00 GMT"}, {"modified": "Tue, 02 Jan 2024 00:00:00 GMT"}),
    ],
)
def test_a_file_that_changed_meanwhile_starts_again(get, server, old, new):
    server.script["a"] = [serve(stop=HALF, **old), serve(OTHER, **old | new)]
    assert_whole(get(), OTHER)
    assert server.requests[1][1]["If-Range"] == [*old.values()][-1]


def test_a_mixture_of_two_versions_is_found(get, server):
    """A weak ETag says nothing of bytes, so the range is asked for without it."""
    server.script["a"] = [serve(stop=HALF, etag='W/"1"'), serve(OTHER, etag='W/"2"')]
    with pytest.raises(UserError, match=r"CRC|not a whole npz file"):
        get()
    assert_whole(get())
    assert server.ranges == [None, f"bytes={HALF}-", None]


@pytest.mark.parametrize("said", ["bytes 5-9/10", ""])
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
    server.script["a"] = [serve(stop=HALF), status(403)]
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


@pytest.mark.parametrize("notes", [None, b"{", b'{"url": 3}'])
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


# --- redirects -------------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize(
    ("location", "says"),
    [
        (f"/a/{NAME}", "no answer (Exceeded 5 redirects.)"),
        ("file:///etc/passwd", "redirects to file:///etc/passwd, which is not HTTPS"),
        ("https://[bad", "no answer (Invalid"),
        ("//[x", "no answer ("),
        (f"http://{'a' * 70}..b/", "no answer (Failed to parse"),
    ],
)
def test_a_redirect_that_leads_nowhere_is_refused_at_once(get, server, waits, location, says):
    server.script["a"] = [redirect(location)] * 6
    with pytest.raises(UserError, match=re.escape(f"a: {says}")) as error:
        get()
    assert "\n" not in str(error.value)
    assert waits == []
    server.script["a"] = [redirect(location)] * 6
    assert_whole(get("ab"))


def test_a_redirect_does_not_leave_https():
    response = SimpleNamespace(url="https://example.org/file")
    for target, right in (("https://cdn.org/file", True), ("http://cdn.org/file", False)):
        with contextlib.nullcontext() if right else pytest.raises(Refused, match="not HTTPS"):
            downloading.Session().rebuild_auth(SimpleNamespace(url=target), response)


# --- what the environment says of connections ------------------------------------------------------------------------

SETTINGS = [
    ("REQUESTS_CA_BUNDLE", "/gone/bundle.pem", "invalid path: /gone/bundle.pem"),
    ("all_proxy", "socks5://me:secret@127.0.0.1:9", "Missing dependencies for SOCKS support"),
    ("HTTP_PROXY", "http://", "[Pp]roxy URL"),
    ("HTTP_PROXY", "http://me:secret@[bad", "Failed to parse"),
    ("http_proxy", "http://127.0.0.1:9", "Connection refused"),
]


@pytest.mark.parametrize(("name", "value", "says"), SETTINGS)
def test_a_setting_that_cannot_work_is_named(get, server, monkeypatch, name, value, says):
    monkeypatch.delenv("NO_PROXY")
    monkeypatch.setenv(name, value)
    scheme = "https" if name == "REQUESTS_CA_BUNDLE" else "http"
    monkeypatch.setattr(type(server), "url", f"{scheme}://127.0.0.1:{server.server_address[1]}")
    with pytest.raises(UserError, match=rf"no answer \(.*{says}.*, with {name} set\)") as error:
        get()
    assert "\n" not in str(error.value)
    assert "secret" not in str(error.value)
    assert server.requests == []


@pytest.mark.parametrize("length", ["9" * 5000, "1_0"])
def test_a_length_that_is_no_number_is_unknown(get, server, length):
    server.script["a"] = [lambda handler, body: handler.send(200, body, Content_Length=length)]
    with contextlib.suppress(UserError):  # the library itself may refuse it
        get()
    assert_whole(get())


def test_no_credentials_are_sent(get, server, tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    server.script["a"] = [redirect(f"/b/{NAME}")]
    assert_whole(get())
    assert len(server.requests) == 2
    for _, headers in server.requests:
        assert not {"Authorization", "Cookie"} & set(headers)


# --- processes -------------------------------------------------------------------------------------------------------


CALL = "import sys; from trqam.data.fetch import fetch; fetch(*sys.argv[1:])"


def start(dataset, folder, table, log):
    command = [sys.executable, "-c", CALL, dataset, str(folder), str(table)]
    return subprocess.Popen(command, cwd=ROOT, stderr=log.open("wb"))


def until(condition):
    deadline = time.monotonic() + 120
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


def test_certificates_are_verified():
    with downloading.Session() as session:
        assert session.verify is True
        assert session.trust_env  # a company's own bundle is named by REQUESTS_CA_BUNDLE
