"""Every value and sentence that the paper and the page take from configuration and results.

The words of most are in paper/templates/facts.txt.j2.
"""

from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from trqam.config.load import Config, domain_of, expanded, is_robomimic
from trqam.config.schema import CLONING
from trqam.config.wording import count, enumerated, shown, tasks_label, words
from trqam.report import figures, latex, prose, protocol
from trqam.report.captions import captions
from trqam.report.claims import judge, statements
from trqam.report.collected import Collected, mixed_list
from trqam.report.measures import final
from trqam.report.selection import FIGURES, STAGES, compared, lists_single_tasks, tasks_run

SHOWN = {  # as printed, and in this order
    "python": "Python", "torch": "PyTorch", "numpy": "NumPy", "ogbench": "OGBench", "gymnasium": "Gymnasium",
    "mujoco": "MuJoCo", "robosuite": "robosuite",
}  # fmt: skip
NUMBERS = (
    "seeds", "pretrain_steps", "offline_steps", "online_steps", "online_start", "batch_size", "learning_rate",
    "flow_steps", "critics", "eval_interval", "eval_episodes",
)  # fmt: skip

said = partial(prose.said, "facts")


def facts(collected: Collected) -> dict[str, str]:
    """Every value and sentence, by macro name."""
    config, scale = collected.config, collected.config.scale
    domains = [config.domains[name] for name in config.task_domains]
    values = {_camel(key): shown(getattr(scale, key)) for key in NUMBERS}
    values |= {
        "scale": scale.scale,
        "seedCount": count(scale.seeds, "seed"),
        "taskCount": count(len(config.tasks), "task"),
        "taskList": tasks_label(config, config.tasks),
        "domainCount": count(len(domains), "domain"),
        "domainList": enumerated([domain.label for domain in domains]),
        "methodList": enumerated(_labels(config, compared(config))),
        "ablationList": _ablations(config),
        "scaleNotice": scale_notice(collected),
        "publishedNotice": said("published", domains),
        "klBudgets": enumerated([f"{domain.label} {shown(domain.kl_budget)}" for domain in domains]),
        "assumptions": said("assumptions", config, _assumptions(collected)),
        "chosen": scale.chosen,
        "data": _data(collected),
        "versions": said("versions", *_versions(collected)),
        "provenance": _provenance(collected.runs),
        "completeness": said("completeness", *_completeness(collected)) + mixed_list(collected),
        "settings": said("settings", collected.mixed),
        "claims": judge.summary(judge.claims(collected)),
    }
    told = {**dict.fromkeys(FIGURES, ""), **captions(collected)}  # of figures that are not drawn, nothing
    # The figures that are one a domain have names with hyphens and digits, which the name of a macro must not have.
    plots = [rf"\plot{{{name}}}{{{latex.escape(text)}}}" for name, text in told.items() if "--" in name]
    values["curves"] = latex.Latex("".join(plots))
    return values | {f"caption{_camel('_' + name)}": text for name, text in told.items() if "--" not in name}


def render(collected: Collected, out: str | Path) -> None:
    """Writes facts.tex: one macro a fact, which the prose of main.tex uses in place of typed values."""
    config = collected.config
    conditions = {f"has{_camel(name).lower()}": name in figures.names(collected) for name in FIGURES}
    conditions["haschosen"] = bool(config.scale.chosen)
    conditions["tasksinappendix"] = not lists_single_tasks(config)
    latex.render("facts.tex.j2", out, facts=facts(collected), conditions=conditions)


def _camel(key: str) -> str:
    first, *others = key.split("_")
    return first + "".join(word.capitalize() for word in others)


def _labels(config: Config, methods: Collection[str]) -> list[str]:
    return [config.methods[method].label for method in methods]


# What was asked for, and what it rests on


def scale_notice(collected: Collected) -> str:
    """Whether this run is at the paper's scale."""
    beside = statements.load(collected.claims).paper_scale.beside
    return protocol.notice(collected.config, statements.paper_scale(collected.claims.parents[1]), beside)


def _ablations(config: Config) -> str:
    """Where what runs beside the comparison, and through which stages."""
    fewer = [m for m in config.compared if tasks_run(config, m) != config.tasks]
    tasks = [expanded(names) for names in (config.scale.baseline_tasks, config.scale.ablation_tasks)]
    beside = _labels(config, [*config.scale.ablations, *config.sweeps])
    return said("ablations", config, _labels(config, fewer), tasks[0], beside, tasks[1])


def _assumptions(collected: Collected) -> dict[str, Any]:
    """What the results rest on that is not published, or is not as the authors have it: labels, by what it is."""
    config = collected.config
    domains = {name: config.domains[name] for name in config.task_domains}
    methods = {name: config.methods[name] for name in dict.fromkeys(method for _, method in config.cells)}
    values: dict[str, list[str]] = {}
    for domain in domains.values():
        for key in domain.assumed:
            values.setdefault(words(key), []).append(f"{domain.label} ({shown(getattr(domain, key))})")
    assumed = [f"{key} of {enumerated(where)}" for key, where in values.items()]
    for method in methods.values():
        constants = [f"{words(key)} ({shown(method.parameters[key])})" for key in method.assumed]
        assumed += [f"{enumerated(constants)} of {method.label}"] if constants else []
    papers = [name for name, domain in domains.items() if domain.in_paper]
    blocks = [(config.methods[m], domain_of(t)) for t, m in config.cells if m in config.compared]
    return {
        "own": [about.label for name, about in domains.items() if name not in papers and not is_robomimic(name)],
        "robomimic": [about.label for name, about in domains.items() if is_robomimic(name)],
        "assumed": assumed,
        "external": [method.label for method in methods.values() if method.agent == "external_kl"],
        "inferred": [b.label for b, domain in blocks if domain in papers and domain in b.domains.keys() - b.known],
        "papers": papers,
        "ogbench": trained_with(collected).get("ogbench", []),
        "cloned_apart": [about.label for name, about in methods.items() if about.cloned_by not in (CLONING, name)],
    }


# What was found on disk


def _data(collected: Collected) -> str:
    """The datasets by origin, with their sizes."""
    config = collected.config
    origins: dict[str, list[str]] = {}
    for name in config.task_domains:
        about, card = config.domains[name], collected.datasets.get(name)
        if card is None:
            origins.setdefault("No dataset card", []).append(about.label)
            continue
        origin = "OGBench's official release"
        if card["source"] == "generated":
            origin = f"Generated by this pipeline, not {'Robomimic' if is_robomimic(name) else 'OGBench'}'s release"
        elif about.data_of:
            origin = f"No release of OGBench's, but of {about.data_of}"
        size = f"{count(card['transitions'], 'transition')} in {count(card['episodes'], 'episode')}"
        origins.setdefault(origin, []).append(f"{about.label} ({size})")
    return " ".join(f"{origin}: {enumerated(names)}." for origin, names in origins.items())


def trained_with(collected: Collected) -> dict[str, list[str]]:
    """The versions of Python and of each package that the runs' manifests record, in the order of `SHOWN`."""
    environments = collected.manifests["environments"].values()
    recorded = [one["versions"] for made in environments for one in (made, *made.get("resumed", []))]
    names = sorted({*SHOWN}.union(*recorded), key=lambda name: [*SHOWN, name].index(name))
    found = {name: sorted({versions[name] for versions in recorded if name in versions}) for name in names}
    return {name: versions for name, versions in found.items() if versions}


def _versions(collected: Collected) -> tuple[list[str], list[str]]:
    """Those of the runs; those of the data where they are others."""
    trained = trained_with(collected)
    runs = {(name, version) for name, versions in trained.items() for version in versions}
    cards = collected.datasets.values()
    data = sorted({(name, str(v)) for card in cards for name, v in card.get("versions", {}).items()} - runs)
    parts = [f"{SHOWN.get(name, name)} {' and '.join(versions)}" for name, versions in trained.items()]
    return parts, [f"{SHOWN.get(name, name)} {version}" for name, version in data]


def _provenance(runs: pd.DataFrame) -> str:
    commits = [str(commit)[:12] for commit in runs.git_commit.dropna()]
    return said("provenance", len(runs), runs.wall_time_s.sum(), [*map(str, runs.cpu.dropna())], commits)


def _completeness(collected: Collected) -> tuple[int, int, int]:
    """How many runs were asked for, reached their stage's last evaluation, and diverged."""
    config, metrics = collected.config, collected.metrics
    asked = {(task, method, stage) for task, method in config.cells for stage in config.stages(method)}
    ended = [(run.task, run.method, stage) for stage in STAGES for run in final(collected, stage).itertuples()]
    lost = metrics.loc[metrics.status == "DIVERGED", ["task", "method", "seed", "stage"]].drop_duplicates()
    return len(asked) * config.scale.seeds, sum(run in asked for run in ended), len(lost)
