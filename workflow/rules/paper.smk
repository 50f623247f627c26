# From per-seed files to the paper. Each part is a rule of its own, whose inputs are what it is made of: data, style or
# template, and the modules that draw it with all that they import. So an edit redraws what it touches and nothing more.

from trqam.experiment import provenance
from trqam.report.selection import (
    TABLES,
    figure_module,
    figure_names,
    imported_files,
    table_module,
)

COLLECTED = expand(
    f"{PAPER}/{{name}}",
    name=[
        "metrics.csv",
        "runs.csv",
        "datasets.json",
        "manifests.json",
        "collected.json",
    ],
)
RESULTS_READ = [
    *COLLECTED,
    *map(str, imported_files()),  # curves that others published
    "paper/reported.csv",
    CONFIG.scale.domains_file,  # labels, colours, budgets
    CONFIG.scale.methods_file,
]
CLAIMS = [
    "config/claims.yaml",
    "paper/protocol.json",
]  # and what the paper's own scale is
CONTEXT = "paper/context.csv"
STYLE = "paper/style.mplstyle"
FIGURES = figure_names(CONFIG, bool(imported_files()))
DRAWN = [f"{PAPER}/figures/{name}" for name in (*FIGURES, "theory", "toy")]
PRINTED = [f"{PAPER}/tables/{name}.tex" for name in TABLES]
TABLE_MODULES = [table_module(name) for name in TABLES]


# A rule's name: what `trqam render` is asked for, the modules that make it, its other inputs, its outputs.
PARTS = {
    f"figure_{name}": (
        f"figure {name}",
        [figure_module(name)],
        [RESULTS_READ, STYLE],
        figure(name),
    )
    for name in FIGURES
}
PARTS |= {
    f"table_{name}": (
        f"table {name}",
        [table_module(name)],
        [
            RESULTS_READ,
            templates(f"{TABLES[name][1]}.tex", "tables.txt"),
            {"claims": CLAIMS, "others": [CONTEXT]}.get(name, []),
        ],
        [shown(f"{PAPER}/tables/{name}.tex", "Tables", "table", table=name)],
    )
    for name in TABLES
}
PARTS |= {
    "theory_figure": (  # no training, no data, and the same at every scale
        "theory",
        ["trqam.report.theory_figure"],
        [STYLE, templates("theory.txt")],
        [*figure("theory"), f"{PAPER}/theory_facts.tex", f"{PAPER}/theory.txt"],
    ),
    "toy_figure": (  # trains in a plane, in under a minute; of no run either
        "toy",
        ["trqam.report.toy_figure"],
        [STYLE, templates("toy.txt")],
        [
            *figure("toy"),
            *(f"{PAPER}/{name}" for name in ("toy_facts.tex", "toy.csv", "toy.txt")),
        ],
    ),
    "claims": (
        "claims",
        ["trqam.report.claims.judge"],
        [RESULTS_READ, CLAIMS],
        [shown(f"{PAPER}/claims.json", "Paper", "claims", file="claims.json")],
    ),
    "per_task": (
        "per_task",
        ["trqam.report.conventions"],
        [RESULTS_READ],
        [
            shown(f"{PAPER}/{name}", "Results", "per_task", file=name)
            for name in ("per_task.csv", "per_task.json")
        ],
    ),
    "curves": (
        "curves",
        ["trqam.report.conventions"],
        [RESULTS_READ],
        [shown(f"{PAPER}/curves.csv", "Results", "curves", file="curves.csv")],
    ),
    "compute": (
        "compute",
        ["trqam.report.tables.compute"],
        [RESULTS_READ],
        [shown(f"{PAPER}/compute.csv", "Results", "compute", file="compute.csv")],
    ),
    "facts": (  # captions, too
        "facts",
        ["trqam.report.facts"],
        [RESULTS_READ, CLAIMS, templates("facts.tex", "facts.txt", "captions.txt")],
        [f"{PAPER}/facts.tex"],
    ),
    "pdf": (
        "pdf",
        ["trqam.report.latex"],
        [
            [f"{path}.pdf" for path in DRAWN],
            PRINTED,
            f"{PAPER}/facts.tex",
            [f"{PAPER}/{name}_facts.tex" for name in ("theory", "toy")],
            ["paper/main.tex", "paper/theory.tex"],
        ],
        [shown(f"{PAPER}/paper.pdf", "Paper", "paper", file="paper.pdf")],
    ),
    "html": (
        "html",
        ["trqam.report.html", *TABLE_MODULES],
        [
            RESULTS_READ,
            CLAIMS,
            CONTEXT,
            [f"{path}.png" for path in DRAWN],
            [f"{PAPER}/{name}.txt" for name in ("theory", "toy")],  # their captions
            ROLLOUTS,
            templates("report.html", "report_parts.html", "report.css", "report.js"),
            templates("facts.txt", "captions.txt", "tables.txt"),
        ],
        [shown(f"{PAPER}/report.html", "Paper", "page", file="report.html")],
    ),
}


rule collect:
    input:
        published(),
        begun_from(),
        asked=asked_for,
    output:
        shown(f"{PAPER}/metrics.csv", "Results", "metrics", file="metrics.csv"),
        shown(f"{PAPER}/runs.csv", "Results", "runs", file="runs.csv"),
        COLLECTED[2:],
    log:
        f"{LOGS}/collect.log",
    benchmark:
        f"{BENCHMARKS}/collect.tsv"
    localrule: True
    conda:
        "../../environment.yml"
    threads: 1
    params:
        trqam=TRQAM,
    shell:
        "{params.trqam} collect 2>&1 | tee -ai {log} {log}.all"


for part, (kind, modules, others, outputs) in PARTS.items():

    rule:
        name:
            part
        input:
            provenance.files(*modules),
            *others,
        output:
            *outputs,
        log:
            f"{LOGS}/{kind.replace(' ', '/')}.log",
        benchmark:
            f"{BENCHMARKS}/{kind.replace(' ', '/')}.tsv"
        localrule: True
        conda:
            "../../environment.yml"
        threads: 1
        params:
            command=f"{TRQAM} render {kind}",
        shell:
            "{params.command} 2>&1 | tee -ai {log} {log}.all"


rule theory:
    input:
        rules.theory_figure.output,


rule toy:
    input:
        rules.toy_figure.output,


rule paper:
    input:
        f"{PAPER}/paper.pdf",
        f"{PAPER}/report.html",
        f"{PAPER}/claims.json",
        [f"{PAPER}/per_task.{kind}" for kind in ("csv", "json")],
        f"{PAPER}/curves.csv",
        f"{PAPER}/compute.csv",
        COLLECTED,  # named here too, as the metrics are: Snakemake restores what a target names, not what lies between
        published(),
