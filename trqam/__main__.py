"""The command line: parsing only. Every command works alone; Snakemake's rules call the same ones."""

import argparse
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from trqam.config import installed

installed.settle()

if sys.version_info < installed.bounds()[0]:
    installed.end()
try:
    from trqam.cli import commands
    from trqam.cli.streams import Unread, listing, tolerant
    from trqam.config.command_line import MANY, MOST, SEEDS, Parser, path, real, whole
    from trqam.config.errors import Stopped, UserError
    from trqam.operations import bench
except ModuleNotFoundError as missing:
    installed.end(missing)

PROFILE = "trace 20 steps, unchanged, into run/ of the first seed's folder, and say where the time goes"
FILE: Any = {"type": path, "metavar": "FILE"}
FOLDER: Any = {"type": path, "metavar": "FOLDER"}
TIME_LIMIT = "save and exit with code 85 before 30m, 2h, seconds, slurm or none; auto: slurm in a job (default)"


def parser() -> Parser:
    """All commands."""
    top = Parser(prog="trqam", description="Replication of Trust Region Q Adjoint Matching (arXiv 2605.27079).")
    top.add_argument("--config", default="config/config.yaml", **FILE, help="scale file (default: %(default)s)")
    top.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="replace a key of the scale file")
    known = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(function, **options) -> Parser:
        name = function.__name__.rstrip("_")  # `import` is a word of Python's
        added = known.add_parser(name, help=function.__doc__, description=function.__doc__, **options)
        added.set_defaults(function=function)
        return added

    for function in (commands.generate, commands.convert):
        added = command(function)
        added.add_argument("dataset", help="such as cube-double-play")
        added.add_argument("--out", **FOLDER, help="default: the scale's data_dir")
        added.add_argument("--workers", type=whole(1, MANY), default=1, metavar="N", help="processes (default: 1)")
    added.add_argument("files", type=path, nargs="*", help="official files (default: all of data_dir/official)")
    added.add_argument("--delete-npz", action="store_true", help="delete the official files once they are stored")
    added.add_argument("--mirrors", default="config/mirrors.yaml", **FILE, help="default: %(default)s")
    added = command(commands.fetch)
    added.add_argument("datasets", nargs="+", metavar="dataset", help="such as cube-double-play; to data_dir/official")
    added.add_argument("--offline", action="store_true", help="only verify, and name what is missing (TRQAM_OFFLINE=1)")
    added.add_argument("--mirrors", default="config/mirrors.yaml", **FILE, help="default: %(default)s")
    added = known.choices["generate"]
    added.add_argument("--transitions", type=whole(1, 10**9), metavar="N", help="default: the scale's")
    added.add_argument("--seed", type=whole(0, SEEDS), help="default: the scale's data_seed")
    added = command(commands.pretrain)
    added.add_argument("domain")
    added = command(commands.train)
    added.add_argument("task")
    added.add_argument("method")
    added.add_argument("--stage", choices=("offline", "online"), required=True)
    added.add_argument("--seeds", type=whole(0, SEEDS), nargs="+", metavar="N", help="default: all of the scale")
    for name in ("pretrain", "train"):
        known.choices[name].add_argument("--time-limit", default="auto", metavar="TIME", help=TIME_LIMIT)
        known.choices[name].add_argument("--profile", action="store_true", help=PROFILE)
        known.choices[name].add_argument("--profile-folder", **FOLDER, help="the same, to FOLDER")
    added = command(commands.plan)
    added.add_argument("--cores", type=whole(1, 10**6), metavar="N", help="default: those of this machine")
    added.add_argument("--save", action="store_true", help="keep in results/SCALE/resources.json what jobs ask for")
    added.add_argument("--longest", type=whole(1, MANY), metavar="HOURS", help="that a job may take, with --save")
    command(commands.status)
    bench.add_to(command(commands.bench))
    added = command(commands.doctor)
    added.add_argument("--clear", action="store_true", help="remove stale locks and files that no live process holds")
    added = command(commands.clean)
    added.add_argument("name", nargs="?", help="a task, or a domain for its pretraining")
    added.add_argument("method", nargs="?")
    added.add_argument("--seed", type=whole(0, SEEDS), help="default: all")
    added.add_argument("--outdated", action="store_true", help="all of other values, code, versions or data")
    added.add_argument("--yes", action="store_true", help="delete without asking")
    added = command(commands.evaluate)
    added.set_defaults(configured=False)  # a run carries its own configuration
    added.add_argument("run", type=path, help="a folder: results/SCALE/TASK/METHOD/seedN, or .../pretrained/DOMAIN")
    added.add_argument("--stage", choices=("offline", "online"), help="default: the last that the run has")
    added.add_argument("--task", help="of a pretrained DOMAIN's cloned policy")
    added.add_argument(
        "--flow-steps", type=whole(2, MANY), metavar="K", help="of a cloned policy; default: the scale's"
    )
    added.add_argument("--episodes", type=whole(1, 10**6), default=10, metavar="N", help="default: %(default)s")
    added.add_argument("--seed", type=whole(0, SEEDS), default=0, help="of the episodes (default: %(default)s)")
    added.add_argument("--data", **FOLDER, help="the dataset, or what holds it; default: the scale's data_dir")
    added.add_argument("--video", **FILE, help="film the first three episodes as FILE.mp4 or FILE.gif")
    added = command(commands.rollouts)
    added.add_argument("task")
    added = command(commands.collect)
    added.add_argument("--mixed", action="store_true", help="accept and mark runs that do not belong together")
    added = command(commands.render)
    kinds = ("figure", "table", "claims", "per_task", "curves", "compute", "facts", "theory", "toy", "pdf", "html")
    added.add_argument("what", choices=kinds)
    added.add_argument("name", nargs="?", help="of the figure or table")
    added = command(commands.archive)
    added.add_argument("--out", **FILE, help="default: results/SCALE/trqam-SCALE.zip")
    added = command(commands.rebuild)
    added.set_defaults(configured=False)  # the archive carries the configuration
    added.add_argument("archive", type=path, help="a file that `trqam archive` wrote")
    added.add_argument("--out", **FOLDER, help="default: results/SCALE-rebuilt")
    added = command(commands.import_)
    added.add_argument(
        "file", type=path, help="a pickle of one dict {(task or domain or 'all', method): (evaluations, seeds)}"
    )
    added.add_argument("--as", dest="name", required=True, metavar="NAME", help="of the source, as the report names it")
    added.add_argument(
        "--steps-from", type=whole(0, MOST), metavar="STEP", help="of the first row (default: by the rows)"
    )
    added.add_argument("--every", type=whole(1, MOST), default=50_000, metavar="N", help="steps (default: %(default)s)")
    added.add_argument("--unit", choices=("per-cent", "fraction"), help="of success (default: by the highest value)")
    added.add_argument(
        "--protocol", default="", metavar="TEXT", help="how the curves were made, as the report prints it"
    )
    added.add_argument("--force", action="store_true", help="replace the curves of another file under this name")
    added = command(commands.golden)
    added.add_argument("file", type=path)
    added.add_argument("--tolerance", type=real(MOST), default=1e-9)
    for name, added in known.choices.items():
        if name != "rebuild":
            group = added.add_argument_group("configuration, here or before the command")
            group.add_argument("--config", dest="config_after", **FILE, help="scale file")
            group.add_argument("--set", dest="set_after", action="append", default=[], metavar="KEY=VALUE")
    return top


def parsed(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; of what stands before the command and after it, what comes later counts."""
    arguments = parser().parse_args(words)
    arguments.config = getattr(arguments, "config_after", None) or arguments.config
    arguments.set = [*arguments.set, *getattr(arguments, "set_after", [])]
    return arguments


def main() -> None:
    """Runs one command; a mistake of the user's is one line on stderr."""
    sys.stdout, sys.stderr = listing(sys.stdout), tolerant(sys.stderr)
    try:
        arguments = parsed()
        if getattr(arguments, "configured", True):
            arguments.function(arguments, commands.configured(arguments))
        else:
            arguments.function(arguments)
        sys.stdout.flush()
    except (UserError, Stopped) as ended:
        print(f"trqam: {'error: ' * isinstance(ended, UserError)}{ended}", file=sys.stderr)
        sys.exit(ended.exit_code)
    except ModuleNotFoundError as error:
        installed.end(error)
    except OSError as error:  # of a file that nobody guarded
        if not error.filename:
            raise
        print(f"trqam: error: {error.filename}: {error.strerror}; mend that and run it again", file=sys.stderr)
        sys.exit(UserError.exit_code)
    except KeyboardInterrupt:
        print("trqam: interrupted; run the same command to go on from the last checkpoint", file=sys.stderr)
        sys.exit(130)
    except Unread as unread:
        sys.exit(unread.exit_code)
    finally:
        with suppress(Unread, UserError):
            sys.stdout.flush()


if __name__ == "__main__":
    main()
