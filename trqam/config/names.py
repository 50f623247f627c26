"""What the names of datasets and tasks say: whose they are, and which belong together."""

import re


def is_robomimic(name: str) -> bool:
    """Whether a dataset, or a task, is Robomimic's; all others are OGBench's."""
    return re.fullmatch(r"(lift|can|square)-mh", name) is not None


def domain_of(task: str) -> str:
    """The dataset that a single-task name belongs to; a task of Robomimic is its dataset."""
    return task.split("-singletask")[0]


def tasks_of(domain: str) -> list[str]:
    """The five single-task names of a domain of OGBench, the one of Robomimic's."""
    return [domain] if is_robomimic(domain) else [f"{domain}-singletask-task{number}-v0" for number in range(1, 6)]


def number_of(task: str) -> int:
    """The place of a task among those of its domain, from 1 on."""
    return tasks_of(domain_of(task)).index(task) + 1


def expanded(names: list[str]) -> list[str]:
    """Full task names, domains expanded to their tasks."""
    groups = [[name] if "-singletask-" in name else tasks_of(name) for name in names]
    return [task for group in groups for task in group]
