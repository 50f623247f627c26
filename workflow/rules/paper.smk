# From per-seed files to the paper. Each figure and table is a rule of its own that names the code and style it is made
# with as inputs, so that an edit redraws it and nothing more.

from trqam.report.selection import (
    figure_module,
    figure_names,
    imported_tables,
    table_names,
)

FIGURES = figure_names(CONFIG)
TABLES = table_names(CONFIG)
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
IMPORTED = [str(path) for path in imported_tables()]  # curves that others published
SHOWN = [
    CONFIG.scale.domains_file,
    CONFIG.scale.methods_file,
]  # labels, colours, budgets
SHARED = [
    "trqam/__main__.py",
    "trqam/cli/commands.py",
    "trqam/report/imported.py",
    "trqam/report/selection.py",
    "trqam/report/build.py",
    "trqam/report/collected.py",
    "trqam/report/measures.py",
    "trqam/report/statistics.py",
    "paper/reported.csv",
]
CLAIMS = [
    "config/claims.yaml",
    "config/paper.yaml",  # what the paper's own scale is
    "trqam/report/claims/judge.py",
    "trqam/report/claims/statements.py",
    "trqam/report/claims/evidence.py",
    "trqam/report/claims/rules.py",
]


rule collect:
    input:
        published(),
        begun_from(),
        asked=asked_for,
    output:
        COLLECTED,
    log:
        f"{LOGS}/collect.log",
    localrule: True
    conda:
        "../../environment.yml"
    threads: 1
    params:
        trqam=TRQAM,
    shell:
        "{params.trqam} collect 2>&1 | tee -ai {log} {log}.all"


for figure in FIGURES:

    rule:
        name:
            f"figure_{figure}"
        input:
            COLLECTED,
            IMPORTED,
            SHOWN,
            SHARED,
            "trqam/report/figures/__init__.py",
            "trqam/report/curves.py",
            "trqam/report/overlay.py",
            "trqam/report/panels.py",
            "paper/style.mplstyle",
            module=f"{figure_module(figure).replace('.', '/')}.py",
        output:
            report(
                f"{PAPER}/figures/{figure}.pdf",
                category="Figures",
                labels={"figure": figure},
            ),
            f"{PAPER}/figures/{figure}.png",
        log:
            f"{LOGS}/figure/{figure}.log",
        localrule: True
        conda:
            "../../environment.yml"
        threads: 1
        params:
            trqam=TRQAM,
            figure=figure,
        shell:
            "{params.trqam} render figure {params.figure} 2>&1 | tee -ai {log} {log}.all"


for table in TABLES:

    rule:
        name:
            f"table_{table}"
        input:
            COLLECTED,
            IMPORTED,
            SHOWN,
            SHARED,
            "trqam/report/latex.py",
            "trqam/report/settings.py",
            "trqam/report/symbols.py",
            "trqam/report/tables/__init__.py",
            "paper/templates/_grid.tex.j2",
            "paper/templates/_success.tex.j2",
            CLAIMS if table == "claims" else [],
            module=f"trqam/report/tables/{table}.py",
            template=f"paper/templates/{table}.tex.j2",
        output:
            f"{PAPER}/tables/{table}.tex",
        log:
            f"{LOGS}/table/{table}.log",
        localrule: True
        conda:
            "../../environment.yml"
        threads: 1
        params:
            trqam=TRQAM,
            table=table,
        shell:
            "{params.trqam} render table {params.table} 2>&1 | tee -ai {log} {log}.all"


FIGURE_MODULES = sorted({f"{figure_module(f).replace('.', '/')}.py" for f in FIGURES})


rule claims:
    input:
        COLLECTED,
        SHOWN,
        SHARED,
        CLAIMS,
    output:
        f"{PAPER}/claims.json",
    log:
        f"{LOGS}/claims.log",
    localrule: True
    conda:
        "../../environment.yml"
    threads: 1
    params:
        trqam=TRQAM,
    shell:
        "{params.trqam} render claims 2>&1 | tee -ai {log} {log}.all"


rule facts:
    input:
        COLLECTED,
        SHOWN,
        SHARED,
        IMPORTED,
        CLAIMS,
        "trqam/report/facts.py",
        "trqam/report/latex.py",
        FIGURE_MODULES,  # captions
        "trqam/report/curves.py",
        "trqam/report/overlay.py",
        "trqam/report/panels.py",
        "paper/templates/facts.tex.j2",
    output:
        f"{PAPER}/facts.tex",
    log:
        f"{LOGS}/facts.log",
    localrule: True
    conda:
        "../../environment.yml"
    threads: 1
    params:
        trqam=TRQAM,
    shell:
        "{params.trqam} render facts 2>&1 | tee -ai {log} {log}.all"


rule pdf:
    input:
        expand(f"{PAPER}/figures/{{figure}}.pdf", figure=FIGURES),
        expand(f"{PAPER}/tables/{{table}}.tex", table=TABLES),
        rules.facts.output,
        rules.theory_figure.output,
        "trqam/report/latex.py",
        "paper/main.tex",
        "paper/theory.tex",
        "paper/fallback.tex",
    output:
        report(f"{PAPER}/paper.pdf", category="Paper"),
    log:
        f"{LOGS}/pdf.log",
    localrule: True
    conda:
        "../../environment.yml"
    threads: 1
    params:
        trqam=TRQAM,
    shell:
        "{params.trqam} render pdf 2>&1 | tee -ai {log} {log}.all"


rule html:
    input:
        COLLECTED,
        SHOWN,
        SHARED,
        IMPORTED,
        CLAIMS,
        expand(f"{PAPER}/figures/{{figure}}.png", figure=FIGURES),
        rules.theory_figure.output,
        ROLLOUTS,
        "trqam/report/html.py",
        "trqam/report/run_list.py",
        "trqam/report/facts.py",
        "trqam/report/settings.py",
        "trqam/report/symbols.py",
        "trqam/report/tables/__init__.py",
        [f"trqam/report/tables/{table}.py" for table in TABLES],
        FIGURE_MODULES,  # captions
        "trqam/report/curves.py",
        "trqam/report/overlay.py",
        "trqam/report/panels.py",
        "trqam/report/theory_figure.py",
        [
            f"paper/templates/report{part}.j2"
            for part in (".html", "_parts.html", ".css", ".js")
        ],
    output:
        f"{PAPER}/report.html",
    log:
        f"{LOGS}/html.log",
    localrule: True
    conda:
        "../../environment.yml"
    threads: 1
    params:
        trqam=TRQAM,
    shell:
        "{params.trqam} render html 2>&1 | tee -ai {log} {log}.all"


rule paper:
    input:
        f"{PAPER}/paper.pdf",
        f"{PAPER}/report.html",
        rules.claims.output,
        COLLECTED,  # named here too, as the metrics are: Snakemake restores what a target names, not what lies between
        published(),
