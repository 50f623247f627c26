"""Deleting runs, so that they train anew; says what goes, and asks before it deletes what others depend on."""

import shutil
import sys
from pathlib import Path

from trqam.config.errors import UserError
from trqam.config.load import Config, domain_of
from trqam.config.wording import count, thousands
from trqam.experiment import verdict
from trqam.experiment.files import writing
from trqam.experiment.folder import Cell, cell_of, pretraining_cell, refuse_strangers
from trqam.experiment.run import locked


def clean_runs(config: Config, task: str, method: str, seed: int | None, yes: bool) -> None:
    """Deletes the runs of a task and method, all of the scale's seeds or one; on a terminal it asks first."""
    config.run(task, method)
    seeds = range(config.scale.seeds) if seed is None else [seed]
    cells = [cell_of(config, task, method, seed) for seed in seeds]
    for cell in cells:  # before any goes
        refuse_strangers(cell)
    if (there := [cell.path for cell in cells if cell.path.exists()]) and sys.stdin.isatty() and not yes:
        print(*there, sep="\n")
        _ask()
    for cell in cells:
        _delete_cell(cell)


def clean_pretraining(config: Config, domain: str, yes: bool) -> None:
    """Deletes the cloned policy of a domain; on a terminal it asks first, if runs began from it."""
    config.pretraining(domain)
    cell = pretraining_cell(config, domain)
    users = [(task, method) for task, method in config.cells if domain_of(task) == domain]
    users = [names for names in users if "pretrain" in config.methods[names[1]].stages]
    runs = [cell_of(config, *names, seed) for names in users for seed in range(config.scale.seeds)]
    if begun := sum(run.path.exists() for run in runs):
        print(f"{cell.path}: {count(begun, 'run')} began from it and will stay as they are; new ones will begin anew")
        if cell.path.exists() and sys.stdin.isatty() and not yes:
            _ask()
    _delete_cell(cell)


def clean_outdated(config: Config, yes: bool) -> None:
    """Lists what keeps today's paper from being made, and deletes it: told to by ``yes``, or on a terminal.

    Raises UserError, with nothing deleted, if it was not told to.
    """
    found = list(verdict.outdated(config))
    for run in found:
        stages = " and ".join(run.stages)
        print(f"{run.cell.path}: {stages}, {count(run.steps, 'step')}: {run.reason}")
    if not found:
        print(f"{config.results}: nothing is outdated")
        return
    steps = thousands(sum(run.steps for run in found))
    print(f"{count(len(found), 'run')} to train anew, {steps} steps in all", flush=True)
    if not yes:
        if not sys.stdin.isatty():
            again = verdict.command(config, "clean", "--outdated", "--yes")
            raise UserError(f"{config.results}: nothing is deleted, as nobody can be asked here; run {again}")
        _ask()
    for run in found:
        refuse_strangers(run.cell)
    with locked([run.cell for run in found]):
        if list(verdict.outdated(config)) != found:
            raise UserError(f"{config.results}: runs have changed since they were listed; run the same command again")
        for run in found:
            for path in run.paths:
                _delete(path)
    print(f"{config.results}: deleted; what is asked for will train anew")


def _ask() -> None:
    """UserError unless the user types yes."""
    try:
        answer = input("Delete? Type yes: ")
    except EOFError:
        answer = ""
    if answer.strip() != "yes":
        raise UserError("clean: nothing is deleted; type yes, or add --yes, to delete it")


def _delete_cell(cell: Cell) -> None:
    if not cell.path.exists():
        print(f"{cell.path}: nothing to clean")
        return
    refuse_strangers(cell)
    stages = [path.name for path in sorted((cell.path / "run").glob("*")) if path.is_dir()]
    with locked([cell]):
        _delete(cell.path)
    what = f" ({', '.join(stages)})" if stages else ""
    print(f"{cell.path}: deleted{what}; its targets will train anew")


def _delete(path: Path) -> None:
    with writing(path):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
