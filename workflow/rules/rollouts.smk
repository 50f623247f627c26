# Film strips: one episode of a task under behaviour cloning and under the fine-tuned policy, drawn after training. The
# episode is fixed in advance, and where nothing renders the picture says so in words.

from trqam.report import STRIP_METHODS, rollout_tasks

ROLLOUTS = expand(f"{PAPER}/rollouts/{{task}}.png", task=rollout_tasks(CONFIG))


rule rollouts:
    input:
        CONFIG.scale.domains_file,
        CONFIG.scale.methods_file,  # labels and colours
        "trqam/__main__.py",
        "trqam/kept.py",
        "trqam/rendering.py",
        "trqam/report/__init__.py",
        "trqam/rollouts.py",
        "trqam/strips.py",
        # Seed 0's last stage; its policy lies beside it, not declared.
        runs=lambda wildcards: [
            f"{RESULTS}/{wildcards.task}/{method}/seed0/{CONFIG.stages(method)[-1]}.csv"
            for method in STRIP_METHODS
        ],
        card=lambda wildcards: card_of(configuration.domain_of(wildcards.task)),
    output:
        report(
            f"{PAPER}/rollouts/{{task}}.png",
            category="Rollouts",
            labels={"task": "{task}"},
        ),
        f"{PAPER}/rollouts/{{task}}.json",
    log:
        f"{LOGS}/rollouts/{{task}}.log",
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        gpu=0,
        gpu_model="",  # not the one that a profile asks for training with
        mem_mb=memory("rollouts"),
        runtime=runtime("rollouts"),
    params:
        trqam=TRQAM,
    shell:
        "{params.trqam} rollouts {wildcards.task} 2>&1 | tee -ai {log} {log}.all"
