"""A record, or two of them side by side, as Markdown that is also readable on a terminal."""

from statistics import median

from trqam.config.wording import count
from trqam.operations.bench.record import Record, ratio
from trqam.operations.bench.targets import verdicts

VERDICT = {True: "met", False: "NOT met", None: "--"}


def described(record: Record) -> str:
    """Everything that a record says."""
    hardware, versions = record.hardware, record.versions
    where = f"{hardware['cores']} cores of {hardware['cpu']}, {hardware['memory']} GB"
    where = f"{hardware['gpu']}; {where}" if hardware["gpu"] else where
    commit = record.git_commit[:8] + (" with changes" if record.git_changes else "")
    turns = f"medians of {count(record.repeats, 'turn')} of at least {record.seconds:g} s"
    load = "other work on the machine: load {:.1f} before, {:.1f} after".format(*record.load)
    parts = [
        f"{where}; one thread a process; PyTorch {versions['torch']}, Python {versions['python']}; commit `{commit}`, "
        f"{record.created[:10]}; {turns}; {load}.",
        _targets(record),
        *(_group(record, name) for name in dict.fromkeys(row.group for row in record.rows)),
    ]
    if record.concurrent:
        parts.append(_concurrent(record))
    if record.environments:
        parts.append(_environments(record))
    if record.skipped:
        parts.append("Not measured:\n" + "\n".join(f"- {line}" for line in record.skipped))
    return "\n\n".join(parts)


def compared(before: Record, after: Record) -> str:
    """Rows that both have, with the factor from the first to the second."""
    old = {row.key: row for row in before.rows}
    header = ["", "replica-updates/s", "then", "factor", "of GEMM", "then", "operators", "then", "MB", "then"]
    rows = []
    for row in after.rows:
        if row.key not in old:
            continue
        was = old[row.key]
        rates = [r.replicas * r.updates for r in (was, row)]
        shares = [_percent(record.share(r)) for record, r in ((before, was), (after, row))]
        sizes = [str(x) for r in (was, row) for x in (r.operators,)] + [_megabytes(r.peak) for r in (was, row)]
        label = f"{row.group}: {row.method}, R = {row.replicas}, {row.mode}, {row.precision}"
        rows.append([label, number(rates[0]), number(rates[1]), f"{rates[1] / rates[0]:.2f}", *shares, *sizes])
    evaluated = {(row.domain, row.workers): row for row in before.environments}
    episodes = [
        [
            row.domain,
            str(row.workers),
            f"{was.episodes:.3g}",
            f"{row.episodes:.3g}",
            f"{row.episodes / was.episodes:.2f}",
        ]
        for row in after.environments
        if (was := evaluated.get((row.domain, row.workers)))
    ]
    parts = [f"`{before.git_commit[:8]}` ({before.created}), then `{after.git_commit[:8]}` ({after.created})."]
    if before.hardware != after.hardware:
        parts.append(f"NOT the same machine: {before.hardware}, then {after.hardware}.")
    parts.append(markdown(header, rows) if rows else "No case was measured in both.")
    if episodes:
        parts.append(markdown(["domain", "workers", "episodes/s", "then", "factor"], episodes))
    return "\n\n".join(parts)


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """A table with aligned columns, numbers to the right."""
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    left = [not any(row[column][:1].isdigit() for row in rows) for column in range(len(header))]

    def line(cells: list[str]) -> str:
        padded = (c.ljust(w) if flush else c.rjust(w) for c, w, flush in zip(cells, widths, left, strict=True))
        return f"| {' | '.join(padded)} |"

    rule = "|".join("-" * (width + 1) + ("-" if flush else ":") for width, flush in zip(widths, left, strict=True))
    return "\n".join([line(header), f"|{rule}|", *map(line, rows)])


def number(value: float) -> str:
    """Three digits that count, never an exponent."""
    return f"{float(f'{value:.3g}'):.12g}"


def _targets(record: Record) -> str:
    rows = [[v.what, v.target, v.found, VERDICT[v.met]] for v in verdicts(record)]
    return markdown(["asked for", "target", "found", ""], rows)


def _group(record: Record, name: str) -> str:
    """The rows of a group: beside one replica, or where methods differ beside TRQAM."""
    rows = [row for row in record.rows if row.group == name]
    methods = len({row.method for row in rows}) > 1
    beside = "time, trqam is 1" if methods else "time a replica, R = 1 is 1"
    header = ["method", "R", "step", "precision", "updates/s", "replica-updates/s", beside, "GFLOP/s", "of GEMM"]
    header += ["operators", "MB", "wall/CPU"]
    cells = []
    for row in rows:
        other = next((r for r in rows if r.method == "trqam"), None) if methods else record.one(row)
        share = record.share(row)
        cells.append(
            [
                row.method, str(row.replicas), row.mode, row.precision, number(row.updates),
                number(row.replicas * row.updates), f"{ratio(row, other):.2f}" if other else "--",
                f"{row.flops * row.updates / 1e9:.1f}", _percent(share), str(row.operators), _megabytes(row.peak),
                f"{row.waiting:.2f}",
            ]
        )  # fmt: skip
    size = rows[0].size
    peaks = ", ".join(
        f"{median(turn.units / (turn.cpu if peak.device == 'cpu' else turn.wall) for turn in peak.turns) / 1e9:.1f} "
        f"GFLOP/s in {peak.precision}"
        for peak in record.peaks
        if peak.group == name
    )
    return f"**{name}** ({record.sizes[size]}); products between the turns: {peaks}\n\n" + markdown(header, cells)


def _concurrent(record: Record) -> str:
    header = ["two processes by one", "method", "throughput", "if both had a core (CPU time)"]
    rows = [[r.size, r.method, f"{r.throughput('wall'):.2f}", f"{r.throughput('cpu'):.2f}"] for r in record.concurrent]
    return markdown(header, rows)


def _environments(record: Record) -> str:
    header = ["evaluation", "workers", "identical", "episodes/s", "environment steps/s", "factor", "CPU s an episode"]
    first = {row.domain: row for row in reversed(record.environments)}
    rows = [
        [
            row.domain, str(row.workers), "yes" if row.identical else "NO", number(row.episodes),
            number(row.episodes * row.steps), f"{row.episodes / first[row.domain].episodes:.2f}",
            f"{median(turn.cpu / turn.units for turn in row.turns):.3g}",
        ]
        for row in record.environments
    ]  # fmt: skip
    return markdown(header, rows)


def _percent(share: float | None) -> str:
    return "--" if share is None else f"{100 * share:.0f} %"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.0f}"
