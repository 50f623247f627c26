"""The command line: parsing only. Every command works alone; Snakemake's rules call the same ones."""

import argparse
import json
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

# One thread a process: two on a busy two-core machine are many times slower, and Snakemake counts a process as a core.
for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

from trqam import config as configuration  # noqa: E402
from trqam.arguments import SEEDS, Parser, tolerance, whole  # noqa: E402
from trqam.bench import options as bench_options  # noqa: E402
from trqam.errors import Stopped, UserError  # noqa: E402
from trqam.log import tolerant  # noqa: E402

if TYPE_CHECKING:
    from trqam.profiling import Request

PROFILE = "trace 20 steps, unchanged, into run/ of the first seed's folder, and say in ten lines where the time goes"
TIME_LIMIT = "save and exit with code 85 before 30m, 2h, seconds, slurm or none; auto: slurm in a job (default)"


def generate(arguments: argparse.Namespace, config: configuration.Config) -> None:
    """Make a dataset on the spot, going on where an interrupted call stopped."""
    from trqam.data.card import describe
    from trqam.data.generate import generate

    directory = Path(arguments.out) if arguments.out else config.data_directory(arguments.dataset)
    transitions = arguments.transitions or config.scale.transitions
    seed = config.scale.data_seed if arguments.seed is None else arguments.seed
    card = generate(arguments.dataset, directory, transitions, seed, _workers(arguments))
    print(describe(card, directory))


def fetch(arguments: argparse.Namespace, config: configuration.Config) -> None:
    """Download the official files of datasets, or verify those that are there."""
    from trqam.data.fetch import fetch

    for dataset in arguments.datasets:
        fetch(dataset, _official(config), arguments.mirrors, arguments.offline)


def convert(arguments: argparse.Namespace, config: configuration.Config) -> None:
    """Store official npz files, fetched or placed by hand."""
    from trqam.data.card import describe
    from trqam.data.convert import convert
    from trqam.data.fetch import placed

    directory = Path(arguments.out) if arguments.out else config.data_directory(arguments.dataset)
    paths = [Path(path) for path in arguments.files if not path.endswith("-val.npz")]
    paths = paths or placed(arguments.dataset, _official(config), arguments.mirrors)
    card = convert(arguments.dataset, paths, directory, _workers(arguments))
    print(describe(card, directory))
    if arguments.delete_npz:  # the store is complete and on disk
        for path in paths:
            path.unlink()
        print(f"{directory}: stored; deleted {len(paths)} npz file(s)", file=sys.stderr)


def _workers(arguments: argparse.Namespace) -> int:
    """As many processes as asked for and as this one may have cores."""
    from trqam.data.workers import cores

    if arguments.workers > cores():
        print(f"--workers {arguments.workers}: {cores()} cores may be used; taking {cores()}", file=sys.stderr)
    return min(arguments.workers, cores())


def _official(config: configuration.Config) -> Path:
    """Where official npz files are."""
    return Path(config.scale.data_dir) / "official"


def pretrain(arguments: argparse.Namespace, config: configuration.Config) -> None:
    """Behaviour cloning of a domain."""
    from trqam.stop import listening

    with listening(arguments.time_limit) as stop:
        from trqam.training import pretrain

        pretrain(config, arguments.domain, stop, _profile(arguments))


def train(arguments: argparse.Namespace, config: configuration.Config) -> None:
    """Fine-tune some seeds of one task and method."""
    from trqam.stop import listening

    seeds = arguments.seeds if arguments.seeds is not None else list(range(config.scale.seeds))
    if doubled := [seed for seed in seeds if seeds.count(seed) > 1]:
        raise UserError(f"--seeds: {doubled[0]} is given twice; name each seed once")
    with listening(arguments.time_limit) as stop:
        from trqam.training import train

        train(config, arguments.task, arguments.method, arguments.stage, seeds, stop, _profile(arguments))


def _profile(arguments: argparse.Namespace) -> "Request | None":
    """What was asked for by --profile and --profile-folder."""
    from trqam.profiling import Request

    wanted = arguments.profile or arguments.profile_folder
    return Request(arguments.profile_folder) if wanted else None


def plan(arguments: argparse.Namespace, config: configuration.Config) -> None:
    """Say what a configuration will cost: jobs, steps, disk, memory, hours."""
    from trqam.plan import measure, plan, requests
    from trqam.resources import save

    costs = measure(config)
    print("\n".join(plan(config, arguments.cores, costs)))
    if arguments.save:
        print("\n".join(save(config, requests(config, costs, arguments.longest and 60 * arguments.longest))))


def status(arguments: argparse.Namespace, config: configuration.Config) -> None:
    """Show what is done, running, waiting and diverged, how fast, until when, and what to do next."""
    from trqam.status import status

    width = min(max(shutil.get_terminal_size((100, 0)).columns, 80), 120)
    print("\n".join(status(config, arguments.set, width)))


def bench(arguments: argparse.Namespace, config: configuration.Config) -> None:
    """Measure speed on this machine, print a table and save it as JSON."""
    from trqam.bench import command

    command.run(arguments, config)


def doctor(arguments: argparse.Namespace, config: configuration.Config) -> None:
    """Check all that a run needs; exit code 1 if something would stop it."""
    from trqam.doctor import FAIL, examine

    failed = False
    for finding in examine(config, arguments.clear):
        failed |= finding.verdict == FAIL
        print(f"{finding.verdict:5} {finding.name:12} {finding.text}", flush=True)
    sys.exit(failed)


def clean(arguments: argparse.Namespace, config: configuration.Config) -> None:
    """Delete runs, so that they train anew."""
    from trqam.runs import Cell, cell_of, locked, pretraining_cell

    if arguments.method is None:
        config.pretraining(arguments.name)
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


def evaluate(arguments: argparse.Namespace) -> None:
    """Evaluate a run's policy on new episodes, and film it."""
    from trqam import rendering

    video, trouble, flow_steps = arguments.video, None, arguments.flow_steps
    if video:
        rendering.check_format(video)
        trouble = rendering.prepare()  # before anything imports an environment
    from trqam import kept, rollouts

    if flow_steps is None and arguments.task and (arguments.run / "run" / "pretrain").is_dir():
        flow_steps = _configuration(arguments).scale.flow_steps
    policy = kept.load(arguments.run, arguments.stage, arguments.task, flow_steps, arguments.data)
    episodes = rollouts.evaluate(policy, arguments.episodes, arguments.seed)
    summary = rollouts.summary(policy, episodes, arguments.seed)
    print(json.dumps(summary, indent=1) if arguments.json else rollouts.report(summary))
    if trouble:
        raise UserError(f"{trouble}; the numbers above stand")
    if video:
        rollouts.film(policy, episodes[: arguments.filmed], arguments.seed, video)


def rollouts(arguments: argparse.Namespace, config: configuration.Config) -> None:
    """Draw an episode of behaviour cloning and of TRQAM on a task as film strips."""
    from trqam import rendering

    trouble = rendering.prepare()  # before anything imports an environment
    if trouble:
        print(f"trqam: warning: {trouble}; everything else goes on", file=sys.stderr)
    from trqam import strips

    strips.make(config, arguments.task, _folder(arguments, config) / "rollouts", trouble)


def collect(arguments: argparse.Namespace, config: configuration.Config) -> None:
    """Gather all runs into tidy tables."""
    from trqam.results import collect

    collect(config, _folder(arguments, config), arguments.mixed or config.scale.mixed)


def render(arguments: argparse.Namespace, config: configuration.Config) -> None:
    """Draw a figure, or write a table, the verdicts on the claims, the facts, the PDF or the HTML report."""
    from trqam.report.build import Build

    make = getattr(Build(config, _folder(arguments, config)), arguments.what)
    if arguments.what in ("figure", "table"):
        if arguments.name is None:
            raise UserError(f"render {arguments.what}: the name is missing; `snakemake -n paper` lists them")
        make(arguments.name)
    else:
        make()


def archive(arguments: argparse.Namespace, config: configuration.Config) -> None:
    """Pack all that the paper is made of, without checkpoints, into one file."""
    from trqam.archive import pack

    out = arguments.out or config.results / f"trqam-{config.scale.scale}.zip"
    print(pack(config, _folder(arguments, config), out))


def rebuild(arguments: argparse.Namespace) -> None:
    """Make the paper of an archive anew: no training, no GPU, no network."""
    from trqam.rebuild import rebuild

    print(*rebuild(arguments.archive, arguments.out), sep="\n")


def import_(arguments: argparse.Namespace, config: configuration.Config) -> None:
    """Read published curves from a pickle, running nothing that it says, into data/imported."""
    from trqam import published

    steps = {"first": arguments.steps_from, "every": arguments.every}
    record = published.import_curves(config, arguments.file, arguments.name, **steps, force=arguments.force)
    print("\n".join(published.described(record)))


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
        name = function.__name__.rstrip("_")  # `import` is a word of Python's
        added = commands.add_parser(name, help=function.__doc__, description=function.__doc__, **options)
        added.set_defaults(function=function)
        return added

    for function in (generate, convert):
        added = command(function)
        added.add_argument("dataset", help="such as cube-double-play")
        added.add_argument("--out", metavar="FOLDER", help="default: the scale's data_dir")
        added.add_argument("--workers", type=whole(1), default=1, metavar="N", help="processes (default: 1)")
    added.add_argument("files", nargs="*", help="npz files (default: in data_dir/official, all that the dataset has)")
    added.add_argument("--delete-npz", action="store_true", help="delete the npz files once they are stored")
    added.add_argument("--mirrors", default="config/mirrors.yaml", metavar="FILE", help="default: %(default)s")
    added = command(fetch)
    added.add_argument("datasets", nargs="+", metavar="dataset", help="such as cube-double-play; to data_dir/official")
    added.add_argument("--offline", action="store_true", help="only verify, and name what is missing (TRQAM_OFFLINE=1)")
    added.add_argument("--mirrors", default="config/mirrors.yaml", metavar="FILE", help="default: %(default)s")
    added = commands.choices["generate"]
    added.add_argument("--transitions", type=whole(1, 10**9), metavar="N", help="default: the scale's")
    added.add_argument("--seed", type=whole(0, SEEDS), help="default: the scale's data_seed")
    added = command(pretrain)
    added.add_argument("domain")
    added = command(train)
    added.add_argument("task")
    added.add_argument("method")
    added.add_argument("--stage", choices=("offline", "online"), required=True)
    added.add_argument("--seeds", type=whole(0, SEEDS), nargs="+", metavar="N", help="default: all of the scale")
    for name in ("pretrain", "train"):
        commands.choices[name].add_argument("--time-limit", default="auto", metavar="TIME", help=TIME_LIMIT)
        commands.choices[name].add_argument("--profile", action="store_true", help=PROFILE)
        commands.choices[name].add_argument("--profile-folder", type=Path, metavar="FOLDER", help="the same, to FOLDER")
    added = command(plan)
    added.add_argument("--cores", type=whole(1), metavar="N", help="default: those of this machine")
    added.add_argument("--save", action="store_true", help="keep in results/SCALE/resources.json what jobs ask for")
    added.add_argument("--longest", type=whole(1), metavar="HOURS", help="that the cluster allows a job, with --save")
    command(status)
    bench_options.add_to(command(bench))
    added = command(doctor)
    added.add_argument("--clear", action="store_true", help="remove stale locks and files that no live process holds")
    added = command(clean)
    added.add_argument("name", help="a task, or a domain for its pretraining")
    added.add_argument("method", nargs="?")
    added.add_argument("--seed", type=whole(0, SEEDS), help="default: all")
    added = command(evaluate)
    added.set_defaults(configured=False)  # a run carries its own configuration
    added.add_argument("run", type=Path, help="a folder: results/SCALE/TASK/METHOD/seedN, or .../pretrained/DOMAIN")
    added.add_argument("--stage", choices=("offline", "online"), help="default: the last that the run has")
    added.add_argument("--task", help="of a pretrained DOMAIN's cloned policy")
    added.add_argument("--flow-steps", type=whole(2), metavar="K", help="of a cloned policy; default: the scale's")
    added.add_argument("--episodes", type=whole(1), default=10, metavar="N", help="default: %(default)s")
    added.add_argument("--seed", type=whole(0, SEEDS), default=0, help="of the episodes (default: %(default)s)")
    added.add_argument(
        "--data", type=Path, metavar="FOLDER", help="of the datasets; default: data/SCALE by the results"
    )
    added.add_argument("--video", type=Path, metavar="FILE", help="film the first episodes as FILE.mp4 or FILE.gif")
    added.add_argument("--filmed", type=whole(1), default=3, metavar="N", help="how many (default: %(default)s)")
    added.add_argument("--json", action="store_true", help="print JSON, with every episode's outcome")
    added = command(rollouts)
    added.add_argument("task")
    added.add_argument("--folder", help="writes to FOLDER/rollouts (default: results/SCALE/paper)")
    added = command(collect)
    added.add_argument("--mixed", action="store_true", help="accept and mark runs that do not belong together")
    added.add_argument("--folder", help="default: results/SCALE/paper")
    added = command(render)
    added.add_argument("what", choices=("figure", "table", "claims", "facts", "theory", "pdf", "html"))
    added.add_argument("name", nargs="?", help="of the figure or table")
    added.add_argument("--folder", help="where `trqam collect` wrote to (default: results/SCALE/paper)")
    added = command(archive)
    added.add_argument("--out", type=Path, metavar="FILE", help="default: results/SCALE/trqam-SCALE.zip")
    added.add_argument("--folder", help="where `trqam collect` wrote to (default: results/SCALE/paper)")
    added = command(rebuild)
    added.set_defaults(configured=False)  # the archive carries the configuration
    added.add_argument("archive", type=Path, help="a file that `trqam archive` wrote")
    added.add_argument("--out", type=Path, metavar="FOLDER", help="default: results/SCALE-rebuilt")
    added = command(import_)
    added.add_argument("file", help="a pickle of one dict {(task, domain or 'all', method): (evaluations, seeds)}")
    added.add_argument("--as", dest="name", required=True, metavar="NAME", help="of the source, as the report names it")
    added.add_argument("--steps-from", type=whole(0), metavar="STEP", help="of the first row (default: by the rows)")
    added.add_argument("--every", type=whole(1), default=50_000, metavar="N", help="steps (default: %(default)s)")
    added.add_argument("--force", action="store_true", help="replace the curves of another file under this name")
    added = command(golden)
    added.add_argument("file")
    added.add_argument("--tolerance", type=tolerance, default=1e-9)
    return top


def _configuration(arguments: argparse.Namespace) -> configuration.Config:
    """The scale that the command line names, with its changes."""
    overrides = dict(configuration.parse_override(text) for text in arguments.set)
    return configuration.load(arguments.config, overrides)


def main() -> None:
    """Runs one command; a mistake of the user's is one line on stderr."""
    sys.stderr = tolerant(sys.stderr)
    arguments = parser().parse_args()
    try:
        if getattr(arguments, "configured", True):
            arguments.function(arguments, _configuration(arguments))
        else:
            arguments.function(arguments)
    except UserError as error:
        print(f"trqam: error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except Stopped as stopped:
        print(f"trqam: {stopped}", file=sys.stderr)
        sys.exit(stopped.exit_code)
    except KeyboardInterrupt:
        print("trqam: interrupted; run the same command to go on from the last checkpoint", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
