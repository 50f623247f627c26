"""What the workflow says on the screen: what is to be done, how far it is, how long it will take here, what failed.

Snakemake's own blocks, a dozen lines a job, go to its log alone (`--verbose` or `--printshellcmds` brings them back).
Its logger tells what happens; `trqam.experiment.survey` how fast trainings are. In dry runs, in the jobs' own Snakemake
on a cluster and under `--quiet all` nothing is said.
"""

import logging
import os
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import msgspec
from snakemake.common import NOTHING_TO_BE_DONE_MSG
from snakemake.logging import logger
from snakemake_interface_logger_plugins.common import LogEvent

from trqam.config.errors import UserError
from trqam.config.load import Config, domain_of, is_robomimic
from trqam.config.strict import read_record
from trqam.config.wording import count, methods_without_tasks
from trqam.experiment.survey import Standing, survey
from trqam.operations.status import Paces, clock, span

KINDS = {"dataset": "dataset", "pretrain": "pretraining", "offline": "training", "online": "training"}
HIDDEN = {LogEvent.JOB_INFO, LogEvent.JOB_STARTED, LogEvent.JOB_FINISHED, LogEvent.PROGRESS}
LOOK, TELL = 10, 60  # seconds between two looks for a first estimate, and between two lines
START = 5  # seconds that Python and PyTorch take to start, a training
OTHER = 5  # seconds of a job that does not train, until some were timed
ENDING = 4096  # bytes of a failed job's log


class Claims(msgspec.Struct):
    """What is read of claims.json."""

    summary: str


class Screen(logging.Handler):
    """Follows one run of Snakemake from its log records; `begin` and `end` are called from the Snakefile's hooks."""

    def __init__(self, workflow: Any, config: Config):
        super().__init__()
        self.workflow, self.config, self.paper = workflow, config, config.results / "paper"
        self.total = self.done = 0
        self.running: dict[int, tuple[str, float]] = {}  # a job's name, and when it began
        self.failed: dict[int, tuple[str, list[str]]] = {}  # and its logs
        self.others: list[float] = []  # seconds of the jobs that did not train
        self.over = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        """Takes one record of Snakemake's."""
        try:
            self._follow(record)
        except Exception:
            self.handleError(record)  # as logging does it: the traceback is printed, and the jobs go on

    def _follow(self, record: Any) -> None:  # with fields of Snakemake's
        event = getattr(record, "event", None)
        if event == LogEvent.JOB_INFO:
            self.running[record.jobid] = _name(record.log, record.rule_name), time.monotonic()
        elif event == LogEvent.JOB_FINISHED and record.job_id in self.running:
            name, begun = self.running.pop(record.job_id)
            self.failed.pop(record.job_id, None)
            self.done += 1
            seconds = time.monotonic() - begun
            if not name.startswith(tuple(KINDS)):
                self.others.append(seconds)
            say(f"{self.done} of {self.total} jobs done: {name}, {span(seconds)}")
        elif event == LogEvent.JOB_ERROR:
            self.failed[record.jobid] = _name(record.log, record.rule_name), list(record.log)
        elif record.msg == NOTHING_TO_BE_DONE_MSG and self.workflow.is_main_process and not self.workflow.dryrun:
            say("everything that was asked for is there")
            self._results()

    def begin(self) -> None:
        """Says what will be done, and goes on saying how far it is; a UserError if a package is missing for a job."""
        jobs = list(self.workflow.dag.needrun_jobs())
        _require(jobs)
        self.total = len(jobs)
        output = self.workflow.output_settings
        if not (output.verbose or output.printshellcmds):
            for handler in logger.handlers:
                if handler.name == "DefaultStreamHandler":
                    handler.addFilter(_brief)
        kinds = Counter(KINDS.get(job.rule.name.split("_")[0], "table or figure") for job in jobs)
        parts = ", ".join(f"{kind}: {number}" for kind, number in kinds.items())
        where = count(self.workflow.cores, "core") if self.workflow.local_exec else "the cluster"
        say(f"{os.path.relpath(self.config.path)}: {count(self.total, 'job')} on {where} ({parts})")
        pages = f", the paper to {self.paper / 'paper.pdf'} and {self.paper / 'report.html'}" if self._whole() else ""
        say(f"the results come to {self.config.results}{pages}")
        for line in methods_without_tasks(self.config):
            say(line)
        say("Ctrl-C loses nothing: the same command goes on. How long it takes is said when the speed here is known")
        self._made_by = {str(path): number for number, job in enumerate(jobs) for path in job.output}
        threading.Thread(target=self._watch, daemon=True).start()

    def end(self, well: bool) -> None:
        """Says what came of it."""
        self.over.set()
        if well:
            if self._whole():
                self._results()
            return
        for name, logs in self.failed.values():
            lines = _ending(logs)
            first = f"{name} failed; its log, {', '.join(logs)}, {'ends with' if lines else 'is empty'}"
            for line in (first, *(f"  {line}" for line in lines)):
                say(line)
        say(f"{self.done} of {self.total} jobs done; nothing is lost: the same command goes on from here")

    def _whole(self) -> bool:
        """Whether the paper was asked for, and not single files."""
        return any(job.rule.name in ("paper", "all") for job in self.workflow.dag.jobs)

    def _results(self) -> None:
        """The verdicts, and where paper and page are."""
        if not self._whole():
            return
        try:
            summary = read_record(self.paper / "claims.json", Claims, "delete it and run the same command")["summary"]
        except UserError as error:
            summary = str(error)
        for line in (summary, f"the paper: {self.paper / 'paper.pdf'}", f"the page:  {self.paper / 'report.html'}"):
            say(line)

    def _watch(self) -> None:
        """A line a minute, and one as soon as an estimate can be made."""
        begun = told = time.monotonic()
        known = False
        while not self.over.wait(LOOK):
            now = time.monotonic()
            due = now - told >= TELL
            left = None if known and not due else self.left()
            if due or (left is not None and not known):
                known, told = left is not None, now
                text = f"{self.done} of {self.total} jobs done after {span(now - begun)}"
                if left is not None:
                    text += f"; about {span(left)} left, until {clock(time.time() + left, time.time())}"
                say(text)

    def left(self) -> float | None:
        """Seconds until all is done; None while the speed is not known, or while nothing runs on the cluster."""
        try:
            runs = list(survey(self.config))
        except (UserError, OSError):  # files come and go while they are looked at: a line less
            return None
        paces = Paces(runs)
        jobs: dict[int, list[Standing]] = defaultdict(list)
        for standing in runs:
            number = self._made_by.get(str(standing.cell.path / f"{standing.stage}.json"))
            if number is not None and standing.left:
                jobs[number].append(standing)
        known = [(job[0].stage == "pretrain", paces.left(job)) for job in jobs.values()]
        if any(seconds for _, seconds in known):
            # None of cloning is waited for then, which is cheap: what starts from scratch trains before it.
            known = [(cloning, 0.0 if cloning and seconds is None else seconds) for cloning, seconds in known]
        training = [seconds for _, seconds in known if seconds is not None]
        at_once = self.workflow.cores if self.workflow.local_exec else len(self.running)
        if len(training) < len(jobs) or not at_once:
            return None
        others = max(self.total - self.done - len(jobs), 0)
        mean = sum(self.others) / len(self.others) if self.others else OTHER
        return (sum(training) + START * len(jobs) + mean * others) / at_once


def say(text: str) -> None:
    """A line on the screen and in Snakemake's log."""
    logger.info(f"trqam: {text}")


def _require(jobs: Iterable[Any]) -> None:
    """A UserError if a task of Robomimic is among the ``jobs``, and its packages are not here."""
    named = [value for job in jobs for value in job.wildcards]  # a task, a domain, or DOMAIN+METHOD
    if any(is_robomimic(domain_of(name.partition("+")[0])) for name in named):
        from trqam.environments.robomimic_tasks import require  # imports what no other scale needs here

        require()


def follow(workflow: Any, config: Config) -> Screen:
    """The screen of this run of Snakemake."""
    for handler in [handler for handler in logger.handlers if isinstance(handler, Screen)]:
        logger.removeHandler(handler)  # the Snakefile was read before, by the same process
    screen = Screen(workflow, config)
    logger.addHandler(screen)
    return screen


def _brief(record: logging.LogRecord) -> bool:
    """Whether a record of Snakemake's is shown."""
    return getattr(record, "event", None) not in HIDDEN and record.msg != "Select jobs to execute..."


def _name(logs: list[str], rule: str) -> str:
    """A job is called by its log, such as offline/TASK_METHOD_seeds0to2, which says where to look."""
    return logs[0].partition("/logs/")[2].removesuffix(".log") if logs else rule


def _ending(logs: list[str]) -> list[str]:
    """The last three lines of a job's logs."""
    lines: list[str] = []
    for path in logs:
        with suppress(OSError), open(path, "rb") as file:  # the `tee` of a job that ran has written it
            file.seek(max(os.fstat(file.fileno()).st_size - ENDING, 0))
            lines += file.read(ENDING).decode("utf-8", "replace").splitlines()
    return lines[-3:]
