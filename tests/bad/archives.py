"""Archives that somebody has changed: each function changes one in place, and mends its manifest where it can."""

import hashlib
import io
import json
import struct
import warnings
import zipfile
from pathlib import Path

MANIFEST = "MANIFEST.json"


def member(path: Path, name: str, old: str, new: str, honest: bool = True) -> None:
    """``new`` for ``old`` in the member ``name`` (all of it, if ``old`` is empty), which an honest manifest knows."""
    entries = _entries(path)
    text = entries[name].decode()
    assert old in text
    entries[name] = (text.replace(old, new, 1) if old else new).encode()
    if honest and name != MANIFEST:
        _declare(entries, name)
    _pack(path, entries)


def stranger(path: Path, name: str, link: str = "") -> None:
    """One more member, which the manifest names; as a symbolic link to ``link``, if that is given."""
    entries = _entries(path) | {name: (link or "x").encode()}
    _declare(entries, name)
    _pack(path, entries, {name} if link else set())


def lose(path: Path, name: str) -> None:
    """Without a member that the manifest names."""
    entries = _entries(path)
    del entries[name]
    _pack(path, entries)


def bomb(path: Path, size: int) -> None:
    """A member that unpacks to ``size`` zeros, as the manifest says."""
    name = "paper/rollouts/bomb.png"
    entries = _entries(path) | {name: bytes(size)}
    _declare(entries, name)
    _pack(path, entries)


def declared(path: Path, size: int) -> None:
    """A directory that says of the last member that it is ``size`` bytes long."""
    content = bytearray(path.read_bytes())
    place = content.rindex(b"PK\x01\x02")
    content[place + 24 : place + 28] = struct.pack("<I", size)
    path.write_bytes(bytes(content))


def twice(path: Path, name: str) -> None:
    """A member of the same name once more."""
    with zipfile.ZipFile(path, "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.writestr(name, archive.read(name))


def encrypted(path: Path, _: bool) -> None:
    """The first member says that it has a password."""
    content = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + offset] |= 1
    path.write_bytes(bytes(content))


def many(path: Path, count: int) -> None:
    """That many empty members more."""
    with zipfile.ZipFile(path, "a") as archive:
        for number in range(count):
            archive.writestr(f"imported/{number}.csv", "")


def _entries(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _declare(entries: dict[str, bytes], name: str) -> None:
    manifest = json.loads(entries[MANIFEST])
    manifest["members"][name] = {"sha256": hashlib.sha256(entries[name]).hexdigest(), "size": len(entries[name])}
    entries[MANIFEST] = json.dumps(manifest).encode()


def _pack(path: Path, entries: dict[str, bytes], links: set[str] = frozenset()) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = (0o120777 if name in links else 0o100644) << 16
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED)
    path.write_bytes(stream.getvalue())
