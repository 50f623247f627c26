"""Where the time of `make paper` went: minutes of each kind of job, as Snakemake noted them, largest first.

    python -m benchmarks.rules [FOLDER ...]      # projects in which it ran, side by side (default: this one)

The whole is from the first start to the last end; it means something for a project whose jobs ran in one go.
"""

import argparse
import base64
import json
import re
from collections import defaultdict
from pathlib import Path

from trqam.operations.bench.tables import markdown

LARGEST = 12  # rows, the rest is one more


def jobs(project: Path) -> dict[str, list[tuple[float, float]]]:
    """Kind of job (a rule; of trainings the stage and method) to the start and end of each, in seconds since 1970."""
    found: dict[str, dict[int, tuple[float, float]]] = defaultdict(dict)
    notes = project / ".snakemake/metadata"
    for path in notes.rglob("*"):
        if path.is_file():
            note = json.loads(path.read_text())
            output = base64.urlsafe_b64decode("".join(path.relative_to(notes).parts).replace("@", "")).decode()
            times, job = found[_kind(note["rule"], Path(output))], note["job_hash"]  # a note for every output
            start, end = times.get(job, (note["starttime"], note["endtime"]))
            times[job] = min(start, note["starttime"]), max(end, note["endtime"])
    return {kind: sorted(times.values()) for kind, times in found.items()}


def _kind(rule: str, output: Path) -> str:
    stage = re.fullmatch(r"(offline|online)_seeds_.*", rule)
    if stage:
        return f"{stage[1]}: {output.parts[3]}"  # results/{scale}/{task}/{method}/...
    return re.sub(r"^(figure|table)_.*", r"\1s", rule)


def table(projects: list[Path]) -> str:
    """Markdown: a row a kind of job, a column a project."""
    ran = [jobs(project) for project in projects]
    minutes = [{kind: sum(end - start for start, end in times) / 60 for kind, times in each.items()} for each in ran]
    kinds = sorted({kind for each in minutes for kind in each}, key=lambda kind: -minutes[-1].get(kind, 0))
    rest = kinds[LARGEST:]
    rows = [[kind, *(_shown(each.get(kind)) for each in minutes)] for kind in kinds[:LARGEST]]
    if rest:
        sums = [sum(each.get(kind, 0) for kind in rest) for each in minutes]
        rows.append([f"{len(rest)} smaller kinds", *map(_shown, sums)])
    rows.append(["**all jobs**", *(f"**{sum(each.values()):.1f}**" for each in minutes)])
    rows.append(["**from start to end**", *(f"**{_whole(each):.1f}**" for each in ran)])
    return markdown(["minutes of", *(project.resolve().name for project in projects)], rows)


def _whole(ran: dict[str, list[tuple[float, float]]]) -> float:
    times = [time for found in ran.values() for pair in found for time in pair]
    return (max(times) - min(times)) / 60 if times else 0.0


def _shown(minutes: float | None) -> str:
    return "--" if minutes is None else f"{minutes:.1f}"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("projects", nargs="*", type=Path, default=[Path()], help="folders (default: this one)")
    projects = parser.parse_args().projects
    for project in projects:
        if not (project / ".snakemake/metadata").is_dir():
            parser.error(f"{project}: Snakemake has run nothing here; name a folder in which `make paper` ran")
    print(table(projects))


if __name__ == "__main__":
    main()
