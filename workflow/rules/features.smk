rule features:
    input:
        frames=paths.frames("{dataset}"),
        encoder=encoder_of,
    output:
        paths.features("{dataset}", "{encoder}"),
    log:
        "logs/features/{dataset}-{encoder}.log",
    benchmark:
        "logs/benchmarks/features/{dataset}-{encoder}.tsv"
    wildcard_constraints:
        encoder="[^/]+",
    conda:
        "../../environment.yml"
    threads: 2
    resources:
        mem_mb=grow(8000),
        runtime=grow(240),
        gpu=1,
    params:
        settings=settings("features"),
        code=code("features"),
    shell:
        "python -m tgdfer features --dataset {wildcards.dataset} > {log} 2>&1"
