"""The configuration: typed, frozen, strict, and free of torch so that Snakemake reads it in a moment.

Three YAML files make one `Config`: a scale file (config/config.yaml, config/paper.yaml) whose keys are the fields of
`Scale` (`trqam.config.schema`), and the domain and method tables that it names. `Config.run` merges them into the `Run`
of one cell: what trained, what the manifest records, and what the digest is taken of.

Every mistake raises `UserError`, one line that names file, key and fix.
"""

import json
import math
import os
import re
import shlex
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from trqam.config import checks, schema
from trqam.config.errors import UserError
from trqam.config.names import domain_of, expanded, is_robomimic, number_of, tasks_of  # noqa: F401 (all of a configuration is to be had here)
from trqam.config.parameters import OF_AGENT
from trqam.config.reading import read_yaml, shown
from trqam.config.schema import CLONING, Domain, Method, Name, Run, Scale, cloned
from trqam.config.strict import Strict, at_home, convert, instead
from trqam.config.sweeps import SWEEPS, Variant, shade

T = TypeVar("T")
DEFAULT = "config/config.yaml"
AGENTS = Path(__file__).parents[1] / "agents"
STAGES = ("pretrain", "offline", "online")
RISING = (  # parameters of agents, of which the second must not be below the first
    ("multiplier_min", "multiplier_max"),
    ("multiplier_min", "initial_multiplier"),
    ("initial_multiplier", "multiplier_max"),
)
ENDS = ("first_budget", "last_budget")  # of a schedule: the budget may reach 0 and not stay there


class Config(msgspec.Struct, frozen=True):
    """A validated scale with its domains and methods.

    ``changes`` are the keys whose values are not those of the file ``path``, ``origins`` says where such a key comes
    from, and ``sweeps`` are those of ``methods`` that the scale's sweeps add.
    """

    path: str
    scale: Scale
    domains: dict[str, Domain]
    methods: dict[str, Method]
    origins: dict[str, str] = {}
    changes: dict[str, Any] = {}
    sweeps: dict[str, Variant] = {}

    def where(self, key: str) -> str:
        """What a mistake in ``key`` is blamed on: `FILE: KEY`, or `--set KEY`."""
        return self.origins.get(key) or f"{self.path}: {key}"

    def command(self, *words: str) -> str:
        """A command line of ours for this very configuration, with what was changed of its file."""
        path, changes = self._named()
        options = ["--config", path] * bool(path) + [word for change in changes for word in ("--set", change)]
        return f"`{shlex.join(['python', '-m', 'trqam', *options, *words])}`"

    def snakemake(self, target: str) -> str:
        """The same of Snakemake's."""
        path, changes = self._named()
        options = ["--configfile", path] * bool(path) + ["--config"] * bool(changes) + changes
        return shlex.join(["snakemake", "--cores", "all", target, *options])

    def _named(self) -> tuple[str, list[str]]:
        """The file, empty if it is the default, and what was changed of it, each as KEY=VALUE."""
        path = os.path.relpath(self.path)
        plain = {key: shlex.quote(value) == value for key, value in self.changes.items() if isinstance(value, str)}
        said = [f"{key}={value if plain.get(key) else json.dumps(value)}" for key, value in self.changes.items()]
        return "" if path == DEFAULT else path, said

    @property
    def results(self) -> Path:
        """The folder that everything of this scale is written to."""
        return Path("results") / self.scale.scale

    @property
    def tasks(self) -> list[str]:
        """Full task names, domains expanded to their tasks."""
        return expanded(self.scale.tasks)

    @property
    def compared(self) -> list[str]:
        """The methods of the comparison: those of every task, then the baselines."""
        return [*self.scale.methods, *self.scale.baselines]

    def swept(self, key: str, method: str) -> dict[float, str]:
        """Each value of a sweep to the method that has it, in order; ``method`` itself has its `own`."""
        found = {s.value: name for name, s in self.sweeps.items() if (s.key, s.method) == (key, method)}
        if getattr(self.scale, key) and (own := self.own(key, method)) is not None:
            found[own] = method
        return dict(sorted(found.items()))

    def own(self, key: str, method: str) -> float | None:
        """The value that ``method`` itself has of what a sweep varies.

        None if it differs between tasks of the sweep or their stages, or if ``method`` does not run on all of them.
        """
        scale, tasks, sweep = self.scale, expanded(self.scale.ablation_tasks), SWEEPS[key]
        ran = self.tasks if method in scale.methods else expanded(scale.baseline_tasks)
        if method not in self.compared or not set(tasks) <= set(ran):
            return None
        runs = [self._merge(task, domain_of(task), method) for task in tasks]
        values = {run.parameters.get(sweep.setting, getattr(run, sweep.setting, None)) for run in runs}
        if "online" in scale.ablation_stages:
            values |= {getattr(run, name) for run in runs for name in sweep.online} - {None}
        found = [value for value in values if isinstance(value, float)]
        return found[0] if len(found) == len(values) == 1 else None

    @property
    def ablated(self) -> list[str]:
        """The ablations and the methods of the sweeps."""
        return [*self.scale.ablations, *self.sweeps]

    @property
    def cells(self) -> list[tuple[str, str]]:
        """Every (task, method) that this scale trains."""
        scale = self.scale
        grids = [(self.tasks, scale.methods), (expanded(scale.baseline_tasks), scale.baselines)]
        grids += [(expanded(scale.ablation_tasks), self.ablated)]
        return [(task, method) for tasks, methods in grids for task in tasks for method in methods]

    def stages(self, method: str) -> list[str]:
        """The stages that leave results: offline for all (cloning's has step 0 alone), online where it trains."""
        trained = self.methods[method].stages
        if method in self.ablated:
            trained = [stage for stage in trained if stage in self.scale.ablation_stages]
        return ["offline", *(["online"] if "online" in trained else [])]

    @property
    def task_domains(self) -> list[str]:
        """The domains of `tasks`, each once, in order."""
        return list(dict.fromkeys(domain_of(task) for task in self.tasks))

    def data_directory(self, domain: str) -> Path:
        """Where the dataset of ``domain`` is stored."""
        return Path(self.scale.data_dir) / domain

    def run(self, task: str, method: str) -> Run:
        """The merged configuration of one cell: scale, then domain, then method and its override for the domain."""
        if task not in self.tasks:
            fix = instead(task, self.tasks, "add it there", domain_of(task) in self.domains)
            raise UserError(f"{self.where('tasks')}: {task!r} is not one of this scale's tasks; {fix}")
        if method not in [*self.compared, *self.ablated]:
            fix = instead(method, [*self.compared, *self.ablated], "add it there", method in self.methods)
            raise UserError(f"{self.where('methods')}: {method!r} is not one of this scale's methods; {fix}")
        if (task, method) not in self.cells:
            key = "ablation_tasks" if method in self.ablated else "baseline_tasks"
            raise UserError(f"{self.where(key)}: {task!r} is not listed, so {method} does not run there; add it")
        return self._merge(task, domain_of(task), method)

    @property
    def pretrainings(self) -> list[str]:
        """The cloned policies of this scale: of each domain, then those by which other methods clone."""
        begun = [(task, self.methods[method]) for task, method in self.cells]
        others = [cloned(domain_of(task), method.cloned_by) for task, method in begun if "pretrain" in method.stages]
        return list(dict.fromkeys([*self.task_domains, *others]))

    def pretraining(self, name: str) -> Run:
        """The configuration of a cloned policy, DOMAIN or DOMAIN+METHOD; its task is any of the domain's."""
        domain, _, method = name.partition("+")
        if domain not in self.task_domains:
            fix = instead(domain, self.task_domains, "add one there", domain in self.domains)
            raise UserError(f"{self.where('tasks')}: no task of {domain!r} is listed; {fix}")
        if name not in self.pretrainings:
            fix = instead(name, self.pretrainings, "add a method that does")
            raise UserError(f"{self.where('methods')}: no method of this scale begins from {name!r}; {fix}")
        task = next(task for task in self.tasks if domain_of(task) == domain)
        return self._merge(task, domain, method or CLONING)

    def _merge(self, task: str, domain_name: str, method_name: str) -> Run:
        scale, domain, method = self.scale, self.domains[domain_name], self.methods[method_name]
        values = {
            f: getattr(source, f) for source in (domain, scale) for f in Run.__struct_fields__ if hasattr(source, f)
        }
        if method_name in self.ablated:
            values["eval_interval"] = scale.ablation_eval_interval
        if "offline" not in method.stages:  # the policy that pretraining leaves, evaluated once
            values["offline_steps"] = 0
        for field in ("hidden_width", "hidden_layers"):  # a scale's null means the domain's value
            values[field] = getattr(scale, field) or getattr(domain, field)
        parameters = agent_parameters(
            method.agent,
            {**method.parameters, **method.domains.get(domain_name, {})},
            {"kl_budget": domain.kl_budget},
            f"{scale.methods_file}: {method_name}",
        )
        own = "kl_budget" in method.parameters or "kl_budget" not in msgspec.to_builtins(parameters)
        values["kl_budget_online"] = None if own else domain.kl_budget_online
        values |= {"task": task, "domain": domain_name, "method": method_name}
        values |= {"agent": method.agent, "parameters": msgspec.to_builtins(parameters)}
        values |= {"reward_scale": method.reward_scale, "cloned_by": method.cloned_by}
        return Run(**values)


def agent_parameters(agent: str, given: dict, inherited: dict, where: str) -> Strict:
    """``given`` as the hyper-parameters of the agent; ``inherited`` fills what it asks for and ``given`` lacks."""
    if not (AGENTS / f"{agent}.py").is_file() or agent in ("__init__", "base"):
        known = ", ".join(sorted(OF_AGENT))
        raise UserError(f"{where}: agent: no file trqam/agents/{agent}.py of an agent; agents are {known}")
    if agent not in OF_AGENT:
        raise UserError(f"{where}: agent: no class of {agent} in trqam/config/parameters.py; add one there")
    inherited = {key: value for key, value in inherited.items() if key in OF_AGENT[agent].__struct_fields__}
    parameters = convert({**inherited, **given}, OF_AGENT[agent], f"{where}: parameters")
    for low, high in RISING:
        least, most = getattr(parameters, low, -math.inf), getattr(parameters, high, math.inf)
        if least > most:
            problem = f"{low}: {least:g} is above {high}, {most:g}"
            raise UserError(f"{where}: parameters: {problem}; lower it, or raise {high}")
    if not any(getattr(parameters, end, True) for end in ENDS):
        problem = f"{' and '.join(ENDS)} are both 0, so that the budget would always be 0"
        raise UserError(f"{where}: parameters: {problem}; write a number above 0 for one")
    return parameters


def load(path: str | Path, overrides: dict[str, Any] | None = None, origins: dict[str, str] | None = None) -> Config:
    """Reads a scale file and the tables it names, and checks them against each other.

    ``overrides`` replaces keys of the scale file (the command line's ``--set key=value``); ``origins`` says of such a
    key what a mistake is blamed on, if not the file.
    """
    path, origins, written, overrides = str(path), origins or {}, read_yaml(path), overrides or {}
    scale = convert({**written, **overrides}, Scale, path)
    paths = {key: _located(getattr(scale, key), origins.get(key, f"{path}: {key}")) for key in schema.PATHS}
    scale = msgspec.structs.replace(scale, **paths)
    given = msgspec.to_builtins(scale)
    changes = {key: given[key] for key in given if key in overrides and given[key] != written.get(key, ...)}
    domains = _table(scale.domains_file, dict[Name, Domain], "domain")
    methods = _table(scale.methods_file, dict[Name, Method], "method")
    config = Config(path, scale, domains, methods, origins, changes)
    checks.check_tasks(config)
    _add_sweeps(config)
    checks.check_methods(config)
    checks.check_clones(config)
    checks.check_steps(config)
    for task, method in config.cells:
        config.run(task, method)
    return config


def _located(path: str, where: str) -> str:
    """``path`` with a leading `~` replaced by the home folder; a UserError if it names a variable of the shell's."""
    try:
        expanded = at_home(path)
    except ValueError as error:
        raise UserError(f"{where}: found {shown(path)!r}, which {error}; write the path in full") from None
    if re.search(r"\$[A-Za-z_{(]", expanded) and not os.path.exists(expanded):
        raise UserError(f"{where}: found {shown(path)!r}, and variables are not replaced; write the path in full")
    return expanded


def _table(path: str, wanted: type[T], noun: str) -> T:
    """A table by name; names become parts of paths."""
    if not (values := read_yaml(path)):
        raise UserError(f"{path}: holds no {noun}s; write a block a {noun}")
    return convert(values, wanted, path)


def _add_sweeps(config: Config) -> None:
    """Adds one method a value of each sweep, from a light to a dark shade."""
    for key, sweep in SWEEPS.items():
        values = getattr(config.scale, key)
        checks.check_once(config, key, [f"{value:g}" for value in values])
        for method in sweep.methods if values else ():
            if method not in config.methods:
                raise UserError(f"{config.scale.methods_file}: {method}: missing; {key} of {config.path} vary it")
            own = config.own(key, method)
            for place, value in enumerate(values):
                if value == own:  # its run is the method's
                    continue
                name, colour = sweep.name.format(method, value), shade(method, place / max(len(values) - 1, 1))
                config.methods[name] = sweep.variant(config.methods[method], value, colour)
                config.sweeps[name] = Variant(key, method, value)
