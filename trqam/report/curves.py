"""curves.csv: success, path KL and multiplier over training, of every task and method, for whoever plots them."""

from pathlib import Path

import numpy as np
import pandas as pd

from trqam.experiment.files import write_atomically
from trqam.report.collected import Collected
from trqam.report.conventions import FINAL, evaluations, purpose
from trqam.report.measures import interval
from trqam.report.statistics import mean_and_std

LOGGED = ("path_kl", "multiplier")
COLUMNS = ["task", "method", "stage", "step", "n", "mean", "std", "low", "high", "n_logged", *LOGGED]


def curve(collected: Collected, task: str, method: str, stage: str) -> pd.DataFrame:
    """`COLUMNS`, a row for each step of the stage that has anything.

    Success in per cent over the ``n`` seeds that finished the stage, with the interval of `trqam.report.conventions`,
    whose resamples are the same at every step: the last row is per_task.csv's. The path KL (nats) and the multiplier
    are means over the ``n_logged`` seeds that logged any of them there; a seed that diverged logs no more. What is
    missing is nan.
    """
    success = evaluations(collected, task, method, stage, untrained=True).dropna(axis=1, how="all")
    values, seeds = success.to_numpy(), np.arange(len(success))
    measured = pd.DataFrame(index=pd.Index(success.columns, name="step"))
    if len(seeds):
        named = purpose(FINAL, [task], method, stage)
        low, high = interval([seeds], lambda drawn: values[drawn[0]].mean(axis=-2), named)
        measured = measured.assign(n=success.notna().sum(), low=low, high=high)
        measured[["mean", "std"]] = [mean_and_std(success[step]) for step in success]
    rows = collected.cells.get((task, method), collected.metrics.iloc[:0])
    rows = rows[(rows.stage == stage)].dropna(subset=[*LOGGED], how="all")
    logged = rows.groupby("step")[[*LOGGED]].mean().assign(n_logged=rows.groupby("step").seed.nunique())
    made = measured.join(logged, how="outer").reset_index(names="step").sort_values("step")
    made = made.assign(task=task, method=method, stage=stage).reindex(columns=COLUMNS)
    return made.astype({"step": int}).fillna({"n": 0, "n_logged": 0}).astype({"n": int, "n_logged": int})


def write(collected: Collected, out: Path) -> None:
    """curves.csv: `curve` of every task, method and stage; empty where nothing is."""
    config = collected.config
    parts = [curve(collected, task, m, stage) for task, m in config.cells for stage in config.stages(m)]
    write_atomically(out, pd.concat(parts).to_csv(index=False, float_format="%.6g"))
