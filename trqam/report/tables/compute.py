"""What the recorded runs took, in core hours, by method and stage; and compute.csv, which has the same."""

from pathlib import Path

import pandas as pd

from trqam.config.schema import CLONING
from trqam.config.wording import thousands
from trqam.experiment.files import write_atomically
from trqam.report.collected import Collected
from trqam.report.selection import STAGES
from trqam.report.statistics import round_half_up
from trqam.report.tables import MISSING, Grid, by_group, said

PRETRAIN = "pretrain"


def core_hours(collected: Collected) -> pd.DataFrame:
    """``method``, ``stage``, ``runs`` and ``core_hours``, a row for each method and stage that has recorded runs.

    Wall time of the jobs times the cores that each holds (cloning one). A run has its share of the job's time (`trqam
    collect`), so what is stacked counts once; so does the cloning of a domain, which all of its methods begin from.
    """
    runs = collected.runs
    known = runs[runs.wall_time_s.notna()].groupby(["method", "stage"]).wall_time_s.agg(["size", "sum"])
    spent = {place: (number, seconds) for place, number, seconds in known.itertuples()}
    for name, seconds in collected.manifests.get("pretrained", {}).items():
        method = name.partition("+")[2] or CLONING
        number, total = spent.get((method, PRETRAIN), (0, 0.0))
        spent[method, PRETRAIN] = number + 1, total + seconds
    order = dict.fromkeys([CLONING, *by_group(collected.config), *collected.config.ablated, *(m for m, _ in spent)])
    places = [(method, stage) for method in order for stage in (PRETRAIN, *STAGES) if (method, stage) in spent]
    cores = {PRETRAIN: 1, **dict.fromkeys(STAGES, _cores(collected))}
    rows = [(*place, spent[place][0], spent[place][1] * cores[place[1]] / 3600) for place in places]
    return pd.DataFrame(rows, columns=["method", "stage", "runs", "core_hours"])


def _cores(collected: Collected) -> int:
    """That a job holds: those which step environments, while the trainer waits; as Snakemake reserves them."""
    return max(1, collected.config.scale.env_workers)


def table(collected: Collected) -> Grid:
    """A row a method, a column a stage, and their sums."""
    config, spent = collected.config, core_hours(collected)
    digits = 3 if spent.core_hours.sum() < 10 else 1

    def row(label: str, part: pd.DataFrame) -> tuple[str, ...]:
        by_stage = part.groupby("stage").core_hours.sum()
        hours = [round_half_up(by_stage[s], digits) if s in by_stage else MISSING for s in (PRETRAIN, *STAGES)]
        return label, thousands(int(part.runs.sum())), *hours, round_half_up(part.core_hours.sum(), digits)

    rows = [row(config.methods[method].label, part) for method, part in spent.groupby("method", sort=False)]
    caption = said("compute", config, _cores(collected), (collected.runs.status == "DIVERGED").any())
    header = ("method", "runs", "cloning", *STAGES, "total")
    return Grid(caption, "lrrrrr", header, (*rows, row("all", spent)) if rows else ())


def write(collected: Collected, out: Path) -> None:
    """compute.csv: `core_hours`."""
    write_atomically(out, core_hours(collected).to_csv(index=False, float_format="%.6g"))
