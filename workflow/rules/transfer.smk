rule transfer:
    input:
        paths.variant("{source}", "{variant}"),
        paths.clips("{target}"),
        paths.folds("{target}"),
        lambda wildcards: paths.features(
            wildcards.target, PARAMS.datasets[wildcards.target].encoder
        ),
        outdated=outdated(
            "transfer", paths.transfer("{source}", "{target}", "{variant}")
        ),
    output:
        paths.transfer("{source}", "{target}", "{variant}"),
    log:
        paths.LOGS / "transfer/{source}/{target}/{variant}.log",
    benchmark:
        "logs/benchmarks/transfer/{source}/{target}/{variant}.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=grow(8000),
        runtime=grow(60),
        gpu=1,
    shell:
        "python -m tgdfer transfer --source {wildcards.source} --target {wildcards.target}"
        " --variant {wildcards.variant} > {log} 2>&1"
