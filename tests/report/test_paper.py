"""The paper builds from results, whatever the labels are, and a LaTeX error is one line."""

import re
import shutil
from pathlib import Path

import jinja2
import msgspec
import pandas as pd
import pytest
from PIL import Image

from tests.helpers import fake_results, pages
from trqam.config.errors import UserError
from trqam.report import facts, figures, html, latex, tables
from trqam.report.selection import PAPER, TABLES, figure_names

HOSTILE = r"a_b & 50% \input{x} <b>$^~#[*]{} é ∂ ’</b>"
SYSTEM = shutil.which("pdflatex")


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    """Everything that the paper needs, imported curves too, with labels that are hostile."""
    config = fake_results.full_config()
    qam = msgspec.structs.replace(config.methods["qam"], label=HOSTILE)
    config = msgspec.structs.replace(config, methods={**config.methods, "qam": qam})
    folder = tmp_path_factory.mktemp("paper")
    render(fake_results.collected(config, imported=imported()), folder)
    return folder


def imported():
    """One curve, which others published."""
    steps = {"step": [50_000, 100_000], "total_step": [50_000, 100_000], "success": [0.25, 0.5], "seed": 0}
    about = {"task": "", "domain": HOSTILE, "method": HOSTILE, "stage": "offline", "status": "OK"}
    return pd.DataFrame({**steps, **about, "source": "authors", "protocol": HOSTILE})


def render(collected, folder):
    for name in figures.names(collected):
        figures.draw(name, collected, folder / "figures" / f"{name}.pdf")
    for name in TABLES:
        tables.render(name, collected, folder / "tables" / f"{name}.tex")
    facts.render(collected, folder / "facts.tex")
    Image.new("RGB", (610, 605), "grey").save(folder / "figures" / "theory.pdf")
    Image.new("RGB", (610, 500), "grey").save(folder / "figures" / "toy.pdf")
    (folder / "toy_facts.tex").write_text(f"\\newcommand{{\\factCaptionToy}}{{{'A long caption. ' * 60}}}")
    macros = set(re.findall(r"\\fact(?:Theory|CaptionTheory)\w*", (PAPER / "theory.tex").read_text()))
    (folder / "theory_facts.tex").write_text("".join(f"\\newcommand{{{macro}}}{{7}}\n" for macro in sorted(macros)))


@pytest.fixture(scope="module")
def compiled(rendered, tmp_path_factory):
    """A copy in which the paper was compiled, to out.pdf, with the pdflatex of whoever builds it."""
    folder = tmp_path_factory.mktemp("compiled") / "build"
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("SOURCE_DATE_EPOCH", raising=False)
        latex.compile_pdf(PAPER, shutil.copytree(rendered, folder), folder / "out.pdf")
    return folder


@pytest.fixture
def build(rendered, tmp_path):
    """A copy to compile in."""
    return Path(shutil.copytree(rendered, tmp_path / "build"))


@pytest.mark.parametrize(
    "find",
    [
        latex.bundled_pdflatex,
        pytest.param(lambda: SYSTEM, marks=pytest.mark.skipif(not SYSTEM, reason="no pdflatex on PATH")),
    ],
    ids=["bundled", "system"],
)
def test_paper_builds_with_the_same_bytes_anywhere(find, rendered, compiled, tmp_path, monkeypatch):
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    try:
        pdflatex = find()
    except UserError as error:
        pytest.skip(str(error))
    folders = [tmp_path / "a", compiled if pdflatex == latex.find_pdflatex() else tmp_path / "b"]
    for folder in folders:
        if folder != compiled:
            latex.compile_pdf(PAPER, shutil.copytree(rendered, folder), folder / "out.pdf", pdflatex)
    outputs = [(folder / "out.pdf").read_bytes() for folder in folders]
    assert outputs[0].startswith(b"%PDF")
    assert outputs[0] == outputs[1]
    log = (tmp_path / "a" / "main.log").read_text(errors="replace")
    assert "undefined" not in log
    assert re.findall(r"Overfull .*|Float too large.*", log) == []


@pytest.mark.skipif(not pages.found, reason=f"no {pages.RASTERISER} on PATH, of poppler")
def test_pages_are_full_and_figures_near_their_text(compiled, tmp_path):
    blank = pages.blank(compiled / "out.pdf", tmp_path)
    assert len(blank) > 10
    assert max(blank[:-1]) < 0.4, [round(share, 2) for share in blank]
    marks = re.findall(r"\\newlabel\{(fig|text):(.*?)\}\{\{(.*?)\}\{(\d+)\}", (compiled / "main.aux").read_text())
    stands = {(kind, name): int(page) for kind, name, _, page in marks}
    numbers = {name: int(number) for kind, name, number, _ in marks if kind == "fig"}
    order = html.in_order(figure_names(fake_results.full_config(), imported=True))  # of the page
    assert numbers == {name: number for number, name in enumerate(order, 1)}
    away = {name: stands["fig", name] - stands["text", name] for kind, name in stands if kind == "fig"}
    assert away["collapse"] < 2
    assert max(away.values()) <= 2


def test_data_that_are_no_release_of_ogbenchs_are_not_called_one():
    config = fake_results.paper_config()
    said = facts.facts(fake_results.collected(config, fake_results.metrics(fake_results.small_config()).iloc[:0]))[
        "data"
    ]
    release, other = said.split("No release of OGBench's")
    assert release.startswith("OGBench's official release: antmaze-large (")
    assert "antmaze-giant" not in release
    assert other.startswith(", but of TRQAM's authors, who made it with ogbench 1.2.1: antmaze-giant (")


def test_paper_builds_at_a_scale_without_ablations(tmp_path):
    config = fake_results.small_config(seeds=1)
    render(fake_results.collected(config, datasets={}), tmp_path)
    latex.compile_pdf(PAPER, tmp_path, tmp_path / "out.pdf")
    assert "undefined" not in (tmp_path / "main.log").read_text(errors="replace")


def test_latex_error_is_one_line_and_leaves_no_pdf(build, tmp_path):
    (build / "tables" / "success.tex").write_text("\\nosuchmacro\n")
    with pytest.raises(UserError) as error:
        latex.compile_pdf(PAPER, build, tmp_path / "out.pdf")
    assert "main.log: ! Undefined control sequence" in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out.pdf").exists()


def test_a_full_disk_is_named_and_not_a_tex_file(build, compiled, tmp_path, small_files):
    sizes = sorted(path.stat().st_size for path in build.rglob("*") if path.is_file())
    whole = (compiled / "out.pdf").stat().st_size
    assert whole > 1.5 * max(sizes[-1], 200_000)
    for size, name in ((100, "[a-z]+.tex"), (whole - 50_000, "main.pdf")):
        match = rf"^{build}/{name}: cannot be written \(File too large\); make room on the disk"
        with small_files(size), pytest.raises(UserError, match=match):
            latex.compile_pdf(PAPER, build, tmp_path / "out.pdf")
    assert not (tmp_path / "out.pdf").exists()


def test_a_pdflatex_that_cannot_write_is_no_mistake_in_a_tex_file(build, tmp_path):
    """What it says on a full disk, which it does not always give as the reason."""
    fake = tmp_path / "pdflatex"
    for said, problem in (
        ("!pdfTeX error: pdflatex: fflush() failed (No space left on device)", "No space left on device"),
        ("!pdfTeX error: pdflatex: fwrite() failed", r"pdflatex: fwrite\(\) failed"),
        ("! I can't write on file `main.aux'.", "pdflatex: can't write on file"),
    ):
        fake.write_text(f"#!/bin/sh\ncat <<'end'\n{said}\nend\nexit 1\n")
        fake.chmod(0o755)
        with pytest.raises(UserError, match=rf"main\.pdf: cannot be written \({problem}\); .*disk"):
            latex.compile_pdf(PAPER, build, tmp_path / "out.pdf", fake)


def test_shell_escape_is_off(tmp_path):
    empty = r"\documentclass{article}\begin{document}\thispagestyle{empty}\null"  # pip's TeX carries no Computer Modern
    escape = empty + rf"\immediate\write18{{touch {tmp_path}/escaped}}"
    for name, text in (("source/main.tex", escape + r"\end{document}"), ("build/facts.tex", "")):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(text)
    latex.compile_pdf(tmp_path / "source", tmp_path / "build", tmp_path / "out.pdf")
    assert not (tmp_path / "escaped").exists()


def test_no_pdflatex_in_an_empty_path_means_the_bundled_one(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert latex.find_pdflatex() == latex.bundled_pdflatex()


def test_every_character_is_escaped_or_replaced():
    assert latex.escape(r"a_b & 50% \input{x}") == r"a\_b \& 50\% \textbackslash{}input\{x\}"
    assert latex.escape("4 ± 2†1 – λ") == r"4 \textpm{} 2\textdagger{}1 -- $\lambda$"
    assert latex.escape("[1] 日\x07\n*") == "{[}1{]} ? {*}"
    assert latex.escape(latex.Latex(r"\alpha")) == r"\alpha"


def test_undefined_name_in_a_template_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(latex.ENVIRONMENT, "loader", jinja2.DictLoader({"x.j2": "(((nothing)))"}))
    with pytest.raises(UserError, match=r"x\.j2: 'nothing' is undefined"):
        latex.render("x.j2", tmp_path / "x.tex")


def test_prose_holds_no_typed_result_and_only_macros_that_exist(rendered):
    prose = re.sub(r"(?<!\\)%.*", "", (PAPER / "main.tex").read_text())
    body = prose.split(r"\begin{document}")[1].split(r"\begin{thebibliography}")[0]
    defined = set(re.findall(r"\\newcommand\{\\(fact\w+)\}", (rendered / "facts.tex").read_text()))
    assert set(re.findall(r"\\(fact\w+)", body)) <= defined | {"factCaptionToy"}  # of toy_facts.tex
    for sentence in re.split(r"(?<=\.)\s", body):
        assert not re.search(r"\d+\s*(\\%|points|seeds|steps)", sentence), f"a typed number: {sentence}"


def test_prose_states_the_scale_and_its_limits(rendered):
    text = (rendered / "facts.tex").read_text()
    assert r"\newcommand{\factScale}{small}" in text
    assert "is not at the paper's scale" in text
    assert "Generated by this pipeline" in text
    main = (PAPER / "main.tex").read_text()
    for macro in (
        "Scale",
        "ScaleNotice",
        "Seeds",
        "OfflineSteps",
        "OnlineSteps",
        "Data",
        "Assumptions",
        "Chosen",
        "Versions",
        "Completeness",
    ):
        assert f"\\fact{macro}{{}}" in main or f"\\fact{macro}}}" in main


def test_facts_count_what_is_missing():
    config = fake_results.small_config()
    metrics = fake_results.metrics(config)
    whole = facts.facts(fake_results.collected(config, metrics, datasets={}))
    assert whole["completeness"].startswith("30 results (task, method, seed and stage) asked for, none missing; none")
    assert "No dataset card" in whole["data"]
    less = metrics[~((metrics.method == "trqam") & (metrics.seed == 0))]
    assert "4 missing" in facts.facts(fake_results.collected(config, less, datasets={}))["completeness"]


def test_assumed_values_are_printed():
    config = fake_results.small_config(tasks=["scene-play", "puzzle-4x4-play"])
    found = facts.facts(fake_results.collected(config))
    assert "assumed: KL budget of scene (0.5) and puzzle-4x4 (4)." in found["assumptions"]
    assert found["taskList"] == "all tasks of scene and puzzle-4x4"
