# Reads the configuration through the same typed schema as every command does, and derives what the rules need from it.

import getpass
import os
import re
import shlex
import sys
from pathlib import Path

import msgspec

sys.path.insert(0, str(Path(workflow.basedir).parent))

from trqam.config import command_line
from trqam.config.load import domain_of
from trqam.operations import cleaning
from trqam.experiment import resources as requested
from trqam.report.collect import outdated_stamp
from trqam.experiment import verdict
from trqam.config.errors import UserError


def read_configuration():
    """The configuration that this command line of Snakemake's means, and how one of `trqam` says the same."""
    loaded, options = command_line.from_snakemake(
        workflow.overwrite_configfiles, workflow.config_settings.config_args
    )
    return loaded, shlex.join(options)


try:
    CONFIG, CONFIG_OPTIONS = read_configuration()
    REQUESTS = requested.load(CONFIG)  # read once, not by every job's functions
except UserError as error:
    print(f"trqam: error: {error}", file=sys.stderr)
    sys.exit(error.exit_code)

# By the one process that runs the jobs, not by theirs; a dry run looks, and changes nothing.
DRY = re.compile("-[A-Za-z]*n[A-Za-z]*|--dry-?r(un|u)?")  # -np, too
if workflow.is_main_process and not any(map(DRY.fullmatch, sys.argv)):
    cleaning.guard(Path())

# Snakemake asks for a name, which a container's user may not have.
try:
    getpass.getuser()
except (KeyError, OSError):
    os.environ.update(LOGNAME="nobody")

TRQAM = f"python -m trqam {CONFIG_OPTIONS}"
RESULTS = str(CONFIG.results)
PAPER = f"{RESULTS}/paper"
LOGS = f"{RESULTS}/logs"
BENCHMARKS = (
    f"{RESULTS}/benchmarks"  # seconds and memory of each job, which nothing reads back
)
GPUS = 0 if CONFIG.scale.device == "cpu" else 1  # of a job that trains
SEEDS = range(CONFIG.scale.seeds)
BLOCKS = [
    list(SEEDS[first : first + CONFIG.scale.seeds_per_job])
    for first in range(0, CONFIG.scale.seeds, CONFIG.scale.seeds_per_job)
]
TASKS = "|".join(map(re.escape, CONFIG.tasks))
METHODS = "|".join(map(re.escape, [*CONFIG.compared, *CONFIG.ablated]))


wildcard_constraints:
    task=TASKS,
    domain="|".join(CONFIG.task_domains),
    cloned="|".join(map(re.escape, CONFIG.pretrainings)),
    method=METHODS,


def card_of(domain):
    """The declared output of a dataset: its card, written last."""
    return str(CONFIG.data_directory(domain) / "card.json")


def published():
    """Metrics and manifests of every stage of every seed."""
    return [
        f"{RESULTS}/{task}/{method}/seed{seed}/{stage}.{kind}"
        for task, method in CONFIG.cells
        for stage in CONFIG.stages(method)
        for seed in SEEDS
        for kind in ("csv", "json")
    ]


def begun_from():
    """What runs began from: the data, and where a method needs it the cloned policy with its manifest."""
    cloned = dict.fromkeys(
        CONFIG.run(task, method).cloned
        for task, method in CONFIG.cells
        if "pretrain" in CONFIG.methods[method].stages
    )
    policies = [
        f"{RESULTS}/pretrained/{policy}/{name}"
        for policy in cloned
        for name in ("pretrain.json", "base.safetensors")
    ]
    return [*map(card_of, CONFIG.task_domains), *policies]


def checked(check, *arguments):
    """What a check returns; its mistake ends Snakemake in one line, before its first job.

    Only where jobs are to be run or planned: what only looks, such as `--summary`, is not kept from it.
    """
    if workflow.executor_plugin is None:
        return None
    try:
        return check(*arguments)
    except UserError as error:
        print(f"trqam: error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def begins_from(stage, seeds):
    """For `input`: the dataset, the behaviour-cloned field where the method starts from it, and the stage before.

    All are ancient: training begins after them, but what is trained is not trained again because they are newer.
    """

    def needed(wildcards):
        task, method = wildcards.task, wildcards.method
        checked(verdict.check_before, CONFIG, task, method, stage, seeds)
        domain = domain_of(task)
        files = [card_of(domain)]
        if "pretrain" in CONFIG.methods[method].stages:
            cloned = CONFIG.run(task, method).cloned
            files.append(f"{RESULTS}/pretrained/{cloned}/base.safetensors")
        if stage == "online":
            files += [
                f"{RESULTS}/{task}/{method}/seed{seed}/offline.csv" for seed in seeds
            ]
        return list(map(ancient, files))

    return needed


# What a job asks a cluster for; on one machine these bind nothing. They depend on the rule and the attempt alone, not on
# the wildcards: SLURM's executor asks for a whole job array what the first of its jobs needs.


def runtime(kind):
    """Minutes of a job of this kind, for `resources`."""
    return lambda wildcards, attempt: REQUESTS.runtime(kind, attempt)


def memory(kind):
    """Megabytes of a job of this kind, for `resources`."""
    return lambda wildcards, attempt: REQUESTS.mem_mb(kind, attempt)


def shown(path, category, caption, **labels):
    """For `output`: a file that `snakemake --report` shows, with the words of workflow/report/CAPTION.rst."""
    words = f"../report/{caption}.rst"
    return report(path, caption=words, category=category, labels=labels)


def templates(*names):
    """The templates of these names."""
    return [f"paper/templates/{name}.j2" for name in names]


def figure(name):
    """Of a figure: what `report` shows, and the picture of the page."""
    path = f"{PAPER}/figures/{name}"
    return [shown(f"{path}.pdf", "Figures", "figure", figure=name), f"{path}.png"]


def asked_for(wildcards):
    """A file that is newer than what was collected, if that is not what would be collected now.

    Before anything trains, it is said here in one line if a run is damaged, or of another configuration or code.
    """
    parts = checked(verdict.check_everything, CONFIG)
    return outdated_stamp(CONFIG, Path(PAPER), parts) if parts else []
