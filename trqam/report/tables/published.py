"""What the authors print."""

from trqam.report.collected import Collected
from trqam.report.statistics import round_half_up
from trqam.report.tables import MISSING, Grid, printed


def table(collected: Collected) -> Grid:
    """The authors' Table 1 as they print it, every row of the file."""
    reported = collected.reported
    methods, domains = list(dict.fromkeys(reported.method)), list(dict.fromkeys(reported.domain))
    cells = reported.set_index(["domain", "method"])
    rows = [
        (d, *(printed(cells.loc[(d, m)]).text if (d, m) in cells.index else MISSING for m in methods)) for d in domains
    ]
    overall = [f"{row.method} {round_half_up(row.mean)} %" for row in reported[reported.domain == "all"].itertuples()]
    sources = [f"{', '.join(dict.fromkeys(part.method))}: {source}" for source, part in reported.groupby("source")]
    seeds = ", ".join(str(n) for n in sorted(reported.n_seeds.unique()))
    caption = f"Published offline success in per cent, mean ± standard deviation over {seeds} seeds; no result of "
    caption += f"this run. {'; '.join(sources)}."
    lead = f"Over all domains the published success is {', '.join(overall)}." if overall else ""
    return Grid(caption, "l" + "r" * len(methods), ("domain", *methods), tuple(rows), lead)
