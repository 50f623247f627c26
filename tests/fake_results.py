"""Invented results in the shape that `trqam collect` writes, for the tests of the report and for looking at it."""

import json

import numpy as np
import pandas as pd

from trqam import config as configuration
from trqam.config import domain_of

COLUMNS = [
    "task", "domain", "method", "seed", "stage", "step", "total_step", "status", "success", "episode_length",
    "episode_return", "critic_loss", "flow_loss", "adjoint_loss", "path_kl", "kl_ema", "multiplier", "adjoint_norm",
    "q_mean", "q_min", "q_max",
]  # fmt: skip


def small_config(**overrides):
    """The default configuration, with keys of the scale replaced."""
    return configuration.load("config/config.yaml", overrides)


def metrics(config, reach: float = 0.9) -> pd.DataFrame:
    """Curves that rise to about ``reach``; TRQAM's path KL settles at the budget and QAM's does not."""
    rng, scale, rows = np.random.default_rng(0), config.scale, []
    for task in config.tasks:
        for method in scale.methods:
            for seed in range(scale.seeds):
                cell = {"task": task, "domain": domain_of(task), "method": method, "seed": seed, "status": "OK"}
                if method == "behaviour_cloning":
                    success = rng.binomial(scale.eval_episodes, 0.05) / scale.eval_episodes
                    rows.append({**cell, "stage": "offline", "step": 0, "total_step": 0, "success": success})
                    continue
                for stage, steps in (("offline", scale.offline_steps), ("online", scale.online_steps)):
                    for step in range(scale.log_interval * (stage == "online"), steps + 1, scale.log_interval):
                        total = step + scale.offline_steps * (stage == "online")
                        rows.append({**cell, "stage": stage, "step": step, "total_step": total})
                        rows[-1] |= _training(rng, config.domains[domain_of(task)].kl_budget, method, total, scale)
                        if step % scale.eval_interval == 0:
                            best = reach if method == "trqam" else 0.6 * reach
                            chance = best * (1 - np.exp(-2 * total / scale.offline_steps))
                            rows[-1]["success"] = rng.binomial(scale.eval_episodes, chance) / scale.eval_episodes
    return pd.DataFrame(rows, columns=COLUMNS)


def _training(rng, budget, method, total, scale):
    progress, noise = total / scale.offline_steps, np.exp(rng.normal(0, 0.15))
    values = {"critic_loss": noise * np.exp(-progress), "flow_loss": noise, "q_mean": -80, "q_min": -99, "q_max": -1}
    if method == "trqam":
        kl = budget * (1 - np.exp(-6 * progress)) * noise
        values |= {"path_kl": kl, "kl_ema": kl, "multiplier": 1 + 3 * progress * noise, "adjoint_loss": 30 * noise}
    else:
        values |= {"path_kl": 40 * budget * progress * noise, "adjoint_loss": 30 * np.exp(2 * progress) * noise}
    return values


def runs(frame: pd.DataFrame) -> pd.DataFrame:
    """One row a cell, seed and stage."""
    cells = frame[["task", "method", "seed", "stage"]].drop_duplicates().reset_index(drop=True)
    folder = "results/small/" + cells.task + "/" + cells.method + "/seed" + cells.seed.astype(str)
    return cells.assign(
        status="OK", digest="0123456789abcdef", wall_time_s=61.5, updates_per_s=88.25, git_commit="abcdef1234567890",
        cpu="A CPU & more @ 2.20GHz", command="snakemake " + folder + "/" + cells.stage + ".csv",
    )  # fmt: skip


def datasets(config) -> dict:
    """The card of each domain."""
    card = {"source": config.scale.data_source, "transitions": config.scale.transitions, "episodes": 500}
    card |= {"versions": {"ogbench": "1.2.2", "mujoco": "4.0.0"}, "tasks": {"task1": {"successes": 40}}}
    return json.loads(json.dumps({domain: card for domain in config.task_domains}))
