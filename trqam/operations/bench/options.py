"""What `trqam bench` can be asked for. Free of torch: the command line reads it."""

import argparse
from typing import NamedTuple

from trqam.config.arguments import MANY, path, real, whole

SIZES = ("small", "profile", "paper")
MODES = ("eager", "captured", "compiled")
PRECISIONS = ("float32", "tf32", "bf16")
DOMAINS = ("antmaze-large-navigate", "cube-double-play")  # beside the profile's: a dear step, and a dearer one


class Options(NamedTuple):
    """What to measure; None is what the device or the profile has."""

    device: str = "auto"
    sizes: tuple[str, ...] = SIZES
    methods: tuple[str, ...] | None = None
    replicas: tuple[int, ...] | None = None
    modes: tuple[str, ...] | None = None
    precisions: tuple[str, ...] | None = None
    domains: tuple[str, ...] = DOMAINS
    full: bool = False  # every method with all replicas, modes and precisions
    repeats: int = 5
    seconds: float = 0.5  # of a turn, at least


QUICK = Options(sizes=("profile",), methods=("trqam",), replicas=(1, 8), domains=(), repeats=2, seconds=0.05)


def add_to(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    amount = parser.add_mutually_exclusive_group()
    amount.add_argument("--quick", action="store_true", help="TRQAM at the profile's size only: seconds")
    amount.add_argument("--full", action="store_true", help="every method with all replicas and modes: an hour")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), help="default: a GPU where there is one")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, help="profile is the scale file's own; default: all")
    parser.add_argument("--methods", nargs="+", metavar="M", help="default: one of each agent of the first task")
    parser.add_argument(
        "--replicas", nargs="+", type=whole(1, MANY), metavar="R", help="default: 1 2 4 8, on a GPU 16 32"
    )
    parser.add_argument("--modes", nargs="+", choices=MODES, help="default: eager, on a GPU captured too")
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, help="default: all that the device has")
    parser.add_argument("--domains", nargs="*", metavar="D", help="evaluated beside the profile's first")
    parser.add_argument(
        "--repeats", type=whole(1, MANY), metavar="N", help=f"turns of each case (default: {Options().repeats})"
    )
    parser.add_argument("--seconds", type=real(3600), metavar="S", help=f"of a turn (default: {Options().seconds:g})")
    parser.add_argument("--out", type=path, metavar="FILE", help="default: benchmarks/results/HARDWARE-COMMIT.json")
    parser.add_argument("--force", action="store_true", help="replace the file")
    parser.add_argument("--show", type=path, metavar="FILE", help="measure nothing; print what FILE holds")
    parser.add_argument("--compare", type=path, metavar="FILE", help="print FILE beside what was measured, or --show's")
    parser.add_argument("--into", type=path, metavar="FILE.md", help="also write the table between this file's marks")


def chosen(arguments: argparse.Namespace) -> Options:
    """The options of a command line."""
    values = {name: getattr(arguments, name) for name in Options._fields if getattr(arguments, name) is not None}
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    return (QUICK if arguments.quick else Options())._replace(**values)
