"""What a training says while it runs."""

import sys
from typing import Any

from tqdm import tqdm


class Progress:
    """A bar on a terminal; in a log, one line an interval."""

    def __init__(self, title: str, total: int, start: int):
        self.title, self.total = title, total
        self.bar = tqdm(total=total, initial=start, desc=title, disable=not sys.stderr.isatty())

    def advance(self) -> None:
        """One step further."""
        self.bar.update()

    def report(self, records: list[dict[str, Any]], episodes_per_second: float | None = None) -> None:
        """Shows the newest row of every seed: means over the seeds that are training, and how fast they evaluated."""
        rows, timing = [record["rows"][-1] for record in records], records[0]["timing"][-1]
        shown = {}
        for name in ("success", "path_kl", "multiplier", "flow_loss"):
            if name in rows[0]:
                shown[name] = f"{sum(row[name] for row in rows) / len(rows):.3g}"
        self.bar.set_postfix(shown)
        if self.bar.disable:
            values = " ".join(f"{name}={value}" for name, value in shown.items())
            speed = f"{timing['updates_per_second']:.0f} updates/s, {timing['seconds']:.0f} s"
            if episodes_per_second is not None:
                speed += f"; evaluated {episodes_per_second:.3g} episodes/s"
            print(f"{self.title}: step {rows[0]['step']}/{self.total} {values} ({speed})", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Leaves the terminal as it was."""
        self.bar.close()
