"""Raw clips to the paper's tables: `snakemake --profile local all`, or `--profile slurm` on a cluster.

tgdfer/config/dependencies.py and tgdfer/core/paths.py define what the stages read and write; params.yaml defines what runs.
dvc.yaml is the same graph for `dvc repro`; tests/workflow/test_graph.py compares the two.
"""

from snakemake.utils import min_version

min_version("9.0")


include: "workflow/common.smk"


report: "workflow/report/workflow.rst"


localrules:
    all,


wildcard_constraints:
    dataset="[^/]+",
    variant="[^/]+",
    encoder=r"(?!demo-clip/)[^/]+",


rule all:
    default_target: True
    input:
        paths.REPORT_PAGE,
        products,


include: "workflow/rules/demo.smk"
include: "workflow/rules/encoders.smk"
include: "workflow/rules/clips.smk"
include: "workflow/rules/frames.smk"
include: "workflow/rules/features.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/report.smk"


# the only writer of MLflow's database is this process, on the machine that started the jobs
onsuccess:
    update_mlflow()


onerror:
    update_mlflow()
