"""One screen on how a scale stands: what is done, running, waiting and diverged, how fast, until when, and what next.

`trqam.experiment.survey` reads the files; here they become lines, none wider than asked for but for a word that is.
"""

import os
import shlex
import shutil
import statistics
import textwrap
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

from trqam.config.errors import UserError
from trqam.config.load import STAGES, Config
from trqam.config.wording import count, task_label, weight
from trqam.experiment.survey import DIVERGED, DONE, RUNNING, WAITING, Standing, survey
from trqam.experiment.verdict import refusal
from trqam.operations import cleaning
from trqam.report.record import made_for

STATES = (DONE, RUNNING, WAITING, DIVERGED)
SHOWN_JOBS, SHOWN_PROBLEMS = 12, 3
REFUSED = "see the first problem: snakemake and `trqam collect` go on once it is solved"
SWEEPS = "sweeps"  # their methods, in one row
ROW = "{:28.28}{:>6}{:>9}{:>9}{:>10}{:>9}{:>9}"
FAR = 1e11  # seconds since 1970: no calendar goes further


def status(config: Config, overrides: Sequence[str] = (), width: int = 100) -> list[str]:
    """The lines, between words broken at ``width`` (at least 80); ``overrides`` are the command line's KEY=VALUE."""
    now, runs, refused = time.time(), list(survey(config)), refusal(config)
    paces = Paces(runs)
    counts = Counter(standing.state for standing in runs)
    states = ", ".join([f"{counts[DONE]} of {len(runs)} done", *(f"{counts[s]} {s}" for s in STATES[1:] if counts[s])])

    def wrapped(first: str, text: str, indent: int) -> list[str]:
        wrapper = textwrap.TextWrapper(width, first, " " * indent, break_on_hyphens=False, break_long_words=False)
        return wrapper.wrap(text)

    lines = wrapped("", f"{config.results} ({config.path}), {clock(now, now)}: {states}", 4)
    lines += ["", *_table(config, runs), ""]
    if jobs := _jobs(config, runs, paces, now):
        lines += ["running now", *(line for job in jobs for line in wrapped("  ", job, 6)), ""]
    for word, texts in (
        ("diverged", _diverged(runs)),
        ("problem", _problems(runs, refused)),
        ("snakemake", _snakemake()),
        ("data", [datasets(config)[0]]),
        ("time", [_time(runs, paces, now)]),
        ("disk", [_disk(config)]),
        ("next", [REFUSED if refused else _next(config, runs, overrides)]),
    ):
        lines += [line for text in texts for line in wrapped(f"{word:10}", text, 10)]
    return lines


class Paces:
    """Seconds a step of one seed: of the same domain, stage and method where one was timed, else of the nearest."""

    def __init__(self, runs: Iterable[Standing]):
        self._paces: dict[tuple, list[float]] = defaultdict(list)
        for standing in runs:
            if standing.pace:
                for key in self._keys(standing):
                    self._paces[key].append(standing.pace)

    def of(self, standing: Standing) -> float | None:
        """Seconds; None if nothing near was timed."""
        known = [self._paces[key] for key in self._keys(standing) if key in self._paces]
        return statistics.median(known[0]) if known else None

    def left(self, standings: Iterable[Standing]) -> float | None:
        """Seconds that are still to do, one job after another; None if that is not known of all."""
        total = 0.0
        for standing in standings:
            if standing.left:
                if (pace := self.of(standing)) is None:
                    return None
                total += standing.left * pace
        return total

    @staticmethod
    def _keys(standing: Standing) -> list[tuple]:
        """Nearest first; cloning's updates are so much cheaper than others that neither stands for the other."""
        stage, method, domain = standing.stage, standing.run.method, standing.run.domain
        nearest = [(stage, method, domain), (stage, method, None), (stage, None, domain), (stage, None, None)]
        kind = "cloning" if stage == "pretrain" else "fine-tuning"
        return [*nearest, (kind, method, domain), (kind, method, None), (kind, None, None)]


def _table(config: Config, runs: list[Standing]) -> list[str]:
    """A row for each stage and method that has begun; the others of a stage, and all sweeps, share one."""
    groups: dict[tuple[str, str], list[Standing]] = defaultdict(list)
    for standing in runs:
        method = standing.run.method
        groups[standing.stage, SWEEPS if method in config.sweeps else method].append(standing)
    labels = {name: config.methods[name].label for name in [*config.compared, *config.scale.ablations]}
    labels[SWEEPS] = f"Sweeps, {count(len(config.sweeps), 'setting')}"
    lines = [ROW.format("runs (seeds in a stage)", *STATES, "steps/s", "success")]
    lines.append(_row("Pretraining", [standing for standing in runs if standing.stage == "pretrain"]))
    for stage in STAGES[1:]:
        rows = {name: groups[stage, name] for name in labels if (stage, name) in groups}
        begun = {name: row for name, row in rows.items() if any(s.state != WAITING or s.step for s in row)}
        others = [standing for name, row in rows.items() if name not in begun for standing in row]
        lines += [stage.capitalize()] * bool(rows)
        lines += [_row(f"  {labels[name]}", row) for name, row in begun.items()]
        if others:
            number = len({standing.run.method for standing in others})
            label = f"{number} more, not begun" if begun else f"{count(number, 'method')}, not begun"
            lines.append(_row(f"  {label}", others))
    return lines


def _row(label: str, group: list[Standing]) -> str:
    counts, paces = Counter(s.state for s in group), [standing.pace for standing in group if standing.pace]
    rates = [standing.success for standing in group if standing.success is not None]
    speed = f"{1 / statistics.median(paces):.3g}" if paces else "·"
    success = f"{100 * statistics.fmean(rates):.0f} %" if rates else "·"
    return ROW.format(label, *(counts[state] or "·" for state in STATES), speed, success)


def _jobs(config: Config, runs: list[Standing], paces: Paces, now: float) -> list[str]:
    """A line for each process that holds runs: what, how far, who, until when."""
    jobs: dict[tuple, list[Standing]] = defaultdict(list)
    for standing in runs:
        if standing.holder:
            jobs[standing.holder, standing.stage, standing.run.task, standing.run.method].append(standing)
    lines = []
    for (holder, stage, _, method), group in sorted(jobs.items(), key=lambda job: job[0][0].since):
        first, total = group[0], sum(s.total for s in group)
        what = config.domains[first.run.domain].label if stage == "pretrain" else task_label(config, first.run.task)
        seeds = "" if stage == "pretrain" else f", {_seeds([s.cell.seed for s in group])}"
        done = sum(s.step for s in group)
        far = f"{100 * done // max(total, 1)} %, step {done // len(group)}/{first.total}"
        saved = max((s.saved for s in group if s.saved), default=None)
        seen = max((s.seen for s in group if s.seen), default=None)
        text = f"{method} {what}{seeds}, {stage}: {far}"
        text += f", saved {span(max(now - saved, 0))} ago" if saved else ", not yet saved"
        if first.pace and seen:
            text += f", ready in {span(max((paces.left(group) or 0) - max(now - seen, 0), 0))}"
        since = f" since {clock(holder.since, now)}" if holder.since else ""
        lines.append(f"{text}; {holder.who}{since}")
    more = len(lines) - SHOWN_JOBS
    return lines[:SHOWN_JOBS] + ([f"and {count(more, 'more job')}"] if more > 0 else [])


def _seeds(seeds: list[int]) -> str:
    first, last = min(seeds), max(seeds)
    if len(seeds) == 1:
        return f"seed {first}"
    return f"seeds {first}-{last}" if last - first == len(seeds) - 1 else f"seeds {','.join(map(str, sorted(seeds)))}"


def _diverged(runs: list[Standing]) -> list[str]:
    first: dict[Path, Standing] = {}  # of each seed, the first stage
    for standing in runs:
        if standing.state == DIVERGED:
            first.setdefault(standing.cell.path, standing)
    texts = []
    for standing in list(first.values())[:SHOWN_PROBLEMS]:
        run = standing.run
        name = run.cloned if standing.stage == "pretrain" else f"{run.task} {run.method} --seed {standing.cell.seed}"
        texts.append(f"{standing.cell.path}, {standing.stage}; a result as it is. To train anew: trqam clean {name}")
    return texts + _more(len(first))


def _problems(runs: list[Standing], refused: str | None) -> list[str]:
    """What keeps the paper from being made, as Snakemake and `trqam collect` would say it, and then the runs' own."""
    outdated = [standing for standing in runs if standing.outdated]
    texts = [text for standing in runs for text in (standing.problem, standing.warning) if text]
    if refused and outdated:
        what = f"{count(len(outdated), 'run')} trained with another configuration than today's, which the paper refuses"
        texts.insert(0, f"{what}; first {refused}")
    elif refused and refused not in texts:
        texts.insert(0, refused)
    return texts[:SHOWN_PROBLEMS] + _more(len(texts))


def _more(number: int) -> list[str]:
    return [f"and {number - SHOWN_PROBLEMS} more"] if number > SHOWN_PROBLEMS else []


def _snakemake() -> list[str]:
    """Who has Snakemake's locks on this folder, or had them."""
    try:
        if not cleaning.snakemake_locks(Path()):
            return []
        if holder := cleaning.snakemake_holder(Path()):
            return [f"at work in this folder: {holder}"]
    except UserError as error:
        return [str(error)]
    return ["its locks are those of one that was killed; the same command removes them and goes on"]


def datasets(config: Config) -> tuple[str, list[str]]:
    """How many datasets there are, in words, and the domains of those that are to come."""
    folders = {domain: config.data_directory(domain) for domain in config.task_domains}
    coming = [domain for domain, folder in folders.items() if not os.path.lexists(folder / "card.json")]
    begun = [domain for domain in coming if os.path.lexists(folders[domain] / ".unfinished")]
    there = f"{len(folders) - len(coming)} of {count(len(folders), 'dataset')}"
    text = f"{there} in {config.scale.data_dir} ({config.scale.data_source})"
    return text + (f"; begun: {', '.join(begun)}" if begun else ""), coming


def _time(runs: list[Standing], paces: Paces, now: float) -> str:
    spent = sum(standing.pace * standing.step for standing in runs if standing.pace)
    text = f"{span(spent)} of training so far" if spent else "nothing is timed yet"
    if not any(standing.left for standing in runs):
        return text
    left, jobs = paces.left(runs), len({standing.holder for standing in runs if standing.holder})
    if left is None:
        return f"{text}; `trqam plan` measures what all of it will take"
    if not jobs:
        return f"{text}, {span(left)} left for one job at a time"
    until = clock(now + left / jobs, now)
    return f"{text}, {span(left)} left; with {count(jobs, 'job')} at a time, as now, until {until}"


def _disk(config: Config) -> str:
    folders = [config.results, Path(config.scale.data_dir)]
    used = ", ".join(f"{weight(_used(folder))} in {folder}" for folder in folders)
    there = next(folder for folder in (config.results, *config.results.parents) if os.path.exists(folder))
    try:
        return f"{used}; {weight(shutil.disk_usage(there).free)} free"
    except OSError as error:
        return f"{used}; how much is free {there} does not tell ({error.strerror})"


def _used(folder: Path) -> int:
    """Bytes on disk below ``folder``; what goes meanwhile or cannot be looked into does not count."""
    total = 0
    for top, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += os.lstat(os.path.join(top, name)).st_blocks * 512
    return total


def _next(config: Config, runs: list[Standing], overrides: Sequence[str]) -> str:
    words = ["snakemake", "--cores", "all", "paper"]
    if config.path != "config/config.yaml":
        words += ["--configfile", config.path]
    if overrides:
        words += ["--config", *overrides]
    paper, command = config.results / "paper" / "paper.pdf", shlex.join(words)
    if running := sum(standing.state == RUNNING for standing in runs):
        return f"wait; {count(running, 'run')} running. Should they stop, they go on with: {command}"
    if any(standing.state == WAITING for standing in runs):
        begun = any(standing.step for standing in runs)
        return f"{command}" + (" (what is done stays, what was interrupted goes on)" if begun else "")
    if not _made_in_order(runs, paper) or not made_for(config, paper.parent):
        return f"{command} (all is trained; the paper is to be made)"
    return f"all is done: read {paper} and {paper.parent / 'report.html'}"


def _made_in_order(runs: list[Standing], paper: Path) -> bool:
    """Whether all is newer than what it was made from, by which Snakemake goes: copies may have lost their times."""
    folder = paper.parent
    manifests = [path for s in runs if (path := s.cell.path / f"{s.stage}.json").is_file()]
    drawn = [path for path in folder.glob("figures/*") if path.stem not in ("theory", "toy")]  # which are of no run
    steps = [manifests, [folder / "collected.json"], [*drawn, *folder.glob("tables/*")], [paper]]
    try:
        times = [[path.stat().st_mtime for path in step] for step in steps if step]
    except OSError:  # one is not there, or no file
        return False
    return all(max(before) <= min(after) for before, after in pairwise(times))


def span(seconds: float) -> str:
    """A time span for people: 45 s, 12 min, 3.4 h, 12 days."""
    for unit, length, most in (("s", 1, 120), ("min", 60, 120), ("h", 3600, 48)):
        if seconds < most * length:
            return f"{seconds / length:.1f} h" if unit == "h" else f"{seconds / length:.0f} {unit}"
    return f"{seconds / 86400:.1f} days"


def clock(moment: float, now: float) -> str:
    """The local time, with its day unless that is today's."""
    at, today = time.localtime(min(moment, FAR)), time.localtime(now)
    return time.strftime("%H:%M" if at[:3] == today[:3] else "%a %d %b %H:%M", at)
