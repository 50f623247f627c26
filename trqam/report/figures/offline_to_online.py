"""Success against training step, through both stages."""

from matplotlib.figure import Figure

from trqam.report import panels
from trqam.report.collected import Collected
from trqam.report.curves import Runs
from trqam.report.panels import COLUMNS
from trqam.report.selection import compared


def draw(collected: Collected) -> Figure:
    """Success against training step, a panel a task or a domain; the online stage stands on orange ground."""
    runs = _runs(collected)
    places = panels.groups(collected.config, runs.tasks)
    columns = min(len(places), COLUMNS)
    return panels.success_panels(runs, places, columns, {1: 2.6, 2: 2.3, 3: 1.9}.get(columns, 1.5))


def _runs(collected: Collected) -> Runs:
    return Runs(collected, compared(collected.config), collected.config.tasks)


def caption(collected: Collected) -> str:
    """What it shows, of how many seeds, and what its bands are."""
    runs = _runs(collected)
    return (
        f"Success at each evaluation, unsmoothed, one panel a {panels.panel_of(runs.tasks)}: look for what changes "
        f"where the ground does. {panels.success_caption(runs)}"
    )
