# Film strips: one episode of a task under behaviour cloning and under the fine-tuned policy, drawn after training. The
# episode is fixed in advance, and where nothing renders the picture says so in words.

from trqam.report.selection import STRIP_METHODS, rollout_tasks

ROLLOUTS = expand(f"{PAPER}/rollouts/{{task}}.png", task=rollout_tasks(CONFIG))


rule rollouts:
    input:
        CONFIG.scale.domains_file,
        CONFIG.scale.methods_file,  # labels and colours
        # What draws; the policies are as they were trained, whatever has become of that code.
        sorted(map(str, Path("trqam/operations/rollouts").glob("*.py"))),
        "trqam/report/selection.py",
        # Seed 0's last stage; its policy lies beside it, not declared.
        runs=lambda wildcards: [
            f"{RESULTS}/{wildcards.task}/{method}/seed0/{CONFIG.stages(method)[-1]}.csv"
            for method in STRIP_METHODS
        ],
        card=lambda wildcards: card_of(domain_of(wildcards.task)),
    output:
        shown(f"{PAPER}/rollouts/{{task}}.png", "Rollouts", "rollouts", task="{task}"),
        f"{PAPER}/rollouts/{{task}}.json",
    log:
        f"{LOGS}/rollouts/{{task}}.log",
    benchmark:
        f"{BENCHMARKS}/rollouts/{{task}}.tsv"
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
