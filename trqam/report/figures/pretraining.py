"""Success with and without behaviour cloning first."""

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from trqam.config.load import expanded
from trqam.config.wording import enumerated
from trqam.report import panels
from trqam.report.collected import Collected
from trqam.report.curves import INK, Runs
from trqam.report.measures import final_success
from trqam.report.panels import COLUMNS, SUCCESS, WIDTH
from trqam.report.selection import scratch_pairs

MISSING = "--"


def draw(collected: Collected) -> Figure:
    """Success at the end of the offline stage with and without behaviour cloning first, a panel a task."""
    metrics, config, runs = collected.metrics, collected.config, _runs(collected)
    pairs, columns_of = scratch_pairs(config), panels.groups(config, runs.tasks)
    columns = min(len(columns_of), COLUMNS)
    rows = -(-len(columns_of) // columns)
    size = (WIDTH, min(2.1 * rows + 0.5, 7.4))
    figure, grid = plt.subplots(rows, columns, figsize=size, sharey=True, squeeze=False)
    for axes, (label, tasks) in zip(grid.flat, columns_of.items(), strict=False):
        for position, pair in enumerate(pairs.items()):
            for side, method, fill in zip((-0.2, 0.2), pair, (panels.full, panels.hatched), strict=True):
                success = final_success(metrics, config, tasks, method)
                ended = runs.diverged_seeds(tasks, method)
                if not panels.bar(axes, position + side, success, ended, **fill(config.methods[pair[0]].colour)):
                    axes.text(position + side, 2, MISSING, ha="center", va="bottom", color=INK, fontsize=7)
        axes.set_xticks(range(len(pairs)), [config.methods[method].label for method in pairs])
        axes.set(xlim=(-0.6, len(pairs) - 0.4), ylim=(0, 100))
        axes.set_title(label, fontsize=panels.title_size(columns))
        axes.grid(axis="x", visible=False)
    for axes in grid.flat[len(columns_of) :]:
        axes.set_visible(False)
    for axes in grid[:, 0]:
        axes.set_ylabel(SUCCESS)
    panels.keys(figure, panels.bar_keys("after behaviour cloning", "from scratch", runs))
    return figure


def _runs(collected: Collected) -> Runs:
    config = collected.config
    methods = [method for pair in scratch_pairs(config).items() for method in pair]
    return Runs(collected, methods, expanded(config.scale.ablation_tasks), ("offline",))


def caption(collected: Collected) -> str:
    """What it shows, of how many seeds, and what its bars are."""
    config, runs = collected.config, _runs(collected)
    ran = enumerated([config.methods[method].label for method in scratch_pairs(config)])
    return (
        f"Success at the end of the offline stage with and without behaviour cloning first ({ran}), one panel a "
        f"{panels.panel_of(runs.tasks)}: look for pairs whose dots do not mix. Dots: seeds "
        f"({runs.seeds(' a task')}); error bars: sample standard deviation over them; {MISSING}: no result."
    )
