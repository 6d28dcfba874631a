rule frames_part:
    input:
        clips=paths.clips("{dataset}"),
        outdated=outdated(
            "frames", Part("{part}", "{parts}").list_of(paths.frames("{dataset}"))
        ),
    output:
        # its shards are not declared: Snakemake deletes declared outputs before a retry, and finished shards are kept
        temp(Part("{part}", "{parts}").list_of(paths.frames("{dataset}"))),
    log:
        "logs/frames/{dataset}/{part}-of-{parts}.log",
    benchmark:
        "logs/benchmarks/frames/{dataset}/{part}-of-{parts}.tsv"
    conda:
        "../../environment.yml"
    threads: 2
    resources:
        mem_mb=grow(4000),
        runtime=grow(120, frames_minutes),
    shell:
        "python -m tgdfer frames --dataset {wildcards.dataset} --part {wildcards.part}/{wildcards.parts} > {log} 2>&1"


rule frames:
    input:
        clips=paths.clips("{dataset}"),
        outdated=outdated("frames", paths.frames("{dataset}")),
        replaced=replaced_sources,
        parts=parts_of("frames", paths.frames("{dataset}")),
    output:
        report(
            paths.frames("{dataset}"), caption="../report/frames.rst", category="Data"
        ),
    log:
        "logs/frames/{dataset}.log",
    benchmark:
        "logs/benchmarks/frames/{dataset}.tsv"
    conda:
        "../../environment.yml"
    threads: 1 if SPLIT["frames"] else 2
    resources:
        mem_mb=grow(4000),
        runtime=grow(60) if SPLIT["frames"] else grow(120, frames_minutes),
    shell:
        "python -m tgdfer frames --dataset {wildcards.dataset} {input.parts} > {log} 2>&1"
