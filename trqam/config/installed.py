"""What a process finds: Python and packages, environment variables, standard streams. Standard library alone, Python 3.

`trqam doctor` begins with the first, and every command ends with it, in one line, where a package is missing. The
others are made fit by `settle` before a library stumbles over them.
"""

from __future__ import annotations

import os
import platform
import re
import sys
from importlib import metadata
from pathlib import Path
from typing import Iterator, NamedTuple, NoReturn  # noqa: UP035 (an older Python is to be told that it is too old)

OK, WARN, FAIL = "ok", "warn", "FAIL"
ROOT = Path(__file__).resolve().parents[2]
BOUNDS = ">=3.11"  # where pyproject.toml is not here to say it
FIX = "make install, or pip install -r requirements.txt"
DISTRIBUTIONS = {"PIL": "pillow", "yaml": "pyyaml", "imageio_ffmpeg": "imageio-ffmpeg"}
# One thread a process: two on a busy two-core machine are many times slower, and Snakemake counts a process as a core.
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Finding(NamedTuple):
    """What a check says."""

    verdict: str
    name: str
    text: str

    def __str__(self) -> str:
        return f"{self.verdict:5} {self.name:12} {self.text}"


def bounds(root: Path = ROOT) -> tuple[tuple[int, int], tuple[int, int] | None]:
    """The lowest Python that is wanted and the first above that is not (None: any), as pyproject.toml has them."""
    text = ""
    if (root / "pyproject.toml").is_file():
        text = (root / "pyproject.toml").read_text(encoding="utf-8")
    stated = re.search(r'^requires-python *= *"([^"]*)"', text, re.MULTILINE)
    limits = {
        sign: (int(x), int(y)) for sign, x, y in re.findall(r"(>=|<)(\d+)\.(\d+)", stated[1] if stated else BOUNDS)
    }
    return limits.get(">=", (3, 11)), limits.get("<")


def python(root: Path = ROOT) -> Finding:
    """Whether this Python is one that is wanted."""
    (major, low), above = bounds(root)
    text, here = platform.python_version(), sys.version_info[:2]
    wanted = " or ".join(f"{major}.{n}" for n in range(low, above[1])) if above else f"{major}.{low} or newer"
    if here < (major, low) or (above and here >= above):
        newest = above[1] - 1 if above else low + 1
        return Finding(FAIL, "python", f"{text}: Python {wanted} is needed; make PYTHON=python{major}.{newest}")
    return Finding(OK, "python", text)


def packages(requirements: Path) -> Iterator[Finding]:
    """Python, then what requirements.txt pins: missing is a failure, another version a warning."""
    yield python()
    if not requirements.is_file():
        yield Finding(WARN, "packages", f"{requirements}: not here, so versions cannot be compared; work in a checkout")
        return
    needed, _, checks = requirements.read_text(encoding="utf-8").partition("\n# checks\n")
    missing, other, pins = [], [], _pins(needed)
    for name, version in pins.items():
        installed = _version(name)
        if installed is None:
            missing.append(name)
        elif installed.partition("+")[0] != version:  # 2.13.0+cpu is torch 2.13.0
            other.append(f"{name} {installed.partition('+')[0]} instead of {version}")
    if missing:
        yield Finding(FAIL, "packages", f"missing: {', '.join(missing)}; {FIX}")
    elif other:
        yield Finding(WARN, "packages", f"{', '.join(other)}: numbers may differ from those of the pins; {FIX}")
    else:
        absent = [name for name in _pins(checks) if _version(name) is None]
        note = f"; for the tests also {', '.join(absent)}" if absent else ""
        yield Finding(OK, "packages", f"all {len(pins)} as pinned{note}")


def end(missing: ModuleNotFoundError | None = None) -> NoReturn:
    """Ends a command that cannot even be imported: `doctor` with what is missing, any other with one line.

    ``missing`` is what was not found (None: Python is too old to look for it); raised again if it is no package's.
    """
    name = (missing.name or "").partition(".")[0] if missing else ""
    if missing and name in ("", "trqam", *getattr(sys, "stdlib_module_names", ())):
        raise missing
    if "doctor" in sys.argv[1:]:
        print(*packages(ROOT / "requirements.txt"), sep="\n")
        sys.exit(1)
    python_line = python()
    text = f"python: {python_line.text}"
    if python_line.verdict == OK:
        text = f"package {DISTRIBUTIONS.get(name, name)}: missing; {FIX}"
    print(f"trqam: error: {text}", file=sys.stderr)
    sys.exit(2)


def _pins(text: str) -> dict[str, str]:
    return dict(re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE))


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def settle() -> None:
    """Variables that are judged when a library is imported get values that it takes; closed streams lead nowhere."""
    for variable in THREADS:
        if not re.fullmatch(r"[1-9][0-9]{0,2}", os.environ.get(variable, "")):
            os.environ[variable] = "1"
    os.environ["MPLBACKEND"] = "Agg"  # a notebook's is unknown to the matplotlib of another environment
    for variable in [*os.environ]:
        if re.fullmatch("TORCH_LOGS|TQDM_.*|TRQAM_RENDERER", variable):  # unknown words in them end the import
            del os.environ[variable]
    _streams()


def _streams() -> None:
    """Standard streams that are closed are opened to nothing: a file opened later would take the number of one, and
    what a library prints would be written into it."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115 (stays)
        elif number and hasattr(getattr(sys, name), "reconfigure"):
            getattr(sys, name).reconfigure(errors="backslashreplace")  # a path with an umlaut where ASCII is asked for
