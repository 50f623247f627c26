"""`trqam bench`: how fast updates and two processes at once are on this machine, beside what is asked for.

Here are the command's options, and what it does with them: measure or read, print, save; free of torch until it runs.
`cases`, `flops` and `peer` say what is measured, `measure` in which order, `record` what is saved, `tables` what is
read out.
"""

import argparse
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from trqam.config.command_line import MANY, path, whole
from trqam.config.errors import UserError
from trqam.config.load import Config
from trqam.experiment.files import refuse_foreign

if TYPE_CHECKING:
    from trqam.operations.bench.record import Record

SIZES = ("small", "profile", "paper")
MODES = ("eager", "captured", "compiled")


class Options(NamedTuple):
    """What to measure; None is what the device or the profile has."""

    device: str = "auto"
    sizes: tuple[str, ...] = SIZES
    methods: tuple[str, ...] | None = None
    replicas: tuple[int, ...] | None = None
    modes: tuple[str, ...] | None = None
    full: bool = False  # every method with all replicas and modes
    peer: bool = False  # nothing but the same updates in JAX, and these beside them
    repeats: int = 5
    seconds: float = 0.5  # of a turn, at least


PEER = Options(device="cpu", peer=True)
QUICK = Options(sizes=("profile",), methods=("trqam",), replicas=(1, 8), repeats=2, seconds=0.05)


def add_to(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    add = parser.add_argument
    amount = parser.add_mutually_exclusive_group()
    amount.add_argument("--quick", action="store_true", help="TRQAM at the profile's size only: seconds")
    amount.add_argument("--full", action="store_true", help="every method with all replicas and modes: an hour")
    amount.add_argument("--peer", action="store_true", help="beside the same updates in JAX: pip install -e '.[peer]'")
    add("--device", choices=("auto", "cpu", "cuda"), help="default: a GPU where there is one")
    add("--sizes", nargs="+", choices=SIZES, help="profile is the scale file's own; default: all")
    add("--methods", nargs="+", metavar="M", help="default: one of each agent of the first task")
    add("--replicas", nargs="+", type=whole(1, MANY), metavar="R", help="default: 1 2 4 8, on a GPU 16 32")
    add("--modes", nargs="+", choices=MODES, help="default: as a long training has it, on a GPU eager too")
    add("--repeats", type=whole(1, MANY), metavar="N", help=f"turns of each case (default: {Options().repeats})")
    add("--out", type=path, metavar="FILE", help="default: benchmarks/results/HARDWARE-COMMIT.json")
    add("--force", action="store_true", help="replace the file")
    add("--show", type=path, metavar="FILE", help="measure nothing; print what FILE holds")


def chosen(arguments: argparse.Namespace) -> Options:
    """The options of a command line."""
    values = {name: getattr(arguments, name) for name in Options._fields if getattr(arguments, name, None) is not None}
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    return (QUICK if arguments.quick else PEER if arguments.peer else Options())._replace(**values)


def run(arguments: argparse.Namespace, config: Config) -> None:
    """Measure, or read what was measured, and print it."""
    from trqam.operations.bench import record, tables

    print(tables.described(record.load(arguments.show) if arguments.show else _measured(arguments, config)))


def _measured(arguments: argparse.Namespace, config: Config) -> "Record":
    """Saved under a name that is free, or that --force frees."""
    from trqam.operations.bench import measure, record

    kinds = {"quick": arguments.quick, "full": arguments.full, "peer": arguments.peer}
    kind = next((name for name, asked in kinds.items() if asked), "")
    out = arguments.out or record.default_path(kind)
    refuse_foreign(out, record.load, "record of a benchmark", "give another --out")
    if out.exists() and not arguments.force:
        raise UserError(f"{out}: exists; read it with --show {out}, measure again with --force, or give another --out")
    found = measure.measure(config, chosen(arguments), save=partial(record.save, path=out))
    measure.say(f"saved as {out}")
    return found
