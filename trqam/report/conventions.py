"""Success read in three ways: at the last evaluation, as the paper does and every other table here; the mean of a run's
last evaluations; and the best of a run's evaluations.

And the files of the same evaluations: per_task.csv and .json, which have all three for every task, and curves.csv,
which has success, path KL and multiplier over training, for whoever plots them.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from trqam.experiment.files import write_atomically, write_json
from trqam.report.collected import Collected
from trqam.report.measures import RESAMPLES, Bracketed, final_step, interval
from trqam.report.statistics import mean_and_std, pooled

LAST = 3  # evaluations
LOGGED = ("path_kl", "multiplier")
CURVES = ["task", "method", "stage", "step", "n", "mean", "std", "low", "high", "n_logged", *LOGGED]
CONVENTIONS = FINAL, MEAN_OF_LAST, BEST = "final", f"mean of last {LAST}", "best"


@dataclass(frozen=True)
class Summary:
    """Over ``n`` seeds, in per cent: the mean of their means over tasks with its interval, and their sample ``std``."""

    n: int
    estimate: Bracketed
    std: float


def summaries(collected: Collected, tasks: list[str], method: str, stage: str) -> dict[str, Summary]:
    """By convention, over the seeds that finished all of ``tasks``; without those that have no result."""
    by_task = [_by_seed(collected, task, method, stage) for task in tasks]
    found = {}
    for name in CONVENTIONS:
        table = pd.DataFrame({task: part[name] for task, part in zip(tasks, by_task, strict=True)}).dropna()
        if table.empty:
            continue
        strata = [table[task].to_numpy() for task in tasks]
        mean_of = pooled(lambda scores: scores.mean(axis=-1))
        low, high = interval(strata, mean_of, purpose(name, tasks, method, stage))
        mean, std = mean_and_std(table.mean(axis=1))
        found[name] = Summary(len(table), Bracketed(mean, float(low), float(high)), std)
    return found


def purpose(name: str, tasks: list[str], method: str, stage: str) -> str:
    """Which random numbers an interval is made of."""
    return f"{name}/{'/'.join(tasks)}/{method}/{stage}"


def evaluations(collected: Collected, task: str, method: str, stage: str, untrained: bool = False) -> pd.DataFrame:
    """Success in per cent of the seeds that finished the stage (rows), by the steps of its evaluations, last first.

    The ``untrained`` policy, which is evaluated at step 0 of the offline stage, counts only if asked for; of behaviour
    cloning it is the only evaluation. A seed that diverged has success 0 at each evaluation that it did not live to
    see.
    """
    config, rows = collected.config, collected.cells.get((task, method), collected.metrics.iloc[:0])
    end, every = final_step(config, method, stage), config.run(task, method).eval_interval
    steps = [*range(end, -1 if untrained and stage == "offline" else 0, -every)] or [end]
    rows = rows[(rows.stage == stage) & rows.step.isin(steps) & rows.success.notna()]
    table = 100 * rows.pivot_table(index="seed", columns="step", values="success", aggfunc="last")
    table = table.reindex(columns=steps).astype(float)
    return table[table[end].notna()]


def _by_seed(collected: Collected, task: str, method: str, stage: str) -> pd.DataFrame:
    """Per-seed success in per cent on one task, a column a convention; nan where the stage has too few evaluations."""
    table = evaluations(collected, task, method, stage)
    last = table.iloc[:, :LAST].mean(axis=1, skipna=False) if table.shape[1] >= LAST else np.nan
    values = table.iloc[:, 0], last, table.max(axis=1)
    return pd.DataFrame(dict(zip(CONVENTIONS, values, strict=True)), index=table.index)


def write(collected: Collected, out: Path) -> None:
    """``out`` as csv and json: task, method, stage, convention, n, mean, std, low, high, in per cent to four decimals;
    empty in the one and null in the other where nothing is.
    """
    config, lines = collected.config, []
    for task, method in config.cells:
        for stage in config.stages(method):
            found = summaries(collected, [task], method, stage)
            for name in CONVENTIONS:
                line = {"task": task, "method": method, "stage": stage, "convention": name, "n": 0}
                if summary := found.get(name):
                    ends = {"low": summary.estimate.low, "high": summary.estimate.high}
                    line |= {"n": summary.n, "mean": summary.estimate.value, "std": summary.std, **ends}
                lines.append(line)
    columns = ["task", "method", "stage", "convention", "n", "mean", "std", "low", "high"]
    table = pd.DataFrame(lines, columns=columns)
    write_atomically(out, table.to_csv(index=False, float_format="%.4f"))
    rows = table.round(4).astype(object).where(table.notna(), None).to_dict("records")
    made = f"low and high: percentiles of {RESAMPLES} bootstrap resamples of the n seeds, 95 %; null for fewer than two"
    about = {"scale": config.scale.scale, "unit": "success in per cent", "interval": made}
    write_json(out.with_suffix(".json"), {**about, "rows": rows})


def curve(collected: Collected, task: str, method: str, stage: str) -> pd.DataFrame:
    """`CURVES`, a row for each step of the stage that has anything.

    Success in per cent over the ``n`` seeds that finished the stage, with the interval of `summaries`,
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
    made = made.assign(task=task, method=method, stage=stage).reindex(columns=CURVES)
    return made.astype({"step": int}).fillna({"n": 0, "n_logged": 0}).astype({"n": int, "n_logged": int})


def write_curves(collected: Collected, out: Path) -> None:
    """curves.csv: `curve` of every task, method and stage; empty where nothing is."""
    config = collected.config
    parts = [curve(collected, task, m, stage) for task, m in config.cells for stage in config.stages(m)]
    write_atomically(out, pd.concat(parts).to_csv(index=False, float_format="%.6g"))
