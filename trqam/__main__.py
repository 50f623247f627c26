"""The command line: parsing only. Every command works alone; Snakemake's rules call the same ones."""

import argparse
import os
import shutil
import sys
from pathlib import Path
from typing import NoReturn

# One thread a process: two on a busy two-core machine are many times slower, and Snakemake counts a process as a core.
for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

from trqam import config as configuration  # noqa: E402
from trqam.errors import UserError  # noqa: E402


class Parser(argparse.ArgumentParser):
    """argparse whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Exits with code 2."""
        self.exit(2, f"{self.prog}: error: {message}; see `{self.prog} --help`\n")


def generate(arguments: argparse.Namespace, config: configuration.Config) -> None:
    """Make a dataset on the spot."""
    from trqam.data.generate import generate

    directory = Path(arguments.out) if arguments.out else config.data_directory(arguments.dataset)
    transitions = arguments.transitions or config.scale.transitions
    seed = config.scale.data_seed if arguments.seed is None else arguments.seed
    generate(arguments.dataset, directory, transitions, seed)


def fetch(arguments: argparse.Namespace, config: configuration.Config) -> None:
    """Download the official files of datasets, or verify those that are there."""
    from trqam.data.fetch import fetch

    for dataset in arguments.datasets:
        fetch(dataset, _official(config), arguments.mirrors, arguments.offline)


def convert(arguments: argparse.Namespace, config: configuration.Config) -> None:
    """Store official npz files, fetched or placed by hand."""
    from trqam.data.fetch import placed
    from trqam.data.generate import convert

    directory = Path(arguments.out) if arguments.out else config.data_directory(arguments.dataset)
    paths = [Path(path) for path in arguments.files if not path.endswith("-val.npz")]
    paths = paths or placed(arguments.dataset, _official(config), arguments.mirrors)
    convert(arguments.dataset, paths, directory)
    if arguments.delete_npz:  # the store is complete and on disk
        for path in paths:
            path.unlink()
        print(f"{directory}: stored; deleted {len(paths)} npz file(s)", file=sys.stderr)


def _official(config: configuration.Config) -> Path:
    """Where official npz files are."""
    return Path(config.scale.data_dir) / "official"


def pretrain(arguments: argparse.Namespace, config: configuration.Config) -> None:
    """Behaviour cloning of a domain."""
    from trqam.training import pretrain

    pretrain(config, arguments.domain)


def train(arguments: argparse.Namespace, config: configuration.Config) -> None:
    """Fine-tune some seeds of one task and method."""
    from trqam.training import train

    seeds = arguments.seeds if arguments.seeds is not None else list(range(config.scale.seeds))
    train(config, arguments.task, arguments.method, arguments.stage, seeds)


def clean(arguments: argparse.Namespace, config: configuration.Config) -> None:
    """Delete runs, so that they train anew."""
    from trqam.runs import Cell, cell_of, locked, pretraining_cell

    if arguments.method is None:
        cells = [pretraining_cell(config, arguments.name)]
    else:
        config.run(arguments.name, arguments.method)
        seeds = range(config.scale.seeds) if arguments.seed is None else [arguments.seed]
        cells: list[Cell] = [cell_of(config, arguments.name, arguments.method, seed) for seed in seeds]
    for cell in cells:
        if not cell.path.exists():
            print(f"{cell.path}: nothing to clean")
            continue
        with locked([cell]):
            shutil.rmtree(cell.path)
        print(f"{cell.path}: deleted; its targets will train anew")


def collect(arguments: argparse.Namespace, config: configuration.Config) -> None:
    """Gather all runs into tidy tables."""
    from trqam.results import collect

    collect(config, _folder(arguments, config))


def render(arguments: argparse.Namespace, config: configuration.Config) -> None:
    """Draw a figure, or write a table, the facts, the PDF or the HTML report, from collected tables."""
    from trqam.report.build import Build

    make = getattr(Build(config, _folder(arguments, config)), arguments.what)
    if arguments.what in ("figure", "table"):
        if arguments.name is None:
            raise UserError(f"render {arguments.what}: the name is missing; `snakemake -n paper` lists them")
        make(arguments.name)
    else:
        make()


def _folder(arguments: argparse.Namespace, config: configuration.Config) -> Path:
    """Where the paper of this scale is made."""
    return Path(arguments.folder) if arguments.folder else config.results / "paper"


def golden(arguments: argparse.Namespace, config: configuration.Config) -> None:
    """Compare with a file of reference numbers."""
    from trqam.golden import compare

    found = compare(arguments.file)
    for name, difference in found.items():
        print(f"{name:32s} {difference:.2e}")
    if worst := [name for name, difference in found.items() if not difference <= arguments.tolerance]:
        print(f"{arguments.file}: {', '.join(worst)} beyond {arguments.tolerance:g}", file=sys.stderr)
        sys.exit(1)


def parser() -> Parser:
    """All commands."""
    top = Parser(prog="trqam", description="Replication of Trust Region Q Adjoint Matching (arXiv 2605.27079).")
    top.add_argument("--config", default="config/config.yaml", metavar="FILE", help="scale file (default: %(default)s)")
    top.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="replace a key of the scale file")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(function, **options) -> Parser:
        added = commands.add_parser(function.__name__, help=function.__doc__, description=function.__doc__, **options)
        added.set_defaults(function=function)
        return added

    for function in (generate, convert):
        added = command(function)
        added.add_argument("dataset", help="such as cube-double-play")
        added.add_argument("--out", metavar="FOLDER", help="default: the scale's data_dir")
    added.add_argument("files", nargs="*", help="npz files (default: in data_dir/official, all that the dataset has)")
    added.add_argument("--delete-npz", action="store_true", help="delete the npz files once they are stored")
    added.add_argument("--mirrors", default="config/mirrors.yaml", metavar="FILE", help="default: %(default)s")
    added = command(fetch)
    added.add_argument("datasets", nargs="+", metavar="dataset", help="such as cube-double-play; to data_dir/official")
    added.add_argument("--offline", action="store_true", help="only verify, and name what is missing (TRQAM_OFFLINE=1)")
    added.add_argument("--mirrors", default="config/mirrors.yaml", metavar="FILE", help="default: %(default)s")
    added = commands.choices["generate"]
    added.add_argument("--transitions", type=int, metavar="N", help="default: the scale's")
    added.add_argument("--seed", type=int, help="default: the scale's data_seed")
    added = command(pretrain)
    added.add_argument("domain")
    added = command(train)
    added.add_argument("task")
    added.add_argument("method")
    added.add_argument("--stage", choices=("offline", "online"), required=True)
    added.add_argument("--seeds", type=int, nargs="+", metavar="N", help="default: all of the scale")
    added = command(clean)
    added.add_argument("name", help="a task, or a domain for its pretraining")
    added.add_argument("method", nargs="?")
    added.add_argument("--seed", type=int, help="default: all")
    added = command(collect)
    added.add_argument("--folder", help="default: results/SCALE/paper")
    added = command(render)
    added.add_argument("what", choices=("figure", "table", "facts", "theory", "pdf", "html"))
    added.add_argument("name", nargs="?", help="of the figure or table")
    added.add_argument("--folder", help="where `trqam collect` wrote to (default: results/SCALE/paper)")
    added = command(golden)
    added.add_argument("file")
    added.add_argument("--tolerance", type=float, default=1e-9)
    return top


def main() -> None:
    """Runs one command; a mistake of the user's is one line on stderr."""
    arguments = parser().parse_args()
    try:
        overrides = dict(configuration.parse_override(text) for text in arguments.set)
        arguments.function(arguments, configuration.load(arguments.config, overrides))
    except UserError as error:
        print(f"trqam: error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("trqam: interrupted; run the same command to go on from the last checkpoint", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
