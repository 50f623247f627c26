"""A policy that a run has kept, put together again from that run's own record: no scale file is asked.

results/{scale}/{task}/{method}/seed{n}    a cell: its last stage that has a checkpoint, or the one asked for
results/{scale}/pretrained/{domain}        behaviour cloning of a domain, for any of its tasks

Every evaluation uses the same episodes: their resets and noise come from the streams "evaluate" of a seed, at step 0,
whatever policy acts. So two policies can be compared episode by episode, and no episode is one that training saw.
"""

import math
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np
import torch
from scipy.stats import binomtest

from trqam.agents import make_agent
from trqam.agents.base import Tensors
from trqam.config.errors import UserError
from trqam.config.load import STAGES, Run, agent_parameters, tasks_of
from trqam.config.schema import CLONING, Layers, Natural, Normalisation, Small, Width
from trqam.config.strict import Strict, check, convert
from trqam.config.wording import count
from trqam.data.card import read
from trqam.data.dataset import UNCHANGED, Normaliser, normaliser_of
from trqam.environments.environment import sizes
from trqam.environments.evaluator import Evaluator
from trqam.experiment import checkpoint
from trqam.experiment.provenance import data_sum
from trqam.experiment.run import Cell
from trqam.maths.streams import episode_seed
from trqam.networks.replicas import assemble
from trqam.training.learner import Policy

EXAMPLE = "results/small/TASK/METHOD/seed0"
# Rows of a batch of observations, always: the arithmetic of a row may depend on how many there are, in its last bit.
ROWS = 10
PURPOSE = "evaluate"


class Acting(Strict):
    """The fields of `Run` that a policy reads when it acts; a record may have others, or lack those of later versions.

    ``task``, ``agent``, ``flow_steps`` and what follows are no part of a cloned policy's training.
    """

    domain: str
    horizon: Small
    hidden_width: Width
    hidden_layers: Layers
    actor_layer_norm: bool
    normalise_observations: Normalisation
    data_source: str
    transitions: int
    data_seed: int
    task: str
    agent: str
    method: str
    parameters: dict[str, bool | int | float | str]
    flow_steps: Small
    critics: Annotated[int, msgspec.Meta(ge=0, le=1000)]


@dataclass(frozen=True)
class Kept:
    """A run's policy as it was at the end of training step ``step`` of ``stage``; it acts on ``run.task``."""

    path: Path
    stage: str
    step: int
    record: dict[str, Any]
    run: Run
    policy: Policy
    action_size: int

    @property
    def seed(self) -> int:
        """The training seed."""
        return self.record["seed"]

    @property
    def diverged(self) -> bool:
        """Whether training ended by diverging; the policy is then the last one that was saved before."""
        return Cell(self.path, self.seed).diverged.is_file()

    def act(self, observations: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Chunks [1, S, D] for observations [1, S, O] and noise [1, S, N], S <= ROWS.

        A row's result depends on the row and its position, not on its neighbours nor on how many there are.
        """
        slots = observations.shape[1]
        padding = ((0, 0), (0, ROWS - slots), (0, 0))
        return self.policy.act(np.pad(observations, padding), np.pad(noise, padding))[:, :slots]

    def chunk(self, observation: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The actions [H, A] in [-1, 1] to take one after another from ``observation`` [O]; ``rng`` draws their noise.

        For a loop of one's own. `evaluate` plays the episodes that two policies can be compared on.
        """
        noise = rng.standard_normal((1, 1, self.policy.noise_size), np.float32)
        observations = np.asarray(observation, np.float32)[None, None]
        return self.act(observations, noise).reshape(self.run.horizon, self.action_size)


class Episode(NamedTuple):
    """How one episode ended, and what it can be brought about again with."""

    success: bool
    length: int  # environment steps
    return_: float  # undiscounted sum of rewards
    reset: int  # the seed of its beginning
    actions: np.ndarray  # [L, A]


def load(
    folder: Path | str,
    stage: str | None = None,
    task: str | None = None,
    flow_steps: int | None = None,
    data: Path | None = None,
) -> Kept:
    """The newest checkpoint in a run's ``folder``; a UserError names what is missing, damaged or not a run.

    ``stage`` chooses another than the last. ``task`` and ``flow_steps`` (K) are for the cloned policy of a domain,
    whose training knows neither. ``data`` is the domain's dataset, or the folder that holds it (default: of the folders
    data/* beside the results the one with the data that the run has recorded); it is read only where observations are
    normalised.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; name a run's, such as {EXAMPLE}")
    found = {name: max(checkpoint.recorded(Cell(folder, 0).directory(name)), default=None) for name in STAGES}
    stage = stage or next((name for name in reversed(STAGES) if found[name] is not None), None)
    if stage is None:
        raise UserError(f"{folder}: no run with a checkpoint (run/STAGE/step*.json); name a folder such as {EXAMPLE}")
    directory, step = Cell(folder, 0).directory(stage), found[stage]
    if step is None:
        raise UserError(f"{directory}: no checkpoint; train this stage, or name a run's folder such as {EXAMPLE}")
    # The newest, damaged or not: an older one is another policy.
    tensors, record = checkpoint.Checkpoints(directory).load(step)
    run = _run(record, stage, directory, task, flow_steps)
    observation_size, action_size = sizes(run.task)
    agent = make_agent(run, observation_size, action_size)
    tensors = {k: v for k, v in tensors.items() if not k.startswith("environment/")}
    expected = agent.initialise(0, None)
    if record.get("kept") == "policy":
        expected = agent.acting_part(expected)
    _check_fit(tensors, expected, run.agent, directory)
    policy = Policy(agent, assemble([tensors]), _normaliser(run, folder, stage, data, record), torch.device("cpu"))
    return Kept(folder, stage, step, record, run, policy, action_size)


def _run(record: dict[str, Any], stage: str, directory: Path, task: str | None, flow_steps: int | None) -> Run:
    """The recorded configuration as far as acting needs it; every other field is None, which nothing can use."""
    where = f"{directory}: configuration"
    if not isinstance(record, dict) or not isinstance(record.get("configuration"), dict):
        raise UserError(f"{where}: missing, so this is no run of ours; name a folder such as {EXAMPLE}")
    check(record.get("seed"), Natural, f"{directory}: seed", f"name another run's folder, such as {EXAMPLE}")
    values = record["configuration"]
    if stage == "pretrain":
        domain = values.get("domain")
        example = tasks_of(str(domain))[0]
        if task is None or flow_steps is None:
            missing = f"--task, such as --task {example}" if task is None else "--flow-steps, such as --flow-steps 5"
            raise UserError(f"{where}: the cloned policy of a whole domain; add {missing}")
        if task not in tasks_of(str(domain)):
            raise UserError(f"--task {task}: this policy was cloned for {domain}; write such as {example}")
        cloning = values.get("cloned_by", CLONING)
        values = {**values, "task": task, "method": cloning, "agent": cloning, "parameters": {}, "critics": 0}
        values["flow_steps"] = flow_steps
    elif task not in (None, values.get("task")):
        raise UserError(f"--task {task}: this run was trained for {values.get('task')}; leave --task out")
    elif flow_steps is not None:
        raise UserError(f"--flow-steps {flow_steps}: this run has recorded its own number; leave --flow-steps out")
    acting = convert({k: v for k, v in values.items() if k in Acting.__struct_fields__}, Acting, where)
    agent_parameters(acting.agent, acting.parameters, {}, where)  # a UserError where this version's agent has others
    return Run(**{**dict.fromkeys(Run.__struct_fields__), **msgspec.structs.asdict(acting)})


def _check_fit(tensors: Tensors, expected: Tensors, agent: str, directory: Path) -> None:
    """A UserError if what was saved has other names, shapes or types than ``expected``."""
    shapes, found = ({n: (t.shape, t.is_floating_point()) for n, t in own.items()} for own in (expected, tensors))
    if differing := sorted(n for n in shapes.keys() | found.keys() if shapes.get(n) != found.get(n)):
        fix = "check out the commit in its manifest, or train it again"
        raise UserError(f"{directory}: {differing[0]}: not what agent {agent} has in this version; {fix}")
    if broken := [name for name, tensor in tensors.items() if not tensor.isfinite().all()]:
        raise UserError(f"{directory}: {broken[0]}: holds what is not a finite number; train the run again")


def _normaliser(run: Run, folder: Path, stage: str, data: Path | None, record: dict[str, Any]) -> Normaliser:
    """From the card of the dataset that the run was trained on, where its domain asks for it."""
    if not run.normalise_observations:
        return UNCHANGED
    if data is None:  # results/{scale}/pretrained/{domain} or results/{scale}/{task}/{method}/{seed}
        results = Path(os.path.abspath(folder / ("../.." if stage == "pretrain" else "../../..")))
        data = _data_beside(results, run.domain, record.get("data_sha256"))
    own, path = Path(data) / "card.json", Path(data) / run.domain / "card.json"
    path = own if own.is_file() else path
    if not path.is_file():
        fix = "give the dataset's folder with --data, or --config and --set of the run's scale"
        raise UserError(f"{path}: no dataset card, and observations are scaled by it; {fix}")
    card = read(path, run.domain, "give the folder of the dataset with --data, or make it again")
    made = {"seed": run.data_seed, "transitions": run.transitions} if run.data_source == "generated" else {}
    trained = {"source": run.data_source, **made}
    for key, value in trained.items():
        if card.get(key) != value:
            raise UserError(f"{path}: {key}: {card.get(key)!r}, but the run was trained on {value!r}; give --data")
    if record.get("data_sha256", data_sum(card)) != data_sum(card):
        raise UserError(f"{path}: not the dataset that the run was trained on, whose sum is another; give --data")
    return normaliser_of(card, run.normalise_observations)


def _data_beside(results: Path, domain: str, recorded: str | None) -> Path:
    """Of the folders data/* beside ``results`` the one whose set of ``domain`` has the sum that a run has recorded, for
    a variant of a scale keeps its data; if none has, the one of the scale's name."""
    named = results.parents[1] / "data" / results.name
    for folder in (named, *sorted(named.parent.glob("*"))):
        with suppress(UserError):  # other folders are not asked for: whatever is wrong there is no fault of this run
            if data_sum(read(folder / domain / "card.json", domain, "")) == recorded:
                return folder
    return named


def evaluate(kept: Kept, episodes: int, seed: int = 0) -> list[Episode]:
    """Episodes 0 .. episodes-1 of the evaluation stream of ``seed``; episode i does not depend on how many follow."""
    seen: list[np.ndarray] = []

    def act(observations: np.ndarray, noise: np.ndarray) -> np.ndarray:
        seen.append(kept.act(observations, noise))
        return seen[-1]

    horizon, size, slots = kept.run.horizon, kept.action_size, min(ROWS, episodes)
    shape = {"horizon": horizon, "action_size": size, "noise_size": kept.policy.noise_size}
    with Evaluator(kept.run.task, [seed], episodes, ROWS, workers=0, purpose=PURPOSE, **shape) as evaluator:
        (outcome,) = evaluator.evaluate(act, step=0)
    begun, found = [0] * slots, []  # chunks that a slot has done
    for number, (success, length, total) in enumerate(zip(*outcome, strict=True)):
        slot = number % slots  # see `trqam.environments.evaluator`
        first, begun[slot] = begun[slot], begun[slot] + math.ceil(length / horizon)
        chunks = np.stack([chunk[0, slot] for chunk in seen[first : begun[slot]]])
        actions = chunks.reshape(-1, size)[: int(length)]
        reset = episode_seed(seed, PURPOSE, 0, number)
        found.append(Episode(bool(success), int(length), float(total), reset, actions))
    return found


def summary(kept: Kept, episodes: list[Episode], seed: int) -> dict[str, Any]:
    """What `trqam evaluate` reports."""
    successes, number = sum(episode.success for episode in episodes), len(episodes)
    return {
        "run": str(kept.path),
        "task": kept.run.task,
        "method": kept.run.method,
        "stage": kept.stage,
        "step": kept.step,
        "diverged": kept.diverged,
        "training_seed": kept.seed,
        "flow_steps": kept.run.flow_steps,
        "evaluation_seed": seed,
        "episodes": number,
        "success": successes / number,
        "success_interval": list(binomtest(successes, number).proportion_ci(0.95, "wilson")),
        "return": float(np.mean([episode.return_ for episode in episodes])),
        "length": float(np.mean([episode.length for episode in episodes])),
    }


def report(summary: dict[str, Any]) -> str:
    """The summary in a few lines for people."""
    low, high = summary["success_interval"]
    lost = "; training DIVERGED later: this is the last policy saved" if summary["diverged"] else ""
    return (
        f"{summary['method']} on {summary['task']}, training seed {summary['training_seed']}\n"
        f"policy   {summary['stage']} step {summary['step']}, {summary['flow_steps']} flow steps{lost}\n"
        f"success  {summary['success']:.1%} of {count(summary['episodes'], 'episode')}"
        f" (95 % Wilson interval {low:.1%} to {high:.1%}), evaluation seed {summary['evaluation_seed']}\n"
        f"return   {summary['return']:.1f} on average\n"
        f"length   {summary['length']:.1f} environment steps on average"
    )
