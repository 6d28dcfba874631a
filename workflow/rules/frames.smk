rule frames:
    input:
        clips=paths.clips("{dataset}"),
    output:
        # its shards are not declared: Snakemake deletes declared outputs before a retry, and finished shards are kept
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
