# One dataset a domain: generated on the spot, or stored from official files placed under data_dir/official.


rule dataset:
    output:
        f"{CONFIG.scale.data_dir}/{{domain}}/card.json",
    log:
        f"{LOGS}/dataset/{{domain}}.log",
    conda:
        "../../environment.yml"
    threads: 1
    params:
        command="generate" if CONFIG.scale.data_source == "generated" else "convert",
        trqam=TRQAM,
    shell:
        "{params.trqam} {params.command} {wildcards.domain} 2>&1 | tee {log}"
