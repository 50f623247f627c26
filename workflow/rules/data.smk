# One dataset a domain: generated on the spot, or stored from official files, which are fetched to data_dir/official
# or placed there by hand.

DATA_COMMANDS = {"generated": ["generate"], "official": ["fetch", "convert"]}


rule dataset:
    output:
        f"{CONFIG.scale.data_dir}/{{domain}}/card.json",
    log:
        f"{LOGS}/dataset/{{domain}}.log",
    conda:
        "../../environment.yml"
    threads: 1
    params:
        commands=DATA_COMMANDS[CONFIG.scale.data_source],
        trqam=TRQAM,
    shell:
        "for command in {params.commands}; do"
        " {params.trqam} $command {wildcards.domain} || exit;"
        " done 2>&1 | tee {log}"
