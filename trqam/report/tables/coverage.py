"""How often the bootstrap interval holds the truth, by simulation."""

from trqam.config.wording import count
from trqam.report.collected import Collected
from trqam.report.statistics import CONCENTRATION, round_half_up, success_levels
from trqam.report.tables import Grid
from trqam.report.uncertainty import (
    SIMULATED,
    SIMULATED_RESAMPLES,
    SIMULATED_TASKS,
    shared_tasks,
    simulated_coverage,
)


def table(collected: Collected) -> Grid:
    """A row a number of seeds, on as many tasks as a domain has; and one for this scale's own seeds and tasks."""
    config = collected.config
    episodes, own = config.scale.eval_episodes, (config.scale.seeds, len(shared_tasks(config)))
    designs = [(n, SIMULATED_TASKS) for n in SIMULATED]
    designs += [own] if own not in designs and own[0] > 1 and own[1] else []
    rows = []
    for n, tasks in designs:
        found = simulated_coverage(n, tasks, episodes)
        values = round_half_up(found.share, 1), round_half_up(found.error, 1), str(found.simulations)
        rows.append((f"{n}{' (this scale)' if (n, tasks) == own else ''}", str(tasks), *values))
    low, high = (round_half_up(100 * level) for level in success_levels(SIMULATED_TASKS)[[0, -1]])
    caption = (
        "Simulated coverage: how often the 95 % interval of the interquartile mean, made as for the results, holds the "
        f"true one. Too few seeds make it too narrow. Each simulation invents a benchmark: task k of T has the success "
        f"probability sqrt((k - 1/2) / T) ({low} to {high} % for T = {SIMULATED_TASKS}), a seed's own is Beta "
        f"distributed about it (a + b = {CONCENTRATION}), and {count(episodes, 'episode')} are observed; the truth is "
        f"the interquartile mean over infinitely many seeds. {SIMULATED_RESAMPLES} resamples each."
    )
    header = ("seeds n", "tasks T", "coverage (%)", "standard error", "simulations")
    return Grid(caption, "lrrrr", header, tuple(rows))
