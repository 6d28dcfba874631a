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


# what is left of a stage that is split takes seconds: not worth a place in the queue
workflow.localrules(*(stage for stage, split in SPLIT.items() if split))


wildcard_constraints:
    dataset="[^/]+",
    variant="[^/]+",
    encoder=r"(?!demo-clip/)[^/]+",
    fold="[1-9][0-9]*",
    seed="[0-9]+",
    part="[1-9][0-9]*",
    parts="[1-9][0-9]*",


rule all:
    default_target: True
    input:
        paths.REPORT_PAGE,
        products,
        items if any(word.startswith("--report") for word in sys.argv) else [],


include: "workflow/rules/demo.smk"
include: "workflow/rules/encoders.smk"
include: "workflow/rules/clips.smk"
include: "workflow/rules/frames.smk"
include: "workflow/rules/features.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/transfer.smk"
include: "workflow/rules/report.smk"


# the only writer of MLflow's database is this process, on the machine that started the jobs
onsuccess:
    update_mlflow()


onerror:
    update_mlflow()
