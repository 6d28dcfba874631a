rule render_demo:
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
    params:
        settings=settings("render-demo"),
        code=code("render-demo"),
    shell:
        "python -m tgdfer render-demo > {log} 2>&1"
