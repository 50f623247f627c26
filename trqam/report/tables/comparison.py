"""The compared methods after either stage, over the tasks that all of them run on, each number with its interval."""

from collections.abc import Callable, Sequence

from trqam.config.load import Config
from trqam.config.wording import count, thousands
from trqam.report.collected import Collected, mixed_mark, mixed_note
from trqam.report.conventions import BEST, CONVENTIONS, FINAL, LAST, MEAN_OF_LAST, evaluation_noise, summaries
from trqam.report.measures import (
    FEW,
    RESAMPLES,
    STAGES,
    FinalRuns,
    final_cell,
    final_runs,
    improvement,
    interquartile,
    mark_notes,
    marked,
    ours,
    scope,
    shared_tasks,
    trust,
    width_note,
)
from trqam.report.selection import compared, data_note
from trqam.report.statistics import round_half_up
from trqam.report.tables import MISSING, Grid

Cells = Callable[[str, str], Sequence[str]]  # of a method and stage
BOOTSTRAP = f"95 % bootstrap interval (percentiles of {thousands(RESAMPLES)} resamples, seeds"


def aggregates_table(collected: Collected) -> Grid:
    """A row a method; for each stage the paper's mean ± std, the interquartile mean with its interval, and n."""
    config, tasks = collected.config, shared_tasks(collected.config)

    def cells(method: str, stage: str) -> Sequence[str]:
        runs, cell = final_runs(collected, method, stage), final_cell(collected.metrics, config, tasks, method, stage)
        if not runs.asked:
            return MISSING, MISSING, MISSING
        mean = MISSING
        if cell:
            mean = round_half_up(cell.mean) + (f" ± {round_half_up(cell.std)}" if cell.n > 1 else "")
        complete = cell.n if cell else 0
        middle = str(interquartile(collected, method, stage) or MISSING)
        return mean, middle, _n(config, runs, complete, len(tasks))

    several = config.scale.seeds > 1
    text = f"Final success in per cent over {scope(config)}. A run is one seed on one task. "
    text += "mean ± std: of the per-seed means" if several else "mean: of the one seed"
    text += "; IQM: interquartile mean, the mean of the middle half of all runs"
    text += " (of fewer than four, of all)" if len(tasks) * config.scale.seeds < 4 else ""
    text += f", in brackets its {BOOTSTRAP} drawn within tasks)" if several else ""
    text += f"; n: seeds that finished every task.{trust(config)}"
    more = {
        " of ": " k of N: runs are missing; the IQM is over those there are.",
        "DIVERGED": " DIVERGED: so many runs diverged; each counts as success 0.",
    }
    return _grid(collected, "method", compared(config), ("mean ± std", "IQM [95 %]", "n"), "rrl", cells, text, more)


def _n(config: Config, runs: FinalRuns, complete: int, tasks: int) -> str:
    """`3`; `2 of 3 (5 of 6 runs), 1 DIVERGED` where runs are missing and have diverged."""
    text = str(complete)
    if runs.number < runs.asked:
        text += f" of {config.scale.seeds}"
        text += f" ({thousands(runs.number)} of {thousands(runs.asked)} runs)" if tasks > 1 else ""
    return text + (f", {runs.diverged} DIVERGED" if runs.diverged else "")


def improvement_table(collected: Collected) -> Grid:
    """A row a rival; for each stage the probability that TRQAM succeeds more, its interval, and the runs of both."""
    config, own, n = collected.config, ours(collected.config), collected.config.scale.seeds
    rivals = [method for method in compared(config) if method != own]
    if own is None or not rivals:
        return Grid("Probability of improvement: there is no method to compare TRQAM with.", "l", (MISSING,), ())

    def cells(rival: str, stage: str) -> Sequence[str]:
        gain = improvement(collected, own, rival, stage)
        return (str(gain), _runs(collected, own, rival, stage)) if gain else (MISSING, MISSING)

    label = config.methods[own].label
    text = f"Probability in per cent that a run of {label} succeeds more than a run of the other method on the same "
    text += f"task, ties counting one half, the mean over {scope(config)} (Mann-Whitney U over the number of pairs). "
    text += "50 %: neither is better. runs: those of either, one seed on one task each; a diverged run counts as "
    text += "success 0, a missing one is left out."
    text += f" In brackets the {BOOTSTRAP} of both drawn within tasks)." if n > 1 else ""
    text += f" Below {FEW} seeds it is too narrow." if 1 < n < FEW else ""
    over = f"{marked(config, own)}{mixed_mark(collected, shared_tasks(config), own)} over"
    return _grid(collected, over, rivals, ("% [95 %]", "runs"), "rr", cells, text, {})


def _runs(collected: Collected, own: str, rival: str, stage: str) -> str:
    """`24 : 24` runs, `21 : 24 on 7 tasks` where one of them lacks a task."""
    left, right = (final_runs(collected, method, stage).scores for method in (own, rival))
    tasks = [task for task in left if task in right]
    mine, theirs = (thousands(sum(len(side[task]) for task in tasks)) for side in (left, right))
    fewer = len(tasks) < len(shared_tasks(collected.config))
    return f"{mine} : {theirs}" + (f" on {count(len(tasks), 'task')}" if fewer else "")


def conventions_table(collected: Collected) -> Grid:
    """A row a method; for each stage its success by each of `CONVENTIONS`, with its interval, and n."""
    config, tasks = collected.config, shared_tasks(collected.config)

    def cells(method: str, stage: str) -> Sequence[str]:
        found = summaries(collected, tasks, method, stage)
        values = (str(found[name].estimate) if name in found else MISSING for name in CONVENTIONS)
        return (*values, str(found[FINAL].n) if found else MISSING)

    text = f"Success in per cent over {scope(config)}, read in three ways: {FINAL}, at the last evaluation, as in "
    text += f"every other table; {MEAN_OF_LAST}, over each run's evaluations; {BEST}, the highest evaluation of each "
    text += "run, which noise lifts. Compare within a column. "
    text += f"In brackets the {BOOTSTRAP} drawn within tasks). " if config.scale.seeds > 1 else ""
    text += f"n: seeds that finished every task. {evaluation_noise(config)}{trust(config)}"
    few = {MISSING: f" A stage of fewer than {LAST} evaluations has no mean of {LAST}."}
    return _grid(collected, "method", compared(config), (*CONVENTIONS, "n"), "rrrr", cells, text, few)


def _grid(
    collected: Collected, head: str, methods: list[str], columns: tuple[str, ...], kinds: str, cells: Cells,
    caption: str, more: dict[str, str],
) -> Grid:  # fmt: skip
    """A row a method, its ``cells`` a stage, and the tasks; ``more`` is said where its key stands in a cell."""
    config, tasks = collected.config, shared_tasks(collected.config)
    rows = []
    for method in methods:
        label = marked(config, method) + mixed_mark(collected, tasks, method)
        rows.append((label, *(text for stage in STAGES for text in cells(method, stage)), str(len(tasks))))
    printed = " ".join(text for row in rows for text in row[1:])
    caption += "".join(note for word, note in more.items() if word in printed) + width_note(rows)
    caption += f" {MISSING}: no result." if MISSING in printed.split() else ""
    caption += mark_notes(config) + data_note(config) + mixed_note(collected)
    groups = (("", 1), *((stage, len(columns)) for stage in STAGES), ("", 1))
    header = (head, *columns * len(STAGES), "tasks")
    return Grid(caption, f"l{kinds * len(STAGES)}r", header, tuple(rows), groups=groups)
