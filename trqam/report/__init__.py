"""From collected results to tables, figures, the paper and the page: nothing here trains, and no result is typed in.

This file holds the wording that all of them share, and what a scale compares; Snakemake reads it, so it must stay free
of torch and matplotlib.
"""

import re
from pathlib import Path

import msgspec

from trqam.config import Config, domain_of, tasks_of

PAPER = Path(__file__).parents[2] / "paper"
IMPORTED = Path("data/imported")  # curves that others published (`trqam import`)
SOURCE = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}"  # a name of such curves
CLAIMS = PAPER.parent / "config" / "claims.yaml"  # the paper's claims, one file for all scales
CONTRASTED = ("trqam", "constant_lambda", "qam", "external_kl")  # adaptive, constant, constant, external
COLLAPSING = ("qam", "qam_e", "trqam")
BEYOND = "Beyond the paper"  # the group in methods.yaml of what other papers brought
STRIP_METHODS = ("behaviour_cloning", "trqam")  # whose rollouts are shown, one under the other
STRIP_SEED = 0  # of training and of evaluation
STRIPS = 5  # tasks, at most


class Strip(msgspec.Struct):
    """What is read of the record beside a film strip: its task, whether there is a picture, and words."""

    rendered: bool
    caption: str
    text: str
    task: str = ""


def imported_tables(folder: str | Path = IMPORTED) -> list[Path]:
    """The tables of imported curves: regular files of a name that an import gives, whatever else lies there."""
    return sorted(p for p in Path(folder).glob("*.csv") if re.fullmatch(SOURCE, p.stem) and p.is_file())


def thousands(number: int) -> str:
    """1000000 as 1 000 000, the spaces unbreakable."""
    return f"{number:,}".replace(",", "\u00a0")


def count(number: int, noun: str) -> str:
    """`1 seed`, `3 seeds`."""
    return f"{thousands(number)} {noun}{'' if number == 1 else 's'}"


def weight(number: float) -> str:
    """A number of bytes: `1.2 GB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:,.3g} TB"


def words(key: str) -> str:
    """A configuration key as words."""
    return key.replace("_", " ").replace("kl ", "KL ")


def shown(value) -> str:
    """A configuration value as printed."""
    if value is None:
        return "default"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return thousands(value) if isinstance(value, int) else f"{value:g}" if isinstance(value, float) else str(value)


def task_label(config: Config, task: str) -> str:
    """`pointmaze-medium task 2`, from the domain's label and the number in the task's name."""
    return f"{config.domains[domain_of(task)].label} task {task.split('-task')[-1].split('-')[0]}"


def data_note(config: Config) -> str:
    """What every table of results says of generated data; empty with OGBench's own."""
    return "" if config.scale.data_source == "official" else " Data: generated here, not OGBench's release."


def enumerated(names: list[str]) -> str:
    """`a, b and c`, each once."""
    names = list(dict.fromkeys(names))
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def tasks_label(config: Config, tasks: list[str]) -> str:
    """`all tasks of scene; tasks 2 and 1 of cube-double`."""
    whole, parts = [], []
    for name in dict.fromkeys(map(domain_of, tasks)):
        numbers = [task.split("-task")[-1].split("-")[0] for task in tasks if domain_of(task) == name]
        label = config.domains[name].label
        if len(numbers) == len(tasks_of(name)):
            whole.append(label)
        else:
            parts.append(f"task{'s' if len(numbers) > 1 else ''} {enumerated(numbers)} of {label}")
    return "; ".join(([f"all tasks of {enumerated(whole)}"] if whole else []) + parts)


def compared(config: Config) -> list[str]:
    """The compared methods in the order of methods.yaml, which is the paper's."""
    order = list(config.methods)
    return sorted(config.compared, key=order.index)


def tasks_run(config: Config, *methods: str) -> list[str]:
    """The tasks on which every one of ``methods`` runs, in the scale's order."""
    cells = set(config.cells)
    return [task for task in config.tasks if all((task, method) in cells for method in methods)]


def contrasted(config: Config) -> list[str]:
    """The methods of the comparison of adaptive, constant and external KL; none where the scale ablates neither."""
    if not set(CONTRASTED) & set(config.scale.ablations):
        return []
    return [method for method in CONTRASTED if method in [*config.compared, *config.scale.ablations]]


def scratch_pairs(config: Config) -> dict[str, str]:
    """A compared method that starts from behaviour cloning, to the ablation that has its agent and does not."""
    pairs = {}
    for ablation in config.scale.ablations:
        scratch = config.methods[ablation]
        alike = [m for m in config.compared if config.methods[m].agent == scratch.agent]
        alike = [m for m in alike if "pretrain" in config.methods[m].stages]
        if "pretrain" not in scratch.stages and alike:
            pairs[alike[0]] = ablation
    return pairs


def collapsing(config: Config) -> list[str]:
    """The methods of the comparison of who collapses: plain adjoint matching, and TRQAM; none without both."""
    methods = [method for method in COLLAPSING if method in config.compared]
    return methods if "trqam" in methods and len(methods) > 1 else []


def internal_external(config: Config) -> list[str]:
    """TRQAM and the external KL penalty; none where the scale does not have both."""
    both = [method for method in ("trqam", "external_kl") if method in [*config.compared, *config.scale.ablations]]
    return both if len(both) == 2 else []


FIGURES = (
    "overall_bars",
    "profiles",
    "collapse",
    "offline_to_online",
    "trust_region",
    "adaptive_constant",
    "external_kl",
    "pretraining",
    "budget_sweep",
)
TABLES = (
    "success", "aggregates", "improvement", "coverage", "success_tasks", "published", "imported", "settings_common",
    "settings_domains", "settings_trust_region", "settings_baselines", "settings_ablations", "claims",
)  # fmt: skip


def figure_names(config: Config) -> tuple[str, ...]:
    """The figures that this scale has the methods for, and the appendix's curves of each domain."""
    ablated = bool(config.scale.ablation_tasks)
    lacking = {
        "collapse": not collapsing(config),
        "external_kl": not (ablated and internal_external(config)),
        "adaptive_constant": not (ablated and contrasted(config)),
        "pretraining": not (ablated and scratch_pairs(config)),
        "budget_sweep": not (ablated and config.budget_sweep),
    }
    text = [name for name in FIGURES if not lacking.get(name)]
    return (*text, *(f"curves--{domain}" for domain in config.task_domains))


def figure_module(name: str) -> str:
    """The module that draws the figure; what follows `--` in a name is an argument to it."""
    return f"trqam.report.figures.{name.partition('--')[0]}"


def table_names(config: Config) -> tuple[str, ...]:
    """The tables of this scale."""
    return TABLES


def lists_single_tasks(config: Config) -> bool:
    """Whether the scale names single tasks rather than whole domains only."""
    return any("-singletask-" in task for task in config.scale.tasks)


def rollout_tasks(config: Config) -> list[str]:
    """The tasks whose rollouts are shown: at most `STRIPS`, the first of every domain before its second, in order."""
    tasks = tasks_run(config, *STRIP_METHODS)
    place = {task: [t for t in tasks if domain_of(t) == domain_of(task)].index(task) for task in tasks}
    chosen = sorted(tasks, key=lambda task: place[task])[:STRIPS]
    return [task for task in tasks if task in chosen]
