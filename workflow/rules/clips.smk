rule clips:
    input:
        annotations=lambda wildcards: PARAMS.datasets[wildcards.dataset].annotations,
        outdated=outdated("clips", paths.clips("{dataset}"), paths.folds("{dataset}")),
    output:
        clips=paths.clips("{dataset}"),
        folds=paths.folds("{dataset}"),
    log:
        "logs/clips/{dataset}.log",
    benchmark:
        "logs/benchmarks/clips/{dataset}.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=grow(4000, memory(5)),
        runtime=grow(60),
    shell:
        "python -m tgdfer clips --dataset {wildcards.dataset} > {log} 2>&1"
