"""Every case with the message that it gets, to be read by a human: `python -m tests.bad [WORD] [--fresh]`.

With ``--fresh`` every command has an interpreter of its own, and its time includes all imports, as a user's does.
"""

import argparse
import os
import sys
import tempfile
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from tests.bad import corpus, world


def main(word: str, fresh: bool) -> int:
    """Prints the table; 1 if a case is not as it should be."""
    chosen = [replace(case, fresh=case.fresh or fresh) for case in corpus.cases() if word in case.id]
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
    imports = "all imports" if fresh else "imports where it was the first to need them"
    print(f"the slowest took {slowest[0]:.2f} s of CPU with {imports}: {slowest[1]}")
    return int(wrong > 0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("word", nargs="?", default="", help="only cases whose name has it")
    parser.add_argument("--fresh", action="store_true", help="an interpreter for each")
    sys.exit(main(**vars(parser.parse_args())))
