"""The paper's parts from what was collected, each by itself (for Snakemake) or all of them in this process."""

import importlib
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import cached_property
from multiprocessing import get_context
from pathlib import Path

from trqam.config.errors import UserError
from trqam.config.load import Config
from trqam.environments.processes import cores
from trqam.report import conventions, facts, figures, html, latex, record, tables
from trqam.report.claims import judge as claims
from trqam.report.collected import Collected
from trqam.report.selection import TABLES
from trqam.report.tables import compute

FACTS = ("facts.tex", "theory_facts.tex", "toy_facts.tex")


def _written(write: Callable[[Collected, Path], None], name: str) -> Callable[["Build"], None]:
    """The part that is a file of the results."""
    return lambda build: write(build.collected, build.folder / name)


class Build:
    """Reads from and writes to ``folder``, which `trqam collect` has filled.

    ``sources`` say where else `Collected.load` finds what it reads, such as ``imported``, the published curves.
    """

    def __init__(self, config: Config, folder: str | Path, **sources: str | Path):
        self.config, self.folder, self.sources = config, Path(folder), sources

    @cached_property
    def collected(self) -> Collected:
        """All results."""
        return Collected.load(self.config, self.folder, **self.sources)

    def figure(self, name: str) -> None:
        """figures/NAME.pdf and .png."""
        figures.draw(name, self.collected, self.folder / "figures" / f"{name}.pdf")

    def table(self, name: str) -> None:
        """tables/NAME.tex."""
        tables.render(name, self.collected, self.folder / "tables" / f"{name}.tex")

    facts = _written(facts.render, "facts.tex")  # what the prose says of the results
    claims = _written(claims.write, "claims.json")  # the verdict on every claim of the paper
    per_task = _written(conventions.write, "per_task.csv")  # and .json: every task's success, read in three ways
    curves = _written(conventions.write_curves, "curves.csv")  # its success and trust region over training
    compute = _written(compute.write, "compute.csv")  # core hours by method and stage

    def theory(self) -> None:
        """figures/theory.pdf and .png, theory_facts.tex and, for the page, theory.txt."""
        print("computing and drawing the theory's figure: about a minute", file=sys.stderr)
        _illustrate("theory", self.folder)

    def toy(self) -> None:
        """figures/toy.pdf and .png, toy.csv, toy_facts.tex and, for the page, toy.txt."""
        print("training and drawing the idea in a plane: under a minute", file=sys.stderr)
        _illustrate("toy", self.folder)

    def html(self) -> None:
        """report.html, from the figures drawn before and the rollouts, if there are any."""
        html.render(self.collected, self.folder, self.folder / "report.html")

    def pdf(self) -> None:
        """paper.pdf, from all the others."""
        build = self.folder / "latex"
        needed = [self.folder / name for name in ("figures", "tables", *FACTS)]
        if missing := [path for path in needed if not path.exists()]:
            raise UserError(f"{missing[0]}: missing; render the facts, theory, toy, tables and figures first")
        record.check(self.config, self.folder)
        parts = [path for part in ("figures", "tables") for path in sorted((self.folder / part).glob("*.*"))]
        for path in (*parts, *(self.folder / name for name in FACTS)):
            if path.is_file():
                latex.copy(path, build / path.relative_to(self.folder))
        latex.compile_pdf(latex.PAPER, build, self.folder / "paper.pdf")

    def everything(self) -> None:
        """All of it; the theory, which takes no result and the longest, has a process of its own if one is free."""
        claims.claims(self.collected)  # remembered; what is wrong with the results or the claims is said at once
        print("making all figures, tables, the page and the PDF: about two minutes", file=sys.stderr)
        with ExitStack() as stack:
            theory: Callable[[], None] = self.theory
            if cores() > 1:
                pool = stack.enter_context(ProcessPoolExecutor(1, get_context("spawn")))
                theory = pool.submit(_illustrate, "theory", self.folder).result
            for name in figures.names(self.collected):
                self.figure(name)
            for name in TABLES:
                self.table(name)
            data = (self.claims, self.per_task, self.curves, self.compute)
            for part in (*data, self.facts, self.toy, theory, self.html, self.pdf):
                part()


def _illustrate(name: str, folder: Path) -> None:
    """Draws a figure that takes no result; its module imports PyTorch, which takes longer than most parts."""
    importlib.import_module(f"trqam.report.{name}_figure").write(folder)
