"""The two graphs say the same: stages, inputs, outputs, commands, parameters; and what they promise of a change."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import pytest
import yaml
from graphs import BIN, NOTHING, ROOT, Project, covered
from media import video

from tgdfer.config import dependencies
from tgdfer.config.params import load_params
from tgdfer.core import paths
from tgdfer.stages import clips as clips_stage
from tgdfer.stages import frames as frames_stage

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


def across(params: str) -> str:
    """The parameters with another rendered data set, and variants that are tested across data sets."""
    changed = yaml.safe_load(params)
    about = {"layout": "folder", "root": "data/raw/dim", "annotations": "data/raw/dim/clips.csv"}
    changed["datasets"]["dim"] = {**about, "encoder": "demo-clip"}
    changed["renders"] = {"dim": {"seed": 1, "light": 0.5}}
    changed["transfer"] = ["tgdfer", "zero-shot"]
    return yaml.safe_dump(changed, sort_keys=False)


PARAMETERS = {"as they are": PARAMS, "with more": with_more(PARAMS), "across data sets": across(PARAMS)}


def make(tmp_path: Path, params: str = PARAMS) -> Project:
    project = Project.make(tmp_path / "project", params, STUB)
    (project.root / "mine").mkdir()
    (project.root / "mine" / "clips.csv").write_text("clip_id,path,label,fold\n")
    return project


@pytest.fixture(scope="module", params=PARAMETERS)
def graphs(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Project, list[dict], list[dict]]:
    project = make(tmp_path_factory.mktemp("graphs"), PARAMETERS[request.param])
    if request.param == "across data sets":  # as the comment there says
        file = project.root / "dvc.yaml"
        file.write_text(file.read_text().replace("      - runs #", "      - transfer\n      - runs #"))
    jobs = [job for job in project.snakemake_jobs() if job["rule"] != "all"]
    return project, jobs, project.dvc_stages()


def plain(command: str) -> str:
    """A command without the redirection of its log, the prefix, and MLflow, which Snakemake updates at its end."""
    return command.split(" > ")[0].rsplit("; ", 1)[-1].removesuffix(" --no-tracking").strip()


def test_the_graphs_are_the_same(graphs: tuple[Project, list[dict], list[dict]]) -> None:
    _, jobs, dvc_stages = graphs
    by_command = {stage["command"]: stage for stage in dvc_stages}
    assert sorted(plain(job["command"]) for job in jobs) == sorted(by_command)

    for job in jobs:
        stage = by_command[plain(job["command"])]
        name = stage["name"]
        # every output that Snakemake declares is a DVC output or in one, and no DVC output goes undeclared
        assert all(covered(output, stage["outs"]) for output in job["output"]), name
        if stage["name"] == "report":
            assert {out.split("/")[0] for out in stage["outs"]} == {"reports"}
        else:
            assert all(any(covered(output, [out]) for output in job["output"]) for out in stage["outs"]), name

        deps = {dep for dep in stage["deps"] if not dep.startswith("tgdfer/")}
        # a file that Snakemake names is a dependency of DVC, or in a folder that is one
        missing = {file for file in job["input"] if not covered(file, deps)}
        assert not missing, f"dvc.yaml: {name}: deps lack {sorted(missing)}"
        # and the other way round; a folder that DVC names must hold a file that Snakemake names
        # apart from the root of a data set: Snakemake asks tgdfer.media.sources whether a source has changed
        roots = {"data/raw/demo", "data/raw/dim", "mine"} if stage["stage"] == "frames" else set()
        extra = {dep for dep in deps - roots if not any(covered(file, [dep]) for file in job["input"])}
        assert not extra, f"dvc.yaml: {name}: deps have {sorted(extra)}, which Snakemake's rule has not"

        asked = {key.format(**job["wildcards"]) for key in dependencies.STAGES[stage["stage"]]}
        found = {param for param in stage["params"] if any(f"{key}.".startswith(f"{param}.") for key in asked)}
        assert found == set(stage["params"]), f"dvc.yaml: {name}: params that Snakemake's rule has not"
        missing = {key for key in asked if not any(f"{key}.".startswith(f"{param}.") for param in found)}
        assert not missing, f"dvc.yaml: {name}: params lack {sorted(missing)}"


def test_code_and_parameters_come_from_one_place(graphs: tuple[Project, list[dict], list[dict]]) -> None:
    _, jobs, dvc_stages = graphs
    assert {job["rule"].replace("_", "-") for job in jobs} <= set(dependencies.STAGES)
    for job in jobs:
        stage = job["rule"].replace("_", "-")
        if stage != "train":  # the records of runs say what they were made from
            looked = [made_by for made_by in job["made_by"] if made_by]
            assert looked and all(made_by == [stage, job["wildcards"]] for made_by in looked), job["rule"]
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
        ("seeds=a", "whole numbers separated by commas"),
        ("gird=all", "one of the keys study, set, grid, seeds, "),
        ("jobs_per_gpu=0", "a whole number from 1"),
    ):
        refused = project.snakemake("-n", "--config", wrong, check=False)
        assert refused.returncode and f"--config {wrong}: expected {expected}" in refused.stdout


def test_a_study_and_single_keys_on_the_command_line(tmp_path: Path) -> None:
    project = make(tmp_path)
    (project.root / "studies").mkdir()
    (project.root / "studies" / "small.yaml").write_text("grid: [tgdfer, no-text]")
    said = project.snakemake("-n", "--config", "study=small").stdout
    assert re.search(r"^train +2$", said, re.MULTILINE)
    assert "studies/small/runs/demo/no-text/summary.json" in said and "studies/small/reports/index.html" in said
    assert "data/demo/features/demo-clip/manifest.json" in said and "studies/small/data" not in said
    said = project.snakemake("-n", "--config", "grid=tgdfer,zero-shot", "seeds=0,1", "set=model.top_k=2").stdout
    assert re.search(r"^train +2$", said, re.MULTILINE)
    for wrong, expected in (
        ("study=large", "studies/large.yaml: no such file; the studies here are: small"),
        ("set=model.topk=2", "--set model.topk=2: model.topk: unknown key"),
        ("grid=some", "--set grid=[some]: grid: no variant 'some'"),
    ):
        refused = project.snakemake("-n", "--config", wrong, check=False)
        assert refused.returncode and expected in refused.stdout


def test_dvc_runs_a_study_from_the_shared_features(tmp_path: Path) -> None:
    project = make(tmp_path)
    (project.root / "studies").mkdir()
    (project.root / "studies" / "small.yaml").write_text("grid: [tgdfer, no-text]")
    project.run(sys.executable, "workflow/dvc_study.py", "small")
    said = project.run(str(BIN / "dvc"), "repro", "studies/small/dvc.yaml").stdout
    commands = [line.removeprefix("> ") for line in said.splitlines() if line.startswith("> ")]
    assert "python -m tgdfer features --dataset demo" in commands
    assert {command for command in commands if "--study" in command} == {
        "python -m tgdfer --study small train --dataset demo --variant tgdfer",
        "python -m tgdfer --study small train --dataset demo --variant no-text",
        "python -m tgdfer --study small report",
    }
    assert (project.root / "studies/small/reports/index.html").exists()
    assert not (project.root / "runs").exists()


def test_dvc_makes_the_data_sets_and_transfers_of_a_study(tmp_path: Path) -> None:
    project = make(tmp_path)
    (project.root / "studies").mkdir()
    about = "{layout: folder, root: data/raw/dim, annotations: data/raw/dim/clips.csv, encoder: demo-clip}"
    added = f"datasets: {{dim: {about}}}\nrenders: {{dim: {{seed: 1}}}}\n"
    (project.root / "studies" / "across.yaml").write_text(f"{added}grid: [tgdfer]\ntransfer: [tgdfer]\n")
    project.run(sys.executable, "workflow/dvc_study.py", "across")
    said = project.run(str(BIN / "dvc"), "repro", "studies/across/dvc.yaml").stdout
    commands = {line.removeprefix("> python -m tgdfer ") for line in said.splitlines() if line.startswith("> ")}
    assert commands == {
        *("render-demo", "train-demo-encoder", "--study across render --name dim", "--study across report"),
        *(f"{stage} --dataset demo" for stage in ("clips", "frames", "features")),
        *(f"--study across {stage} --dataset dim" for stage in ("clips", "frames", "features")),
        *(f"--study across train --dataset {name} --variant tgdfer" for name in ("demo", "dim")),
        *(
            f"--study across transfer --source {source} --target {target} --variant tgdfer"
            for source in ("demo", "dim")
            for target in ("demo", "dim")
        ),
    }


def test_slurm_dry_run_needs_no_slurm(tmp_path: Path) -> None:
    project = make(tmp_path)
    path = path_without(tmp_path / "bin", "sbatch", "squeue", "sacct", "scancel", "srun", "sinfo", "scontrol")
    said = project.run(str(BIN / "snakemake"), "--profile", "slurm", "-n", "all", PATH=path).stdout
    params = load_params(ROOT / "params.yaml")
    runs = len(params.grid) * params.demo.folds * len(params.seeds)
    assert re.search(rf"^train_run +{runs}$", said, re.MULTILINE), "a fresh clone knows every fold"
    assert re.search(rf"^train +{len(params.grid)}$", said, re.MULTILINE)
    assert said.count("gpu=1") == runs + params.frames.shards  # and the parts of the features


def test_jobs_request_memory_and_time_by_the_size_of_their_input(tmp_path: Path) -> None:
    project = make(tmp_path, PARAMS.replace("clips: 1400", "clips: 1_000_000"))
    said = project.snakemake("--profile", "slurm", "-n", "all").stdout
    asked = {
        rule: {int(number) for number in re.findall(rf"(?ms)^rule {rule}:$.*?resources:.*? {name}=(\d+)", said)}
        for rule, name in (("clips", "mem_mb"), ("frames_part", "runtime"), ("features_part", "runtime"))
    }
    assert asked == {"clips": {9000}, "frames_part": {120 + 111}, "features_part": {120 + 333}}
    trainings = re.findall(r"(?ms)^rule train_run:$.*?resources:.*? mem_mb=(\d+).*? runtime=(\d+)", said)
    assert ("10000", "1500") in trainings, "a day at most, because they are continued"
    assert {memory for memory, _ in trainings} == {"10000"} and len(set(trainings)) > 1


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("runs/nowhere/tgdfer/summary.json", "datasets: no data set 'nowhere'; known: demo"),
        ("data/nowhere/clips.parquet", "datasets: no data set 'nowhere'; known: demo"),
        ("runs/demo/nothing/fold1/seed0/metrics.json", "variants: no variant 'nothing'; known: tgdfer, "),
        ("runs/demo/tgdfer/fold6/seed0/metrics.json", "demo has no fold 6; its folds are 1, 2, 3, 4, 5"),
    ],
)
def test_a_target_that_is_unknown_is_one_line(tmp_path: Path, target: str, said: str) -> None:
    refused = make(tmp_path).snakemake("-n", target, check=False)
    assert refused.returncode
    assert said in refused.stdout
    assert "KeyError" not in refused.stdout


def test_one_run_and_one_table_are_targets(tmp_path: Path) -> None:
    project = make(tmp_path)
    said = project.snakemake("-n", "runs/demo/tgdfer/fold2/seed0/metrics.json").stdout
    assert re.search(r"^train_run +1$", said, re.MULTILINE) and not re.search(r"^train +", said, re.MULTILINE)
    said = project.snakemake("-n", "reports/tables/main-demo.tex", "reports/figures/recall-demo.pdf").stdout
    assert re.search(r"^report_item +2$", said, re.MULTILINE) and re.search(r"^report +1$", said, re.MULTILINE)


def test_dvc_and_snakemake_at_the_same_time_are_refused(tmp_path: Path) -> None:
    project = make(tmp_path)
    lock = project.root / ".dvc" / "tmp" / "rwlock"
    lock.parent.mkdir(exist_ok=True)
    lock.write_text(json.dumps({"/x": {"write": {"pid": os.getpid(), "cmd": "dvc repro"}, "read": []}}))
    refused = project.snakemake("-n", "data/raw/demo/clips.csv", check=False)
    assert refused.returncode
    assert f"dvc is working in this folder (process {os.getpid()})" in refused.stdout


def test_a_video_that_is_replaced_is_planned_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = make(tmp_path, PARAMETERS["with more"])
    monkeypatch.chdir(project.root)
    clips = [video(Path("mine") / f"{name}.mp4") for name in "abc"]
    rows = [f"{clip.stem},{clip.name},happy,{number}" for number, clip in enumerate(clips, start=1)]
    Path("mine/clips.csv").write_text("\n".join(["clip_id,path,label,fold", *rows]))
    params = load_params()
    clips_stage.run(params, "mine")
    frames_stage.run(params, "mine")
    manifest = str(paths.frames("mine"))
    assert NOTHING in project.snakemake("-n", manifest).stdout
    video(clips[1], 5)
    planned = project.snakemake("-n", manifest, "--config", "frames_jobs=2").stdout
    assert re.search(r"^frames +1$", planned, re.MULTILINE) and re.search(r"^frames_part +2$", planned, re.MULTILINE)
    frames_stage.run(params, "mine")
    assert NOTHING in project.snakemake("-n", manifest).stdout


def test_parts_with_other_parameters_are_made_again(tmp_path: Path) -> None:
    project = make(tmp_path)
    manifest = str(paths.frames("demo"))
    project.snakemake("--cores", "1", str(paths.clips("demo")))
    for part in ("1/2", "2/2"):
        project.run("python", "-m", "tgdfer", "frames", "--dataset", "demo", "--part", part)

    def planned() -> set[str]:
        said = project.snakemake("-n", manifest, "--config", "frames_jobs=2").stdout
        return set(re.findall(r"^(frames\S*) +\d$", said, re.MULTILINE))

    assert planned() == {"frames"}
    params = project.root / "params.yaml"
    params.write_text(params.read_text().replace("max_frames: 32", "max_frames: 31"))
    assert planned() == {"frames", "frames_part"}


GROUPS = """
from snakemake.cli import main
from snakemake.executors.dryrun import Executor

printjob = Executor.printjob

def print_job(self, job):
    if job.is_group():
        print("GROUP", len(list(job.jobs)), *(job.resources[name] for name in ("gpu", "mem_mb", "runtime")))
    return printjob(self, job)

Executor.printjob = print_job
main()
"""


def test_several_trainings_in_a_slurm_job(tmp_path: Path) -> None:
    project = make(tmp_path)
    profile = project.root / "slurm" / "config.yaml"
    lines, count = re.subn(r"(?m)^# (group|resources: |set-resource-scopes: )", r"\1", profile.read_text())
    assert count == 4
    profile.write_text(lines)
    said = project.run("python", "-c", GROUPS, "--profile", "slurm", "-n", "all").stdout
    # eight and the rest of 65: the time of all together, an hour and more for each; the GPU and the memory of one
    groups = [tuple(map(int, line.split())) for line in re.findall(r"^GROUP (.*)$", said, re.MULTILINE)]
    assert {group[:3] for group in groups} == {(8, 1, 8000), (1, 1, 8000)}
    assert all(60 * count <= runtime <= 66 * count for count, _, _, runtime in groups)


def test_two_hundred_variants_are_planned_in_seconds(tmp_path: Path) -> None:
    params = yaml.safe_load(PARAMS)
    for index in range(200 - len(params["variants"])):
        changed = {"model": {"dropout": (index + 1) / 1000}}
        params["variants"][f"v{index}"] = {"label": str(index), "tables": [], "set": changed}
    project = make(tmp_path, yaml.safe_dump(params, sort_keys=False))
    before = os.times().children_user
    said = project.snakemake("-n", "--config", "grid=all").stdout
    assert re.search(r"^train +200$", said, re.MULTILINE)
    assert os.times().children_user - before < 30  # of the processor, however busy the machine is
