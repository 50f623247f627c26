"""The paper's scale as it was committed: every setting of every method in every domain, and how a run departs from it.

paper/protocol.json is config/paper.yaml with the tables that it names, resolved as a training resolves them, and
config/robomimic.yaml, on whose tasks two of the paper's figures are, though its table is not. A scale is compared with
that and not with those files, of which somebody may have changed one. A test holds the two together; after a change
that is meant, `python -c "from trqam.report import protocol; protocol.write()"` writes it anew.
"""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import msgspec

from trqam.config.load import Config, domain_of, expanded, is_robomimic, load
from trqam.config.strict import Strict, read_record
from trqam.config.sweeps import SWEEPS
from trqam.config.wording import count, enumerated, first, shown, words
from trqam.experiment.files import write_json
from trqam.report.measures import is_pretraining
from trqam.report.selection import PAPER

NAMES = ("task", "domain", "method")  # of a cell; no settings
FIRST = ("offline_steps", "data_source", "online_steps", "eval_episodes")  # named before other departures
Settings = dict[str, Any]


class Protocol(Strict):
    """The record.

    ``seeds`` and ``budgets`` (of the sweep) are the scale's, and ``assumed`` is by domain what is not published. The
    others are settings by name: those that all cells share, then what only those of a domain, of a method, and of a
    domain with a method (`DOMAIN METHOD`) share.
    """

    seeds: int
    budgets: list[float]
    assumed: dict[str, list[str]]
    shared: Settings
    domains: dict[str, Settings]
    methods: dict[str, Settings]
    cells: dict[str, Settings]

    def settings(self, domain: str, method: str) -> Settings:
        """All of a cell; of a domain or method that the paper has not, what all share and what is known beside."""
        one, both = self.methods.get(method, {}), self.cells.get(f"{domain} {method}", {})
        return {**self.shared, **self.domains.get(domain, {}), **one, **both}


def read(path: str | Path) -> Protocol:
    """The record in a file; a UserError if it is none."""
    return Protocol(**read_record(path, Protocol, "restore the file from git"))


def record(*configs: Config) -> Protocol:
    """That of ``configs``, which have all their methods on all their tasks; seeds and budgets are the first one's."""
    left = {
        (domain_of(task), method): settings(config, task, method)
        for config in configs
        for task, method in config.cells
        if not is_pretraining(config, method) and method not in config.sweeps
    }

    def taken(group: Callable[[str, str], str]) -> dict[str, Settings]:
        """What all cells of a group share, which is taken out of them."""
        common: dict[str, Settings] = {}
        for cell, own in left.items():
            known = common.setdefault(group(*cell), own)
            common[group(*cell)] = {key: value for key, value in known.items() if own.get(key, ...) == value}
        for cell, own in left.items():
            left[cell] = {key: value for key, value in own.items() if key not in common[group(*cell)]}
        return common

    return Protocol(
        seeds=configs[0].scale.seeds,
        budgets=configs[0].scale.budgets,
        assumed={name: config.domains[name].assumed for config in configs for name in config.task_domains},
        shared=taken(lambda domain, method: "")[""],  # in this order: the next takes of what the last has left
        domains=taken(lambda domain, method: domain),
        methods=taken(lambda domain, method: method),
        cells=taken("{} {}".format),
    )


def committed() -> Protocol:
    """What paper/protocol.json must hold: the methods of config/paper.yaml, wherever they run, in all of its domains
    and in those of config/robomimic.yaml."""
    folder = PAPER.parent / "config"
    table = load(folder / "paper.yaml", {"ablation_tasks": load(folder / "paper.yaml").task_domains})
    methods = {key: getattr(table.scale, key) for key in ("methods", "baselines", "ablations")}
    beside = load(folder / "robomimic.yaml").task_domains
    figures = {**methods, "tasks": beside, "baseline_tasks": beside, "ablation_tasks": beside}
    return record(table, load(folder / "robomimic.yaml", figures))


def write() -> None:
    """Writes paper/protocol.json, from the top of the project."""
    write_json(PAPER / "protocol.json", msgspec.to_builtins(committed()))


def settings(config: Config, task: str, method: str) -> Settings:
    """Everything that decides the numbers of a cell, its parameters among the rest, and the stages of its method."""
    run = msgspec.to_builtins(config.run(task, method))
    values = {**run, **run.pop("parameters"), "stages": config.methods[method].stages}
    return {key: value for key, value in values.items() if key not in (*NAMES, "parameters")}


def departures(config: Config, cells: Sequence[tuple[str, str]], paper: Protocol, beside: Collection[str]) -> list[str]:
    """How ``cells`` (task, method) are set otherwise, such as `discount 0.5 instead of 0.995 on scene`, each once.

    ``beside`` are settings that do not count, as what a sweep varies does not count for its methods. Generated data
    are one shard, of which every way of sampling is the same.
    """
    found: dict[tuple[str, str], list[tuple[str, str]]] = {}
    compared = {(domain_of(task), method): task for task, method in cells if not is_pretraining(config, method)}
    for (domain, method), task in compared.items():
        swept = config.sweeps.get(method)
        like, sweep = (swept.method, SWEEPS[swept.key]) if swept else (method, None)
        varied = (sweep.setting, *sweep.online) if sweep else ()
        own, wanted = settings(config, task, method), paper.settings(domain, like)
        varied += ("sampling",) * (own["data_source"] == "generated")
        whole = domain in paper.domains and like in paper.methods
        for key in own.keys() | wanted.keys() if whole else own.keys() & wanted.keys():
            if own.get(key) != wanted.get(key) and key not in (*beside, *varied):
                assumed = "the assumed " if key in paper.assumed.get(domain, []) else ""
                text = f"{words(key)} {_text(own.get(key))} instead of {assumed}{_text(wanted.get(key))}"
                found.setdefault((key, text), []).append((domain, method))
    order = [*FIRST, *paper.shared]
    found = dict(sorted(found.items(), key=lambda one: (order.index(one[0][0]) if one[0][0] in order else 99, one[0])))
    return [text + _where(config, differing, compared) for (_, text), differing in found.items()]


def notice(config: Config, paper: Protocol, beside: Collection[str]) -> str:
    """Whether a run is at the paper's scale: by its settings, whatever the scale is called."""
    outside = [config.domains[name].label for name in config.task_domains if name not in paper.domains]
    none = f"{enumerated(outside)} {'is' if len(outside) == 1 else 'are'} not among its domains" if outside else ""
    if parts := [none] * bool(none) + departures(config, config.cells, paper, beside):
        return (
            f"This run, of the scale '{config.scale.scale}', is not at the paper's scale: "
            f"{enumerated(first(parts, 'departure'))}. Its numbers say whether the pipeline and the method work "
            "there, and are not comparable with the published ones."
        )
    asked = (expanded([*paper.domains]), config.tasks)
    every, here = (sum(not is_robomimic(task) for task in tasks) for tasks in asked)
    figures = [config.domains[name].label for name in config.task_domains if is_robomimic(name)]
    places = [f"on {here} of its {every} tasks" if here < every else f"on all {every} tasks"] if here else []
    places += [f"on {enumerated(figures)}, which its table has not"] if figures else []
    tasks = enumerated(places)
    own = config.scale.seeds
    seeds = "" if own == paper.seeds else f" and with {count(own, 'seed')} in place of {paper.seeds}"
    return f"This run has the settings of the paper's scale, published or assumed, {tasks}{seeds}."


def _text(value: Any) -> str:
    return enumerated(value) if isinstance(value, list) else shown(value)


def _where(config: Config, differing: Collection[tuple[str, str]], cells: Collection[tuple[str, str]]) -> str:
    """` of FQL`, ` on scene` or ` of FQL on scene`; nothing where it is so in all ``cells`` (domain, method)."""
    if len(differing) == len(cells):
        return ""
    names, methods = (dict.fromkeys(part) for part in zip(*differing, strict=True))
    of = f" of {enumerated(first([config.methods[method].label for method in methods]))}"
    on = f" on {enumerated(first([config.domains[name].label for name in names]))}"
    if len(differing) == sum(method in methods for _, method in cells):
        return of
    return on if len(differing) == sum(name in names for name, _ in cells) else of + on
