"""Whether success and the adjoint loss hold over long training."""

from matplotlib.figure import Figure

from trqam.config.wording import enumerated
from trqam.report import curves, panels
from trqam.report.collected import Collected
from trqam.report.curves import Runs
from trqam.report.panels import ADJOINT_LOSS, SUCCESS
from trqam.report.selection import collapsing, tasks_run


def draw(collected: Collected) -> Figure:
    """Success and adjoint loss over training, for QAM, QAM-E and TRQAM."""
    return panels.over_training(_runs(collected), {"success": SUCCESS, "adjoint_loss": ADJOINT_LOSS})


def _runs(collected: Collected) -> Runs:
    config = collected.config
    return Runs(collected, collapsing(config), config.tasks)


def caption(collected: Collected) -> str:
    """What it shows, of how many seeds, and what its bands are."""
    config, runs = collected.config, _runs(collected)
    labels = [config.methods[method].label for method in runs.methods]
    fewer = [config.methods[m].label for m in runs.methods if tasks_run(config, m) != config.tasks]
    absent = f" {enumerated(fewer)} did not run on every task of this scale." if fewer else ""
    return (
        f"Collapse: success and adjoint loss over training of {enumerated(labels)}, one column a "
        f"{panels.panel_of(config.tasks)}: look for a success that falls again after its peak while the adjoint loss "
        f"(logarithmic) grows by orders of magnitude. {curves.MEAN}; {curves.BAND} ({runs.seeds(' a task')}).{absent} "
        f"{panels.GROUND}"
    )
