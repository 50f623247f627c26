# One dataset a domain: generated on the spot, or stored from official files, which are fetched to data_dir/official
# or placed there by hand. `--set-threads dataset=8` makes or stores a set with eight processes, to the same bytes.

# The declared file is a copy of `store.json`, the truth, which Snakemake knows nothing of: it may delete the copy whenever
# it likes, and the rule's command puts it back.
DATA_COMMANDS = {
    "generated": "{trqam} generate {domain} --workers {threads}",
    "official": "{trqam} fetch {domain} && {trqam} convert {domain} --workers {threads}",
}


rule dataset:
    output:
        f"{CONFIG.scale.data_dir}/{{domain}}/card.json",
    log:
        f"{LOGS}/dataset/{{domain}}.log",
    benchmark:
        f"{BENCHMARKS}/dataset/{{domain}}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        gpu=0,
        gpu_model="",  # not the one that a profile asks for training with
        mem_mb=memory("dataset"),
        runtime=runtime("dataset"),
    params:
        command=lambda wildcards, threads: DATA_COMMANDS[
            CONFIG.scale.data_source
        ].format(trqam=TRQAM, domain=wildcards.domain, threads=threads),
    shell:
        "({params.command}) 2>&1 | tee -ai {log} {log}.all"
