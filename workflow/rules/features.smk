rule features_part:
    input:
        frames=paths.frames("{dataset}"),
        encoder=encoder_of,
        outdated=outdated(
            "features",
            Part("{part}", "{parts}").list_of(
                paths.features("{dataset}", "{encoder}")
            ),
        ),
    output:
        temp(
            Part("{part}", "{parts}").list_of(paths.features("{dataset}", "{encoder}"))
        ),
    log:
        "logs/features/{dataset}-{encoder}/{part}-of-{parts}.log",
    benchmark:
        "logs/benchmarks/features/{dataset}-{encoder}/{part}-of-{parts}.tsv"
    wildcard_constraints:
        encoder="[^/]+",
    conda:
        "../../environment.yml"
    threads: 2
    resources:
        mem_mb=grow(8000),
        runtime=grow(120, features_minutes),
        gpu=1,
    shell:
        "python -m tgdfer features --dataset {wildcards.dataset} --part {wildcards.part}/{wildcards.parts} > {log} 2>&1"


rule features:
    input:
        frames=paths.frames("{dataset}"),
        encoder=encoder_of,
        outdated=outdated("features", paths.features("{dataset}", "{encoder}")),
        parts=parts_of("features", paths.features("{dataset}", "{encoder}")),
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
    threads: 1 if SPLIT["features"] else 2
    resources:
        mem_mb=grow(4000 if SPLIT["features"] else 8000),
        runtime=grow(30) if SPLIT["features"] else grow(120, features_minutes),
        gpu=0 if SPLIT["features"] else 1,
    shell:
        "python -m tgdfer features --dataset {wildcards.dataset} {input.parts} > {log} 2>&1"
