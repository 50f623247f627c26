"""One domain's success against training step: the mean over its tasks, then each task."""

from matplotlib.figure import Figure

from trqam.config.load import domain_of
from trqam.config.wording import count
from trqam.report import panels
from trqam.report.collected import Collected
from trqam.report.curves import Runs
from trqam.report.selection import compared

COLUMNS = 3
HEIGHT = 1.32  # inches, of a row where there are several: with their captions, two domains fit on a page


def draw(collected: Collected, domain: str) -> Figure:
    """All compared methods on ``domain``, offline on white ground and online on orange."""
    runs = _runs(collected, domain)
    places = _places(runs)
    columns = min(len(places), COLUMNS)
    height = HEIGHT if len(places) > COLUMNS else {1: 2.6, 2: 2.2}.get(columns, 1.75)
    return panels.success_panels(runs, places, columns, height)


def _runs(collected: Collected, domain: str) -> Runs:
    config = collected.config
    return Runs(collected, compared(config), sorted(task for task in config.tasks if domain_of(task) == domain))


def _places(runs: Runs) -> dict[str, list[str]]:
    """The panels: the mean over the domain's tasks, where it has more than one here, and every task."""
    together = {f"mean of {count(len(runs.tasks), 'task')}": runs.tasks} if len(runs.tasks) > 1 else {}
    return together | {f"task {task.split('-task')[-1].split('-')[0]}": [task] for task in runs.tasks}


def caption(collected: Collected, domain: str) -> str:
    """What it shows, of how many seeds, and what its bands are."""
    runs, label = _runs(collected, domain), collected.config.domains[domain].label
    mean = f"the mean over its {count(len(runs.tasks), 'task')}, then each task" if len(runs.tasks) > 1 else "its task"
    return f"Success on {label} at each evaluation: {mean}. {panels.success_caption(runs)}"
