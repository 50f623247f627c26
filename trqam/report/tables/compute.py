"""What the recorded runs took, in hours of their jobs, by method and stage; and compute.csv, which has the same."""

from pathlib import Path

import pandas as pd

from trqam.config.wording import thousands
from trqam.experiment.files import write_atomically
from trqam.report.collected import Collected
from trqam.report.measures import STAGES
from trqam.report.statistics import round_half_up
from trqam.report.tables import MISSING, Grid, by_group

CLONING = "pretrain"


def job_hours(collected: Collected) -> pd.DataFrame:
    """``method``, ``stage``, ``runs`` and ``hours``, a row for each method and stage that has recorded runs.

    Hours are wall time of the jobs: how many cores each held is not recorded. A run has its share of the job's time
    (`trqam collect`), so what is stacked counts once; so does the cloning of a domain, which its methods begin from.
    """
    runs = collected.runs
    known = runs[runs.wall_time_s.notna()].groupby(["method", "stage"]).wall_time_s.agg(["size", "sum"])
    spent = {place: (number, seconds) for place, number, seconds in known.itertuples()}
    if cloned := collected.manifests.get("pretrained"):
        spent["behaviour_cloning", CLONING] = len(cloned), sum(cloned.values())
    order = dict.fromkeys(["behaviour_cloning", *by_group(collected.config), *collected.config.ablated])
    places = [(method, stage) for method in order for stage in (CLONING, *STAGES) if (method, stage) in spent]
    rows = [(*place, spent[place][0], spent[place][1] / 3600) for place in places]
    return pd.DataFrame(rows, columns=["method", "stage", "runs", "hours"])


def table(collected: Collected) -> Grid:
    """A row a method, a column a stage, and their sums."""
    config, spent = collected.config, job_hours(collected)
    digits = 3 if spent.hours.sum() < 10 else 1

    def row(label: str, part: pd.DataFrame) -> tuple[str, ...]:
        by_stage = part.groupby("stage").hours.sum()
        hours = [round_half_up(by_stage[s], digits) if s in by_stage else MISSING for s in (CLONING, *STAGES)]
        return label, thousands(int(part.runs.sum())), *hours, round_half_up(part.hours.sum(), digits)

    rows = [row(config.methods[method].label, part) for method, part in spent.groupby("method", sort=False)]
    caption = "Hours that the jobs of the recorded runs took. A run is one stage of one seed. Seeds that trained "
    caption += "together share the wall time of their job, evaluation and all, and behaviour cloning is trained once a "
    caption += (
        "domain. How many cores a job held is not recorded. Data, figures, and what was lost when a job was killed "
    )
    caption += f"are not counted. {MISSING}: no recorded run."
    if (collected.runs.status == "DIVERGED").any():
        caption += " A seed that diverged has its share until then."
    header = ("method", "runs", "cloning", *STAGES, "total")
    return Grid(caption, "lrrrrr", header, (*rows, row("all", spent)) if rows else ())


def write(collected: Collected, out: Path) -> None:
    """compute.csv: `job_hours`."""
    write_atomically(out, job_hours(collected).to_csv(index=False, float_format="%.6g"))
