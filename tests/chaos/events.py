"""What happened, and the table of it."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Event:
    """One failure and what came of it."""

    kind: str  # a row of the table
    details: dict[str, Any] = field(default_factory=dict)  # where and when, to find or repeat it
    survived: bool = False
    lost: int = 0  # steps beyond the last checkpoint
    identical: bool = False
    why: str = ""  # what went wrong, if anything did

    @property
    def good(self) -> bool:
        """As promised."""
        return self.survived and self.lost == 0 and self.identical


HEADER = ("what was done", "events", "survived", "steps lost beyond the last checkpoint", "identical")


def table(events: Iterable[Event]) -> list[str]:
    """Markdown, a line a kind, in the order of the first event of each."""
    kinds: dict[str, list[Event]] = {}
    for event in events:
        kinds.setdefault(event.kind, []).append(event)
    everything = [event for group in kinds.values() for event in group]
    rows = [[kind, *_counts(group)] for kind, group in kinds.items()]
    return markdown(HEADER, [*rows, ["**all**", *(f"**{count}**" for count in _counts(everything))]])


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table whose first column holds words and whose others hold numbers."""
    return [_line(header), _line(["---", *["--:"] * (len(header) - 1)]), *map(_line, rows)]


def _counts(events: list[Event]) -> list[str]:
    survived, identical = (sum(getattr(event, name) for event in events) for name in ("survived", "identical"))
    return [str(number) for number in (len(events), survived, sum(event.lost for event in events), identical)]


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def write(events: Iterable[Event], path: Path) -> None:
    """A JSON object a line: every instant and every place, so that an event can be found again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(asdict(event)) + "\n" for event in events))


def read(path: Path) -> list[Event]:
    """What was written."""
    return [Event(**json.loads(line)) for line in path.read_text().splitlines()]


def into(document: Path, command: str, lines: Sequence[str]) -> None:
    """Puts ``lines`` into a document, between the two comments that name the command which prints them."""
    begin, end = f"<!-- begin: {command} -->", f"<!-- end: {command} -->"
    before, _, rest = document.read_text().partition(begin)
    after = rest.partition(end)[2]
    if not after:
        raise SystemExit(f"{document}: lacks the lines {begin} and {end}; add them where the table belongs")
    document.write_text("\n".join([before + begin, *lines, end]) + after)
