"""The graph on a real SLURM that the tests start: counted GPUs, two nodes, and everything that dies in practice.

The whole graph and the time limit run the real stages, as small as they go; the other tests use a stub of them: what
they hold is what the graph, the profile and the executor do.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from graphs import NOTHING, ROOT, Project, environment, hold_dvc_against, hold_repair, outputs, tiny
from pages import BLOCKS, repository
from slurm_cluster import Cluster, why_not

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(why_not() is not None, reason=why_not() or ""),
]

STUB = (Path(__file__).parents[1] / "projects" / "stub_cli.py").read_text()
# the profile's waits are for a cluster that many share
QUICK = ("--latency-wait", "5", "--slurm-init-seconds-before-status-checks", "3")
ALL = ("--profile", "slurm", *QUICK, "all")
ONE = (*ALL, "--config", "grid=tgdfer")  # each job starts Snakemake three times: two trainings, one on each node, do
TRAIN = ["train demo tgdfer 1 0", "train demo tgdfer 2 0"]
REST = ["train demo tgdfer collect", "report"]
OTHER = ["train demo no-text 1 0", "train demo no-text 2 0", "train demo no-text collect"]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("slurm")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with two variants and folds, made up to its trainings: these and the report are left to SLURM."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["grid"], params["demo"]["folds"] = ["tgdfer", "no-text"], 2
    project = Project.make(tmp_path_factory.mktemp("prepared") / "project", yaml.safe_dump(params), STUB)
    project.snakemake("--profile", "local", "--until", "features")
    project.forget_calls()
    return project


@pytest.fixture
def project(prepared: Project, tmp_path: Path) -> Project:
    shutil.copytree(prepared.root, tmp_path / "project", symlinks=True)
    return Project(tmp_path / "project")


def behave(project: Project, calls: dict[str, dict[str, int]] | None = None) -> None:
    part = project.root / "behaviour.part"  # calls that wait read it at any time
    part.write_text(json.dumps(calls or {}))
    part.replace(project.root / "behaviour.json")


LONG = {"seconds": 300}
"""For a call that is still running at whatever time something happens to it."""


def started(project: Project, cluster: Cluster, *command: str) -> subprocess.Popen[str]:
    """Snakemake, running; its output goes to run.log."""
    with (project.root / "run.log").open("a") as log:
        return subprocess.Popen(
            command,
            cwd=project.root,
            env={**environment(project.root.parent), **cluster.environment()},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )


def ends_well(project: Project, running: subprocess.Popen[str], seconds: float = 900) -> str:
    try:
        code = running.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
        code = None
    said = (project.root / "run.log").read_text()
    assert code == 0, f"snakemake: exit {code}\n{said[-5000:]}"
    return said


def wait_for(what: Callable[[], object], seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.2)


def times(project: Project) -> dict[str, list[tuple[float, float | None, str]]]:
    """Start, end (None if it was killed) and job of every call."""
    found: dict[str, list[tuple[float, float | None, str]]] = {}
    for line in (project.root / "calls.log").read_text().splitlines():
        event, call, at, job, *_ = json.loads(line)
        if event == "start":
            found.setdefault(call, []).append((at, None, job))
        else:
            index = next(i for i, entry in enumerate(found[call]) if entry[2] == job)
            found[call][index] = (found[call][index][0], at, job)
    return found


def is_noticed(project: Project, variant: str, fold: int) -> bool:
    """Whether Snakemake has noticed that the training of ``fold`` ended, and not only the job itself ended."""
    log = (project.root / "run.log").read_text()
    job = re.search(rf"^    output: runs/demo/{variant}/fold{fold}/(?:.*\n)+?    jobid: (\d+)$", log, re.MULTILINE)
    return job is not None and f"Finished jobid: {job[1]} " in log


def kill_all_of(job: str) -> None:
    """SIGKILL every process of a job, and the daemons that watch them."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            mine = f"\0SLURM_JOB_ID={job}\0".encode() in b"\0" + (process / "environ").read_bytes() + b"\0"
            watches = (process / "cmdline").read_bytes().startswith(f"slurmstepd: [{job}.".encode())
        except OSError:
            continue
        if (mine or watches) and int(process.name) != os.getpid():
            os.kill(int(process.name), signal.SIGKILL)


def training_jobs(cluster: Cluster, project: Project) -> list[dict[str, str]]:
    ids = (
        {job for calls in times(project).values() for _, _, job in calls}
        if (project.root / "calls.log").exists()
        else set()
    )
    return [job for job in cluster.jobs() if job["id"] in ids]


@pytest.fixture(scope="module")
def real(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A clone whose real stages, as small as they go, all ran on SLURM, by the first commands of docs/cluster.md.

    Of the profile's file, which the page says to edit, only the waits are changed.
    """
    folder = Project(tmp_path_factory.mktemp("real"))
    source = repository(folder.root / "project", tiny()).root
    (source / ".venv/bin/snakemake").unlink()
    (source / ".venv/bin/snakemake").symlink_to(cluster.folder / "bin" / "snakemake")
    editor = folder.root / "editor"
    editor.write_text("#!/bin/sh\nsed -i -E 's/^(latency-wait|slurm-init-\\S+): [0-9]+/\\1: 4/' \"$1\"\n")
    editor.chmod(0o755)
    (block,) = [block for block in BLOCKS if block.needs == "slurm"]
    assert block.page.name == "cluster.md"
    shell = ("bash", "-euo", "pipefail", "-c", block.here)
    running = started(folder, cluster, "env", f"PROJECT={source}", f"EDITOR={editor}", *shell)
    ends_well(folder, running, 1800)
    shutil.copy(folder.root / "run.log", folder.root / "tgdfer")
    return Project(folder.root / "tgdfer")


def test_the_whole_graph(cluster: Cluster, real: Project) -> None:
    said = (real.root / "run.log").read_text()
    (run,) = re.findall(r"^SLURM run ID: (\S+)$", said, re.MULTILINE)
    jobs = [job for job in cluster.jobs() if job["name"] == run]
    rules = [job["comment"].split("_wildcards")[0].removeprefix("rule_") for job in jobs]
    assert {job["state"] for job in jobs} == {"COMPLETED"}
    assert sorted(rules) == sorted(
        [
            *("render_demo", "train_demo_encoder", "clips", "report"),
            *("frames_part", "features_part") * 2,  # there are two shards
            *["train_run"] * 4,
        ]
    )
    # GPUs for those that compute on one, and never one GPU for two jobs at once
    on_gpu = [job for job in jobs if job["gpus"] == "gres:gpu:1"]
    assert {job["comment"].split("_wildcards")[0] for job in on_gpu} == {"rule_features_part", "rule_train_run"}
    # of both variants together: which node is free when a fold is submitted is chance
    trained = {job["node"] for job in jobs if job["comment"].startswith("rule_train_run_")}
    assert trained == {"n1", "n2"}, "the trainings are on both nodes"
    for node in ("n1", "n2"):
        spans = sorted((job["start"], job["end"]) for job in on_gpu if job["node"] == node)
        assert all(first[1] <= second[0] for first, second in itertools.pairwise(spans))
    # the output of a stage is in its log, that of SLURM in a log for each job
    assert {path.stem for path in (real.root / "logs" / "slurm").rglob("*.log")} == {job["id"] for job in jobs}
    assert (real.root / "logs" / "train" / "demo" / "tgdfer" / "fold1-seed0.log").read_text().strip()
    assert NOTHING in real.snakemake("--profile", "slurm", "-n", "all", **cluster.environment()).stdout


def test_dvc_on_one_machine_makes_what_slurm_made(real: Project, tmp_path: Path) -> None:
    hold_dvc_against(real, tmp_path / "second")


def test_outdated_runs_are_repaired_by_the_command_that_status_prints(real: Project, tmp_path: Path) -> None:
    project = Project(tmp_path / "project")
    shutil.copytree(real.root, project.root, symlinks=True)
    hold_repair(project)


def test_jobs_that_fail_or_are_cancelled_run_again_and_bad_input_does_not(cluster: Cluster, project: Project) -> None:
    behave(project, {TRAIN[0]: {"fail": 1}, TRAIN[1]: LONG, OTHER[0]: {"refuse": 1}})
    running = started(project, cluster, "snakemake", *ALL)
    wait_for(lambda: TRAIN[1] in project.calls("start"))
    cluster.tool("scancel", times(project)[TRAIN[1]][0][2])
    assert running.wait(900) == 1
    said = (project.root / "run.log").read_text()
    assert sorted(project.calls("start")) == sorted([*TRAIN, *TRAIN, *OTHER[:2], REST[0]]), "all that does not need it"
    assert sorted(project.calls()) == sorted([*TRAIN, OTHER[1], REST[0]])
    # what failed is named with its log, and the log is shown
    assert "logs/train/demo/tgdfer/fold1-seed0.log" in said
    assert f"{TRAIN[0]} was made to fail" in said
    assert f"error: {OTHER[0]} was made to refuse its input" in said


def test_a_node_where_no_job_can_start_is_avoided(cluster: Cluster, project: Project) -> None:
    python = project.root / "bin" / "python"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\n[ "$SLURMD_NODENAME" != n1 ] || exit 127\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    said = ends_well(project, started(project, cluster, "env", f"PYTHON_OF_JOBS={python}", "snakemake", *ONE))
    assert sorted(project.calls()) == sorted([*TRAIN, *REST])
    assert "No job can start on n1, which is avoided from now on" in said
    tried_again = re.findall(r"Trying to restart job (\d+)", said)
    assert len(tried_again) == len(set(tried_again)), "the node takes one attempt of a job at most"


def test_a_node_that_dies(cluster: Cluster, project: Project) -> None:
    behave(project, dict.fromkeys(TRAIN, LONG))
    running = started(project, cluster, "snakemake", *ONE)
    wait_for(lambda: len(project.calls("start")) == 2)
    jobs = training_jobs(cluster, project)
    assert {job["node"] for job in jobs} == {"n1", "n2"}
    (lost,) = [job for job in jobs if job["node"] == "n1"]
    cluster.kill("n1")
    kill_all_of(lost["id"])  # a node that dies takes its processes along
    behave(project)
    try:
        ends_well(project, running)
    finally:
        cluster.start_node("n1")
        cluster.wait_ready()
    assert sorted(project.calls()) == sorted([*TRAIN, *REST])
    assert len(project.calls("start")) == len([*TRAIN, *REST]) + 1


def test_snakemake_killed_and_resumed(cluster: Cluster, project: Project) -> None:
    behave(project, {TRAIN[0]: LONG})
    mine = cluster.tool(
        "sbatch", "--parsable", "-o", "/dev/null", "--mem=100", "--job-name=somebody", "--wrap", "sleep 600"
    ).strip()
    running = started(project, cluster, "snakemake", *ONE)
    wait_for(lambda: TRAIN[1] in project.calls() and TRAIN[0] in project.calls("start"))
    wait_for(lambda: is_noticed(project, "tgdfer", 2))
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()

    again = started(project, cluster, "slurm/resume", *ONE)
    said = ends_well(project, again)
    assert "cancelling the jobs of the earlier run" in said
    assert project.calls().count(TRAIN[1]) == 1, "what was finished is not done again"
    first, second = times(project)[TRAIN[0]]
    states = {job["id"]: job["state"] for job in cluster.jobs()}
    assert (states[first[2]], first[1]) == ("CANCELLED", None)
    assert second[1] is not None
    assert states[mine] == "RUNNING", "nobody else's job is touched"
    cluster.tool("scancel", mine)


def test_an_outage_of_the_controller(cluster: Cluster, project: Project) -> None:
    behave(project, dict.fromkeys(TRAIN, LONG))
    running = started(project, cluster, "snakemake", *ONE)
    wait_for(lambda: len(project.calls("start")) == 2)
    cluster.wait_saved()
    cluster.kill("slurmctld")
    # nothing of a run that is alive is touched, with or without a controller
    refused = project.run("slurm/resume", *ONE, check=False, **cluster.environment())
    assert (refused.returncode, "still running here" in refused.stdout) == (2, True)
    # Snakemake has asked in vain: its first question has a time limit of ten seconds, the next one fails at once
    wait_for(lambda: "Falling back to 'sacct'" in (project.root / "run.log").read_text())
    time.sleep(2)
    cluster.start_controller()
    cluster.wait_ready()
    behave(project)
    ends_well(project, running)
    assert sorted(project.calls()) == sorted([*TRAIN, *REST])


def test_a_job_over_its_time_limit_goes_on_at_its_checkpoint(cluster: Cluster, real: Project, tmp_path: Path) -> None:
    project, undisturbed = Project(tmp_path / "project"), Project(tmp_path / "undisturbed")
    for copy in (project, undisturbed):
        shutil.copytree(real.root, copy.root, symlinks=True)
        (copy.root / "params.yaml").write_text(tiny(["tgdfer"], epochs=100))
    undisturbed.run("python", "-m", "tgdfer", "train", "--dataset", "demo", "--variant", "tgdfer")

    earlier = {job["id"] for job in cluster.jobs()}
    running = started(project, cluster, "snakemake", *ALL)
    # a hundred epochs take longer than a second
    wait_for(lambda: list((project.root / "runs").rglob("fold1/**/attempt.json")), 180)
    time.sleep(1)
    job = next(job for job in cluster.jobs("RUNNING") if "rule_train_run_wildcards_demo_tgdfer_1" in job["comment"])
    for process in training_processes(job["id"]):
        os.kill(process, signal.SIGSTOP)  # until the limit, when SLURM wakes it to end it
    cluster.tool("scontrol", "update", f"JobId={job['id']}", "EndTime=now+1")
    ends_well(project, running)

    first, second = sorted(
        (found for found in cluster.jobs() if found["comment"] == job["comment"] and found["id"] not in earlier),
        key=lambda job: int(job["id"]),
    )
    assert (first["state"], second["state"]) == ("TIMEOUT", "COMPLETED")
    assert second["limit"] == "02:02:00", "a job that was cut off gets twice the 61 minutes of its size"
    assert "resumed at epoch" in (project.root / "logs/train/demo/tgdfer/fold1-seed0.log").read_text()
    assert (project.root / "mlflow" / "mlflow.db").exists(), "Snakemake updated MLflow at its end"
    results = [path for path in outputs(undisturbed) if path.startswith("runs/demo/tgdfer/")]
    assert len(results) > 2
    assert {path: outputs(project)[path] for path in results} == {path: outputs(undisturbed)[path] for path in results}


def training_processes(job: str) -> list[int]:
    """The processes of a job that train."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command, environ = (process / "cmdline").read_bytes(), (process / "environ").read_bytes()
        except OSError:
            continue
        if b"-m\0tgdfer\0train" in command and f"SLURM_JOB_ID={job}\0".encode() in environ:
            found.append(int(process.name))
    return found
