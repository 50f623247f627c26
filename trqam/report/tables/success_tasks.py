"""Table 1 task by task, all fifty of them at the paper's scale."""

from trqam.report.collected import Collected
from trqam.report.tables import SuccessTable, success


def table(collected: Collected) -> SuccessTable:
    """Tasks by methods."""
    return success.success_table(collected, "Success after each stage, task by task.", every_task=True)
