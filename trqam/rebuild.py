"""The paper from an archive alone: no training, no GPU, no network, and none of today's configuration files."""

import os
import shutil
import sys
from pathlib import Path

from trqam import archive
from trqam.artefacts import temporary_name
from trqam.errors import UserError


def rebuild(path: str | Path, out: str | Path | None = None) -> tuple[Path, Path]:
    """Unpacks the archive and makes everything of it in ``out``; returns where the PDF and the page are.

    The default is results/SCALE-rebuilt. An earlier rebuild there is replaced once the new one is complete; any other
    folder is left alone. Raises UserError, with nothing left behind, if the archive is not sound.
    """
    manifest = archive.read_manifest(path)
    folder = Path(out) if out else Path("results") / f"{manifest.scale}-rebuilt"
    _refuse_foreign(folder)
    if found := archive.differences(manifest):
        print(f"trqam: notice: {path}: made with {'; '.join(found)}; details may differ", file=sys.stderr)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(folder)
    try:
        archive.unpack(path, temporary)
        _build(temporary, manifest)
        _replace(folder, temporary)
    except UserError as error:  # the temporary folder is gone when it is read
        raise UserError(str(error).replace(str(temporary), str(path))) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)  # nothing is left of it after a success
    return folder / "paper" / "paper.pdf", folder / "paper" / "report.html"


def _refuse_foreign(folder: Path) -> None:
    """A folder that holds anything but an earlier rebuild must not be replaced."""
    taken = folder.is_symlink() or (folder.exists() and not folder.is_dir())
    if taken or (folder.is_dir() and any(folder.iterdir()) and not (folder / archive.MANIFEST).is_file()):
        raise UserError(f"{folder}: is there already and is no earlier rebuild; name another folder with --out")


def _build(folder: Path, manifest: archive.Manifest) -> None:
    """Everything, from what was unpacked."""
    from trqam.report.build import Build

    sources = {"imported": folder / "imported", "reported": folder / "paper" / "reported.csv"}
    sources["claims"] = folder / "config" / "claims.yaml"
    Build(archive.configuration_in(folder, manifest), folder / "paper", **sources).everything()


def _replace(folder: Path, new: Path) -> None:
    """``new`` under the name of ``folder``, whose old content goes."""
    old = new.with_suffix(".old")
    if folder.exists():
        os.replace(folder, old)
    os.replace(new, folder)
    shutil.rmtree(old, ignore_errors=True)
