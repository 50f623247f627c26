"""The trust region at work: path KL, multiplier, adjoint loss and success over training."""

from matplotlib.figure import Figure

from trqam.report import panels
from trqam.report.collected import Collected
from trqam.report.panels import PATH_KL, SUCCESS


def draw(collected: Collected) -> Figure:
    """Path KL against its budget, multiplier, adjoint loss and success, for the methods that log a path KL."""
    metrics, config = collected.metrics, collected.config
    rows = {"path_kl": PATH_KL, "multiplier": "multiplier λ", "adjoint_loss": "adjoint loss", "success": SUCCESS}
    return panels.over_training(metrics, config, _with_path_kl(collected), config.tasks, rows)


def _with_path_kl(collected: Collected) -> list[str]:
    metrics = collected.metrics
    logged = set(metrics.loc[metrics.path_kl.notna(), "method"])
    return [method for method in collected.config.scale.methods if method in logged]


def caption(collected: Collected) -> str:
    """What it shows, of how many seeds, and what its bands are."""
    config = collected.config
    logging = ", ".join(config.methods[m].label for m in _with_path_kl(collected)) or "no method logged it"
    return (
        f"The trust region at work ({logging}), one column a {panels.panel_of(config, config.tasks)}: look for whether "
        "the path KL settles at the dashed budget, and which way the multiplier moves meanwhile; the first three rows "
        f"are logarithmic. {panels.MEAN}; {panels.BAND} ({panels.seeds_compared(collected)} a task). {panels.GROUND}"
    )
