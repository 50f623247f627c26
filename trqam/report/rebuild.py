"""The paper from an archive alone: no training, no GPU, no network, and none of today's configuration files."""

import os
import shutil
import sys
from pathlib import Path

import msgspec

from trqam.config.errors import Unwritable, UserError
from trqam.config.reading import sha256
from trqam.config.strict import read_record, shown
from trqam.experiment.files import temporary_name, write_json, writing
from trqam.report import archive

WRITTEN = "REBUILT.json"  # what a rebuild wrote
OTHER = "name another folder with --out"


class Written(msgspec.Struct):
    """REBUILT.json: the SHA-256 of every file that the rebuild wrote beside it, by its path in the folder."""

    files: dict[str, str]


def rebuild(path: str | Path, out: str | Path | None = None) -> tuple[Path, Path]:
    """Unpacks the archive and makes everything of it in ``out``; returns where the PDF and the page are.

    The default is results/SCALE-rebuilt. An earlier rebuild there is replaced once the new one is complete, if nothing
    was added to it or changed in it; any other folder is left alone. Raises UserError, with nothing left behind, if
    the archive is not sound.
    """
    manifest = archive.read_manifest(path)
    folder = Path(out) if out else Path("results") / f"{manifest.scale}-rebuilt"
    _refuse_foreign(folder)
    if found := archive.differences(manifest):
        print(f"trqam: notice: {path}: made with {'; '.join(found)}; details may differ", file=sys.stderr)
    temporary = temporary_name(folder)
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)  # of a process of the same number that was killed
        temporary.mkdir()
    try:
        archive.unpack(path, temporary)
        _build(temporary, manifest)
        write_json(temporary / WRITTEN, {"files": _sums(temporary)})
        _refuse_foreign(folder)  # somebody may have worked there meanwhile
        _replace(folder, temporary)
    except UserError as error:  # the temporary folder is gone when it is read
        named = folder if isinstance(error, Unwritable) else path
        raise type(error)(str(error).replace(str(temporary), str(named))) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)  # nothing is left of it after a success
    return folder / "paper" / "paper.pdf", folder / "paper" / "report.html"


def _refuse_foreign(folder: Path) -> None:
    """A folder that holds anything but what an earlier rebuild wrote must not be replaced."""
    if not os.path.lexists(folder) or (folder.is_dir() and not folder.is_symlink() and not any(folder.iterdir())):
        return
    if folder.is_symlink() or not (folder / WRITTEN).is_file():
        raise UserError(f"{folder}: is there already and is no earlier rebuild; {OTHER}")
    written, found = read_record(folder / WRITTEN, Written, OTHER)["files"], _sums(folder)
    for name in sorted(found.keys() | written.keys()):
        if name in found and found[name] != written.get(name):
            what = "changed since the rebuild" if name in written else "not written by the rebuild"
            raise UserError(f"{folder}/{shown(name, 120)}: {what}, and would be lost; move it away, or {OTHER}")


def _sums(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file below but the record itself; what is no file, and an empty folder, has none."""
    found = {}
    for path in sorted(folder.rglob("*")):
        plain = path.is_file() and not path.is_symlink()
        if plain or path.is_symlink() or not path.is_dir() or not any(path.iterdir()):
            found[str(path.relative_to(folder))] = sha256(path) if plain else ""
    return {name: digest for name, digest in found.items() if name != WRITTEN}


def _build(folder: Path, manifest: archive.Manifest) -> None:
    """Everything, from what was unpacked."""
    from trqam.report.build import Build

    sources = {"imported": folder / "imported", "reported": folder / "paper" / "reported.csv"}
    sources["claims"] = folder / "config" / "claims.yaml"
    Build(archive.configuration_in(folder, manifest), folder / "paper", **sources).everything()


def _replace(folder: Path, new: Path) -> None:
    """``new`` under the name of ``folder``, whose old content goes."""
    old = new.with_suffix(".old")
    with writing(folder):
        if folder.exists():
            os.replace(folder, old)
        os.replace(new, folder)
    shutil.rmtree(old, ignore_errors=True)
