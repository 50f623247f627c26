"""What each command does: it reads its arguments, and calls the package.

Every import of weight is inside its command, so that all start fast.
"""

import shutil
import sys
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trqam.config.command_line import from_command
from trqam.config.errors import UserError
from trqam.config.load import Config

if TYPE_CHECKING:
    from trqam.data.fetch import Wanted
    from trqam.training.profiling import Request


def generate(arguments: Namespace, config: Config) -> None:
    """Make a dataset on the spot, going on where an interrupted call stopped."""
    from trqam.data.card import describe
    from trqam.data.generate import check_name, generate

    check_name(arguments.dataset, config.domains)
    directory = arguments.out or config.data_directory(arguments.dataset)
    transitions = arguments.transitions or config.scale.transitions
    seed = config.scale.data_seed if arguments.seed is None else arguments.seed
    card = generate(arguments.dataset, directory, transitions, seed, _workers(arguments))
    print(describe(card, directory))


def fetch(arguments: Namespace, config: Config) -> None:
    """Download the official files of datasets, or verify those that are there."""
    from trqam.data.fetch import fetch, is_offline, official_files

    for dataset in arguments.datasets:
        card, files = None, official_files(dataset, _official(config), arguments.mirrors)
        try:
            card = _stored(dataset, config.data_directory(dataset), files)
        except UserError as error:  # of other data, which these files do not replace; or damaged
            if not (arguments.offline or is_offline()):
                print(f"trqam: warning: {error}", file=sys.stderr)
        if card is None:
            fetch(dataset, _official(config), arguments.mirrors, arguments.offline)


def convert(arguments: Namespace, config: Config) -> None:
    """Store official npz files, fetched or placed by hand."""
    from trqam.data.card import describe
    from trqam.data.convert import convert
    from trqam.data.fetch import official_files, placed

    directory = arguments.out or config.data_directory(arguments.dataset)
    paths = [path for path in arguments.files if not path.name.endswith("-val.npz")]
    if arguments.files and not paths:
        raise UserError(f"{arguments.files[0]}: holds no training data; name the file without -val")
    card = None
    if not paths:
        files = official_files(arguments.dataset, _official(config), arguments.mirrors)
        card = _stored(arguments.dataset, directory, files)
    if card is None:
        paths = paths or placed(arguments.dataset, _official(config), arguments.mirrors)
        card = convert(arguments.dataset, paths, directory, _workers(arguments))
    print(describe(card, directory))
    if arguments.delete_npz and paths:  # the store is complete and on disk
        for path in paths:
            path.unlink()
        print(f"{directory}: stored; deleted {len(paths)} npz file(s)", file=sys.stderr)


def _stored(dataset: str, directory: Path, files: "list[Wanted]") -> dict[str, Any] | None:
    """The card of the store in ``directory`` if its official ``files`` are not all here and need not be."""
    from trqam.data.convert import stored

    if not directory.is_dir() or all(file.path.is_file() for file in files):
        return None
    card = stored(dataset, directory, [file.path.name for file in files])
    if card:
        print(f"{directory}: is stored, verified; its npz files are not needed any more", file=sys.stderr)
    return card


def _workers(arguments: Namespace) -> int:
    """As many processes as asked for and as this one may have cores."""
    from trqam.environments.processes import cores

    if arguments.workers > cores():
        print(f"--workers {arguments.workers}: {cores()} cores may be used; taking {cores()}", file=sys.stderr)
    return min(arguments.workers, cores())


def _official(config: Config) -> Path:
    """Where official npz files are."""
    return Path(config.scale.data_dir) / "official"


def pretrain(arguments: Namespace, config: Config) -> None:
    """Behaviour cloning of a domain."""
    from trqam.experiment.run import pretraining_cell, refuse_lone

    config.pretraining(arguments.domain)
    refuse_lone(pretraining_cell(config, arguments.domain), "pretrain")
    from trqam.training.stop import listening

    with listening(arguments.time_limit) as stop:
        from trqam.training.blocks import pretrain

        pretrain(config, arguments.domain, stop, _profile(arguments))


def train(arguments: Namespace, config: Config) -> None:
    """Fine-tune some seeds of one task and method."""
    from trqam.experiment.run import cell_of, refuse_lone
    from trqam.training.stop import listening

    seeds = arguments.seeds if arguments.seeds is not None else list(range(config.scale.seeds))
    if doubled := [seed for seed in seeds if seeds.count(seed) > 1]:
        raise UserError(f"--seeds: {doubled[0]} is given twice; name each seed once")
    config.run(arguments.task, arguments.method)
    for seed in seeds:
        refuse_lone(cell_of(config, arguments.task, arguments.method, seed), arguments.stage)
    with listening(arguments.time_limit) as stop:
        from trqam.training.blocks import train

        train(config, arguments.task, arguments.method, arguments.stage, seeds, stop, _profile(arguments))


def _profile(arguments: Namespace) -> "Request | None":
    """What was asked for by --profile and --profile-folder."""
    from trqam.training.profiling import Request

    wanted = arguments.profile or arguments.profile_folder
    return Request(arguments.profile_folder) if wanted else None


def plan(arguments: Namespace, config: Config) -> None:
    """Say what a configuration will cost: jobs, steps, disk, memory, hours."""
    from trqam.experiment.resources import refuse_foreign_file, save
    from trqam.operations.plan import measure, plan, requests

    if arguments.save:
        refuse_foreign_file(config)
    costs = measure(config)
    print("\n".join(plan(config, arguments.cores, costs)))
    if arguments.save:
        print("\n".join(save(config, requests(config, costs, arguments.longest and 60 * arguments.longest))))


def status(arguments: Namespace, config: Config) -> None:
    """Show what is done, running, waiting and diverged, how fast, until when, and what to do next."""
    from trqam.operations.status import status

    width = min(max(shutil.get_terminal_size((100, 0)).columns, 80), 120)
    print("\n".join(status(config, arguments.set, width if sys.stdout.isatty() else 10**6)))  # a line an item, for grep


def bench(arguments: Namespace, config: Config) -> None:
    """Measure speed on this machine, print a table and save it as JSON."""
    from trqam.operations.bench import run

    run(arguments, config)


def doctor(arguments: Namespace, config: Config) -> None:
    """Check all that a run needs; exit code 1 if something would stop it."""
    from trqam.operations.doctor import FAIL, examine

    failed = False
    for finding in examine(config, arguments.clear):
        failed |= finding.verdict == FAIL
        print(finding, flush=True)
    sys.exit(failed)


def clean(arguments: Namespace, config: Config) -> None:
    """Delete runs, so that they train anew: of a task and method, a domain's pretraining, or all that are outdated."""
    from trqam.operations import cleaning

    if arguments.outdated:
        if arguments.name is not None:
            raise UserError("clean --outdated: takes no name; leave it out, or leave out --outdated")
        return cleaning.clean_outdated(config, arguments.yes)
    if arguments.name is None:
        raise UserError("clean: the name is missing; give a task and method, a domain, or --outdated")
    if arguments.method is None:
        return cleaning.clean_pretraining(config, arguments.name, arguments.yes)
    cleaning.clean_runs(config, arguments.name, arguments.method, arguments.seed, arguments.yes)


def evaluate(arguments: Namespace) -> None:
    """Evaluate a run's policy on new episodes, and film it."""
    from trqam.operations.rollouts import camera

    video, trouble, flow_steps = arguments.video, None, arguments.flow_steps
    if video:
        camera.check_format(video)
        trouble = camera.prepare()  # before anything imports an environment
    from trqam.config.wording import count
    from trqam.operations.rollouts import saved_policy

    if flow_steps is None and arguments.task and (arguments.run / "run" / "pretrain").is_dir():
        flow_steps = configured(arguments).scale.flow_steps
    data = arguments.data
    if data is None and Path(arguments.config).is_file():
        scale = configured(arguments).scale
        data = Path(scale.data_dir) if scale.scale in arguments.run.absolute().parts[-4:-2] else None
    policy = saved_policy.load(arguments.run, arguments.stage, arguments.task, flow_steps, data)
    episodes = saved_policy.evaluate(policy, arguments.episodes, arguments.seed)
    print(saved_policy.report(saved_policy.summary(policy, episodes, arguments.seed)))
    if trouble:
        raise UserError(f"{trouble}; the numbers above stand")
    if video:
        shown = episodes[: camera.FILMED]
        print(f"filming {count(len(shown), 'episode')} for {video}: some five seconds each", file=sys.stderr)
        camera.film(policy, shown, video)


def rollouts(arguments: Namespace, config: Config) -> None:
    """Draw an episode of behaviour cloning and of TRQAM on a task as film strips."""
    from trqam.experiment import checkpoint
    from trqam.experiment.run import cell_of
    from trqam.operations.rollouts import camera
    from trqam.report.selection import STRIP_METHODS, STRIP_SEED

    for method in STRIP_METHODS:  # before seconds of imports, and of a try whether anything renders
        config.run(arguments.task, method)
        directory = cell_of(config, arguments.task, method, STRIP_SEED).directory(config.stages(method)[-1])
        for step in checkpoint.recorded(directory)[:1]:
            checkpoint.Checkpoints(directory).record(step)
    trouble = camera.prepare()  # before anything imports an environment
    if trouble:
        print(f"trqam: warning: {trouble}; everything else goes on", file=sys.stderr)
    from trqam.operations.rollouts import film_strip

    film_strip.make(config, arguments.task, config.results / "paper" / "rollouts", trouble)


def collect(arguments: Namespace, config: Config) -> None:
    """Gather all runs into tidy tables."""
    from trqam.report.collect import collect

    collect(config, config.results / "paper", arguments.mixed or config.scale.mixed)


def render(arguments: Namespace, config: Config) -> None:
    """Draw a figure, or write a table, the verdicts, a csv of results, the facts, the PDF or the HTML report."""
    from trqam.report.build import Build

    make = getattr(Build(config, config.results / "paper"), arguments.what)
    if arguments.what in ("figure", "table"):
        if arguments.name is None:
            raise UserError(f"render {arguments.what}: the name is missing; `snakemake -n paper` lists them")
        make(arguments.name)
    else:
        make()


def archive(arguments: Namespace, config: Config) -> None:
    """Pack all that the paper is made of, without checkpoints, into one file."""
    from trqam.report.archive import pack

    out = arguments.out or config.results / f"trqam-{config.scale.scale}.zip"
    print(pack(config, config.results / "paper", out))


def rebuild(arguments: Namespace) -> None:
    """Make the paper of an archive anew: no training, no GPU, no network."""
    from trqam.report.archive import rebuild

    print(*rebuild(arguments.archive, arguments.out), sep="\n")


def import_(arguments: Namespace, config: Config) -> None:
    """Read published curves from a pickle, running nothing that it says, into data/imported."""
    from trqam.report.importing import described, import_curves

    given = {"first": arguments.steps_from, "every": arguments.every, "unit": arguments.unit}
    given |= {"protocol": arguments.protocol, "force": arguments.force}
    print("\n".join(described(import_curves(config, arguments.file, arguments.name, **given))))


def golden(arguments: Namespace, config: Config) -> None:
    """Compare with a file of reference numbers."""
    from trqam.operations.golden.compare import compare

    differences = compare(arguments.file)
    for name, difference in differences.items():
        print(f"{name:32s} {difference:.2e}")
    if worst := [name for name, difference in differences.items() if not difference <= arguments.tolerance]:
        print(f"{arguments.file}: {', '.join(worst)} beyond {arguments.tolerance:g}", file=sys.stderr)
        sys.exit(1)


def configured(arguments: Namespace) -> Config:
    """The scale that the command line names, with its changes."""
    return from_command(arguments.config, arguments.set)
