# From per-seed files to the paper. Each figure and table is a rule of its own that names the code and style it is made
# with as inputs, so that an edit redraws it and nothing more.

from trqam.report import figure_names

FIGURES = figure_names(CONFIG)
TABLES = [
    "success",
    "success_tasks",
    "published",
    "settings_common",
    "settings_domains",
    "settings_methods",
]
COLLECTED = [f"{PAPER}/metrics.csv", f"{PAPER}/runs.csv", f"{PAPER}/datasets.json"]
SHOWN = [
    CONFIG.scale.domains_file,
    CONFIG.scale.methods_file,
]  # labels, colours, budgets
SHARED = ["trqam/report/__init__.py", "trqam/report/statistics.py", "trqam/__main__.py"]


wildcard_constraints:
    figure="|".join(FIGURES),
    table="|".join(TABLES),


rule collect:
    input:
        published("offline"),
        published("online"),
    output:
        COLLECTED,
    log:
        f"{LOGS}/collect.log",
    conda:
        "../../environment.yml"
    threads: 1
    params:
        trqam=TRQAM,
    shell:
        "{params.trqam} collect 2>&1 | tee {log}"


rule figure:
    input:
        COLLECTED,
        SHOWN,
        SHARED,
        "trqam/report/figures.py",
        "trqam/report/panels.py",
        "trqam/report/ablation_figures.py",
        "paper/style.mplstyle",
    output:
        report(
            f"{PAPER}/figures/{{figure}}.pdf",
            category="Figures",
            labels={"figure": "{figure}"},
        ),
        f"{PAPER}/figures/{{figure}}.png",
    log:
        f"{LOGS}/figure/{{figure}}.log",
    conda:
        "../../environment.yml"
    threads: 1
    params:
        trqam=TRQAM,
    shell:
        "{params.trqam} render figure {wildcards.figure} 2>&1 | tee {log}"


rule table:
    input:
        COLLECTED,
        SHOWN,
        SHARED,
        "trqam/report/tables.py",
        "trqam/report/latex.py",
        "paper/reported.csv",
        "paper/templates/success.tex.j2",
        "paper/templates/grid.tex.j2",
    output:
        f"{PAPER}/tables/{{table}}.tex",
    log:
        f"{LOGS}/table/{{table}}.log",
    conda:
        "../../environment.yml"
    threads: 1
    params:
        trqam=TRQAM,
    shell:
        "{params.trqam} render table {wildcards.table} 2>&1 | tee {log}"


rule facts:
    input:
        COLLECTED,
        SHOWN,
        SHARED,
        "trqam/report/latex.py",
        "trqam/report/claims.py",
        "trqam/report/figures.py",  # captions
        "trqam/report/ablation_figures.py",
        "trqam/report/panels.py",
        "paper/templates/facts.tex.j2",
    output:
        f"{PAPER}/facts.tex",
    log:
        f"{LOGS}/facts.log",
    conda:
        "../../environment.yml"
    threads: 1
    params:
        trqam=TRQAM,
    shell:
        "{params.trqam} render facts 2>&1 | tee {log}"


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
    conda:
        "../../environment.yml"
    threads: 1
    params:
        trqam=TRQAM,
    shell:
        "{params.trqam} render pdf 2>&1 | tee {log}"


rule html:
    input:
        COLLECTED,
        SHOWN,
        SHARED,
        expand(f"{PAPER}/figures/{{figure}}.png", figure=FIGURES),
        "trqam/report/html.py",
        "trqam/report/claims.py",
        "trqam/report/tables.py",
        "paper/reported.csv",
        "paper/templates/report.html.j2",
    output:
        f"{PAPER}/report.html",
    log:
        f"{LOGS}/html.log",
    conda:
        "../../environment.yml"
    threads: 1
    params:
        trqam=TRQAM,
    shell:
        "{params.trqam} render html 2>&1 | tee {log}"


rule paper:
    input:
        f"{PAPER}/paper.pdf",
        f"{PAPER}/report.html",
        COLLECTED,  # named here too, as the metrics are: Snakemake restores what a target names, not what lies between
        published("offline"),
        published("online"),
