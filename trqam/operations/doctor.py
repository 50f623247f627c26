"""Whether everything is here that a run of a scale needs: one line a check, with what to do about it."""

import importlib.util
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psutil

from trqam.config.errors import UserError
from trqam.config.installed import FAIL, OK, ROOT, WARN, Finding, packages
from trqam.config.load import Config, domain_of
from trqam.config.reading import open_regular
from trqam.config.wording import count, weight
from trqam.experiment import provenance
from trqam.experiment.survey import survey
from trqam.experiment.verdict import check_everything
from trqam.operations import cleaning
from trqam.operations.status import datasets

LITTLE_ROOM, NO_ROOM = 10e9, 1e9  # bytes free
SLURM_PROFILE = Path("workflow/profiles/slurm/config.yaml")


def examine(config: Config, clear: bool = False) -> Iterator[Finding]:
    """All findings, as they come; with ``clear`` what killed processes left is removed where nobody holds it.

    Python and packages first: without them the others are not tried. What a check cannot look at is its finding.
    """
    found = []
    for finding in packages(ROOT / "requirements.txt"):
        found.append(finding.verdict)
        yield finding
    if FAIL in found:
        return
    checks: dict[str, Callable[[], Finding]] = {
        "source": lambda: source(ROOT),
        "processor": lambda: processor(config),
        "gpu": lambda: gpu(config),
        "rendering": rendering,
        "environment": lambda: environments(config),
        "latex": tex,
        "slurm": slurm,
        "disk": lambda: disk(config),
        "data": lambda: data(config),
        "runs": lambda: runs(config, clear),
        "results": lambda: results(config),
        "snakemake": lambda: snakemake(Path(), clear),
        "workflow": lambda: workflow(config),
        "temporary": lambda: temporary(config, clear),
    }
    for name, check in checks.items():
        try:
            yield check()
        except OSError as error:
            yield Finding(FAIL, name, f"{error.filename}: {error.strerror}" if error.filename else _line(error))
        except (UserError, ImportError) as error:
            yield Finding(FAIL, name, _line(error))


def source(checkout: Path) -> Finding:
    """Whether the commit can be told that a manifest and the paper name."""
    if (commit := provenance.source(checkout)["git_commit"]) != "unknown":
        return Finding(OK, "source", f"commit {commit[:12]}")
    fix = f"git config --global --add safe.directory {shlex.quote(str(checkout))}"
    text = f"{checkout}: no checkout of git, so manifests will say: unknown commit; if it is another user's: {fix}"
    return Finding(WARN, "source", text)


def processor(config: Config) -> Finding:
    """Cores that may be used against what one job takes, and memory."""
    from trqam.environments.processes import cores

    threads, workers = os.environ.get("OMP_NUM_THREADS", "not set"), config.scale.env_workers
    memory = weight(psutil.virtual_memory().available)
    text = f"{count(cores(), 'core')} may be used, OMP_NUM_THREADS {threads}, {memory} of memory free"
    if threads != "1":
        return Finding(WARN, "processor", f"{text}: more threads a process are slower here; unset it")
    if workers > cores():
        fix = f"--set env_workers={cores()}, which changes no result"
        return Finding(WARN, "processor", f"{text}: one job steps environments in {workers} processes; {fix}")
    compiler = os.environ.get("CXX", "g++")
    if config.scale.step == "compiled" and config.scale.device == "cpu" and not shutil.which(compiler):
        fix = f"{compiler} is not there; install g++ (or unset CXX), or --set step=auto"
        return Finding(FAIL, "processor", f"{text}: step: compiled needs a C++ compiler, and {fix}")
    return Finding(OK, "processor", text)


def gpu(config: Config) -> Finding:
    """The device that the scale asks for."""
    import torch

    asked, there = config.scale.device, torch.cuda.is_available()
    names = ", ".join(torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())) or "none"
    text = f"{names}; torch {torch.__version__}; device: {asked}"
    if asked == "cuda" and not there:
        return Finding(FAIL, "gpu", f"{text}: torch sees no GPU here; --set device=auto, or run where there is one")
    if asked == "auto" and not there:
        return Finding(WARN, "gpu", f"{text}: will train on the CPU; `trqam plan` says how long that takes")
    return Finding(OK, "gpu", text)


def rendering() -> Finding:
    """What film strips and videos are drawn with."""
    from trqam.operations.rollouts import camera

    backend, trouble = camera.find()
    if trouble:
        return Finding(WARN, "rendering", f"{trouble}; only film strips and videos need it")
    return Finding(OK, "rendering", camera.BACKENDS.get(str(backend), str(backend)))


def environments(config: Config) -> Finding:
    """Whether a task of each domain starts."""
    from trqam.environments import environment

    tasks = {domain_of(task): task for task in reversed(config.tasks)}
    for task in tasks.values():
        try:
            with closing(environment.make(task)) as env:
                environment.reset(env, 0)
        except UserError as error:  # a wrong name, or a package that is missing and optional
            return Finding(FAIL, "environment", str(error))
        except Exception as error:  # whatever a broken installation raises
            return Finding(FAIL, "environment", f"{task}: {_line(error)}; pip install -r requirements.txt")
    return Finding(OK, "environment", f"{', '.join(reversed(tasks.values()))} starts")


def tex() -> Finding:
    """The pdflatex that the paper is made with, started once."""
    from trqam.report.latex import find_pdflatex

    try:
        pdflatex = find_pdflatex()
        done = subprocess.run([pdflatex, "--version"], capture_output=True, text=True, timeout=60, check=True)
    except UserError as error:
        return Finding(FAIL, "latex", f"{error}; trainings need none")
    except (OSError, subprocess.SubprocessError) as error:
        return Finding(FAIL, "latex", f"does not start ({_line(error)}); take it off PATH for the bundled one")
    version = re.search(r"TeX Live [^\s)]+", done.stdout)
    return Finding(OK, "latex", f"{pdflatex} ({version[0] if version else done.stdout.splitlines()[0]})")


def slurm() -> Finding:
    """A cluster's commands and the profile's lines that are to be edited."""
    if not shutil.which("sbatch"):
        return Finding(OK, "slurm", "no sbatch on PATH: jobs run on this machine")
    if not SLURM_PROFILE.is_file():
        return Finding(WARN, "slurm", f"sbatch is here, but no {SLURM_PROFILE}; work in a checkout")
    if not importlib.util.find_spec("snakemake_executor_plugin_slurm"):
        return Finding(FAIL, "slurm", "snakemake-executor-plugin-slurm is missing; pip install -r requirements.txt")
    try:
        asked = subprocess.run(["sinfo", "-h", "-o", "%P"], capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        return Finding(WARN, "slurm", f"sbatch is here, but sinfo does not answer ({_line(error)})")
    text = f"partitions {', '.join(asked.stdout.split()) or 'none'}"
    lines = re.findall(r"^\s*(\w+): *(\S*) .*# EDIT", SLURM_PROFILE.read_text(), re.MULTILINE)
    if unedited := [key for key, value in lines if value in ('""', "''", "")]:
        return Finding(WARN, "slurm", f"{text}; {SLURM_PROFILE}: {', '.join(unedited)}: as shipped; edit the lines")
    return Finding(OK, "slurm", f"{text}; {SLURM_PROFILE} edited")


def disk(config: Config) -> Finding:
    """Room and the right to write where results and data go."""
    texts, least = [], math.inf
    for place in (config.results, Path(config.scale.data_dir)):
        there = next(folder for folder in (place, *place.absolute().parents) if os.path.lexists(folder))
        if not there.is_dir():
            return Finding(FAIL, "disk", f"{there}: no folder, where results or data are to be; move it away")
        if not os.access(there, os.W_OK | os.X_OK):
            return Finding(FAIL, "disk", f"{there}: cannot be written; correct its permissions, or data_dir")
        free = shutil.disk_usage(there).free
        least = min(least, free)
        texts.append(f"{weight(free)} free for {place}")
    if least >= LITTLE_ROOM:
        return Finding(OK, "disk", ", ".join(texts))
    fix = "`trqam plan` says what is needed: make room"
    return Finding(FAIL if least < NO_ROOM else WARN, "disk", f"{', '.join(texts)}; {fix}")


def data(config: Config) -> Finding:
    """Each dataset: stored whole, by the sizes of its files; begun; or to come."""
    from trqam.data.card import read
    from trqam.data.verified import mapped

    fix = "run `trqam generate` (or fetch and convert) for it, which makes it again or says what is in the way"
    text, coming = datasets(config)
    for domain in (domain for domain in config.task_domains if domain not in coming):
        folder = config.data_directory(domain)
        try:
            for key, shape in read(folder / "card.json", domain, fix)["shapes"].items():
                open_regular(folder / f"{key}.npy").close()  # a pipe would be waited for
                mapped(folder / f"{key}.npy", shape, fix)
        except OSError as error:
            return Finding(FAIL, "data", f"{error.filename}: missing or damaged; {fix}")
    if not coming:
        return Finding(OK, "data", text)
    if config.scale.data_source == "generated":
        return Finding(OK, "data", f"{text}; will be generated: {', '.join(coming)}")
    fix = "`trqam fetch` brings them, or names what to place where"
    return Finding(WARN, "data", f"{text}; to be fetched: {', '.join(coming)}; {fix}")


def runs(config: Config, clear: bool) -> Finding:
    """Which runs live processes hold, and the locks of dead ones, which the next training takes over by itself."""
    found = list(survey(config))
    holders = sorted({standing.holder.who for standing in found if standing.holder})
    text = f"{count(len(holders), 'live job')}: {', '.join(holders)}" if holders else "no live job"
    if problems := [standing.problem for standing in found if standing.problem]:
        more = f"; and {len(problems) - 1} more, in `trqam status`" if len(problems) > 1 else ""
        return Finding(FAIL, "runs", f"{text}; {problems[0]}{more}")
    stale = [path for path in dict.fromkeys(standing.cell.lock for standing in found) if cleaning.is_stale(path)]
    if not stale:
        return Finding(OK, "runs", text)
    if clear:
        return Finding(OK, "runs", f"{text}; {count(cleaning.release(stale), 'stale lock')} removed")
    text += f"; {count(len(stale), 'stale lock')} of dead processes"
    return Finding(WARN, "runs", f"{text}, which the next training takes over, or trqam doctor --clear removes")


def results(config: Config) -> Finding:
    """Whether the paper can be made of what is published, as `trqam collect` and Snakemake judge it."""
    check_everything(config)
    return Finding(OK, "results", f"nothing in {config.results} is damaged, misplaced or of other settings")


def snakemake(folder: Path, clear: bool) -> Finding:
    """Snakemake's locks."""
    if not (locks := cleaning.snakemake_locks(folder)):
        return Finding(OK, "snakemake", "no lock")
    if holder := cleaning.snakemake_holder(folder):
        return Finding(OK, "snakemake", f"locked by {holder}")
    if clear:
        return Finding(OK, "snakemake", f"{count(cleaning.remove(locks), 'stale lock')} removed")
    text = f"{count(len(locks), 'stale lock')} of one that was killed; the next one removes them by itself"
    return Finding(WARN, "snakemake", f"{text}, or trqam doctor --clear")


def workflow(config: Config) -> Finding:
    """Whether Snakemake starts here and reads the workflow, tried once; `-n` tells our Snakefile to change nothing."""
    if not Path("workflow/Snakefile").is_file():
        return Finding(WARN, "workflow", "workflow/Snakefile: not here; work in a checkout")
    command = [sys.executable, "-m", "snakemake", "-n", "--list-rules", "--configfile", config.path]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, timeout=120)
    except subprocess.SubprocessError as error:
        return Finding(FAIL, "workflow", f"snakemake does not answer ({_line(error)})")
    if asked.returncode == 0:
        return Finding(OK, "workflow", "snakemake starts and reads it")
    said = [line.strip() for line in (asked.stderr + asked.stdout).splitlines() if line.strip()] or ["no word why"]
    problem = next((line for line in reversed(said) if re.match(r"\w+Error: .|trqam: error: ", line)), said[-1])
    denied = re.search(r"\[Errno \d+\] .*: '(/[^']*)'$", problem)
    fix = "run `snakemake -n` to see more"
    if "home directory" in problem or (denied and not Path(denied[1]).is_relative_to(Path.cwd())):
        fix = 'give it a home: export HOME="$PWD/.snakemake" XDG_CACHE_HOME="$PWD/.snakemake/cache"'
    return Finding(FAIL, "workflow", f"snakemake does not start ({problem}); {fix}")


def temporary(config: Config, clear: bool) -> Finding:
    """Half-written files of processes that were killed."""
    dead, alive = cleaning.temporary_files([config.results, Path(config.scale.data_dir)])
    text = f"{count(len(alive), 'file')} being written" if alive else "none left"
    if not dead:
        return Finding(OK, "temporary", text)
    size = weight(sum(os.lstat(path).st_size for path in dead if os.path.lexists(path)))
    if clear:
        return Finding(OK, "temporary", f"{count(cleaning.remove(dead), 'file')} removed, {size}; {text}")
    text = f"{count(len(dead), 'file')} left by killed processes, {size}; trqam doctor --clear"
    return Finding(WARN, "temporary", text)


def _line(error: Exception) -> str:
    """The last line of what went wrong."""
    lines = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
    return lines[-1] if lines else type(error).__name__
