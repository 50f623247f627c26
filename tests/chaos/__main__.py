"""``python -m tests.chaos``: the campaign, its table, and every event in a file."""

import argparse
import sys
import tempfile
from functools import partial
from pathlib import Path

from tests.chaos.campaign import FULL, campaign
from tests.chaos.events import into, read, table, write


def parser() -> argparse.ArgumentParser:
    """The options."""
    top = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    top.add_argument("--seed", type=int, default=0, help="of all random instants and places (default: %(default)s)")
    top.add_argument("--share", type=float, default=1.0, help="of the full campaign's events (default: %(default)s)")
    top.add_argument("--only", nargs="+", choices=FULL, default=list(FULL), help="kinds of failure (default: all)")
    top.add_argument("--folder", type=Path, help="to make a temporary one in (default: the system's)")
    top.add_argument("--events", type=Path, metavar="FILE", help="record every event there, a line of JSON each")
    top.add_argument("--document", type=Path, metavar="FILE", help="put the table into it, too")
    top.add_argument("--read", type=Path, nargs="+", metavar="FILE", help="run nothing: take events so recorded")
    return top


def main() -> None:
    """Runs it; exit code 1 if a promise was broken."""
    arguments = parser().parse_args()
    record = arguments.events and arguments.events.resolve()
    if arguments.read:
        events = [event for path in arguments.read for event in read(path)]
        if record:
            write(events, record)
    else:
        counts = {kind: max(1, round(arguments.share * FULL[kind])) for kind in arguments.only}
        with tempfile.TemporaryDirectory(prefix="chaos", dir=arguments.folder) as folder:
            keep = partial(write, path=record) if record else list
            events = campaign(Path(folder), arguments.seed, counts, keep)
    print("\n".join(table(events)))
    if arguments.document:
        into(arguments.document, "python -m tests.chaos", table(events))
    bad = [event for event in events if not event.good]
    for event in bad:
        print(f"{event.kind}: {event.details}: {event.why}", file=sys.stderr)
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
