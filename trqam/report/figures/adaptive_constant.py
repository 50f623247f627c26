"""The multiplier adapted, held constant, and outside the process."""

from matplotlib.figure import Figure

from trqam.config.load import expanded
from trqam.report import curves, panels
from trqam.report.collected import Collected
from trqam.report.curves import Runs
from trqam.report.panels import PATH_KL, SUCCESS
from trqam.report.selection import contrasted


def draw(collected: Collected) -> Figure:
    """Path KL against its budget, and success, for an adaptive, a constant and an external multiplier."""
    return panels.over_training(_runs(collected), {"path_kl": PATH_KL, "success": SUCCESS})


def _runs(collected: Collected) -> Runs:
    config, scale = collected.config, collected.config.scale
    return Runs(collected, contrasted(config), expanded(scale.ablation_tasks), scale.ablation_stages)


def caption(collected: Collected) -> str:
    """What it shows, of how many seeds, and what its bands are."""
    config, runs = collected.config, _runs(collected)
    return (
        f"The multiplier adapted, held constant, and outside the process "
        f"({'; '.join(config.methods[m].label for m in runs.methods)}), one column a {panels.panel_of(runs.tasks)}: "
        "look for whose path KL stays at the dashed budget (logarithmic), and for what that does to the success. "
        f"{curves.MEAN}; {curves.BAND} ({runs.seeds(' a task')})."
    )
