rule render_demo:
    input:
        outdated=outdated("render-demo", paths.DEMO_CLIPS),
    output:
        clips=report(paths.DEMO_CLIPS, caption="../report/clips.rst", category="Data"),
        truth=paths.DEMO_TRUTH,
    log:
        "logs/render-demo.log",
    benchmark:
        "logs/benchmarks/render-demo.tsv"
    conda:
        "../../environment.yml"
    threads: 2
    resources:
        mem_mb=grow(4000),
        runtime=grow(30),
    shell:
        "python -m tgdfer render-demo > {log} 2>&1"


rule render:
    input:
        outdated=outdated("render", paths.rendered("{rendered}")),
    output:
        clips=report(
            paths.rendered("{rendered}"),
            caption="../report/clips.rst",
            category="Data",
        ),
        truth=paths.rendered("{rendered}").with_name(paths.DEMO_TRUTH.name),
    log:
        "logs/render/{rendered}.log",
    benchmark:
        "logs/benchmarks/render/{rendered}.tsv"
    wildcard_constraints:
        rendered="|".join(map(re.escape, PARAMS.renders)) or "(?!)",
    conda:
        "../../environment.yml"
    threads: 2
    resources:
        mem_mb=grow(4000),
        runtime=grow(30),
    shell:
        "python -m tgdfer render --name {wildcards.rendered} > {log} 2>&1"
