"""One stack of seeds going through one stage: update, evaluate, log, save.

What is exact: a run killed at any instant and started again ends in the same bytes, because every random number is a
function of (seed, purpose, step), the learner's whole state is in the checkpoint, and an environment is restored by
replaying its episode. Checkpoints are saved at the end of logging intervals; when a `Stop` is due, at any step, with
the sums of the metrics so far. An evaluation that it interrupts begins anew.
"""

import math
import sys
import time
from typing import Any, NoReturn

import numpy as np

from trqam.agents import make_agent
from trqam.agents.base import Tensors
from trqam.config.errors import Stopped, UserError
from trqam.config.load import Config, Run
from trqam.data.dataset import Dataset
from trqam.data.on_device import place
from trqam.environments.evaluator import Evaluator
from trqam.experiment import checkpoint, lock
from trqam.experiment.files import write_json
from trqam.experiment.progress import Progress
from trqam.experiment.provenance import data_sum
from trqam.experiment.published import load_base
from trqam.experiment.run import Cell, RunFolder, new_record, note_environment
from trqam.networks.capture import kind_of
from trqam.networks.replicas import all_finite, assemble, device_of
from trqam.training.batches import batches_of
from trqam.training.experience import REPLAY, Offline, Online
from trqam.training.learner import Learner, Policy
from trqam.training.profiling import Profile, Request, region, window
from trqam.training.stop import Stop


class Interrupted(Exception):
    """An evaluation was given up because a stop is due."""


class Trainer:
    """One stack of seeds going through one stage."""

    def __init__(
        self, config: Config, folders: list[RunFolder], start: int | None, stop: Stop, profile: Request | None = None
    ):
        """The seeds of ``folders``, from the checkpoints of step ``start``; None: from the beginning of the stage."""
        self.config, self.start, self.stop = config, start, stop
        run, stage, total = self.run, self.stage, self.total = folders[0].run, folders[0].stage, folders[0].total
        self.cells = cells = [folder.cell for folder in folders]
        self.device = device_of(config.scale.device)
        self.dataset = Dataset.open(config.data_directory(run.domain), run.task, run.normalise_observations)
        self.dataset.check_belongs(run, config.data_directory(run.domain), config.path)
        sizes = self.dataset.card["shapes"]
        self.action_size = sizes["actions"][1]
        self.agent = make_agent(run.at(stage), sizes["observations"][1], self.action_size)
        self.kind = kind_of(config.scale.step, self.device, total - (start or 0), run.hidden_width)
        self.evaluator: Evaluator | None = None
        block, data = [cell.seed for cell in cells], data_sum(self.dataset.card)
        if start is None:
            loaded = self._begin(data)
        else:
            loaded = [folder.checkpoints.load(start) for folder in folders]
            for _, record in loaded:
                note_environment(record, run, start, data_sha256=data)
        tensors, self.records = [tensors for tensors, _ in loaded], [record for _, record in loaded]
        self.experience = self._experience(tensors)
        self.state = assemble(tensors, self.device)
        self.step = start or 0
        replays = len(self.experience.replays)
        self.resident = place(self.dataset, replays, total, self.device)
        self._stack()
        self._resume_interval()
        # Later than what the seeds have in common: of a save that was cut short. Kept until there is another, but not
        # counted, or the next save cut short could leave the seeds without a step in common.
        saved = [checkpoint.recorded(folder.directory) for folder in folders]
        self.abandoned = {later for steps in saved for later in steps if later > self.step}
        self.progress = Progress(title(run, stage, block), total, self.step, [cell.directory(stage) for cell in cells])
        self.profile = self._profile(profile) if profile else None

    @property
    def seeds(self) -> list[int]:
        """The seeds still training, in the order of the stack."""
        return [cell.seed for cell in self.cells]

    def _begin(self, data: str) -> list[tuple[Tensors, dict[str, Any]]]:
        """Every seed's learner at step 0 of the stage, and its record; ``data`` is the sum of the dataset."""
        pretrained, cloned = None, {}
        if self.stage == "offline" and "pretrain" in self.config.methods[self.run.method].stages:
            pretrained, cloned["base_sha256"] = load_base(self.config, self.run, self.agent.networks["base"].shapes())
        begun = []
        for cell in self.cells:
            if self.stage == "online":
                tensors, offline = self._offline(cell)
                cloned = {key: offline[key] for key in ("base_sha256",) if key in offline}
            else:
                tensors = self.agent.initialise(cell.seed, pretrained)
            record = new_record(self.run, self.stage, cell.seed, self.seeds, data_sha256=data, **cloned)
            begun.append((tensors, record | {"rows": [], "timing": []}))
        return begun

    def _offline(self, cell: Cell) -> tuple[Tensors, dict[str, Any]]:
        """The learner and the record that the offline stage has left; a UserError if nothing can go on from them."""
        offline = RunFolder(cell, self.run, "offline")
        if offline.finished is None:
            words = ("train", self.run.task, self.run.method, "--stage", "offline", "--seeds", str(cell.seed))
            fix = f"train it first: {self.config.command(*words)}"
            raise UserError(f"{offline.directory}: the offline stage has not finished; {fix}")
        tensors, record = offline.checkpoints.load(offline.total)
        if record.get("kept") == "policy":
            clean = self.config.command("clean", self.run.task, self.run.method, "--seed", str(cell.seed))
            why = f"only the policy was kept (keep: policy); run {clean} to train anew"
            raise UserError(f"{offline.directory}: {why}")
        return tensors, record

    def _resume_interval(self) -> None:
        """The clock, and within a logging interval its sums, as they were when it was stopped there."""
        saved = [record.pop("interval", None) for record in self.records]
        self.within_interval = saved[0] is not None  # and for all: they were saved at one look
        seconds = 0.0
        if self.within_interval:
            self.learner.resume_interval(saved)
            seconds = saved[0]["seconds"]
        rows = self.records[0]["timing"]
        spent = rows[-1] if rows else {"seconds": 0.0, "evaluation_seconds": 0.0}
        self.seconds, self.evaluation_seconds = spent["seconds"], spent["evaluation_seconds"]
        self.saved = (self.start, self.within_interval)
        self.clock = time.monotonic() - seconds

    def _experience(self, tensors: list[Tensors]) -> Offline:
        if self.stage != "online":
            return Offline(self.run, self.dataset, self.seeds, self.stage)
        paths = [cell.directory("online") / REPLAY for cell in self.cells]
        saved = None
        if self.start is not None:
            saved = [(t, r["experience"]) for t, r in zip(tensors, self.records, strict=True)]
        return Online(self.run, self.dataset, self.seeds, paths, saved, self.config.scale.env_workers)

    def train(self) -> None:
        """Runs to the end of the stage; every seed ends finished or diverged. Stopped if it had to stop before."""
        try:
            self._train()
        except Interrupted:
            self._stop("in an evaluation ")
        finally:
            if self.profile:
                self.profile.close()
            self.progress.close()
            self.experience.close()
            if self.evaluator:
                self.evaluator.close()

    def _train(self) -> None:
        run = self.run
        self.stop.begin()
        if self.start is None and self.stage == "offline":
            self._log({}, evaluate=True, interruptible=True)
        if self.within_interval and self.step % run.log_interval == 0:
            self._end_interval()
        while self.step < self.total and self.cells:
            self.step += 1
            self.within_interval = True
            if self.profile:
                self.profile.begin_step(self.step)
            self.experience.advance(self.step, self.policy)
            if self.step > self.experience.warm_up:
                self.learner.update(self.step)
            self.progress.advance()
            if self.step % run.log_interval == 0:
                self._end_interval()
            if self.stop.due() and self.step < self.total and self.cells:
                self._stop()
        self._save()

    def _stop(self, where: str = "") -> NoReturn:
        """Saves, unless nothing is new since the last save, and raises Stopped."""
        if self.step and self.saved != (self.step, self.within_interval):
            self._save()
        what = f"{title(self.run, self.stage, self.seeds)}: stopped {where}at step {self.step} of {self.total}"
        if self.step == (self.start or 0):
            what += ", where it began: give it more time"
        raise Stopped(f"{what} ({self.stop.reason}); run the same command to go on from there")

    def _end_interval(self) -> None:
        """Averages the metrics since the last row, ends diverged seeds, evaluates, logs and saves, as is due."""
        run = self.run
        means = self.learner.means()
        casualties = self._drop_diverged(means)
        if self.cells:
            evaluate = self.stage != "pretrain" and self.step % run.eval_interval == 0
            self._log(means, evaluate, interruptible=not casualties)  # else the sums are of another stack
        self.learner.begin_interval()
        self.within_interval = False
        if casualties or self.step % run.checkpoint_interval == 0:
            self._save()
        for cell, record in casualties:  # after the others are saved: killed in between, all go back together
            print(f"{title(run, self.stage)}: seed {cell.seed} DIVERGED at step {self.step}", file=sys.stderr)
            record["rows"].append({"step": self.step, "status": "DIVERGED"})
            write_json(cell.diverged, record)

    def _stack(self) -> None:
        """What updates the stack as it is now, and what acts with it."""
        if self.kind == "compiled":
            compiling = "the first update is compiled, which takes minutes (step: compiled)"
            print(f"{title(self.run, self.stage, self.seeds)}: {compiling}", file=sys.stderr, flush=True)
        batches = batches_of(self.agent, self.experience, self.device, self.resident, self.total)
        self.learner = Learner(self.agent, self.state, batches, self.kind, self.device)
        self.policy = Policy(self.agent, self.state, self.dataset.normaliser, self.device, self.kind)

    def _profile(self, request: Request) -> Profile:
        """Of some steps; its files are named by what trains, or simply where they lie with it."""
        cell, name = self.cells[0], f"profile-{self.stage}"
        if request.folder:
            what = self.run.cloned if self.stage == "pretrain" else f"{self.run.task}-{self.run.method}-seed{cell.seed}"
            name = f"{name}-{what}"
        path = (request.folder or cell.path / "run") / f"{name}.json"
        steps = window(self.step, self.experience.warm_up, self.total)
        return Profile(path, title(self.run, self.stage, self.seeds), steps, self.device)

    def _evaluate(self, interruptible: bool) -> list[dict[str, float]]:
        """Success rate, mean length and mean return of every seed's policy; Interrupted if a stop is due."""
        if self.evaluator is None:
            run, sizes = self.run, (self.run.horizon, self.action_size, self.agent.noise_size)
            episodes = (run.eval_episodes, run.eval_environments, self.config.scale.env_workers)
            self.evaluator = Evaluator(run.task, self.seeds, *episodes, *sizes)
        step = self.step + (self.run.offline_steps if self.stage == "online" else 0)

        def act(observations: np.ndarray, noise: np.ndarray) -> np.ndarray:
            if self.stop.due() and interruptible:
                raise Interrupted
            return self.policy.act(observations, noise)

        with region("evaluation"):
            return [outcome.means() for outcome in self.evaluator.evaluate(act, step)]

    def _drop_diverged(self, means: dict[str, list[float]]) -> list[tuple[Cell, dict[str, Any]]]:
        """Takes the seeds whose losses or state are not finite out of the stack, and of ``means``.

        The whole state: what a checkpoint keeps is good, or it is not written.
        """
        finite = all_finite([tensor.detach() for _, tensor in self.state.named()]).tolist()
        for values in means.values():
            finite = [ok and math.isfinite(value) for ok, value in zip(finite, values, strict=True)]
        if all(finite):
            return []
        kept = [position for position, ok in enumerate(finite) if ok]
        casualties = [(self.cells[p], self.records[p]) for p, ok in enumerate(finite) if not ok]
        self.cells, self.records = [self.cells[p] for p in kept], [self.records[p] for p in kept]
        for name, values in means.items():
            means[name] = [values[p] for p in kept]
        if kept:
            self.state = assemble([self.state.replica(p) for p in kept], self.device)
        self.experience.keep(kept)
        if self.evaluator:
            self.evaluator.keep(kept)
        if kept:
            self._stack()
        return casualties

    def _log(self, means: dict[str, list[float]], evaluate: bool, interruptible: bool) -> None:
        """Appends one row a seed to metrics and timing."""
        evaluation_began = time.monotonic()
        evaluations = self._evaluate(interruptible) if evaluate else [{}] * len(self.cells)
        now = time.monotonic()
        interval, self.clock = now - self.clock, now
        self.seconds += interval
        self.evaluation_seconds += now - evaluation_began
        training = max(interval - (now - evaluation_began), 1e-9)
        timing = {
            "step": self.step,
            "seconds": self.seconds,
            "evaluation_seconds": self.evaluation_seconds,
            "updates_per_second": (self.run.log_interval if means else 0) / training,
        }
        for position, record in enumerate(self.records):
            values = {name: values[position] for name, values in means.items()}
            record["rows"].append({"step": self.step, "status": "OK", **evaluations[position], **values})
            record["timing"].append(timing)
        speed = len(self.cells) * self.run.eval_episodes / (now - evaluation_began) if evaluate else None
        self.progress.report(self.records, speed)

    def _save(self) -> None:
        """A checkpoint of every seed; Busy if another process was told to go on instead."""
        self.stop.begin_saving()
        for cell in self.cells:
            lock.verify(cell.lock)
        self.abandoned.discard(self.step)
        with region("saving"):
            for position, cell in enumerate(self.cells):  # its slice of the stack, its experience, rows and interval
                tensors, experience = self.experience.save(position)
                record = {**self.records[position], "experience": experience}
                if self.within_interval:
                    seconds = time.monotonic() - self.clock
                    record["interval"] = {**self.learner.interval(position), "seconds": seconds}
                tensors = {**self.state.replica(position), **tensors}
                directory = cell.directory(self.stage)
                checkpoint.save(directory, self.step, tensors, record, abandoned=self.abandoned)
        self.saved = (self.step, self.within_interval)
        self.stop.end_saving()


def title(run: Run, stage: str, seeds: list[int] | None = None) -> str:
    """What a line of progress begins with."""
    what = run.cloned if stage == "pretrain" else f"{run.method} {run.task}"
    return f"{stage} {what}" + (f" seeds {seeds}" if seeds and stage != "pretrain" else "")
