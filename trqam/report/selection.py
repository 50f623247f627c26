"""From collected results to tables, figures, the paper and the page: nothing here trains, and no result is typed in.

This file holds what a scale compares and shows; Snakemake reads it, so it must stay free of torch and matplotlib.
"""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from trqam.config.load import Config, domain_of, expanded
from trqam.config.sweeps import SWEEPS

STAGES = ("offline", "online")
PAPER = Path(__file__).parents[2] / "paper"
IMPORTED = Path("data/imported")  # curves that others published (`trqam import`)
SOURCE = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}"  # a name of such curves
CLAIMS = PAPER.parent / "config" / "claims.yaml"  # the paper's claims, one file for all scales
CONTRASTED = ("trqam", "constant_lambda", "qam", "external_kl")  # adaptive, constant, constant, external
COLLAPSING = ("qam", "qam_e", "trqam")
BY_STATE = ("trqam_per_state", "trqam_scalar")  # a multiplier for each state, and one for all
INTERPOLANTS = ("trqam", "trqam_diffusion")  # a flow, and a diffusion
BEYOND = "Beyond the paper"  # the group in methods.yaml of what other papers brought
STRIP_METHODS = ("behaviour_cloning", "trqam")  # whose rollouts are shown, one under the other
STRIP_SEED = 0  # of training and of evaluation
STRIPS = 5  # tasks, at most


class Strip(msgspec.Struct):
    """The record beside a film strip: its task, whether there is a picture, and words."""

    task: str
    rendered: bool
    caption: str
    text: str


def imported_tables(folder: str | Path = IMPORTED) -> list[Path]:
    """The tables of imported curves: regular files of a name that an import gives, whatever else lies there."""
    return sorted(p for p in Path(folder).glob("*.csv") if re.fullmatch(SOURCE, p.stem) and p.is_file())


def imported_files(folder: str | Path = IMPORTED) -> list[Path]:
    """The same, and the records beside them, where there are any."""
    tables = imported_tables(folder)
    return [path for table in tables for path in (table, table.with_suffix(".json")) if path.is_file()]


def data_note(config: Config) -> str:
    """What every table of results says of generated data; empty with OGBench's own."""
    return "" if config.scale.data_source == "official" else " Data: generated here, not OGBench's release."


def compared(config: Config) -> list[str]:
    """The compared methods in the order of methods.yaml, which is the paper's."""
    order = list(config.methods)
    return sorted(config.compared, key=order.index)


def tasks_run(config: Config, *methods: str) -> list[str]:
    """The tasks on which every one of ``methods`` runs, in the scale's order."""
    cells = set(config.cells)
    return [task for task in config.tasks if all((task, method) in cells for method in methods)]


def _with_trqam(config: Config, methods: list[str]) -> list[str]:
    """TRQAM and ``methods``, in their order; none where the scale does not compare TRQAM with any of them."""
    return ["trqam", *methods] if methods and "trqam" in config.compared else []


def _both(config: Config, methods: tuple[str, str]) -> list[str]:
    """Two methods; none unless both run on some task."""
    here = set(methods) <= {*config.compared, *config.scale.ablations}
    return [*methods] if here and tasks_run(config, *methods) else []


def contrasted(config: Config) -> list[str]:
    """The methods of the comparison of adaptive, constant and external KL; none where the scale ablates neither."""
    if not set(CONTRASTED) & set(config.scale.ablations):
        return []
    return [method for method in CONTRASTED if method in [*config.compared, *config.scale.ablations]]


def scratch_pairs(config: Config) -> list[str]:
    """Each compared method that starts from behaviour cloning, and the ablation that has its agent and does not."""
    pairs = {}
    for ablation in config.scale.ablations:
        scratch = config.methods[ablation]
        alike = [m for m in config.compared if config.methods[m].agent == scratch.agent]
        alike = [m for m in alike if "pretrain" in config.methods[m].stages]
        if "pretrain" not in scratch.stages and alike:
            pairs[alike[0]] = ablation
    return [method for pair in pairs.items() for method in pair]


def collapsing(config: Config) -> list[str]:
    """The methods of the comparison of who collapses: plain adjoint matching, and TRQAM; none without both."""
    methods = [method for method in COLLAPSING if method in config.compared]
    return methods if "trqam" in methods and len(methods) > 1 else []


def internal_external(config: Config) -> list[str]:
    """TRQAM and the settings of the external KL penalty; none where the scale does not have both."""
    external = [method for method in config.scale.ablations if config.methods[method].agent == "external_kl"]
    return _with_trqam(config, external)


def varied(config: Config, parameter: str) -> list[str]:
    """TRQAM and the ablations that have ``parameter``, such as "schedule" of those whose KL budget moves."""
    having = [name for name in config.scale.ablations if parameter in config.methods[name].parameters]
    return _with_trqam(config, having)


def sweeps(config: Config) -> dict[str, dict[str, dict[float, str]]]:
    """By key and method, value to the method that has it, of the sweeps that the scale has."""
    found = {key: {m: values for m in s.methods if (values := config.swept(key, m))} for key, s in SWEEPS.items()}
    return {key: sides for key, sides in found.items() if sides}


def swept(config: Config) -> list[str]:
    """Every method of every sweep."""
    return list(dict.fromkeys(m for sides in sweeps(config).values() for side in sides.values() for m in side.values()))


class Shown(NamedTuple):
    """A figure: the module of trqam.report.figures that draws it, of which methods, and where.

    ``where``: on all tasks, on those that all of the methods run on (shared), also in the stages that all have
    (common), or where ablations run, in their stages or offline alone. ``logged``: of the methods those that have
    logged this column.
    """

    module: str
    methods: Callable[[Config], list[str]]
    where: Literal["all", "shared", "common", "ablations", "offline"]
    logged: str = ""


FIGURES = {  # in the text, in its order
    "imported": Shown("imported", compared, "all"),
    "overall_bars": Shown("bars", compared, "shared"),
    "offline_to_online": Shown("curves", compared, "all"),
    "trust_region": Shown("curves", lambda config: config.scale.methods, "all", logged="path_kl"),
    "profiles": Shown("profiles", compared, "shared"),
    "collapse": Shown("curves", collapsing, "all"),
    "adaptive_constant": Shown("curves", contrasted, "ablations"),
    "external_kl": Shown("budgets", internal_external, "offline"),
    "pretraining": Shown("bars", scratch_pairs, "offline"),
    "budget_sweep": Shown("curves", lambda config: [*config.swept("budgets", "trqam").values()], "ablations"),
    "sensitivity": Shown("budgets", swept, "offline"),
    "schedules": Shown("curves", partial(varied, parameter="schedule"), "offline"),
    "per_state": Shown("curves", partial(_both, methods=BY_STATE), "common"),
    "divergences": Shown("curves", partial(varied, parameter="divergence"), "offline"),
    "diffusion": Shown("curves", partial(_both, methods=INTERPOLANTS), "common"),
}
CURVES = Shown("curves", compared, "all")  # in the appendix, `curves--DOMAIN`: all methods on the tasks of one domain
TABLES = {  # and of each the function of trqam.report.tables that makes it, and the template that prints it
    "success": ("success.success", "success"), "aggregates": ("comparison.aggregates_table", "grid"),
    "improvement": ("comparison.improvement_table", "grid"), "conventions": ("comparison.conventions_table", "grid"),
    "success_tasks": ("success.success_tasks", "success"), "imported": ("imported.table", "success"),
    "others": ("others.table", "success"), "compute": ("compute.table", "grid"),
    "settings_common": ("settings.common", "grid"),
    "settings_domains": ("settings.domains", "grid"), "settings_trust_region": ("settings.trust_region", "grid"),
    "settings_baselines": ("settings.baselines", "grid"), "settings_ablations": ("settings.ablations", "grid"),
    "claims": ("claims.table", "claims"),
}  # fmt: skip


def figure_names(config: Config, imported: bool = False) -> tuple[str, ...]:
    """The figures that this scale has the methods for, the appendix's curves of each domain, and, if there are any,
    imported curves."""
    ablated, names = bool(config.scale.ablation_tasks), []
    for name, figure in FIGURES.items():
        here = ablated or figure.where not in ("ablations", "offline")
        if here and figure.methods(config) and (imported or name != "imported"):
            names.append(name)
    return (*names, *(f"curves--{domain}" for domain in config.task_domains))


def figure(name: str) -> Shown:
    """The figure of that name; what follows `--` in it is a domain."""
    return FIGURES.get(name, CURVES)


def figure_cells(config: Config, name: str) -> tuple[list[str], list[str], tuple[str, ...]]:
    """The methods, tasks and stages that a figure shows."""
    shown, domain = figure(name), name.partition("--")[2]
    methods = shown.methods(config)
    if domain:
        return methods, sorted(task for task in config.tasks if domain_of(task) == domain), STAGES
    if shown.where in ("ablations", "offline"):
        stages = config.scale.ablation_stages if shown.where == "ablations" else STAGES[:1]
        return methods, expanded(config.scale.ablation_tasks), tuple(stages)
    if shown.where == "common":  # an ablation may end where TRQAM goes on
        both = [stage for stage in STAGES if all(stage in config.stages(method) for method in methods)]
        return methods, tasks_run(config, *methods), tuple(both)
    return methods, config.tasks if shown.where == "all" else tasks_run(config, *methods), STAGES


def figure_module(name: str) -> str:
    """The module that draws the figure."""
    return f"trqam.report.figures.{figure(name).module}"


def table_module(name: str) -> str:
    """The module that makes the table."""
    return f"trqam.report.tables.{TABLES[name][0].partition('.')[0]}"


def lists_single_tasks(config: Config) -> bool:
    """Whether the scale names single tasks rather than whole domains only."""
    return any("-singletask-" in task for task in config.scale.tasks)


def rollout_tasks(config: Config) -> list[str]:
    """The tasks whose rollouts are shown: at most `STRIPS`, the first of every domain before its second, in order."""
    tasks = tasks_run(config, *STRIP_METHODS)
    place = {task: [t for t in tasks if domain_of(t) == domain_of(task)].index(task) for task in tasks}
    chosen = sorted(tasks, key=lambda task: place[task])[:STRIPS]
    return [task for task in tasks if task in chosen]
