"""Cases: a change to the user's folder, a command, and what its one line must say; read, made and run."""

import contextlib
import io
import json
import os
import re
import resource
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.bad import archives, builders, world
from trqam import __main__ as command_line

CASES = Path(__file__).parent / "cases"
ONE_LINE = re.compile(r"trqam( [a-z]+)?: error: [^\n]+: [^\n]+; [^\n]+\n")  # WHERE: what; fix
# What a stranger cannot read: names of Python's and msgspec's types, memory addresses, bare exceptions.
FOREIGN = re.compile(
    r"Traceback|<class|object at 0x|Errno|dtype\(|Error\(|np\.|`(int|str|float|bool|array|object|null)`|\bNone\b|"
    r"Header(TooLarge|TooSmall)|InvalidHeader"
)
LONGEST = 500  # characters of a message, beside lists of what is known


@dataclass(frozen=True)
class Case:
    """``change`` is what is done to files of the world, ``run`` the command, ``says`` what its line contains."""

    group: str
    name: str
    run: list[str]
    says: list[str]
    change: dict[str, dict[str, Any]]
    fresh: bool = False  # in an interpreter of its own

    @property
    def id(self) -> str:
        """For pytest."""
        return f"{self.group}: {self.name}"


@dataclass(frozen=True)
class Outcome:
    """What a command did; ``seconds`` are of this process's CPU, without imports that earlier cases made."""

    code: int | None
    stdout: str
    stderr: str
    seconds: float


def cases() -> list[Case]:
    """All of them, in the order of the files."""
    return [case for path in sorted(CASES.glob("*.yaml")) for case in _read(path)]


def _read(path: Path) -> Iterator[Case]:
    for entry in yaml.safe_load(_filled(path.read_text())):
        says = entry["says"] if isinstance(entry["says"], list) else [entry["says"]]
        arguments = shlex.split(entry["run"])
        if arguments[0] != "--config":
            arguments = ["--config", "scale.yaml", *arguments]
        yield Case(path.stem, entry["name"], arguments, says, entry.get("change", {}), entry.get("fresh", False))


def _filled(text: str) -> str:
    """``text`` with <TASK> and the other names of the world filled in."""
    for name, value in world.NAMES.items():
        text = text.replace(f"<{name}>", value)
    return text


def prepare(case: Case, model: Path, root: Path) -> Path:
    """A copy of the ``model`` with the case's change, inside ``root``, from where nothing may reach out."""
    folder = root / "home" / "work"
    shutil.copytree(model, folder, symlinks=True)
    for name, change in case.change.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        _apply(path, change)
    return folder


def _apply(path: Path, change: dict[str, Any]) -> None:
    if "text" in change:
        path.write_text(change["text"])
    elif "old" in change:
        text = path.read_text()
        assert change["old"] in text, f"{path.name}: {change['old']!r} is not there to be changed"
        path.write_text(text.replace(change["old"], change["new"], 1))
    elif "json" in change:
        content = json.loads(path.read_text())
        _set(content, change["json"])
        path.write_text(json.dumps(content))
    else:
        (name, arguments), *_ = change.items()
        make = builders.PLAIN.get(name) or getattr(builders, name, None) or getattr(archives, name)
        make(path, *(arguments if isinstance(arguments, list) else [arguments]))


def _set(content: Any, values: dict[str, Any]) -> None:
    """Keys such as `a/b` are set, or dropped where the value is `drop`."""
    for key, value in values.items():
        *parents, last = key.split("/")
        inner = content
        for name in parents:
            inner = inner[int(name)] if isinstance(inner, list) else inner[name]
        if value == "drop":
            del inner[last]
        else:
            inner[int(last) if isinstance(inner, list) else last] = value


def run_fresh(arguments: list[str], folder: Path) -> Outcome:
    """`python -m trqam ARGUMENTS` in ``folder``, imports included."""
    environment = {**os.environ, "TRQAM_OFFLINE": "1", "PYTHONPATH": str(world.ROOT)}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "trqam", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Outcome(done.returncode, done.stdout, done.stderr, seconds)


def run(arguments: list[str], folder: Path) -> Outcome:
    """`trqam ARGUMENTS` in ``folder``, in this process: a fresh one spends seconds on importing PyTorch alone."""
    environment, argv, before = dict(os.environ), sys.argv, Path.cwd()
    os.environ["TRQAM_OFFLINE"] = "1"
    os.chdir(folder)
    sys.argv = ["trqam", *arguments]
    began, code = time.process_time(), 0
    try:
        with _captured() as (stdout, stderr), warnings.catch_warnings():
            warnings.simplefilter("default")  # each is a line too many, also here
            warnings.simplefilter("ignore", DeprecationWarning)
            try:
                command_line.main()
            except SystemExit as stop:
                code = stop.code
            except BaseException:
                code = None
                traceback.print_exc()
    finally:
        os.chdir(before)
        sys.argv = argv
        os.environ.clear()
        os.environ.update(environment)
    return Outcome(code, stdout.getvalue(), stderr.getvalue(), time.process_time() - began)


@contextlib.contextmanager
def _captured() -> Iterator[tuple[io.StringIO, io.StringIO]]:
    """What is written to stdout and stderr, by Python or by a library of C's, is in the two when the block ends."""
    texts = io.StringIO(), io.StringIO()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        kept, own = [(stream, os.dup(number)) for number, stream in ((1, sys.stdout), (2, sys.stderr))], (out, err)
        for number, file in enumerate(own, start=1):
            os.dup2(file.fileno(), number)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
        try:
            yield texts
        finally:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            sys.stdout, sys.stderr = (stream for stream, _ in kept)
            for number, (_, saved) in enumerate(kept, start=1):
                os.dup2(saved, number)
                os.close(saved)
            for text, file in zip(texts, own, strict=True):
                file.seek(0)
                text.write(file.read().decode())


def faults(case: Case, outcome: Outcome, before: dict[str, str], after: dict[str, str]) -> list[str]:
    """What is wrong with how a case ended; nothing is as it should be."""
    line, found = outcome.stderr, []
    if outcome.code != 2:
        found.append(f"exit code {outcome.code}")
    if outcome.stdout:
        found.append(f"stdout: {outcome.stdout[:200]!r}")
    if line.count("\n") != 1 or not line.strip().isprintable():
        found.append("not one printable line")
    elif not ONE_LINE.fullmatch(line):
        found.append("not of the form `trqam: error: WHERE: what; fix`")
    if foreign := FOREIGN.search(line):
        found.append(f"{foreign[0]!r} means nothing to a stranger")
    if len(line) > LONGEST:
        found.append(f"{len(line)} characters")
    found += [f"does not say {text!r}" for text in case.says if text not in line]
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    return found + ([f"changed: {', '.join(changed)}"] if changed else [])


def judge(case: Case, model: Path, root: Path) -> tuple[Outcome, list[str]]:
    """Make, run and check one case in the empty folder ``root``."""
    folder = prepare(case, model, root)
    before = world.tree(root)
    outcome = (run_fresh if case.fresh else run)(case.run, folder)
    return outcome, faults(case, outcome, before, world.tree(root))
