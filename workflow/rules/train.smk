# Pretraining, one a domain; then a rule for each stage and block of seeds. A job trains its block in one process, but
# the files are one seed's each, and so is the truth behind them (results/.../seedN/run, not declared here): deleting a
# file or failing a job loses nothing, because the trainer republishes the seeds that have finished.


rule pretrain:
    input:
        card=lambda wildcards: ancient(card_of(wildcards.domain)),
    output:
        base=f"{RESULTS}/pretrained/{{domain}}/base.safetensors",
        metrics=f"{RESULTS}/pretrained/{{domain}}/pretrain.csv",
        manifest=f"{RESULTS}/pretrained/{{domain}}/pretrain.json",
    log:
        f"{LOGS}/pretrain/{{domain}}.log",
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
        "{params.trqam} pretrain {wildcards.domain} 2>&1 | tee -ai {log} {log}.all"


for block in BLOCKS:

    rule:
        name:
            f"offline_seeds_{block[0]}to{block[-1]}"
        input:
            training_data("offline", block),
        output:
            [f"{RESULTS}/{{task}}/{{method}}/seed{seed}/offline.csv" for seed in block],
            [f"{RESULTS}/{{task}}/{{method}}/seed{seed}/offline.json" for seed in block],
        log:
            f"{LOGS}/offline/{{task}}_{{method}}_seeds{block[0]}to{block[-1]}.log",
        conda:
            "../../environment.yml"
        threads: max(1, CONFIG.scale.env_workers)  # the trainer mostly waits while they step
        resources:
            gpu=GPUS,
            mem_mb=memory("offline"),
            runtime=runtime("offline"),
        params:
            trqam=TRQAM,
            seeds=" ".join(map(str, block)),
        shell:
            "{params.trqam} train {wildcards.task} {wildcards.method} --stage offline --seeds {params.seeds}"
            " 2>&1 | tee -ai {log} {log}.all"

    rule:
        name:
            f"online_seeds_{block[0]}to{block[-1]}"
        input:
            [
                ancient(f"{RESULTS}/{{task}}/{{method}}/seed{seed}/offline.csv")
                for seed in block
            ],
            training_data("online", block),
        output:
            [f"{RESULTS}/{{task}}/{{method}}/seed{seed}/online.csv" for seed in block],
            [f"{RESULTS}/{{task}}/{{method}}/seed{seed}/online.json" for seed in block],
        log:
            f"{LOGS}/online/{{task}}_{{method}}_seeds{block[0]}to{block[-1]}.log",
        conda:
            "../../environment.yml"
        threads: max(1, CONFIG.scale.env_workers)  # the trainer mostly waits while they step
        resources:
            gpu=GPUS,
            mem_mb=memory("online"),
            runtime=runtime("online"),
        params:
            trqam=TRQAM,
            seeds=" ".join(map(str, block)),
        shell:
            "{params.trqam} train {wildcards.task} {wildcards.method} --stage online --seeds {params.seeds}"
            " 2>&1 | tee -ai {log} {log}.all"


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
