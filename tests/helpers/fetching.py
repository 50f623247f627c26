"""Fixtures of the tests of fetching: a scripted server, and a function that fetches from it without waiting."""

import hashlib
import io
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from tests.helpers.loopback import Server
from trqam.data.download import SETTINGS
from trqam.data.fetch import MEMBERS, fetch

CUBE = "cube-double-play"
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


@pytest.fixture
def server(monkeypatch):
    """A server with the cube set at two mirrors, /a and /b."""
    for name in (*SETTINGS, *map(str.lower, SETTINGS)):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.delenv("TRQAM_OFFLINE", raising=False)
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
def waits(monkeypatch):
    """The waits between attempts, none of them waited; of which there are three in a row at most."""
    found = []
    for module in ("trqam.data.download", "urllib3.util.retry"):
        monkeypatch.setattr(f"{module}.time", SimpleNamespace(sleep=found.append, time=time.time))
    monkeypatch.setattr("trqam.data.download.ATTEMPTS", 3)
    return found


@pytest.fixture
def get(server, tmp_path, waits):
    """A function that fetches the cube set into tmp_path/official; returns the path of its (first) file."""

    def get(mirrors="a", shards=0, known=None, folder="", offline=False):
        table = write_table(server, tmp_path, mirrors, shards, known, folder)
        return fetch(CUBE, tmp_path / "official", table, offline)[0]

    return get


def write_table(server, folder, mirrors="a", shards=0, known=None, subfolder="", dataset=CUBE):
    """A table of mirrors at the server, in ``folder``; its path."""
    path = folder / "mirrors.yaml"
    bases = {mirror: f"{server.url}/{mirror}" for mirror in mirrors}
    official = {"shards": shards, "folder": subfolder, "mirrors": list(mirrors)}
    path.write_text(yaml.safe_dump({"mirrors": bases, "datasets": {dataset: official}, "known": known or {}}))
    return path


def known(body, name=NAME):
    """What the table says of a file whose sum is known."""
    return {name: {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}}


def left(folder):
    """Names in the folder but for locks."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def assert_whole(path, body=BODY):
    """The file is there and nothing of a part is left."""
    assert path.read_bytes() == body
    assert not list(path.parent.glob("*.part*"))
