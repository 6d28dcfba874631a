"""The two graphs say the same: stages, inputs, outputs, commands, parameters; and what they promise of a change."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest
import yaml
from graphs import BIN, ROOT, Project, covered

from tgdfer.config import dependencies
from tgdfer.config.params import load_params

STUB = (Path(__file__).parents[1] / "projects" / "stub_cli.py").read_text()
PARAMS = (ROOT / "params.yaml").read_text()


def with_more(params: str) -> str:
    """The parameters with a second data set and an imported encoder: what a user adds, without touching the graphs."""
    changed = yaml.safe_load(params)
    changed["datasets"]["mine"] = {
        "layout": "folder",
        "root": "mine",
        "annotations": "mine/clips.csv",
        "encoder": "vit-b-32",
    }
    changed["encoders"] = {"vit-b-32": {"model": "ViT-B-32-quickgelu", "pretrained": "openai"}}
    return yaml.safe_dump(changed, sort_keys=False)


def make(tmp_path: Path, params: str = PARAMS) -> Project:
    project = Project.make(tmp_path / "project", params, STUB)
    (project.root / "mine").mkdir()
    (project.root / "mine" / "clips.csv").write_text("clip_id,path,label,fold\n")
    return project


@pytest.fixture(scope="module", params=["as it is", "with more"])
def graphs(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Project, list[dict], list[dict]]:
    project = make(tmp_path_factory.mktemp("graphs"), PARAMS if request.param == "as it is" else with_more(PARAMS))
    jobs = [job for job in project.snakemake_jobs() if job["rule"] != "all"]
    return project, jobs, project.dvc_stages()


def plain(command: str) -> str:
    """A command without the redirection of its log and the prefix."""
    return command.split(" > ")[0].rsplit("; ", 1)[-1].strip()


def test_the_graphs_are_the_same(graphs: tuple[Project, list[dict], list[dict]]) -> None:
    _, jobs, dvc_stages = graphs
    by_command = {stage["command"]: stage for stage in dvc_stages}
    assert sorted(plain(job["command"]) for job in jobs) == sorted(by_command)

    for job in jobs:
        stage = by_command[plain(job["command"])]
        name = stage["name"]
        # every output that Snakemake declares is a DVC output or lies in one, and no DVC output goes undeclared
        assert all(covered(output, stage["outs"]) for output in job["output"]), name
        if stage["name"] == "report":
            assert {out.split("/")[0] for out in stage["outs"]} == {"reports"}
        else:
            assert all(any(covered(output, [out]) for output in job["output"]) for out in stage["outs"]), name

        deps = {dep for dep in stage["deps"] if not dep.startswith("tgdfer/")}
        # a file that Snakemake names is a dependency of DVC's, or lies in a folder that is one
        missing = {file for file in job["input"] if not covered(file, deps)}
        assert not missing, f"dvc.yaml: {name}: deps lack {sorted(missing)}"
        # and the other way round; a folder that DVC names must hold a file that Snakemake names
        extra = {dep for dep in deps if not any(covered(file, [dep]) for file in job["input"])}
        assert not extra, f"dvc.yaml: {name}: deps have {sorted(extra)}, which Snakemake's rule has not"

        assert sorted(stage["params"]) == sorted(job["params"]), f"dvc.yaml: {name}: params"


def test_code_and_parameters_come_from_one_place(graphs: tuple[Project, list[dict], list[dict]]) -> None:
    project, jobs, dvc_stages = graphs
    assert {job["rule"].replace("_", "-") for job in jobs} <= set(dependencies.STAGES)
    for job in jobs:
        stage = job["rule"].replace("_", "-")
        wildcards = job["wildcards"]
        assert set(job["params"]) == {key.format(**wildcards) for key in dependencies.STAGES[stage]}
        variant = load_params(project.root / "params.yaml").run(wildcards["variant"]) if stage == "train" else None
        assert job["code"] == dependencies.code_fingerprint(stage, variant and variant.model.architecture)
    for stage in dvc_stages:
        code = {dep for dep in stage["deps"] if dep.startswith("tgdfer/")}
        root = dependencies.code.PACKAGE.parent
        assert code == {path.relative_to(root).as_posix() for path in dependencies.code_files(stage["stage"])}


def test_folders_are_kept_between_calls_and_each_job_has_a_log_of_its_own(
    graphs: tuple[Project, list[dict], list[dict]],
) -> None:
    _, jobs, dvc_stages = graphs
    for stage in dvc_stages:
        for out, persist in stage["outs"].items():
            folder = not Path(out).suffix and not out.startswith("reports/")
            assert persist == folder, f"{stage['name']}: {out}: persist"
    logs = [log for job in jobs for log in job["log"]]
    assert len(logs) == len(set(logs)) == len(jobs)


def test_stages_that_compute_on_a_gpu_ask_for_one(graphs: tuple[Project, list[dict], list[dict]]) -> None:
    for job in graphs[1]:
        wants = job["rule"].replace("_", "-") in dependencies.ON_GPU
        assert job["resources"].get("gpu", 0) == int(wants), job["rule"]


def path_without(folder: Path, *names: str) -> str:
    """A PATH that has every tool of the caller's but ``names``."""
    folder.mkdir()
    for directory in [str(BIN), *os.environ["PATH"].split(os.pathsep)]:
        for tool in Path(directory).glob("*"):
            if tool.name not in names and not (folder / tool.name).exists():
                (folder / tool.name).symlink_to(tool)
    return str(folder)


def test_every_variant_on_request(tmp_path: Path) -> None:
    project = make(tmp_path)
    said = project.snakemake("-n", "--config", "grid=all").stdout
    assert re.search(rf"^train +{len(load_params(ROOT / 'params.yaml').variants)}$", said, re.MULTILINE)
    for wrong, expected in (
        ("grid=some", "'all'"),
        ("gird=all", "one of the keys grid, gpus, jobs_per_gpu"),
        ("jobs_per_gpu=0", "a whole number from 1"),
    ):
        refused = project.snakemake("-n", "--config", wrong, check=False)
        assert refused.returncode and f"--config {wrong}: expected {expected}" in refused.stdout


def test_slurm_dry_run_needs_no_slurm(tmp_path: Path) -> None:
    project = make(tmp_path)
    path = path_without(tmp_path / "bin", "sbatch", "squeue", "sacct", "scancel", "srun", "sinfo", "scontrol")
    said = project.run(str(BIN / "snakemake"), "--profile", "slurm", "-n", "all", PATH=path).stdout
    variants = len(load_params(ROOT / "params.yaml").grid)
    assert re.search(rf"^train +{variants}$", said, re.MULTILINE)
    # every training, the features and the demo encoder
    assert said.count("gpu=1") == variants + 1


GROUPS = """
from snakemake.cli import main
from snakemake.executors.dryrun import Executor

printjob = Executor.printjob

def told(self, job):
    if job.is_group():
        print("GROUP", len(list(job.jobs)), *(job.resources[name] for name in ("gpu", "mem_mb", "runtime")))
    return printjob(self, job)

Executor.printjob = told
main()
"""


def test_several_trainings_in_a_slurm_job(tmp_path: Path) -> None:
    project = make(tmp_path)
    profile = project.root / "slurm" / "config.yaml"
    lines, count = re.subn(r"(?m)^# (group|resources: |set-resource-scopes: )", r"\1", profile.read_text())
    assert count == 4
    profile.write_text(lines)
    said = project.run("python", "-c", GROUPS, "--profile", "slurm", "-n", "all").stdout
    # eight and the rest of 13: the time of all together, the GPU and the memory of one
    assert set(re.findall(r"^GROUP (.*)$", said, re.MULTILINE)) == {"8 1 8000 1920", "5 1 8000 1200"}


def test_two_hundred_variants_are_planned_in_seconds(tmp_path: Path) -> None:
    params = yaml.safe_load(PARAMS)
    for index in range(200 - len(params["variants"])):
        changed = {"model": {"dropout": (index + 1) / 1000}}
        params["variants"][f"v{index}"] = {"label": str(index), "tables": [], "set": changed}
    project = make(tmp_path, yaml.safe_dump(params, sort_keys=False))
    started = time.monotonic()
    said = project.snakemake("-n", "--config", "grid=all").stdout
    assert re.search(r"^train +200$", said, re.MULTILINE)
    assert time.monotonic() - started < 60  # 3 on a free machine
