"""How much each method succeeds at the end of either stage, over the tasks that all of them run on."""

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from trqam.config.wording import count, tasks_label
from trqam.report import panels
from trqam.report.collected import Collected
from trqam.report.curves import INK, Runs
from trqam.report.measures import STAGES, final_step, is_pretraining, seed_success
from trqam.report.panels import WIDTH
from trqam.report.selection import compared, tasks_run


def draw(collected: Collected) -> Figure:
    """Success over the tasks that all compared methods run on, at the end of either stage."""
    metrics, config = collected.metrics, collected.config
    runs = _runs(collected)
    methods, tasks = runs.methods, runs.tasks
    figure, axes = plt.subplots(figsize=(WIDTH, 2.6))
    for position, method in enumerate(methods):
        found = False
        for side, stage, fill in zip((-0.2, 0.2), STAGES, (panels.full, panels.hatched), strict=True):
            if is_pretraining(config, method):
                side = 0.0  # no online stage: one bar, in the middle
            success = seed_success(metrics, tasks, method, stage, final_step(config, method, stage))
            ended = Runs(collected, methods, tasks, (stage,)).diverged_seeds(tasks, method)
            found |= panels.bar(axes, position + side, success, ended, **fill(config.methods[method].colour))
        if not found:
            axes.text(position, 2, "no result", ha="center", va="bottom", color=INK, fontsize=7)
    slanted = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if len(methods) > 6 else {}
    axes.set_xticks(range(len(methods)), [config.methods[m].label for m in methods], **slanted)
    scope = "all tasks" if tasks == config.tasks else count(len(tasks), "task")
    axes.set(xlim=(-0.6, len(methods) - 0.4), ylim=(0, 100), ylabel=f"success over {scope} (%)")
    axes.grid(axis="x", visible=False)
    keys = panels.bar_keys("end of offline", "end of online", runs)
    axes.legend(handles=keys, loc="lower left", bbox_to_anchor=(0, 1.01), ncols=4, borderaxespad=0)
    return figure


def _runs(collected: Collected) -> Runs:
    config = collected.config
    return Runs(collected, compared(config), tasks_run(config, *config.compared))


def caption(collected: Collected) -> str:
    """What it shows, of how many seeds."""
    config, runs = collected.config, _runs(collected)
    shared = runs.tasks
    scope = f"Success over {count(len(shared), 'task')}"
    if shared != config.tasks:
        listed = f" ({tasks_label(config, shared)})" if shared else ""
        scope += f"{listed}, the part of this scale that all compared methods run on"
    once = panels.trained_once(config)
    return (
        f"{scope}: compare each method's full bar (end of offline) with its hatched bar (end of online). Dots: "
        "per-seed means over these tasks; error bars: sample standard deviation over seeds "
        f"({runs.seeds()})."
        + (once and f"{once}its dots and error bar show the spread of evaluation, not of training.")
    )
