"""Every case with the message that it gets, to be read by a human: `python -m tests.bad [WORD]`."""

import os
import sys
import tempfile
from itertools import groupby
from pathlib import Path

from tests.bad import corpus, world


def main(word: str = "") -> int:
    """Prints the table; 1 if a case is not as it should be."""
    chosen = [case for case in corpus.cases() if word in case.id]
    wrong, slowest = 0, (0.0, "")
    with tempfile.TemporaryDirectory() as place:
        model, here = Path(place) / "model", Path.cwd()
        model.mkdir()
        os.chdir(model)
        world.build(model)
        os.chdir(here)
        for group, members in groupby(chosen, key=lambda case: case.group):
            print(f"\n{group}")
            for number, case in enumerate(members):
                outcome, faults = corpus.judge(case, model, Path(place) / f"{group}-{number}")
                lines = outcome.stderr.splitlines() or [""]
                print(f"  {case.name} [{' '.join(case.run[2:4])}]\n      {lines[-1].removeprefix('trqam: error: ')}")
                for fault in faults:
                    print(f"      *** {fault}")
                wrong += bool(faults)
                slowest = max(slowest, (outcome.seconds, case.id))
    print(f"\n{len(chosen)} cases, {wrong} not as they should be")
    print(f"the slowest took {slowest[0]:.2f} s of CPU, imports included where it was the first: {slowest[1]}")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
