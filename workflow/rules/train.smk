rule train_run:
    input:
        training_inputs,
        outdated=outdated_run,
    output:
        # `update`: Snakemake leaves it where it is, so that a finished run is kept
        update(paths.run("{dataset}", "{variant}", "{fold}", "{seed}") / "metrics.json"),
    log:
        paths.LOGS / "train/{dataset}/{variant}/fold{fold}-seed{seed}.log",
    benchmark:
        "logs/benchmarks/train/{dataset}/{variant}/fold{fold}-seed{seed}.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=grow(8000, memory(2)),
        runtime=grow(60, training_minutes),
        gpu=1,
    shell:
        "python -m tgdfer train --dataset {wildcards.dataset} --variant {wildcards.variant}"
        " --fold {wildcards.fold} --seed {wildcards.seed} > {log} 2>&1"


rule train:
    input:
        summary_inputs,
        outdated=outdated_summary,
    output:
        # the runs next to it are not declared, so that a retry keeps the finished ones
        paths.variant("{dataset}", "{variant}"),
    log:
        paths.LOGS / "train/{dataset}/{variant}.log",
    benchmark:
        "logs/benchmarks/train/{dataset}/{variant}.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=grow(2000) if SPLIT["train"] else grow(8000, memory(2)),
        runtime=grow(30) if SPLIT["train"] else grow(60, training_minutes),
        gpu=0 if SPLIT["train"] else 1,
        # a resource and not a parameter: another way of splitting the work makes nothing again
        collect="--collect" if SPLIT["train"] else "",
    shell:
        "python -m tgdfer train --dataset {wildcards.dataset} --variant {wildcards.variant} {resources.collect} > {log} 2>&1"
