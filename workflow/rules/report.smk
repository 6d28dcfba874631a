rule report:
    input:
        summaries=summaries,
        transfers=transfers,
        truths=truths,
        outdated=outdated("report", paths.REPORT_PAGE),
    output:
        report(paths.REPORT_PAGE, caption="../report/page.rst", category="Results"),
    log:
        paths.LOGS / "report.log",
    benchmark:
        "logs/benchmarks/report.tsv"
    conda:
        "../../environment.yml"
    threads: 2
    resources:
        mem_mb=grow(8000),
        runtime=grow(60),
    shell:
        "python -m tgdfer report --no-tracking > {log} 2>&1"


rule report_item:
    input:
        ancient(paths.REPORT_PAGE),
    output:
        # made by the report, which knows only from the runs what there is to show
        report(
            update(paths.REPORTS / "{kind}" / "{file}"),
            caption="../report/item.rst",
            category=lambda wildcards: wildcards.kind.capitalize(),
        ),
    log:
        paths.LOGS / "report/{kind}/{file}.log",
    wildcard_constraints:
        kind="tables|figures",
    localrule: True
    conda:
        "../../environment.yml"
    shell:
        "ls {output} > {log} 2>&1"
