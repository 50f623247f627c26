"""The configuration: typed, frozen, strict, and free of torch so that Snakemake reads it in a moment.

Three YAML files make one `Config`: a scale file (config/config.yaml, config/paper.yaml) whose keys are the fields of
`Scale`, and the domain and method tables that it names. `Config.run` merges them into the `Run` of one cell: what
trained, what the manifest records, and what the digest is taken of.

Every mistake raises `UserError`, one line that names file, key and fix.
"""

import ast
import hashlib
import json
import math
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import yaml

from trqam.errors import UserError

AGENTS = Path(__file__).parent / "agents"
STAGES = ("pretrain", "offline", "online")

Count = Annotated[int, msgspec.Meta(ge=1)]
Natural = Annotated[int, msgspec.Meta(ge=0)]
Positive = Annotated[float, msgspec.Meta(gt=0)]
Fraction = Annotated[float, msgspec.Meta(ge=0, le=1)]
Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9_.-]*$")]
Colour = Annotated[str, msgspec.Meta(pattern=r"^#[0-9a-f]{6}$")]


class Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A struct that refuses unknown keys and wrong types."""


class Domain(Strict):
    """A dataset of OGBench and what the experiment fixes for it (protocol: one row of the task table)."""

    label: str
    horizon: Count
    hidden_width: Count
    hidden_layers: Count
    actor_layer_norm: bool
    discount: Annotated[float, msgspec.Meta(gt=0, lt=1)]
    pessimism: Annotated[float, msgspec.Meta(ge=0)]
    kl_budget: Positive
    normalise_observations: bool
    in_paper: bool
    assumed: list[str]


class Method(Strict):
    """An agent, its hyper-parameters and how it is shown."""

    agent: Name
    label: str
    group: str
    colour: Colour
    stages: list[Literal["pretrain", "offline", "online"]]
    parameters: dict[str, bool | int | float | str]
    domains: dict[str, dict[str, bool | int | float | str]]


class Scale(Strict):
    """The keys of a scale file; config/config.yaml explains each."""

    scale: Name
    domains_file: str
    methods_file: str
    tasks: Annotated[list[Name], msgspec.Meta(min_length=1)]
    methods: Annotated[list[Name], msgspec.Meta(min_length=1)]
    seeds: Count
    seeds_per_job: Count
    device: Literal["auto", "cpu", "cuda"]
    data_dir: str
    data_source: Literal["generated", "official"]
    transitions: Count
    data_seed: Natural
    pretrain_steps: Count
    offline_steps: Count
    online_steps: Count
    online_start: Natural
    batch_size: Count
    learning_rate: Positive
    target_rate: Fraction
    flow_steps: Annotated[int, msgspec.Meta(ge=2)]
    critics: Annotated[int, msgspec.Meta(ge=2)]
    hidden_width: Count | None
    hidden_layers: Count | None
    eval_interval: Count
    eval_episodes: Count
    eval_environments: Count
    eval_workers: Natural
    log_interval: Count
    checkpoint_interval: Count


class Run(Strict):
    """Everything that determines the numbers of one cell (task x method); seeds come beside it."""

    task: str
    domain: str
    method: str
    agent: str
    parameters: dict[str, bool | int | float | str]
    horizon: int
    hidden_width: int
    hidden_layers: int
    actor_layer_norm: bool
    discount: float
    pessimism: float
    normalise_observations: bool
    data_source: str
    transitions: int
    data_seed: int
    pretrain_steps: int
    offline_steps: int
    online_steps: int
    online_start: int
    batch_size: int
    learning_rate: float
    target_rate: float
    flow_steps: int
    critics: int
    eval_interval: int
    eval_episodes: int
    eval_environments: int
    log_interval: int
    checkpoint_interval: int

    def resolved(self, stage: str) -> dict[str, Any]:
        """The values that the results of ``stage`` depend on, as plain JSON types.

        Pretraining sees neither task nor method, offline training nothing of the online phase: editing what a stage
        does not read must not invalidate its results.
        """
        values = msgspec.to_builtins(self)
        online = ("online_steps", "online_start")
        fine_tuning = ("offline_steps", "eval_interval", "eval_episodes", "eval_environments", "discount")
        cell = ("task", "method", "agent", "parameters", "pessimism", "critics", "target_rate", "flow_steps")
        drop = {"pretrain": online + fine_tuning + cell, "offline": online, "online": ()}[stage]
        drop += ("checkpoint_interval",)  # how often a run is saved changes no number
        return {key: value for key, value in values.items() if key not in drop}

    def digest(self, stage: str) -> str:
        """Sixteen hexadecimal digits of SHA-256 over the resolved values."""
        text = json.dumps(self.resolved(stage), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class Config(msgspec.Struct, frozen=True):
    """A validated scale with its domains and methods."""

    path: str
    scale: Scale
    domains: dict[str, Domain]
    methods: dict[str, Method]

    @property
    def results(self) -> Path:
        """The folder that everything of this scale is written to."""
        return Path("results") / self.scale.scale

    @property
    def tasks(self) -> list[str]:
        """Full task names, domains expanded to their five tasks."""
        named = [[t] if "-singletask-" in t else tasks_of(t) for t in self.scale.tasks]
        return [task for group in named for task in group]

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
            raise UserError(f"{self.path}: tasks: {task!r} is not one of this scale's tasks; add it there")
        if method not in self.scale.methods:
            raise UserError(f"{self.path}: methods: {method!r} is not one of this scale's methods; add it there")
        return self._merge(task, domain_of(task), method)

    def pretraining(self, domain: str) -> Run:
        """The configuration of the behaviour cloning of one domain; its task is any of the domain's."""
        if domain not in self.task_domains:
            raise UserError(f"{self.path}: tasks: no task of {domain!r} is listed; add one there")
        task = next(task for task in self.tasks if domain_of(task) == domain)
        return self._merge(task, domain, "behaviour_cloning")

    def _merge(self, task: str, domain_name: str, method_name: str) -> Run:
        scale, domain, method = self.scale, self.domains[domain_name], self.methods[method_name]
        values = {
            f: getattr(source, f) for source in (domain, scale) for f in Run.__struct_fields__ if hasattr(source, f)
        }
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
        values |= {"task": task, "domain": domain_name, "method": method_name}
        values |= {"agent": method.agent, "parameters": msgspec.to_builtins(parameters)}
        return Run(**values)


def domain_of(task: str) -> str:
    """The dataset that a single-task name belongs to."""
    return task.split("-singletask")[0]


def tasks_of(domain: str) -> list[str]:
    """The five single-task names of a domain."""
    return [f"{domain}-singletask-task{number}-v0" for number in range(1, 6)]


def agent_parameters(agent: str, given: dict, inherited: dict, where: str) -> msgspec.Struct:
    """``given`` as the `Parameters` of the agent; ``inherited`` fills what the agent asks for and ``given`` lacks.

    An agent's file imports torch, which Snakemake must not wait for, so only its class `Parameters` is compiled here.
    """
    path = AGENTS / f"{agent}.py"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in AGENTS.glob("*.py") if p.stem not in ("__init__", "base")))
        raise UserError(f"{where}: agent: no file trqam/agents/{agent}.py; agents are {known}")
    classes = [n for n in ast.parse(path.read_text()).body if isinstance(n, ast.ClassDef) and n.name == "Parameters"]
    namespace: dict[str, Any] = {"Strict": Strict}
    exec(compile(ast.Module(classes, []), str(path), "exec"), namespace)
    struct = namespace.get("Parameters", Strict)
    wanted = {key: value for key, value in inherited.items() if key in struct.__struct_fields__}
    return _convert({**wanted, **given}, struct, f"{where}: parameters")


def load(path: str | Path, overrides: dict[str, Any] | None = None) -> Config:
    """Reads a scale file and the tables it names, and checks them against each other.

    ``overrides`` replaces keys of the scale file (the command line's ``--set key=value``).
    """
    values = read_yaml(path)
    scale = _convert({**values, **(overrides or {})}, Scale, str(path))
    return check(str(path), scale)


def check(path: str, scale: Scale) -> Config:
    """Loads the tables that ``scale`` names and checks what no single file can be checked for."""
    domains = {k: _convert(v, Domain, f"{scale.domains_file}: {k}") for k, v in read_yaml(scale.domains_file).items()}
    methods = {k: _convert(v, Method, f"{scale.methods_file}: {k}") for k, v in read_yaml(scale.methods_file).items()}
    config = Config(path, scale, domains, methods)
    for task in config.tasks:
        if domain_of(task) not in domains:
            fix = f"add a block {domain_of(task)} to {scale.domains_file}, or use one of {', '.join(domains)}"
            raise UserError(f"{path}: tasks: unknown domain of {task!r}; {fix}")
        if task not in tasks_of(domain_of(task)):
            raise UserError(
                f"{path}: tasks: unknown task {task!r}; write {domain_of(task)}-singletask-task1-v0 .. task5-v0"
            )
    for name, method in methods.items():
        for domain in method.domains:
            if domain not in domains:
                raise UserError(
                    f"{scale.methods_file}: {name}: domains: unknown domain {domain!r}; see {scale.domains_file}"
                )
    for key in ("tasks", "methods"):
        listed = config.tasks if key == "tasks" else scale.methods
        if doubled := sorted({name for name in listed if listed.count(name) > 1}):
            raise UserError(f"{path}: {key}: {doubled[0]!r} is listed twice; remove one")
    for method in ("behaviour_cloning", *scale.methods):
        if method not in methods:
            raise UserError(
                f"{path}: methods: {method!r} has no block in {scale.methods_file}; add it, or use {', '.join(methods)}"
            )
    for steps, interval in (
        ("eval_interval", "log_interval"),
        ("checkpoint_interval", "log_interval"),
        ("offline_steps", "eval_interval"),
        ("online_steps", "eval_interval"),
        ("pretrain_steps", "log_interval"),
    ):
        if getattr(scale, steps) % getattr(scale, interval):
            raise UserError(f"{path}: {steps}: must be a multiple of {interval} ({getattr(scale, interval)})")
    for task in config.tasks:
        for method in scale.methods:
            config.run(task, method)
    return config


def parse_override(text: str) -> tuple[str, Any]:
    """``key=value`` of the command line, the value read as YAML."""
    key, separator, value = text.partition("=")
    if not separator or key not in Scale.__struct_fields__:
        raise UserError(f"--set {text}: expected key=value with a key of the scale file, such as seeds=5")
    return key, yaml.safe_load(value)


class StrictLoader(yaml.SafeLoader):
    """YAML 1.1 without its traps: `010` is eight, .nan a number, and the first of two equal keys dropped in silence."""

    def construct_yaml_int(self, node):
        if re.fullmatch(r"[+-]?0\d+", node.value):
            raise yaml.constructor.ConstructorError(None, None, f"{node.value} would be octal", node.start_mark)
        return super().construct_yaml_int(node)

    def construct_yaml_float(self, node):
        value = super().construct_yaml_float(node)
        if not math.isfinite(value):
            raise yaml.constructor.ConstructorError(None, None, f"{node.value} is not a finite number", node.start_mark)
        return value

    def construct_mapping(self, node, deep=False):
        keys = [key.value for key, _ in node.value]
        if doubled := [key for key in keys if keys.count(key) > 1]:
            raise yaml.constructor.ConstructorError(None, None, f"{doubled[0]} is given twice", node.start_mark)
        return super().construct_mapping(node, deep)


StrictLoader.add_constructor("tag:yaml.org,2002:int", StrictLoader.construct_yaml_int)
StrictLoader.add_constructor("tag:yaml.org,2002:float", StrictLoader.construct_yaml_float)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """A YAML file that holds a mapping."""
    try:
        values = yaml.load(Path(path).read_text(), StrictLoader)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give the path of a configuration file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}:" if mark else ""
        problem = getattr(error, "problem", None) or "not text"
        raise UserError(f"{path}:{line} not valid YAML ({problem}); mend the syntax") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: holds no mapping; write keys such as `scale: small`")
    return values


def _convert(values: Any, struct: type, where: str) -> Any:
    """``values`` as ``struct``; a mismatch is one line with the key and what to write."""
    if isinstance(values, dict) and (unknown := [k for k in values if k not in struct.__struct_fields__]):
        known = ", ".join(struct.__struct_fields__) or "none"
        raise UserError(f"{where}: {unknown[0]}: unknown key; known keys: {known}")
    try:
        return msgspec.convert(values, struct)
    except msgspec.ValidationError as error:
        message = str(error)
        missing = re.fullmatch(r"Object missing required field `(\w+)`", message)
        if missing:
            raise UserError(f"{where}: {missing[1]}: missing; add it (config/config.yaml explains each key)") from None
        problem, _, key = message.partition(" - at `$")
        key = key.rstrip("`").lstrip(".") or "(whole)"
        found = _lookup(values, key)
        hint = ""
        if isinstance(found, str) and re.fullmatch(r"[+-]?\d+[eE][+-]?\d+", found):
            hint = f"; YAML reads {found} as text: write {float(found)!r}"
        shown = "" if isinstance(found, dict | list) or found is None else f", found {found!r}"
        raise UserError(f"{where}: {key}: {problem[0].lower() + problem[1:]}{shown}{hint}") from None


def _lookup(values: Any, key: str) -> Any:
    """The offending value, for the message; None where the key is not a simple one."""
    return values.get(key) if isinstance(values, dict) else None
