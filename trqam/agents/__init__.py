"""Agents, one a file; each file's `AGENT` is its class. Their hyper-parameters stand in `trqam.config.parameters`."""

import importlib
from typing import TYPE_CHECKING

from trqam.config.load import Run

if TYPE_CHECKING:
    from trqam.agents.base import Agent


def make_agent(run: Run, observation_size: int, action_size: int) -> "Agent":
    """The agent that a run names."""
    return importlib.import_module(f"trqam.agents.{run.agent}").AGENT(run, observation_size, action_size)
