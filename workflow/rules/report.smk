rule report:
    input:
        summaries=summaries,
        truths=truths,
    output:
        report(paths.REPORT_PAGE, caption="../report/page.rst", category="Results"),
    log:
        "logs/report.log",
    benchmark:
        "logs/benchmarks/report.tsv"
    conda:
        "../../environment.yml"
    threads: 2
    resources:
        mem_mb=grow(8000),
        runtime=grow(60),
    params:
        settings=settings("report"),
        code=code("report"),
    shell:
        "python -m tgdfer report > {log} 2>&1"
