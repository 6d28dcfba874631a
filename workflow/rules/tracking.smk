rule tracking:
    output:
        paths.EXPERIMENTS,
    log:
        "logs/tracking.log",
    benchmark:
        "logs/benchmarks/tracking.tsv"
    conda:
        "../../environment.yml"
    params:
        settings=settings("tracking"),
        code=code("tracking"),
    shell:
        "python -m tgdfer tracking > {log} 2>&1"
