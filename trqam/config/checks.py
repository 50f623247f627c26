"""What a scale and its tables must be to each other. Whatever is not so is a UserError that names file, key and fix.

A value by itself is judged by its type (`trqam.config.schema`), the hyper-parameters of an agent in
`trqam.config.load.agent_parameters`.
"""

import re
from typing import TYPE_CHECKING

from trqam.config import schema
from trqam.config.errors import UserError
from trqam.config.names import domain_of, expanded, tasks_of
from trqam.config.parameters import OF_AGENT, policy_of
from trqam.config.schema import CLONING
from trqam.config.strict import instead

if TYPE_CHECKING:
    from trqam.config.load import Config


def check_tasks(config: "Config") -> None:
    """Every task is one of a domain of the table, and those of baselines and ablations are among them."""
    for task in config.tasks:
        domain = domain_of(task)
        if domain not in config.domains:
            fix = f"add a block {domain} to {config.scale.domains_file}, or use one of {', '.join(config.domains)}"
            fix = instead(domain, config.domains, fix)
            named = domain if re.fullmatch("[a-z]+-(ph|mh|mg)", domain) else task  # Robomimic's: its task, too
            raise UserError(f"{config.where('tasks')}: unknown domain of {named!r}; {fix}")
        if task not in tasks_of(domain):
            fix = f"write one of {', '.join(tasks_of(domain))}"
            raise UserError(f"{config.where('tasks')}: unknown task {task!r}; {fix}")
    check_once(config, "tasks", config.tasks)
    for key in ("baseline_tasks", "ablation_tasks"):
        if outside := [task for task in expanded(getattr(config.scale, key)) if task not in config.tasks]:
            raise UserError(f"{config.where(key)}: {outside[0]!r} is not one of this scale's tasks; add it to tasks")


def check_methods(config: "Config") -> None:
    """What the table of methods says of domains and parameters is true; a scale lists each of its methods once."""
    table = config.scale.methods_file
    for name, method in config.methods.items():
        if unknown := [domain for domain in (*method.domains, *method.known) if domain not in config.domains]:
            raise UserError(f"{table}: {name}: domains: unknown domain {unknown[0]!r}; see {config.scale.domains_file}")
        if absent := [key for key in method.assumed if key not in method.parameters]:
            raise UserError(f"{table}: {name}: assumed: {absent[0]!r} is not among its parameters; remove it")
    scale = config.scale
    listed = {"methods": [CLONING, *scale.methods], "baselines": scale.baselines, "ablations": scale.ablations}
    for key, names in listed.items():
        if absent := [name for name in names if name not in config.methods]:
            fix = f"add it, or use one of {', '.join(config.methods)}"
            fix = instead(absent[0], config.methods, fix, absent[0] == CLONING)
            raise UserError(f"{config.where(key)}: {absent[0]!r} has no block in {table}; {fix}")
    for key, names in (("baselines", scale.baselines), ("ablations", scale.ablations)):
        check_once(config, key, names)
    check_once(config, "methods", [*config.compared, *config.ablated])  # after those lists, to blame one of them alone


def check_clones(config: "Config") -> None:
    """Each method begins from what clones, and from a policy of its own kind."""
    table = config.scale.methods_file
    cloning = [
        name for name, method in config.methods.items() if name == method.agent and method.stages == ["pretrain"]
    ]
    for name, method in config.methods.items():
        if method.cloned_by not in cloning:
            fix = instead(method.cloned_by, cloning, f"use one of {', '.join(cloning)}")
            raise UserError(f"{table}: {name}: cloned_by: {method.cloned_by!r} is no method that only clones; {fix}")
        if name in cloning and method.cloned_by != name:
            raise UserError(f"{table}: {name}: cloned_by: {method.cloned_by!r}, and it clones itself; write {name}")
        agents = {method.agent, config.methods[method.cloned_by].agent} & OF_AGENT.keys()
        if "pretrain" in method.stages and len({policy_of(agent) for agent in agents}) > 1:  # though the networks fit
            problem = f"{method.cloned_by!r} clones another kind of policy; name the method that clones for it"
            raise UserError(f"{table}: {name}: cloned_by: {problem}")


def check_once(config: "Config", key: str, listed: list[str]) -> None:
    """No name stands twice in the list ``key``."""
    if doubled := sorted({name for name in listed if listed.count(name) > 1}):
        raise UserError(f"{config.where(key)}: {doubled[0]!r} is listed twice; remove one")


def check_steps(config: "Config") -> None:
    """What the numbers of a scale must be to each other."""
    scale = config.scale
    multiples = [
        ("eval_interval", "log_interval"),
        ("checkpoint_interval", "log_interval"),
        ("offline_steps", "eval_interval"),
        ("online_steps", "eval_interval"),
        ("ablation_eval_interval", "log_interval"),
        ("offline_steps", "ablation_eval_interval"),
        ("pretrain_steps", "log_interval"),
    ]
    if config.ablated and "online" in scale.ablation_stages:
        multiples.append(("online_steps", "ablation_eval_interval"))
    for steps, interval in multiples:
        steps_asked, multiple = getattr(scale, steps), getattr(scale, interval)
        if steps_asked % multiple:
            raise UserError(f"{config.where(steps)}: found {steps_asked}; write a multiple of {interval} ({multiple})")
    if scale.online_start >= scale.online_steps:
        key = "online_steps" if "online_steps" in config.origins else "online_start"
        problem = f"no update in online_steps {scale.online_steps} after online_start {scale.online_start}"
        raise UserError(f"{config.where(key)}: {problem}; write an online_start below online_steps")
    longest = min(schema.EPISODE_TRANSITIONS, scale.transitions)
    for domain in config.task_domains if scale.data_source == "generated" else []:
        if (horizon := config.domains[domain].horizon) > longest:
            problem = f"horizon: {horizon} is longer than any episode, {longest} transitions; lower it"
            problem += f", or raise transitions of {config.path}" if scale.transitions == longest else ""
            raise UserError(f"{scale.domains_file}: {domain}: {problem}")
