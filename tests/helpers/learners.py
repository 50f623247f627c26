"""Small learners for tests, set up from the real tables."""

from types import SimpleNamespace

import torch

from trqam.agents import make_agent
from trqam.config import load
from trqam.maths.streams import stream

SIZES = SimpleNamespace(observation=4, action=2, batch=16)
TASK = "pointmaze-medium-navigate-singletask-task2-v0"
METHODS = [name for name in load.read_yaml("config/methods.yaml") if not name.endswith("_from_scratch")]


def make_learner(name: str, seeds: list[int], **parameters):
    """An agent of the tiny scale, and the initial tensors of each seed."""
    loaded = load.load("tests/tiny.yaml", {"methods": [name]})
    run = loaded.run(TASK, name)
    values = {field: getattr(run, field) for field in run.__struct_fields__}
    run = load.Run(**{**values, "parameters": {**run.parameters, **parameters}})
    agent = make_agent(run, SIZES.observation, SIZES.action)
    return agent, [agent.initialise(seed, None) for seed in seeds]


def make_batch(seeds: list[int]) -> dict[str, torch.Tensor]:
    """Random chunks, some of them invalid or terminal, from each seed's own stream."""
    parts = []
    for seed in seeds:
        rng, size = stream(seed, "test batch"), SIZES.batch
        parts.append(
            {
                "observations": rng.standard_normal((size, SIZES.observation)),
                "next_observations": rng.standard_normal((size, SIZES.observation)),
                "actions": rng.uniform(-1, 1, (size, 5 * SIZES.action)),
                "rewards": -rng.random(size),
                "masks": rng.integers(0, 2, size),
                "valid": rng.integers(0, 2, size),
            }
        )
    return {key: torch.stack([torch.tensor(part[key], dtype=torch.float32) for part in parts]) for key in parts[0]}
