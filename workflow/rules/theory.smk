# The theory's figure and numbers: no training, no data, and the same at every scale.


rule theory_figure:
    input:
        "trqam/maths/closed_forms.py",
        "trqam/maths/flow.py",
        "trqam/maths/sde.py",
        "trqam/maths/adjoint.py",
        "trqam/maths/dual.py",
        "trqam/maths/td.py",
        "trqam/maths/streams.py",
        "trqam/report/selection.py",
        "trqam/report/latex.py",  # escapes
        "trqam/report/theory_experiments.py",
        "trqam/report/theory_figure.py",
        "trqam/report/figures/__init__.py",
        "trqam/__main__.py",
        "trqam/cli/commands.py",
        "paper/style.mplstyle",
    output:
        report(
            f"{PAPER}/figures/theory.pdf",
            category="Figures",
            labels={"figure": "theory"},
        ),
        f"{PAPER}/figures/theory.png",
        f"{PAPER}/theory_facts.tex",
    log:
        f"{LOGS}/theory_figure.log",
    localrule: True
    conda:
        "../../environment.yml"
    threads: 1
    params:
        trqam=TRQAM,
    shell:
        "{params.trqam} render theory 2>&1 | tee -ai {log} {log}.all"


rule theory:
    input:
        rules.theory_figure.output,
