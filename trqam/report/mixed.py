"""The mark of cells whose runs do not belong together, and what it says (`trqam.experiment.verdict`)."""

from trqam.config.wording import task_label
from trqam.report.collected import Collected

MARK = "¶"


def mixed_mark(collected: Collected, tasks: list[str], method: str) -> str:
    """The mark, if one of the cells of ``method`` on ``tasks`` is a mixture."""
    return MARK if any((task, method) in collected.mixed for task in tasks) else ""


def mixed_note(collected: Collected) -> str:
    """What the mark means, and where; empty if nothing is mixed."""
    config, parts = collected.config, []
    for (task, method), reason in collected.mixed.items():
        label = config.methods[method].label if method in config.methods else method
        parts.append(f"{label} on {task_label(config, task)} ({reason})")
    what = "not all made by the same code, versions and configuration"
    return f" {MARK} mixed: {what}: {'; '.join(parts)}." if parts else ""
