rule train_demo_encoder:
    input:
        outdated=outdated("train-demo-encoder", paths.encoder("demo-clip")),
    output:
        paths.encoder("demo-clip"),
    log:
        "logs/train-demo-encoder.log",
    benchmark:
        "logs/benchmarks/train-demo-encoder.tsv"
    conda:
        "../../environment.yml"
    threads: 2
    resources:
        mem_mb=grow(4000),
        runtime=grow(60),
    shell:
        "python -m tgdfer train-demo-encoder > {log} 2>&1"


rule import_encoder:
    input:
        outdated=outdated("import-encoder", paths.encoder("{encoder}")),
    output:
        paths.encoder("{encoder}"),
    log:
        "logs/import-encoder/{encoder}.log",
    benchmark:
        "logs/benchmarks/import-encoder/{encoder}.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=grow(8000),
        runtime=grow(30),
    shell:
        "python -m tgdfer import-encoder --name {wildcards.encoder} > {log} 2>&1"
