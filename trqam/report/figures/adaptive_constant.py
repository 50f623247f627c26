"""The multiplier adapted, held constant, and outside the process."""

from matplotlib.figure import Figure

from trqam.config import expanded
from trqam.report import contrasted, panels
from trqam.report.collected import Collected
from trqam.report.panels import PATH_KL, SUCCESS


def draw(collected: Collected) -> Figure:
    """Path KL against its budget, and success, for an adaptive, a constant and an external multiplier."""
    config = collected.config
    tasks = expanded(config.scale.ablation_tasks)
    rows = {"path_kl": PATH_KL, "success": SUCCESS}
    return panels.over_training(panels.ablated_stages(collected), config, contrasted(config), tasks, rows)


def caption(collected: Collected) -> str:
    """What it shows, of how many seeds, and what its bands are."""
    config, tasks = collected.config, expanded(collected.config.scale.ablation_tasks)
    ran = "; ".join(config.methods[method].label for method in contrasted(config))
    return (
        f"The multiplier adapted, held constant, and outside the process ({ran}), one column a "
        f"{panels.panel_of(config, tasks)}: look for whose path KL stays at the dashed budget (logarithmic), and for "
        f"what that does to the success. {panels.MEAN}; {panels.BAND} ({panels.seeds_ablated(collected)} a task)."
    )
