"""Success against training step, through both stages."""

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from trqam.config import Config
from trqam.report import compared, panels, task_label, tasks_run
from trqam.report.collected import Collected
from trqam.report.measures import is_pretraining
from trqam.report.panels import COLUMNS, WIDTH


def draw(collected: Collected) -> Figure:
    """Success against training step, a panel a task; the online stage stands on orange ground."""
    metrics, config = collected.metrics, collected.config
    tasks = config.tasks
    columns = min(len(tasks), COLUMNS)
    rows = -(-len(tasks) // columns)
    height = {1: 2.6, 2: 2.3, 3: 1.9}.get(columns, 1.5)
    figure, grid = plt.subplots(
        rows, columns, figsize=(WIDTH, min(rows * height + 0.5, 7.4)), sharex=True, sharey=True, squeeze=False
    )
    evaluated = metrics.dropna(subset=["success"]).assign(success=lambda frame: 100 * frame.success)
    for axes, task in zip(grid.flat, tasks, strict=False):
        for method in compared(config):
            runs = evaluated[(evaluated.task == task) & (evaluated.method == method)]
            if is_pretraining(config, method):
                panels.level(axes, runs, config.methods[method].colour)
            else:
                panels.curve(axes, runs, "success", config.methods[method].colour, band=_few(config))
        axes.set_title(task_label(config, task) if columns < 4 else task_label(config, task).replace(" task", "\ntask"))
        axes.set(ylim=(-4, 104), yticks=(0, 50, 100))
        panels.stages(axes, metrics, config)
    panels.hide(grid, 1, len(tasks))
    if rows * height > 7.4:
        _tight_titles(figure, grid.flat[: len(tasks)])
    figure.supylabel("success (%)", fontsize=8)
    panels.legend(figure, config, compared(config), metrics)
    return figure


def _few(config: Config) -> bool:
    """Whether the bands of all compared methods can be told apart."""
    return len(config.compared) < 6


def _tight_titles(figure: Figure, grid) -> None:
    """Many rows: titles in one line, which may run over the neighbour's empty half, and less air between rows."""
    previous = None
    for axes in grid:
        domain, _, task = axes.get_title().partition("\n")
        text = f"{domain} {task}" if domain != previous else task
        axes.set_title("")
        axes.set_title(text, fontsize=7, loc="left" if domain != previous else "right", pad=2).set_in_layout(False)
        previous = domain
    figure.get_layout_engine().set(hspace=0, h_pad=0.05)  # inches


def caption(collected: Collected) -> str:
    """What it shows, of how many seeds, and what its bands are."""
    config, once = collected.config, panels.trained_once(collected.config)
    absent = ""
    if tasks_run(config, *config.compared) != config.tasks:
        absent = " A method without a curve did not run there."
    return (
        "Success at each evaluation, unsmoothed, one panel a task: look for what changes where the ground does. "
        f"{panels.MEAN}{f'; {panels.BAND}' if _few(config) else ''} ({panels.seeds_compared(collected)} a task)."
        f"{absent} {panels.GROUND}" + (once and f"{once}it is drawn as a dotted level.")
    )
