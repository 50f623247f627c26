"""From collected results to tables, figures, the paper and the page: nothing here trains, and no result is typed in.

This file holds the wording that all of them share.
"""

from pathlib import Path

from trqam.config import Config, domain_of

PAPER = Path(__file__).parents[2] / "paper"


def thousands(number: int) -> str:
    """1000000 as 1 000 000, the spaces unbreakable."""
    return f"{number:,}".replace(",", "\u00a0")


def count(number: int, noun: str) -> str:
    """`1 seed`, `3 seeds`."""
    return f"{thousands(number)} {noun}{'' if number == 1 else 's'}"


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
