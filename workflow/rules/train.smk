rule train:
    input:
        clips=paths.clips("{dataset}"),
        folds=paths.folds("{dataset}"),
        # its manifest names the encoder by fingerprint, so a new encoder arrives here through the features
        features=features_of,
        outdated=outdated,
    output:
        # the runs next to it are not declared, so that a retry keeps the finished ones; checkpoints are elsewhere
        paths.variant("{dataset}", "{variant}"),
    log:
        "logs/train/{dataset}/{variant}.log",
    benchmark:
        "logs/benchmarks/train/{dataset}/{variant}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=grow(8000),
        runtime=grow(240),
        gpu=1,
    params:
        settings=settings("train"),
        code=code("train"),
        words=words_of,
    shell:
        "python -m tgdfer train --dataset {wildcards.dataset} --variant {wildcards.variant} > {log} 2>&1"
