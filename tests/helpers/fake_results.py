"""Invented results in the shape that `trqam collect` writes, for the tests of the report and for looking at it."""

import json

import numpy as np
import pandas as pd

from trqam.config import load as configuration
from trqam.config.load import domain_of
from trqam.experiment import published
from trqam.experiment.files import write_atomically, write_json
from trqam.experiment.run import cell_of, new_record
from trqam.report import record
from trqam.report.collected import Collected, read_reported

COLUMNS = [
    "task", "domain", "method", "seed", "stage", "step", "total_step", "status", "success", "episode_length",
    "episode_return", "critic_loss", "flow_loss", "adjoint_loss", "path_kl", "kl_ema", "multiplier", "adjoint_norm",
    "q_mean", "q_min", "q_max",
]  # fmt: skip


TASK = "pointmaze-medium-navigate-singletask-task2-v0"
BARE = {
    "methods": ["behaviour_cloning", "qam", "trqam"], "baselines": [], "baseline_tasks": [], "ablations": [],
    "budgets": [], "inverse_temperatures": [], "reward_scales": [], "ablation_tasks": [],
}  # fmt: skip
SMALL = {
    "tasks": [TASK, TASK.replace("task2", "task1")], "seeds": 3, "offline_steps": 4000, "online_steps": 2000,
    "eval_interval": 1000, "ablation_eval_interval": 2000, "log_interval": 200, "checkpoint_interval": 1000,
    "pretrain_steps": 3000, "eval_episodes": 15, "ablation_stages": ["offline"], "transitions": 100_000,
}  # fmt: skip
WITHOUT_PATH_KL = ("fql", "cgql_l", "dsrl", "ifql")
EVERYTHING = {
    "baselines": ["fql", "cgql_l", "dsrl", "ifql", "qam_e", "sqam"], "baseline_tasks": [TASK],
    "ablations": [
        "external_kl", "external_kl_fast", "constant_lambda", "qam_from_scratch", "qam_e_from_scratch",
        "trqam_from_scratch",
    ],
    "budgets": [0.3, 1.0, 3.0], "inverse_temperatures": [0.1, 30.0], "reward_scales": [10.0], "ablation_tasks": [TASK],
}  # fmt: skip


def small_config(**overrides):
    """The default scale's shape, whatever its values are today, with three methods and nothing else."""
    return configuration.load("config/config.yaml", {**BARE, **SMALL, **overrides})


def full_config(**overrides):
    """The same with baselines, ablations and budgets on one of its two tasks."""
    return small_config(**{**EVERYTHING, **overrides})


def paper_config(**overrides):
    """The paper's fifty tasks, with baselines on all of them and ablations on two."""
    tasks = [f"{domain}-singletask-task1-v0" for domain in ("cube-triple-play", "humanoidmaze-medium-navigate")]
    domains = configuration.load("config/paper.yaml").task_domains
    more = {"baseline_tasks": domains, "ablation_tasks": tasks, "budgets": [b / 2 for b in range(1, 9)]}
    return configuration.load("config/paper.yaml", {**BARE, **EVERYTHING, **more, **overrides})


def metrics(config, reach: float = 0.9) -> pd.DataFrame:
    """Curves that rise to about ``reach``; TRQAM's path KL settles at the budget and QAM's does not."""
    rng, scale, rows = np.random.default_rng(0), config.scale, []
    for task, method in config.cells:
        budget = config.domains[domain_of(task)].kl_budget
        adaptive = config.methods[method].agent == "trqam" and method != "constant_lambda"
        interval = scale.eval_interval
        if method in config.ablated:
            interval, budget = (
                scale.ablation_eval_interval,
                config.run(task, method).parameters.get("kl_budget", budget),
            )
        for seed in range(scale.seeds):
            cell = {"task": task, "domain": domain_of(task), "method": method, "seed": seed, "status": "OK"}
            if method == "behaviour_cloning":
                success = rng.binomial(scale.eval_episodes, 0.05) / scale.eval_episodes
                rows.append({**cell, "stage": "offline", "step": 0, "total_step": 0, "success": success})
                continue
            for stage in config.stages(method):
                steps = scale.offline_steps if stage == "offline" else scale.online_steps
                for step in range(scale.log_interval * (stage == "online"), steps + 1, scale.log_interval):
                    total = step + scale.offline_steps * (stage == "online")
                    rows.append({**cell, "stage": stage, "step": step, "total_step": total})
                    rows[-1] |= _training(rng, budget, method, adaptive, total, scale)
                    if step % interval == 0:
                        best = reach if adaptive else 0.6 * reach
                        chance = best * (1 - np.exp(-2 * total / scale.offline_steps))
                        rows[-1]["success"] = rng.binomial(scale.eval_episodes, chance) / scale.eval_episodes
    return pd.DataFrame(rows, columns=COLUMNS)


def _training(rng, budget, method, adaptive, total, scale):
    progress, noise = total / scale.offline_steps, np.exp(rng.normal(0, 0.15))
    values = {"critic_loss": noise * np.exp(-progress), "flow_loss": noise, "q_mean": -80, "q_min": -99, "q_max": -1}
    if method in WITHOUT_PATH_KL:
        return values
    if adaptive:
        kl = budget * (1 - np.exp(-6 * progress)) * noise
        values |= {"path_kl": kl, "kl_ema": kl, "multiplier": 1 + 3 * progress * noise, "adjoint_loss": 30 * noise}
    elif method.startswith("external_kl"):  # its multiplier has settled
        values |= {"path_kl": 2 * budget * noise, "kl_ema": budget, "multiplier": 20, "adjoint_loss": 30 * noise}
    else:
        values |= {"path_kl": 40 * budget * progress * noise, "adjoint_loss": 30 * np.exp(2 * progress) * noise}
    return values


def diverged(frame: pd.DataFrame, config, task: str, method: str, seed: int, step: int) -> pd.DataFrame:
    """``frame`` as `trqam collect` would have written it, had one seed diverged at ``step`` of the offline stage."""
    scale, own = config.scale, (frame.task == task) & (frame.method == method) & (frame.seed == seed)
    interval = scale.ablation_eval_interval if method in config.ablated else scale.eval_interval
    due = [at for at in range(interval, scale.offline_steps + 1, interval) if at > step]
    lost = [("offline", at) for at in (step, *due)]
    if "online" in config.stages(method):
        lost += [("online", s) for s in range(0, scale.online_steps + 1, interval)]
    cell = {"task": task, "domain": domain_of(task), "method": method, "seed": seed}
    rows = pd.DataFrame({**cell, "stage": stage, "step": at} for stage, at in lost)
    rows["total_step"] = rows.step + scale.offline_steps * (rows.stage == "online")
    kept = frame[~own | (frame.total_step < step)]
    return pd.concat([kept, rows.assign(status="DIVERGED", success=0.0)], ignore_index=True)


def runs(frame: pd.DataFrame) -> pd.DataFrame:
    """One row a cell, seed and stage."""
    cells = frame[["task", "method", "seed", "stage"]].drop_duplicates().reset_index(drop=True)
    folder = "results/small/" + cells.task + "/" + cells.method + "/seed" + cells.seed.astype(str)
    return cells.assign(
        status="OK", digest="0123456789abcdef", environment="fedcba9876543210",
        wall_time_s=61.5, updates_per_s=88.25, git_commit="abcdef1234567890",
        cpu="A CPU & more @ 2.20GHz", command="snakemake " + folder + "/" + cells.stage + ".csv",
        train="python -m trqam train " + cells.task + " " + cells.method + " --stage " + cells.stage + " --seeds 0 1",
    )  # fmt: skip


def collected(config, frame: pd.DataFrame | None = None, **parts) -> Collected:
    """All of it together; ``parts`` replace what is invented."""
    frame = metrics(config) if frame is None else frame
    invented = {
        "runs": runs(frame),
        "datasets": datasets(config),
        "manifests": manifests(),
        "reported": read_reported(),
    }
    none = pd.DataFrame(columns=[*COLUMNS, "source"])
    return Collected(**{"config": config, "metrics": frame, "imported": none, **invented, **parts})


def write(config, folder) -> None:
    """`collected` in ``folder``, as `trqam collect` leaves it."""
    made = collected(config)
    digests = [config.run(run.task, run.method).digest(run.stage) for run in made.runs.itertuples()]
    write_atomically(folder / "metrics.csv", made.metrics.to_csv(index=False))
    write_atomically(folder / "runs.csv", made.runs.assign(digest=digests).to_csv(index=False))
    write_json(folder / "datasets.json", made.datasets)
    write_json(folder / "manifests.json", made.manifests)
    record.record(config, folder, "nothing: the results are invented")


def publish(config, frame: pd.DataFrame) -> None:
    """The per-seed files of ``frame`` in the results of ``config``; a run's rows end where it diverged."""
    for (task, method, seed, stage), part in frame.groupby(["task", "method", "seed", "stage"]):
        run, rows = config.run(task, method), []
        for row in part.sort_values("step").to_dict("records"):
            kept = [key for key in COLUMNS[7:] if not pd.isna(row[key])]
            rows.append({key: row[key] for key in ("step", *kept)})
            if row["status"] == "DIVERGED":
                rows[-1] = {"step": row["step"], "status": "DIVERGED"}
                break
        record = new_record(run, stage, seed, [seed]) | {"rows": rows, "timing": []}
        published.publish(cell_of(config, task, method, seed), run, stage, record)


def manifests() -> dict:
    """What the manifests of `runs` share."""
    environment = {"git_commit": "abcdef1234567890", "git_changes": False, "versions": {"torch": "2.13.0"}}
    environment["hardware"] = {"cpu": "A CPU & more @ 2.20GHz", "machine": "x86_64", "system": "Linux"}
    return {
        "command": "snakemake --cores all paper",
        "configurations": {"0123456789abcdef": {"flow_steps": 5}},
        "environments": {"fedcba9876543210": environment},
    }


def datasets(config) -> dict:
    """The card of each domain."""
    card = {"source": config.scale.data_source, "transitions": config.scale.transitions, "episodes": 500}
    card |= {"versions": {"ogbench": "1.2.2", "mujoco": "4.0.0"}, "tasks": {"task1": {"successes": 40}}}
    return json.loads(json.dumps({domain: card for domain in config.task_domains}))
