"""slurm/resume, with a scheduler and a Snakemake that only note what they are asked; the real ones: test_slurm.py."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from graphs import ROOT

TOOLS = {
    "squeue": "[ -e queue ] || exit 1\ncat queue\n[ ! -e later ] || mv later queue",
    "scancel": 'echo "scancel $*" >>said\nmv -f left queue',
    "snakemake": 'echo "snakemake $*" >>said',
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project that submitted the runs r1 and r2, whose Snakemake is dead."""
    root = tmp_path / "a project"
    shutil.copytree(ROOT / "slurm", root / "slurm")
    log = root / ".snakemake" / "log"
    log.mkdir(parents=True)
    for run in ("r1", "r2"):
        (log / f"{run}.snakemake.log").write_text(f"host\nSLURM run ID: {run}\n")
    for name, script in TOOLS.items():
        # the environment was not activated
        tool = (root / ".venv" / "bin" if name == "snakemake" else tmp_path / "bin") / name
        tool.parent.mkdir(parents=True, exist_ok=True)
        tool.write_text(f"#!/bin/sh\n{script}\n")
        tool.chmod(0o755)
    (root / "queue").touch()
    (root / "left").touch()
    return root


def resume(root: Path, *arguments: str, **variables: str) -> tuple[int, str, list[str]]:
    """Exit code, output, and what the tools were asked."""
    env = {"PATH": f"{root.resolve().parent / 'bin'}:/usr/bin:/bin", **variables}
    result = subprocess.run([root / "slurm" / "resume", *arguments], cwd="/", env=env, capture_output=True, text=True)
    said = root / "said"
    return result.returncode, result.stdout + result.stderr, said.read_text().splitlines() if said.exists() else []


def running(root: Path, *command: str, **variables: str) -> subprocess.Popen[bytes]:
    """A process that looks like ``command``."""
    return subprocess.Popen(
        [command[0], "-c", "read line", *command[1:]],
        executable="/bin/bash",
        cwd=root,
        env={**os.environ, **variables},
        stdin=subprocess.PIPE,
    )


GO_ON = ["snakemake --profile slurm all --unlock", "snakemake --profile slurm all --rerun-incomplete"]


def test_nothing_is_left(root: Path) -> None:
    assert resume(root) == (0, "", GO_ON)


def test_on_one_machine(root: Path) -> None:
    shutil.copytree(ROOT / "local", root / "local")
    said = subprocess.run([root / "local" / "resume"], env={"PATH": f"{root.parent / 'bin'}:/usr/bin:/bin"})
    assert said.returncode == 0
    assert (root / "said").read_text().splitlines() == [line.replace("slurm", "local") for line in GO_ON]


def test_only_the_jobs_of_this_folder_are_cancelled(root: Path) -> None:
    (root / "queue").write_text("11 r2\n12 somebody's r1\n13 r1\n14 r\n")
    (root / "left").write_text("12 somebody's r1\n14 r\n")
    code, out, said = resume(root, "--profile", "slurm", "all")
    assert (code, said) == (0, ["scancel 11 13", *GO_ON])
    assert "cancelling the jobs of the earlier run: 11 13" in out


def test_jobs_may_end_first(root: Path) -> None:
    (root / "queue").write_text("11 r2\n")
    (root / "later").touch()
    code, out, said = resume(root, WAIT="1")
    assert (code, said) == (0, GO_ON)
    assert "waiting for the jobs of the earlier run: 11" in out


def test_a_scheduler_that_does_not_answer(root: Path) -> None:
    (root / "queue").unlink()
    code, out, said = resume(root)
    assert (code, said) == (2, []), "jobs that nobody can see would be submitted once more"
    assert "squeue does not answer" in out


@pytest.mark.parametrize(
    ("command", "variables", "alive"),
    [
        (("snakemake",), {}, True),
        (("snakemake",), {"SLURM_JOB_ID": "7"}, True),
        (("/a/b/snakemake",), {}, True),
        (("snakemake", "--target-jobs", "train:"), {"SLURM_JOB_ID": "7"}, False),
        (("sh", "srun python -m snakemake --target-jobs train:"), {"SLURM_JOB_ID": "7"}, False),
        (("sleep",), {}, False),
    ],
    ids=["alive", "alive in an allocation", "by its path", "the inside of a job", "its shell", "something else"],
)
def test_a_snakemake_that_is_alive_here(
    root: Path, tmp_path: Path, command: tuple[str, ...], variables: dict[str, str], alive: bool
) -> None:
    link = tmp_path / "link"
    link.symlink_to(root)
    process = running(root, *command, **variables)
    try:
        code, out, said = resume(link)
        assert process.poll() is None
    finally:
        process.communicate()
    assert (code, said) == ((2, []) if alive else (0, GO_ON))
    assert ("still running here" in out) == alive
