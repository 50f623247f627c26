"""Training a block of seeds through one stage: pretrain, offline or online.

What is exact: a run killed at any instant and started again ends in the same bytes, because every random number is a
function of (seed, purpose, step), the learner's whole state is in the checkpoint, and an environment is restored by
replaying its episode. Seeds of a block are stacked; those that have finished are published unchanged, not trained.
"""

import importlib
import math
import sys
import time
from typing import Any

import safetensors.torch
import torch

from trqam import checkpoint
from trqam.agents.base import Agent, Tensors
from trqam.artefacts import read_json, sha256, write_atomically, write_json
from trqam.config import Config, Run
from trqam.data.dataset import Dataset
from trqam.errors import UserError
from trqam.evaluation import Evaluator
from trqam.experience import Offline, Online
from trqam.policy import Policy, acting_part
from trqam.progress import Progress
from trqam.replicas import assemble, leaves, replica_norm
from trqam.runs import Cell, cell_of, check_same, finished, locked, new_record, pretraining_cell, publish


def pretrain(config: Config, domain: str) -> None:
    """Behaviour cloning of one domain; publishes its velocity field as ``base.safetensors``."""
    run, cell = config.pretraining(domain), pretraining_cell(config, domain)
    _train_block(config, run, "pretrain", run.pretrain_steps, [cell])


def train(config: Config, task: str, method: str, stage: str, seeds: list[int]) -> None:
    """The offline or online stage of some seeds of one cell."""
    run = config.run(task, method)
    if stage not in config.stages(method):
        where = "ablation_stages" if method in config.ablated else f"{config.scale.methods_file}: {method}: stages"
        raise UserError(f"{config.path}: {where}: {stage!r} is not listed, so {method} has none; add it there")
    total = run.offline_steps if stage == "offline" else run.online_steps
    _train_block(config, run, stage, total, [cell_of(config, task, method, seed) for seed in seeds])


def _train_block(config: Config, run: Run, stage: str, total: int, cells: list[Cell]) -> None:
    with locked(cells):
        left = [cell for cell in cells if finished(cell, run, stage, total) is None]
        if skipped := [cell.seed for cell in cells if cell not in left]:
            print(f"{_title(run, stage)}: seeds {skipped} have finished; not trained again", file=sys.stderr)
        device = device_of(config.scale.device)
        for group, start in _groups(left, run, stage, replicas_at_once(config.scale.replicas, run, device)):
            Trainer(config, run, stage, total, group, start).train()
        for cell in cells:
            record = finished(cell, run, stage, total)
            if stage == "pretrain":
                record |= {"base_sha256": _publish_base(cell, run)}
            publish(cell, run, stage, record)
        if config.scale.keep == "policy" and stage != "pretrain" and stage == config.stages(run.method)[-1]:
            for cell in cells:
                _keep_policy(config, run, cell)


def _keep_policy(config: Config, run: Run, cell: Cell) -> None:
    """Reduces the last checkpoints of a finished cell to what its policy acts with; the metrics stay whole."""
    if cell.diverged.exists():
        return  # as it was when it diverged, for whoever wants to know why
    sizes = Dataset.open(config.data_directory(run.domain), run.task).card["shapes"]
    for stage in config.stages(run.method):
        directory = cell.directory(stage)
        for step in checkpoint.steps(directory)[:1]:
            tensors, record = checkpoint.load(directory, step)
            if record.get("kept") != "policy":
                agent = make_agent(run.at(stage), sizes["observations"][1], sizes["actions"][1])
                kept = acting_part(agent, tensors)
                checkpoint.save(directory, step, kept, {**record, "kept": "policy"}, keep=1)
        (directory / "replay.bin").unlink(missing_ok=True)


def _publish_base(cell: Cell, run: Run) -> str:
    """Writes the cloned velocity field beside the manifest that will carry this checksum."""
    if cell.diverged.exists():
        raise UserError(
            f"{cell.diverged}: behaviour cloning diverged; lower learning_rate and `trqam clean {run.domain}`"
        )
    tensors, _ = checkpoint.load(cell.directory("pretrain"), run.pretrain_steps)
    base = {name.removeprefix("online/base/"): t for name, t in tensors.items() if name.startswith("online/base/")}
    path = cell.path / "base.safetensors"
    write_atomically(path, safetensors.torch.save(base))
    return sha256(path)


def _groups(cells: list[Cell], run: Run, stage: str, at_once: int) -> list[tuple[list[Cell], int | None]]:
    """Cells that can be stacked, each group with the newest step that all its members have saved (None: the start).

    Seeds that were stacked before stay together, at a step both of whose generations still hold; seeds that cannot
    agree on a step go on alone, each from its own; those that have not begun are stacked ``at_once`` a group.
    """
    blocks: dict[tuple[int, ...], list[tuple[Cell, list[int]]]] = {}
    for cell in cells:
        steps = checkpoint.steps(cell.directory(stage))
        block: list[int] = []
        if steps:
            record = checkpoint.load(cell.directory(stage), steps[0])[1]
            check_same(record, run, stage, cell.directory(stage))
            block = record["block"]
        blocks.setdefault(tuple(block), []).append((cell, steps))
    groups: list[tuple[list[Cell], int | None]] = []
    for members in blocks.values():
        common = set.intersection(*(set(steps) for _, steps in members))
        if not any(steps for _, steps in members):
            fresh = [cell for cell, _ in members]
            groups += [(fresh[first : first + at_once], None) for first in range(0, len(fresh), at_once)]
        elif common:
            groups.append(([cell for cell, _ in members], max(common)))
        else:
            groups += [([cell], max(steps)) for cell, steps in members]
    return groups


class Trainer:
    """One stack of seeds going through one stage."""

    def __init__(self, config: Config, run: Run, stage: str, total: int, cells: list[Cell], start: int | None):
        self.config, self.run, self.stage, self.total = config, run, stage, total
        self.cells, self.start = cells, start
        self.device = device_of(config.scale.device)
        self.dataset = Dataset.open(config.data_directory(run.domain), run.task)
        sizes = self.dataset.card["shapes"]
        self.action_size = sizes["actions"][1]
        self.agent = make_agent(run.at(stage), sizes["observations"][1], self.action_size)
        self.policy = Policy(self.agent, self.dataset, self.device)
        self.evaluator: Evaluator | None = None
        block = [cell.seed for cell in cells]
        if start is None:
            tensors = [self._initial(cell) for cell in cells]
            self.records = [new_record(run, stage, seed, block) | {"rows": [], "timing": []} for seed in block]
        else:
            loaded = [checkpoint.load(cell.directory(stage), start) for cell in cells]
            tensors, self.records = [list(part) for part in zip(*loaded, strict=True)]
        self.experience = self._experience(tensors)
        self.state = assemble(
            [{k: v for k, v in t.items() if not k.startswith("environment/")} for t in tensors], self.device
        )
        self.step = start or 0
        self.sums: Tensors = {}
        self.updates = 0
        spent = (
            self.records[0]["timing"][-1] if self.records[0]["timing"] else {"seconds": 0.0, "evaluation_seconds": 0.0}
        )
        self.seconds, self.evaluation_seconds = spent["seconds"], spent["evaluation_seconds"]
        self.clock = time.monotonic()
        self.progress = Progress(_title(run, stage, block), total, self.step)

    @property
    def seeds(self) -> list[int]:
        """The seeds still training, in the order of the stack."""
        return [cell.seed for cell in self.cells]

    def _initial(self, cell: Cell) -> Tensors:
        """The learner at step 0 of the stage."""
        if self.stage == "online":
            directory = cell.directory("offline")
            steps = checkpoint.steps(directory)
            if self.run.offline_steps not in steps:
                fix = f"train it first: python -m trqam train {self.run.task} {self.run.method} --stage offline"
                raise UserError(f"{directory}: the offline stage has not finished; {fix} --seeds {cell.seed}")
            tensors, record = checkpoint.load(directory, self.run.offline_steps)
            check_same(record, self.run, "offline", directory)
            if record.get("kept") == "policy":
                clean = f"python -m trqam clean {self.run.task} {self.run.method} --seed {cell.seed}"
                raise UserError(f"{directory}: only the policy was kept (keep: policy); run `{clean}` to train anew")
            return tensors
        pretrained = None
        if self.stage == "offline" and "pretrain" in self.config.methods[self.run.method].stages:
            pretrained = load_pretrained(self.config, self.run)
        return self.agent.initialise(cell.seed, pretrained)

    def _experience(self, tensors: list[Tensors]) -> Offline:
        if self.stage != "online":
            return Offline(self.run, self.dataset, self.seeds, self.stage)
        paths = [cell.directory("online") / "replay.bin" for cell in self.cells]
        saved = None
        if self.start is not None:
            saved = [(t, r["experience"]) for t, r in zip(tensors, self.records, strict=True)]
        return Online(self.run, self.dataset, self.seeds, paths, saved, self.config.scale.env_workers)

    def train(self) -> None:
        """Runs to the end of the stage; every seed ends finished or diverged."""
        run = self.run
        try:
            if self.start is None and self.stage == "offline":
                self._log({}, evaluate=True)
            while self.step < self.total and self.cells:
                self.step += 1
                self.experience.advance(self.step, self.policy, self.state)
                if self.step > self.experience.warm_up:
                    self._update()
                self.progress.advance()
                if self.step % run.log_interval == 0:
                    self._end_interval()
            for position in range(len(self.cells)):
                self._save(position, keep=1)
        finally:
            self.progress.close()
            self.experience.close()
            if self.evaluator:
                self.evaluator.close()

    def _end_interval(self) -> None:
        """Averages the metrics since the last row, ends diverged seeds, evaluates, logs and saves, as is due."""
        run = self.run
        means = {name: (value / self.updates).tolist() for name, value in self.sums.items()}
        self.sums, self.updates = {}, 0
        casualties = self._drop_diverged(means)
        if self.cells:
            evaluate = self.stage != "pretrain" and self.step % run.eval_interval == 0
            self._log(means, evaluate)
        if casualties or self.step % run.checkpoint_interval == 0:
            for position in range(len(self.cells)):
                self._save(position)
        for cell, record in casualties:  # after the others are saved: killed in between, all go back together
            print(f"{_title(run, self.stage)}: seed {cell.seed} DIVERGED at step {self.step}", file=sys.stderr)
            record["rows"].append({"step": self.step, "status": "DIVERGED"})
            write_json(cell.diverged, record)

    def _update(self) -> None:
        batch = self.policy.batch(self.experience.batch(self.step))
        noise = self.agent.draw_noise(self.seeds, f"noise/{self.stage}", self.step, self.run.batch_size)
        metrics = self.agent.update(self.state, batch, {k: v.to(self.device) for k, v in noise.items()})
        for name, value in metrics.items():  # stays on the device until the interval ends
            self.sums[name] = self.sums[name] + value if name in self.sums else value
        self.updates += 1

    def _evaluate(self) -> list[dict[str, float]]:
        """Success rate, mean length and mean return of every seed's policy."""
        if self.evaluator is None:
            run, workers = self.run, self.config.scale.env_workers
            self.evaluator = Evaluator(
                run.task,
                self.seeds,
                run.eval_episodes,
                run.eval_environments,
                workers,
                run.horizon,
                self.action_size,
                self.agent.noise_size,
            )
        step = self.step + (self.run.offline_steps if self.stage == "online" else 0)
        outcomes = self.evaluator.evaluate(lambda s, noise: self.policy.act(self.state, s, noise), step)
        names = {"success": "success", "episode_length": "length", "episode_return": "return_"}
        return [{name: float(getattr(o, field).mean()) for name, field in names.items()} for o in outcomes]

    def _drop_diverged(self, means: dict[str, list[float]]) -> list[tuple[Cell, dict[str, Any]]]:
        """Takes the seeds whose losses or parameters are not finite out of the stack, and of ``means``."""
        finite = torch.isfinite(replica_norm([p.detach() for p in leaves(self.state.online)])).tolist()
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
        return casualties

    def _log(self, means: dict[str, list[float]], evaluate: bool) -> None:
        """Appends one row a seed to metrics and timing."""
        evaluation_began = time.monotonic()
        evaluations = self._evaluate() if evaluate else [{}] * len(self.cells)
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

    def _save(self, position: int, keep: int = checkpoint.GENERATIONS) -> None:
        """The checkpoint of one seed: its slice of the stack, its part of the experience, its rows."""
        tensors, experience = self.experience.save(position)
        directory = self.cells[position].directory(self.stage)
        record = {**self.records[position], "experience": experience}
        checkpoint.save(directory, self.step, {**self.state.replica(position), **tensors}, record, keep)


def make_agent(run: Run, observation_size: int, action_size: int) -> Agent:
    """The agent that a run names."""
    return importlib.import_module(f"trqam.agents.{run.agent}").AGENT(run, observation_size, action_size)


def load_pretrained(config: Config, run: Run) -> Tensors:
    """The velocity field that behaviour cloning left for the run's domain."""
    path = pretraining_cell(config, run.domain).path / "base.safetensors"
    manifest = path.parent / "pretrain.json"
    again = f"run `python -m trqam pretrain {run.domain}` again"
    if not path.is_file():
        raise UserError(f"{path}: no behaviour-cloned policy here; {again}")
    if read_json(manifest)["base_sha256"] != sha256(path):
        raise UserError(f"{path}: damaged (checksum differs from {manifest.name}); delete it and {again}")
    return safetensors.torch.load_file(path)


def device_of(name: str) -> torch.device:
    """The device of the scale file: auto takes a GPU where there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


# Where stacking stops to pay: on a CPU wide layers fill its caches alone (benchmarks/README.md).
CPU_REPLICAS, CPU_WIDTH = 8, 128
GPU_REPLICAS, GPU_WIDTH = 16, 512  # a paper-size replica takes about half a GB


def replicas_at_once(setting: int | str, run: Run, device: torch.device) -> int:
    """How many seeds are stacked: ``setting`` itself, or for "auto" what suits the device and the network's width."""
    if setting != "auto":
        return int(setting)
    if device.type == "cpu":
        return CPU_REPLICAS if run.hidden_width <= CPU_WIDTH else 1
    return GPU_REPLICAS if run.hidden_width <= GPU_WIDTH else GPU_REPLICAS // 2


def _title(run: Run, stage: str, seeds: list[int] | None = None) -> str:
    what = run.domain if stage == "pretrain" else f"{run.method} {run.task}"
    return f"{stage} {what}" + (f" seeds {seeds}" if seeds and stage != "pretrain" else "")
