"""Makes .venv for the Makefile, and makes it anew when its Python, its place or the requirements have changed.

    python3 workflow/install.py [PYTHON]   with the Python that is named, else with what runs this, else one on PATH
    python3 workflow/install.py --look     change nothing; one line and exit code 1 if no environment can be used

Runs before anything is installed: it needs the standard library of Python 3.6 or newer. What it made carries a mark,
.venv/installed; an environment without one is its owner's, and is used if it fits and never changed.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
MARK = VENV / "installed"
INPUTS = ("requirements.txt", "pyproject.toml")
TICK = 10  # seconds between two signs of life
PROBE = "import os, sys; print('%d.%d' % sys.version_info[:2], os.path.realpath(getattr(sys, '_base_executable', '')))"


class Refused(Exception):
    """Why there can be no environment, in one line."""


def versions():
    """The versions of Python that pyproject.toml allows, such as ["3.11", "3.12"]."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    first, end = re.findall(r'^requires-python = ">=3\.(\d+),<3\.(\d+)"', text, re.MULTILINE)[0]
    return [f"3.{minor}" for minor in range(int(first), int(end))]


def probe(python):
    """Version and base executable of a Python; None if it does not start."""
    try:
        words = subprocess.check_output([python, "-c", PROBE], stderr=subprocess.DEVNULL).decode().split(" ", 1)
    except (OSError, subprocess.CalledProcessError):
        return None
    return words[0], words[1].strip() or os.path.realpath(shutil.which(python) or python)


def choose(asked):
    """The base executable to make .venv with: of the Python asked for, or of any on PATH that is allowed."""
    allowed, name = versions(), asked or "python3"
    found = probe(name if asked else sys.executable)
    if found and found[0] in allowed:
        return found[1]
    what = f"{name} is {found[0]}" if found else f"{name} does not start"
    for other in [] if asked else allowed:
        known = probe(f"python{other}")
        if known and known[0] in allowed:
            print(f"trqam: {what}; taking python{other}", flush=True)
            return known[1]
    raise Refused(f"Python {' or '.join(allowed)} is needed, {what}: make PYTHON=python{allowed[-1]}")


def pins():
    """The folders that the pinned packages' records have, such as numpy-2.4.6.dist-info."""
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").split()
    named = [line.split("==") for line in lines if "==" in line]
    return [f"{re.sub('[-_.]+', '_', name).lower()}-{version}.dist-info" for name, version in named]


def installed():
    """The records of what is installed in .venv, by name; 2.13.0+cpu is a build of 2.13.0."""
    records = VENV.glob("lib/python3*/site-packages/*.dist-info")
    return {re.sub(r"\+.*(?=\.dist-info)", "", path.name.lower()): path for path in records}


def missing(names):
    """The first of some packages that is not whole, or None: a record is gone, or a file or folder that it names."""
    there = installed()
    for name in names:
        record = there.get(name, VENV) / "RECORD"
        if not record.is_file():
            return name[: -len(".dist-info")]
        tops = {re.split("[/,]", line, maxsplit=1)[0] for line in record.read_text(encoding="utf-8").splitlines()}
        for top in tops - {"..", "__pycache__", ""}:
            if not (record.parent.parent / top).exists():
                return name[: -len(".dist-info")]
    return None


def digest():
    """Of what decides which packages are installed."""
    return hashlib.sha256(b"\0".join((ROOT / name).read_bytes() for name in INPUTS)).hexdigest()


def mark():
    """What .venv/installed says; None without one, {} if it is from before there were contents."""
    try:
        said = json.loads(MARK.read_text(encoding="utf-8") or "{}")
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}


def fault(asked=None):
    """What is wrong with the .venv that is here, if anything, whoever made it; ``asked``: for that Python."""
    said, python = mark() or {}, probe(str(VENV / "bin/python"))
    if moved():
        return f"this folder was moved or copied from {moved()}"
    if said.get("unfinished"):
        return "its installation was not finished"
    if python is None:
        return "its Python does not start"
    if python[0] not in versions():
        return f"it has Python {python[0]}, and {' or '.join(versions())} is needed"
    if asked and asked != python[1]:
        return f"it was made with {python[1]}, and is to be of {asked}"
    lacking = None if outdated() else missing({*pins(), *said.get("packages", ())})
    return f"{lacking} is missing or incomplete in it" if lacking else None


def outdated():
    """Whether .venv was made of other requirements than today's."""
    return (mark() or {}).get("inputs", digest()) != digest()


def moved():
    """From where this folder came with its .venv, if it did."""
    came = (mark() or {}).get("folder", str(ROOT))
    return came if came != str(ROOT) and not VENV.is_symlink() else None


def ours():
    """Whether .venv was made here, or came here with the folder."""
    said = mark()
    return said is not None and (not VENV.is_symlink() or said.get("folder") == str(ROOT))


def make(asked):
    """Makes .venv, anew if it must be; silent if all is as it was."""
    if not os.path.lexists(str(VENV)):
        return install(able(choose(asked)), "making .venv")
    if not VENV.is_dir():
        raise Refused(f"{VENV} is no folder that is there: move it away")
    explicit = choose(asked) if asked else None
    wrong = fault(explicit)
    if not ours():
        if wrong:
            raise Refused(f".venv was not made by make in this folder, and {wrong}: move it away, then make another")
        return None
    if not wrong and not mark():
        wrong = "an earlier version of this project made it"
    if wrong:
        python = able(explicit or choose(asked))  # before anything goes
        print(f"trqam: making .venv anew: {wrong}", flush=True)
        for path in VENV.iterdir():
            shutil.rmtree(str(path)) if path.is_dir() and not path.is_symlink() else path.unlink()
        return install(python, "making .venv")
    if outdated():
        return install(None, f"{' or '.join(INPUTS)} has changed; bringing .venv up to date")
    return None


def able(python):
    """``python``, if it can make an environment here."""
    if ":" in str(ROOT):
        raise Refused(f"{ROOT}: no environment works in a folder with a colon in its name; rename it")
    if subprocess.call([python, "-c", "import ensurepip, venv"], stderr=subprocess.DEVNULL):
        raise Refused(f"{python} has no venv module; on Debian or Ubuntu: apt install python{probe(python)[0]}-venv")
    return python


def install(python, what):
    """Makes the environment with ``python`` (None: it is there), and puts the packages into it."""
    print(f"trqam: {what}: {len(pins())} pinned packages and what they need; one to five minutes, by the network",
          flush=True)  # fmt: skip
    VENV.mkdir(exist_ok=True)
    MARK.write_text(json.dumps({"unfinished": True, "folder": str(ROOT)}), encoding="utf-8")  # first: it is ours
    begun = time.monotonic()
    if python:
        run([python, "-m", "venv", str(VENV)], begun)
    pip = [str(VENV / "bin/python"), "-m", "pip", "install", "--disable-pip-version-check", "--progress-bar", "off"]
    run([*pip, "-r", "requirements.txt"], begun)
    # --no-build-isolation: the build tool comes from requirements.txt, nothing else is fetched.
    run([*pip, "--no-deps", "--no-build-isolation", "-e", "."], begun)
    if not shutil.which("which"):  # Snakemake's plugin for SLURM starts it even where there is no SLURM
        stand_in = VENV / "bin/which"
        stand_in.write_text('#!/bin/sh\ncommand -v "$1"\n', encoding="utf-8")
        stand_in.chmod(0o755)
    said = {"folder": str(ROOT), "inputs": digest(), "packages": sorted(installed())}
    MARK.write_text(json.dumps(said, indent=1), encoding="utf-8")
    print(f"trqam: .venv is ready, after {time.monotonic() - begun:.0f} s", flush=True)


def run(command, begun):
    """Runs one step of the installation, with a line every few seconds; what it prints goes to .venv/install.log."""
    environment = {**os.environ, "PIP_USER": "0", "PIP_REQUIRE_VIRTUALENV": "0"}
    process = subprocess.Popen(command, cwd=str(ROOT), env=environment, stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # fmt: skip
    lines = [" ".join(command[1:4])]

    def read():
        with (VENV / "install.log").open("ab") as log:
            for line in process.stdout or ():
                log.write(line)
                lines.append(line.decode("utf-8", "replace").strip())

    reader = threading.Thread(target=read)
    reader.start()
    try:
        while reader.is_alive():
            reader.join(TICK)
            if reader.is_alive():
                print(f"  {time.monotonic() - begun:4.0f} s  {doing(lines)}", flush=True)
        process.wait()
    finally:
        process.kill()
    if process.returncode:
        said = [line for line in lines if line.upper().startswith("ERROR")][-3:] or lines[-3:]
        raise Refused("the installation failed ({}): {}".format(VENV / "install.log", " / ".join(said)))


def doing(lines):
    """The step that pip is at, by what it has printed; while it unpacks it prints nothing."""
    last = next(
        line for line in reversed(lines) if line.split(" ")[0] in ("-m", "Collecting", "Downloading", "Installing")
    )
    if last.startswith("Installing"):
        wanted = last.count(",") + 1
        return f"{min(len(installed()), wanted)} of {wanted} packages unpacked"  # what was there before counts, too
    return last[:90]


def look():
    """Refuses unless there is an environment that can be used as it is."""
    if not VENV.is_dir():
        raise Refused("no environment here yet, so nothing was made here: make paper (make install only installs)")
    wrong = fault()
    if wrong:
        raise Refused(f".venv cannot be used: {wrong}; make install says more")


def main(words):
    """Exit code 1 with one line where there can be no environment."""
    folder = os.open(str(ROOT), os.O_RDONLY)
    try:
        if words == ["--look"]:
            look()
            return 0
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("trqam: waiting for another make here, which is installing", flush=True)
            fcntl.flock(folder, fcntl.LOCK_EX)
        make(words[0] if words else None)
    except (Refused, OSError) as refused:
        print(f"trqam: {refused}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("trqam: interrupted; the same command makes .venv anew", file=sys.stderr)
        return 130
    finally:
        os.close(folder)  # and with it the lock
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
