"""Every value and sentence that the paper and the page take from configuration and results."""

from pathlib import Path

import pandas as pd

from trqam.config.load import Config, expanded, is_robomimic
from trqam.config.wording import count, enumerated, shown, tasks_label, thousands
from trqam.report import figures, latex, protocol
from trqam.report.assumptions import assumptions
from trqam.report.claims import judge, statements
from trqam.report.collected import Collected, mixed_list
from trqam.report.measures import STAGES, Success, final_cell, final_step, shared_tasks
from trqam.report.selection import FIGURES, compared, lists_single_tasks, tasks_run
from trqam.report.statistics import round_half_up

SHOWN = {  # as printed, and in this order
    "python": "Python", "torch": "PyTorch", "numpy": "NumPy", "ogbench": "OGBench", "gymnasium": "Gymnasium",
    "mujoco": "MuJoCo", "robosuite": "robosuite",
}  # fmt: skip
NUMBERS = (
    "seeds", "pretrain_steps", "offline_steps", "online_steps", "online_start", "batch_size", "learning_rate",
    "target_rate", "flow_steps", "critics", "eval_interval", "eval_episodes",
)  # fmt: skip


def facts(collected: Collected) -> dict[str, str]:
    """Every value and sentence, by macro name."""
    config, metrics, datasets = collected.config, collected.metrics, collected.datasets
    scale, domains = config.scale, [config.domains[name] for name in config.task_domains]
    values = {_camel(key): shown(getattr(scale, key)) for key in NUMBERS}
    values |= {
        "scale": scale.scale,
        "seedCount": count(scale.seeds, "seed"),
        "taskCount": count(len(config.tasks), "task"),
        "taskList": tasks_label(config, config.tasks),
        "domainCount": count(len(domains), "domain"),
        "domainList": enumerated([domain.label for domain in domains]),
        "methodList": enumerated([config.methods[method].label for method in compared(config)]),
        "ablationList": _ablations(config),
        "scaleNotice": _scale_notice(collected),
        "publishedNotice": _published_notice(config),
        "klBudgets": enumerated([f"{domain.label} {shown(domain.kl_budget)}" for domain in domains]),
        "assumptions": " ".join(assumptions(config, trained_with(collected).get("ogbench", []))),
        "chosen": scale.chosen,
        "data": _data(config, datasets),
        "versions": _versions(collected),
        "provenance": _provenance(collected.runs),
        "completeness": _completeness(config, metrics) + mixed_list(collected),
        "settings": _settings(collected),
        "summary": " ".join(verdicts(metrics, config, stage)[0] for stage in STAGES),
        "verdictOffline": " ".join(verdicts(metrics, config, "offline")),
        "verdictOnline": " ".join(verdicts(metrics, config, "online")),
        "claims": judge.summary(judge.claims(collected)),
    }
    captions = {**dict.fromkeys(FIGURES, ""), **figures.captions(collected)}  # of figures that are not drawn, nothing
    values["curves"] = _plots({name: text for name, text in captions.items() if "--" in name})
    return values | {f"caption{_camel('_' + name)}": text for name, text in captions.items() if "--" not in name}


def _plots(captions: dict[str, str]) -> latex.Latex:
    """The figures that are one a domain: their names have hyphens and digits, which the name of a macro must not."""
    plots = [rf"\plot{{{name}}}{{{latex.escape(text)}}}" for name, text in captions.items()]
    return latex.Latex("".join(plots))


def render(collected: Collected, out: str | Path) -> None:
    """Writes facts.tex: one macro a fact, which the prose of main.tex uses in place of typed values."""
    config = collected.config
    conditions = {f"has{_camel(name).lower()}": name in figures.names(collected) for name in FIGURES}
    conditions["haschosen"] = bool(config.scale.chosen)
    conditions["tasksinappendix"] = not lists_single_tasks(config)
    latex.render("facts.tex.j2", out, facts=facts(collected), conditions=conditions)


def verdicts(metrics: pd.DataFrame, config: Config, stage: str) -> list[str]:
    """Sentences on the success over all tasks after ``stage``, true whatever the numbers are.

    The first gives the cell of each method that runs on all tasks; the others compare TRQAM's mean with each
    other's, and say whether the ranges over seeds overlap. With a handful of seeds nothing stronger can be said. If
    some compared methods run on fewer tasks, the same follows for them, over the tasks that all methods run on.
    """
    everywhere = [method for method in compared(config) if tasks_run(config, method) == config.tasks]
    others = [method for method in compared(config) if method not in everywhere]
    sentences = _comparison(metrics, config, stage, config.tasks, everywhere, f"After the {stage} stage")
    sentences = sentences or [f"There is no {stage} result that covers all tasks."]
    if others:
        shared = shared_tasks(config)
        where = tasks_label(config, shared) or "no task"
        lead = f"On {where}, where all compared methods ran, after the {stage} stage"
        own = [method for method in everywhere if config.methods[method].agent == "trqam"]
        sentences += _comparison(metrics, config, stage, shared, [*others, *own], lead)
    return sentences


def _comparison(
    metrics: pd.DataFrame, config: Config, stage: str, tasks: list[str], methods: list[str], lead: str
) -> list[str]:
    """The cells of ``methods`` over ``tasks``, and TRQAM against each; nothing where there is no cell."""
    given = {method: final_cell(metrics, config, tasks, method, stage) for method in methods}
    cells = {method: cell for method, cell in given.items() if cell}
    if not cells:
        return []
    label = {method: config.methods[method].label for method in cells}
    sentences = [f"{lead}: {'; '.join(f'{label[m]} {_with_spread(c)}' for m, c in cells.items())}."]
    own = next((method for method in cells if config.methods[method].agent == "trqam"), None)
    if own is None:
        return sentences
    rivals, left, parts = {method: cell for method, cell in cells.items() if method != own}, cells[own], []
    many = len(rivals) > 3  # in one sentence
    for method, right in rivals.items():
        overlap = "overlap" if left.low <= right.high and right.low <= left.high else "do not overlap"
        ranges = f"; their ranges over seeds, {_range(left)} and {_range(right)}, {overlap}"
        ranges = f" ({_range(right)}: they {overlap})" if many else ranges
        parts.append(f"{_place(left, right)} {label[method]}{ranges if min(left.n, right.n) > 1 else ''}")
    if many:
        seeds = f" (seeds {_range(left)})" if left.n > 1 else ""
        return [*sentences, f"{label[own]}{seeds} is {'; '.join(parts)}."]
    return [*sentences, *(f"{label[own]} is {part}." for part in parts)]


def _place(left: Success, right: Success) -> str:
    """The difference of the means is rounded, not its parts: 49.6 is 3 points above 46.4, which print as 50 and 46."""
    gap = round(left.mean - right.mean, 9)
    if gap == 0:
        return "level with"
    points = int(round_half_up(abs(gap)))
    return f"{count(points, 'point') if points else 'less than 1 point'} {'above' if gap > 0 else 'below'}"


def _with_spread(cell: Success) -> str:
    """`45 ± 12 % (n = 3, 1 diverged)`; without the ± for one seed."""
    std = "" if cell.n == 1 else f" ± {round_half_up(cell.std)}"
    return f"{round_half_up(cell.mean)}{std} % (n = {cell.n}{f', {cell.diverged} diverged' if cell.diverged else ''})"


def _range(cell: Success) -> str:
    """`30 to 50 %`."""
    return f"{round_half_up(cell.low)} to {round_half_up(cell.high)} %"


def _camel(key: str) -> str:
    first, *others = key.split("_")
    return first + "".join(word.capitalize() for word in others)


def _scale_notice(collected: Collected) -> str:
    beside = statements.load(collected.claims).paper_scale.beside
    return protocol.notice(collected.config, statements.paper_scale(collected.claims.parents[1]), beside)


def _published_notice(config: Config) -> str:
    inside = [config.domains[d].label for d in config.task_domains if config.domains[d].in_paper]
    outside = [config.domains[d].label for d in config.task_domains if not config.domains[d].in_paper]
    sentences = [f"The paper reports {enumerated(inside)}."] if inside else []
    if outside:
        sentences.append(f"The paper has no number of {enumerated(outside)}, so none stands beside it.")
    return " ".join(sentences)


def _ablations(config: Config) -> str:
    """Where what runs beside the comparison, and through which stages."""
    names = [config.methods[method].label for method in config.scale.ablations]
    names += [config.methods[method].label for method in config.sweeps]
    tasks = expanded(config.scale.ablation_tasks)
    fewer = [m for m in config.compared if tasks_run(config, m) != config.tasks]
    sentences = []
    if fewer:
        labels, where = enumerated([config.methods[m].label for m in fewer]), expanded(config.scale.baseline_tasks)
        sentences.append(f"On {tasks_label(config, where) or 'no task'} alone: {labels}.")
    if names and tasks:
        stages = f"{' and '.join(config.scale.ablation_stages)} stage{'s' * (len(config.scale.ablation_stages) > 1)}"
        sentences.append(f"Ablations, on {tasks_label(config, tasks)} and through the {stages}: {'; '.join(names)}.")
    return " ".join(sentences)


def _data(config: Config, datasets: dict) -> str:
    """The datasets by origin, with their sizes."""
    origins: dict[str, list[str]] = {}
    for name in config.task_domains:
        card = datasets.get(name)
        if card is None:
            origins.setdefault("No dataset card", []).append(config.domains[name].label)
            continue
        origin = "OGBench's official release"
        if card["source"] == "generated":
            origin = f"Generated by this pipeline, not {'Robomimic' if is_robomimic(name) else 'OGBench'}'s release"
        elif maker := config.domains[name].data_of:
            origin = f"No release of OGBench's, but of {maker}"
        size = f"{count(card['transitions'], 'transition')} in {count(card['episodes'], 'episode')}"
        origins.setdefault(origin, []).append(f"{config.domains[name].label} ({size})")
    return " ".join(f"{origin}: {enumerated(names)}." for origin, names in origins.items())


def trained_with(collected: Collected) -> dict[str, list[str]]:
    """The versions of Python and of each package that the runs' manifests record, in the order of `SHOWN`."""
    recorded = [environment["versions"] for environment in collected.manifests["environments"].values()]
    recorded += [e["versions"] for one in collected.manifests["environments"].values() for e in one.get("resumed", [])]
    names = sorted({*SHOWN}.union(*recorded), key=lambda name: [*SHOWN, name].index(name))
    found = {name: sorted({versions[name] for versions in recorded if name in versions}) for name in names}
    return {name: versions for name, versions in found.items() if versions}


def _versions(collected: Collected) -> str:
    """Those of the runs; those of the data where they are others."""
    runs = {(name, version) for name, versions in trained_with(collected).items() for version in versions}
    cards = collected.datasets.values()
    data = sorted({(name, str(v)) for card in cards for name, v in card.get("versions", {}).items()} - runs)
    parts = [f"{SHOWN.get(name, name)} {' and '.join(v)}" for name, v in trained_with(collected).items()]
    said = enumerated(parts) if parts else "not recorded"
    made = [f"{SHOWN.get(name, name)} {version}" for name, version in data]
    return f"{said}; the data were made or relabelled with {enumerated(made)}" if made else said


def _provenance(runs: pd.DataFrame) -> str:
    if runs.empty:
        return "No run is recorded."
    seconds = runs.wall_time_s.sum()
    time = f"{seconds / 3600:.1f} hours" if seconds >= 3600 else f"{seconds / 60:.1f} minutes"
    commits = enumerated([str(commit)[:12] for commit in runs.git_commit.dropna()] or ["unknown"])
    processors = enumerated([str(cpu) for cpu in runs.cpu.dropna()] or ["unknown"])
    return (
        f"{count(len(runs), 'recorded run')} (a run is one stage of one seed), together {time} of wall time summed "
        f"over runs; processor: {processors}; source: git commit {commits}."
    )


def _settings(collected: Collected) -> str:
    """What the tables of settings are of."""
    if collected.mixed:
        return "The other tables are printed from today's configuration; mixed runs may have trained with others."
    return "The other tables are printed from the configuration that trained."


def _completeness(config: Config, metrics: pd.DataFrame) -> str:
    """How many runs reached their stage's last evaluation."""
    asked = [(task, method, stage) for task, method in config.cells for stage in config.stages(method)]
    expected = len(asked) * config.scale.seeds
    evaluated = metrics[metrics.success.notna()].drop_duplicates(["task", "method", "stage", "step", "seed"])
    counts = evaluated.groupby(["task", "method", "stage", "step"]).size()
    finished = sum(counts.get((t, m, stage, final_step(config, m, stage)), 0) for t, m, stage in asked)
    missing = f"{thousands(expected - finished)} missing" if finished < expected else "none missing"
    cells = ["task", "method", "seed", "stage"]
    diverged = len(metrics.loc[metrics.status == "DIVERGED", cells].drop_duplicates())
    asked_for = f"{count(expected, 'result')} (task, method, seed and stage) asked for"
    return f"{asked_for}, {missing}; {diverged or 'none'} diverged."
