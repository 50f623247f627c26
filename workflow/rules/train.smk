# Pretraining, one a cloned policy; then a rule for each stage and block of seeds. A job trains its block in one process,
# but the files are one seed's each, and so is the truth behind them (results/.../seedN/run, not declared here): deleting
# a file or failing a job loses nothing, because the trainer republishes the seeds that have finished.


from itertools import product


rule pretrain:
    input:
        card=lambda wildcards: ancient(card_of(wildcards.cloned.partition("+")[0])),
    output:
        base=f"{RESULTS}/pretrained/{{cloned}}/base.safetensors",
        metrics=f"{RESULTS}/pretrained/{{cloned}}/pretrain.csv",
        manifest=f"{RESULTS}/pretrained/{{cloned}}/pretrain.json",
    log:
        f"{LOGS}/pretrain/{{cloned}}.log",
    benchmark:
        f"{BENCHMARKS}/pretrain/{{cloned}}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        gpu=GPUS,
        mem_mb=memory("pretrain"),
        runtime=runtime("pretrain"),
    params:
        trqam=TRQAM,
    shell:
        "{params.trqam} pretrain {wildcards.cloned} 2>&1 | tee -ai {log} {log}.all"


for stage, block in product(("offline", "online"), BLOCKS):

    rule:
        name:
            f"{stage}_seeds_{block[0]}to{block[-1]}"
        input:
            begins_from(stage, block),
        output:
            [
                f"{RESULTS}/{{task}}/{{method}}/seed{seed}/{stage}.{kind}"
                for kind in ("csv", "json")
                for seed in block
            ],
        log:
            f"{LOGS}/{stage}/{{task}}_{{method}}_seeds{block[0]}to{block[-1]}.log",
        benchmark:
            f"{BENCHMARKS}/{stage}/{{task}}_{{method}}_seeds{block[0]}to{block[-1]}.tsv"
        conda:
            "../../environment.yml"
        threads: max(1, CONFIG.scale.env_workers)  # the trainer mostly waits while they step
        resources:
            gpu=GPUS,
            mem_mb=memory(stage),
            runtime=runtime(stage),
        params:
            command=f"{TRQAM} train",
            options=f"--stage {stage} --seeds {' '.join(map(str, block))}",
        shell:
            "{params.command} {wildcards.task} {wildcards.method} {params.options} 2>&1 | tee -ai {log} {log}.all"


# A seed, task or method that the scale does not have is said to be none, in place of "No rule to produce".
rule not_of_this_scale:
    input:
        lambda wildcards: checked(
            verdict.check_asked,
            CONFIG,
            wildcards.task,
            wildcards.method,
            wildcards.stage,
            [int(wildcards.seed)],
        ),
    output:
        f"{RESULTS}/{{task}}/{{method}}/seed{{seed}}/{{stage}}.{{kind}}",
    wildcard_constraints:
        # None that the rules above have.
        task=f"(?!({TASKS})/({METHODS})/seed({'|'.join(map(str, SEEDS))})/)[^/]+",
        method="[^/]+",
        seed="[0-9]{1,9}",
        stage="offline|online",
        kind="csv|json",
