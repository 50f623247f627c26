"""Official files of OGBench and Robomimic: fetched from mirrors, verified, each once however many processes ask.

config/mirrors.yaml says which files a dataset has, where they lie, and the SHA-256 of those whose sum is known. Any
other file's sum is recorded in ``checksums.json`` beside the data when the file is first seen whole, and holds from
then on.
A file that is already there, fetched or placed by hand, is verified and used without any network.

A file gets its name only when it is complete and right: size, then SHA-256 against the known or recorded sum; without
a sum it must be a sound npz file (central directory, and the CRC of each member), or an hdf5 file that can be opened.
What is wrong is thrown away and the next mirror asked.
"""

import itertools
import os
import zipfile
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec

from trqam.config.errors import UserError
from trqam.config.reading import DAMAGED_ZIP, read_yaml, shown
from trqam.config.schema import Name
from trqam.config.strict import Strict, convert, read_record
from trqam.data import demonstrations
from trqam.data.download import Refused, Session, discard, download, origin_of, say, set_aside
from trqam.data.verified import exclusive, sums
from trqam.experiment.files import publish, write_json, writing

MIRRORS = "config/mirrors.yaml"
MEMBERS = {"observations.npy", "actions.npy", "terminals.npy", "qpos.npy", "qvel.npy"}  # of every official file

# No user name or password in it, no slash at its end.
Address = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^https?://[^@\s]*[^@\s/]\Z",
        description="an address such as https://example.org/data, without user, password and a slash at its end",
    ),
]
Folder = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^([A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*)?\Z",
        description="a folder under the base address, such as cube-triple-play-100m-v0, or ''",
    ),
]


FileName = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^([A-Za-z0-9_-][A-Za-z0-9_.-]*\.hdf5)?\Z",
        description="the name of one hdf5 file, such as low_dim_v15.hdf5, or ''",
    ),
]


class Known(Strict):
    """What is known of a file from outside."""

    bytes: Annotated[int, msgspec.Meta(ge=1)]
    sha256: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z", description="64 hexadecimal digits")]


class Recorded(msgspec.Struct):
    """What checksums.json says of a file that was seen whole."""

    sha256: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{1,64}\Z", description="64 hexadecimal digits")]


class Official(Strict):
    """One dataset; config/mirrors.yaml explains each key."""

    shards: Annotated[int, msgspec.Meta(ge=0, le=1000)]  # three digits name them
    folder: Folder
    mirrors: Annotated[list[str], msgspec.Meta(min_length=1)]
    file: FileName = ""


class Mirrors(Strict):
    """config/mirrors.yaml."""

    mirrors: dict[str, Address]
    datasets: dict[Name, Official]
    known: dict[str, Known]


@dataclass(frozen=True)
class Wanted:
    """A file of a dataset: its place, its addresses by mirror, and what is known of it."""

    path: Path
    urls: dict[str, str]
    known: Known | None

    @property
    def part(self) -> Path:
        """Where it gathers."""
        return self.path.with_name(f"{self.path.name}.part")


def official_files(dataset: str, folder: Path | str, mirrors: Path | str = MIRRORS) -> list[Wanted]:
    """The training files of ``dataset``, in order, with their places in ``folder``."""
    table = convert(read_yaml(mirrors), Mirrors, str(mirrors))
    if dataset not in table.datasets:
        line = f'  {shown(dataset)}: {{shards: 0, folder: "", mirrors: [{next(iter(table.mirrors), "NAME")}]}}'
        fix = f"add a block, or use one of {', '.join(table.datasets)}; for a single file the block is `{line}`"
        raise UserError(f"{mirrors}: datasets: no {shown(dataset)!r}; {fix}")
    official = table.datasets[dataset]
    if unknown := [name for name in official.mirrors if name not in table.mirrors]:
        raise UserError(f"{mirrors}: {dataset}: mirrors: unknown {unknown[0]!r}; use one of {', '.join(table.mirrors)}")
    stems = [f"{dataset}-v0-{shard:03d}" for shard in range(official.shards)] or [f"{dataset}-v0"]
    files = []
    for name in [f"{dataset}-{official.file}"] if official.file else [f"{stem}.npz" for stem in stems]:
        path = "/".join(filter(None, (official.folder, official.file or name)))
        urls = {mirror: f"{table.mirrors[mirror]}/{path}" for mirror in official.mirrors}
        files.append(Wanted(Path(folder) / name, urls, table.known.get(name)))
    return files


def placed(dataset: str, folder: Path | str, mirrors: Path | str = MIRRORS) -> list[Path]:
    """The files of ``dataset``, which must all be in ``folder``; a UserError names those that are not."""
    files = official_files(dataset, folder, mirrors)
    if missing := [file for file in files if not file.path.is_file()]:
        raise UserError(
            f"{_listed(files, missing)}: not here; run `trqam fetch {dataset}` or place what is missing there"
        )
    return [file.path for file in files]


def fetch(dataset: str, folder: Path | str, mirrors: Path | str = MIRRORS, offline: bool = False) -> list[Path]:
    """See to it that every file of ``dataset`` is in ``folder``, whole and verified; returns their paths.

    ``offline`` (or the environment's TRQAM_OFFLINE=1): only verify; a UserError names the files to place, and where.
    Processes that want the same dataset wait for the first of them.
    """
    files, folder = official_files(dataset, folder, mirrors), Path(folder)
    offline = is_offline() or offline
    last = None
    with _alone(folder, dataset):
        missing = [file for file in files if not _found(file, offline)]
        if missing and offline:
            raise UserError(f"{_listed(files, missing)}: not here, and offline; download elsewhere and place there")
        with Session() as session:
            for file in missing:
                last = _fetch_one(session, file, last)
    size = sum(file.path.stat().st_size for file in files)
    say(f"{dataset}: {len(files)} file{'s'[: len(files) > 1]}, {size / 1e9:.2f} GB, verified, in {folder}")
    return [file.path for file in files]


def is_offline() -> bool:
    """Whether the environment's TRQAM_OFFLINE forbids a network."""
    text = os.environ.get("TRQAM_OFFLINE", "").strip()
    if text.lower() in ("1", "true", "yes", "on"):
        return True
    if text.lower() in ("", "0", "false", "no", "off"):
        return False
    raise UserError(f"TRQAM_OFFLINE: found {shown(text)!r}; write 1 to forbid a network, or 0")


def _alone(folder: Path, name: str) -> AbstractContextManager[None]:
    """Holds the folder's lock ``name``."""
    return exclusive(folder / f".{name}.lock", f"{folder}: {name}", "correct data_dir or its permissions")


def _found(file: Wanted, offline: bool) -> bool:
    """Whether the file is there and right; a wrong one is moved aside, for it may be somebody's.

    Where no other can be had (``offline``) it stays, and is a UserError.
    """
    if not os.path.lexists(file.path):
        return False
    if not file.path.is_file():
        raise UserError(f"{file.path}: no file (a folder, or a link to nothing); move it away or mend it")
    try:
        _verify(file.path, file, "found in place")
    except Refused as error:
        if offline:
            raise UserError(f"{file.path}: {error}; download it elsewhere and place it there") from None
        say(f"{file.path}: {error}; moved to {set_aside(file.path).name}")
        return False
    return True


def _fetch_one(session: Session, file: Wanted, last: str | None) -> str:
    """Download and verify one file; returns the mirror that gave it.

    Mirrors are asked in the configured order, but first the one that a part came from, then ``last``, which gave the
    file before.
    """
    origin = origin_of(file.part)
    begun = origin and origin.url
    reasons = []
    for mirror, url in sorted(file.urls.items(), key=lambda item: (item[1] != begun, item[0] != last)):
        try:
            download(session, url, file.part, file.known.bytes if file.known else None)
            try:
                _verify(file.part, file, mirror)
            except Refused:
                discard(file.part)
                raise
        except Refused as error:
            reasons.append(f"{mirror}: {error}")
            say(f"{file.path.name}: {url}: {error}")
            continue
        if not _found(file, offline=False):  # placed by hand meanwhile
            with writing(file.path):
                publish(file.part, file.path)
        discard(file.part)  # its notes
        say(f"{file.path.name}: {file.path.stat().st_size:,} bytes from {mirror}")
        return mirror
    fix = "run it again later, or place the file there by hand"
    raise UserError(f"{file.path}: no mirror gave it ({'; '.join(reasons)}); {fix}")


def _verify(path: Path, file: Wanted, source: str) -> None:
    """Refuses bytes that are not the file's; records their sum where none is known."""
    name, size, record = file.path.name, path.stat().st_size, file.path.with_name("checksums.json")
    if file.known and size != file.known.bytes:
        raise Refused(f"{size:,} bytes where the file has {file.known.bytes:,}")
    (digest,) = sums([path], f"verifying {path.name}")
    recorded = _records(record)
    if file.known:
        if digest != file.known.sha256:
            raise Refused(f"SHA-256 {digest[:12]}... is not the known {file.known.sha256[:12]}...")
    elif name in recorded:
        if digest != (right := recorded[name]["sha256"]):
            fix = f"delete its entry in {record} if the release changed"
            raise Refused(f"SHA-256 {digest[:12]}... is not the recorded {right[:12]}... ({fix})")
    else:
        _check_hdf5(path) if name.endswith(".hdf5") else _check_npz(path)
        with _alone(record.parent, "checksums"):
            entry = {"bytes": size, "sha256": digest, "source": file.urls.get(source, source)}
            write_json(record, {**_records(record), name: entry})
        say(f"{name}: no sum is published; recorded {digest[:12]}... in {record}, to be verified from now on")


def _records(record: Path) -> dict[str, dict]:
    """What checksums.json holds."""
    fix = "delete it: the files are then recorded as they are"
    return read_record(record, dict[str, Recorded], fix) if os.path.lexists(record) else {}


def _check_npz(path: Path) -> None:
    """Refuses what is not a whole npz file with OGBench's arrays; reads it in blocks."""
    try:
        with zipfile.ZipFile(path) as file:
            if missing := MEMBERS - set(file.namelist()):
                raise Refused(f"an npz file without {min(missing)}")
            damaged = file.testzip()
    except (OSError, *DAMAGED_ZIP) as error:
        raise Refused(f"not a whole npz file ({error})") from error
    if damaged:
        raise Refused(f"damaged npz file (CRC of {damaged})")


def _check_hdf5(path: Path) -> None:
    """Refuses what Robomimic's demonstrations cannot be read from."""
    if problem := demonstrations.check(path):
        raise Refused(f"not a whole file of demonstrations ({problem})")


def _listed(files: list[Wanted], missing: list[Wanted]) -> str:
    """The missing files, consecutive ones as first to last, and their folder."""
    runs = [list(group) for gone, group in itertools.groupby(files, key=missing.__contains__) if gone]
    names = [run[0].path.name + (f" to {run[-1].path.name}" if len(run) > 1 else "") for run in runs]
    count = f" ({len(missing)} files)" if len(missing) > 1 else ""
    return f"{missing[0].path.parent}: {', '.join(names)}{count}"
