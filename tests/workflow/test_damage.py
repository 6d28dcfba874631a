"""After damage, kills and a second process, the files are those of an undisturbed run."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from graphs import NOTHING, ROOT, Project, environment
from reader import Reader

pytestmark = pytest.mark.graph

COUNT = os.environ.get("TGDFER_FUZZ", "12")
"""How many damages are tried."""
AT_ONCE = int(os.environ.get("TGDFER_AT_ONCE", "1"))
"""How often two processes make the same at the same time."""
KILLS = int(os.environ.get("TGDFER_KILLS", "0"))
"""How often a graph is killed: minutes, so that it is not done unless it is asked for."""
LOCAL = ("--profile", "local", "all")
FINE = ("--config", "frames_jobs=3", "features_jobs=2", "train_jobs=run")
FILES = (
    *("data/raw/demo/clips.csv", "models/demo-clip/open_clip_model.safetensors", "data/demo/clips.parquet"),
    *("data/demo/frames/shard-00001.parquet", "data/demo/features/demo-clip/manifest.json"),
    *("runs/demo/tgdfer/summary.json", "runs/demo/tgdfer/fold2/seed0/history.jsonl", "reports/tables/main-demo.csv"),
)
OUTPUTS = ("data", "models", "runs", "checkpoints", "reports")
VARYING = re.compile(r"run\.json|system\.jsonl|rendered\.jsonl|sources\.parquet|costs-.*|index\.html|SHA256SUMS")
"""The files that contain times, directly or through the table of costs."""


def contents(project: Project, *folders: str, times: bool = False) -> dict[str, bytes | None]:
    """Every file of ``folders``, hidden ones too, with its content; without it where that contains ``times``."""
    found = [path for folder in folders for path in (project.root / folder).rglob("*") if path.is_file()]
    return {
        str(path.relative_to(project.root)): path.read_bytes() if times or not VARYING.fullmatch(path.name) else None
        for path in found
    }


@pytest.fixture(scope="module")
def made(finished: Reader, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A finished tiny project of the real stages."""
    project = Project(tmp_path_factory.mktemp("damage") / "project")
    shutil.copytree(finished.clone, project.root, symlinks=True)
    return project


@pytest.fixture
def project(made: Project, tmp_path: Path) -> Project:
    """A copy of it."""
    shutil.copytree(made.root, tmp_path / "project", symlinks=True)
    return Project(tmp_path / "project")


def test_random_damage_is_noticed_and_repaired(made: Project) -> None:
    fuzz = ROOT / "tests" / "projects" / "fuzz.py"
    said = made.run(sys.executable, str(fuzz), COUNT, "1", timeout=9000, PYTHONPATH=str(made.root)).stdout
    found = json.loads(said.splitlines()[-1])
    assert found["files"] > 100
    assert not any(found[name] for name in ("silent", "stopped", "unnoticed", "unrepaired")), found


def test_what_status_prints_repairs_all_at_once(project: Project) -> None:
    whole = contents(project, *OUTPUTS)
    shutil.rmtree(project.root / "runs/demo/linear-probe/fold1")
    (project.root / "runs/demo/tgdfer/fold1/seed0/run.json").unlink()
    before = {name: (project.root / name).read_bytes() for name in FILES}
    for name, content in before.items():
        path = project.root / name
        times = path.stat()
        path.write_bytes(content[:-20] + bytes([content[-20] ^ 4]) + content[-19:])
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    status = project.run(sys.executable, "-m", "tgdfer", "status", "--verify", check=False)
    assert status.returncode == 1
    assert all(name in status.stdout for name in FILES if "history" not in name)
    assert "fold 1 seed 0 damaged: run.json is missing" in status.stdout
    assert "1 done, 1 missing" in status.stdout
    command = re.search(r"next: (snakemake .* all) \(", status.stdout)
    assert command, status.stdout
    project.run(*command[1].split(), timeout=3000)
    assert contents(project, *OUTPUTS) == whole
    project.run(sys.executable, "-m", "tgdfer", "status", "--verify")
    assert NOTHING in project.snakemake("-n", "--profile", "local", "all").stdout


def test_two_processes_at_once_make_the_same_bytes(project: Project) -> None:
    def twice(folder: str, *command: str, times: bool = True) -> None:
        before = contents(project, folder, times=times)
        shutil.rmtree(project.root / folder)
        with ThreadPoolExecutor(2) as pool:
            running = [pool.submit(project.run, sys.executable, "-m", "tgdfer", *command) for _ in range(2)]
        assert not [process for process in running if "Traceback" in process.result().stdout]
        assert contents(project, folder, times=times) == before

    for _ in range(AT_ONCE):
        twice("reports", "report")
    for _ in range(AT_ONCE):
        twice("data/demo/frames", "frames", "--dataset", "demo")
        twice("data/demo/features", "features", "--dataset", "demo")
        twice("runs/demo/linear-probe", "train", "--dataset", "demo", "--variant", "linear-probe", times=False)


@pytest.mark.skipif(not KILLS, reason="TGDFER_KILLS is not set")
@pytest.mark.parametrize(
    ("start", "go_on"),
    [
        (["snakemake", *LOCAL], ["local/resume"]),
        (["snakemake", *LOCAL, *FINE], ["local/resume", *LOCAL, *FINE]),
        (["dvc", "repro"], ["dvc", "repro"]),
    ],
    ids=["snakemake", "snakemake, several jobs for a stage", "dvc"],
)
def test_kills_leave_no_trace(project: Project, start: list[str], go_on: list[str]) -> None:
    before, rng, kills, command = contents(project, *OUTPUTS), random.Random(0), 0, start
    while kills < KILLS:
        if command == start:  # from nothing, at first and whenever it has come to its end
            for folder in OUTPUTS:
                shutil.rmtree(project.root / folder, ignore_errors=True)
        if is_killed(project, command, rng.uniform(5, 90)):
            kills, command = kills + 1, go_on
        else:
            command = start
    project.run(*go_on, timeout=3000)
    after = contents(project, *OUTPUTS)
    assert after.keys() == before.keys()
    assert [name for name in before if after[name] != before[name]] == []
    project.run(sys.executable, "-m", "tgdfer", "status", "--verify")
    assert NOTHING in project.snakemake("-n", "--profile", "local", "all").stdout


def is_killed(project: Project, command: list[str], seconds: float) -> bool:
    """Kill a command with all its processes after some time; False if it came to its end before."""
    process = subprocess.Popen(
        command,
        cwd=project.root,
        env=environment(project.root.parent / "home"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        assert process.wait(seconds) == 0
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return True
    return False
