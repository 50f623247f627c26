"""The trust region at work: path KL against its budget, and the multiplier that holds it there."""

from matplotlib.figure import Figure

from trqam.config.wording import enumerated
from trqam.report import curves, panels
from trqam.report.collected import Collected
from trqam.report.curves import Runs
from trqam.report.panels import MULTIPLIER, PATH_KL


def draw(collected: Collected) -> Figure:
    """Path KL against its budget, and multiplier, for the methods of every task that log a path KL."""
    return panels.over_training(_runs(collected), {"path_kl": PATH_KL, "multiplier": MULTIPLIER})


def _runs(collected: Collected) -> Runs:
    config, metrics = collected.config, collected.metrics
    logged = set(metrics.loc[metrics.path_kl.notna(), "method"])
    return Runs(collected, [m for m in config.scale.methods if m in logged] or config.scale.methods, config.tasks)


def caption(collected: Collected) -> str:
    """What it shows, of how many seeds, and what its bands are."""
    config, runs = collected.config, _runs(collected)
    held = [config.methods[m].label for m in runs.methods if config.methods[m].agent == "trqam"]
    return (
        f"The trust region at work ({', '.join(config.methods[m].label for m in runs.methods)}), one column a "
        f"{panels.panel_of(config.tasks)}: look for whether the path KL settles at the dashed budget, and which way "
        f"the multiplier moves meanwhile, which {enumerated(held or ['no method here'])} alone adapts; both are "
        f"logarithmic. {curves.MEAN}; {curves.BAND} ({runs.seeds(' a task')}). {panels.GROUND}"
    )
