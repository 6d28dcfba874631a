"""The local profile and GPUs: each job on one, never more on one than asked, on machines with none, one and several."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from graphs import BIN, ROOT, Project
from typer.testing import CliRunner

from tgdfer.cli import app
from tgdfer.config import dependencies
from tgdfer.core import gpus

STUB = (Path(__file__).parents[1] / "projects" / "stub_cli.py").read_text()
VARIANTS = ("tgdfer", "no-text", "no-temporal", "mil-only")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A stubbed project, made up to its trainings."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["grid"] = list(VARIANTS)
    project = Project.make(tmp_path_factory.mktemp("gpus") / "project", yaml.safe_dump(params), STUB)
    project.snakemake("--profile", "local", "--until", "features")
    told = {f"train demo {variant}": {"seconds": 0.7} for variant in VARIANTS}
    (project.root / "behaviour.json").write_text(json.dumps(told))
    return project


def machine(folder: Path, count: int) -> dict[str, str]:
    """The environment of a machine whose nvidia-smi lists ``count`` GPUs."""
    smi = folder / "bin" / "nvidia-smi"
    smi.parent.mkdir()
    lines = "\n".join(f"GPU {index}: NVIDIA X (UUID: GPU-{index}{index})" for index in range(count))
    smi.write_text(f"#!/bin/sh\n[ {count} -gt 0 ] || exit 9\ncat <<'EOF'\n{lines}\nEOF\n")
    smi.chmod(0o755)
    (folder / "tmp").mkdir()
    return {"PATH": f"{smi.parent}{os.pathsep}{BIN}{os.pathsep}{os.environ['PATH']}", "TMPDIR": str(folder / "tmp")}


@pytest.mark.parametrize(
    ("count", "options", "variables", "devices", "together"),
    [
        pytest.param(0, (), {}, {None}, None, id="none"),
        pytest.param(1, (), {}, {"GPU-00"}, 1, id="one"),
        pytest.param(3, (), {}, {"GPU-00", "GPU-11", "GPU-22"}, 1, id="several"),
        # what is said for one run leaves the rest of the profile's configuration in force
        pytest.param(
            3, ("--config", "jobs_per_gpu=2"), {"CUDA_VISIBLE_DEVICES": "1"}, {"1"}, 2, id="two jobs on one of several"
        ),
    ],
)
def test_trainings_on_gpus(
    project: Project,
    tmp_path: Path,
    count: int,
    options: tuple[str, ...],
    variables: dict[str, str],
    devices: set[str | None],
    together: int | None,
) -> None:
    project.forget_calls()
    project.snakemake(
        *("--profile", "local", "--cores", "4", "--forcerun", "train", "--until", "train"),
        *options,
        **machine(tmp_path, count),
        **variables,
    )
    spans: dict[str | None, list[tuple[float, int]]] = {}
    for line in (project.root / "calls.log").read_text().splitlines():
        event, _, at, _, _, device = json.loads(line)
        spans.setdefault(device, []).append((at, 1 if event == "start" else -1))
    assert set(spans) == devices
    busiest = {device: max(itertools.accumulate(step for _, step in sorted(found))) for device, found in spans.items()}
    if together is None:
        assert busiest[None] > 1, "no GPU limits the jobs on the CPU"
    else:
        assert set(busiest.values()) == {together}


TAKE = "from tgdfer import gpus; print(gpus.take_one(), flush=True); input()"


def taker(folder: Path, shared: str) -> subprocess.Popen[str]:
    variables = {**os.environ, gpus.VARIABLE: shared, "TMPDIR": str(folder)}
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", TAKE], env=variables, stdin=pipe, stdout=pipe, text=True)


def test_a_process_waits_for_a_gpu_until_another_ends_even_by_a_kill(tmp_path: Path) -> None:
    first = taker(tmp_path, "a")
    assert first.stdout is not None and first.stdout.readline() == "a\n"
    second = taker(tmp_path, "a")
    third = taker(tmp_path, "a,b")
    assert third.stdout is not None and third.stdout.readline() == "b\n"
    assert second.poll() is None
    first.kill()
    assert second.stdout is not None and second.stdout.readline() == "a\n"
    for process in (first, second, third):
        process.communicate("\n")


@pytest.mark.parametrize("stage", [*dependencies.ON_GPU, "clips"])
def test_stages_on_a_gpu_take_one(stage: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def take_one() -> None:
        sys.exit(77)

    monkeypatch.setattr(gpus, "take_one", take_one)
    options = {
        "features": ["--dataset", "d"],
        "clips": ["--dataset", "d"],
        "train": ["--dataset", "d", "--variant", "v"],
    }
    call = [stage, *options.get(stage, []), "--params", str(tmp_path / "none.yaml")]
    assert (CliRunner().invoke(app, call).exit_code == 77) == (stage in dependencies.ON_GPU)
