rule frames:
    input:
        clips=paths.clips("{dataset}"),
    output:
        # the shards beside it are not declared: declared outputs go before a retry, finished shards are to stay
        report(
            paths.frames("{dataset}"), caption="../report/frames.rst", category="Data"
        ),
    log:
        "logs/frames/{dataset}.log",
    benchmark:
        "logs/benchmarks/frames/{dataset}.tsv"
    conda:
        "../../environment.yml"
    threads: 2
    resources:
        mem_mb=grow(4000),
        runtime=grow(240),
    params:
        settings=settings("frames"),
        code=code("frames"),
    shell:
        "python -m tgdfer frames --dataset {wildcards.dataset} > {log} 2>&1"
