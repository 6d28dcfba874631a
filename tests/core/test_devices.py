"""The device of a stage; GPUs under the local profile: one for each job, and no more jobs on one than asked for."""

import importlib
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from graphs import BIN, ROOT, Project

from tgdfer.config import dependencies
from tgdfer.core import devices
from tgdfer.core.errors import UserError

STUB = (Path(__file__).parents[1] / "projects" / "stub_cli.py").read_text()
VARIANTS = ("tgdfer", "no-text", "no-temporal", "mil-only")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A stubbed project, made up to its trainings."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["grid"] = list(VARIANTS)
    project = Project.make(tmp_path_factory.mktemp("gpus") / "project", yaml.safe_dump(params), STUB)
    project.snakemake("--profile", "local", "--until", "features")
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
    seconds = 0.7 if together == 1 else 3  # on a busy machine, those that are started together start seconds apart
    behaviour = {f"train demo {variant}": {"seconds": seconds} for variant in VARIANTS}
    (project.root / "behaviour.json").write_text(json.dumps(behaviour))
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


TAKE = """
from tgdfer.core.devices import own_gpu

with own_gpu(0.1) as name:
    print(name, flush=True)
    input()
input()
"""


def taker(folder: Path, shared: str) -> subprocess.Popen[str]:
    variables = {**os.environ, devices.SHARED_GPUS: shared, "TMPDIR": str(folder)}
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", TAKE], env=variables, stdin=pipe, stdout=pipe, text=True)


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.parametrize("end", ["done", "killed"])
def test_a_process_waits_for_a_gpu_until_another_is_done_or_killed(tmp_path: Path, end: str) -> None:
    first = taker(tmp_path, "a")
    assert said(first) == "a"
    second = taker(tmp_path, "a")
    third = taker(tmp_path, "a,b")
    assert said(third) == "b"
    assert second.poll() is None
    if end == "killed":
        first.kill()
    else:
        assert first.stdin is not None
        first.stdin.write("\n")  # it goes on without the GPU
        first.stdin.flush()
    assert said(second) == "a"
    for process in (first, second, third):
        process.communicate("\n\n")


def test_without_shared_gpus_nothing_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(devices.SHARED_GPUS, "")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with devices.own_gpu() as name:
        assert (name, os.environ["CUDA_VISIBLE_DEVICES"]) == (None, "0,1")


def test_help_does_not_wait_for_a_gpu(tmp_path: Path) -> None:
    holder = taker(tmp_path, "a")
    assert said(holder) == "a"
    variables = {**os.environ, devices.SHARED_GPUS: "a", "TMPDIR": str(tmp_path)}
    for stage in dependencies.ON_GPU:
        command = [sys.executable, "-m", "tgdfer", stage, "--help"]
        assert "Usage" in subprocess.run(command, env=variables, capture_output=True, text=True, timeout=60).stdout
    holder.communicate("\n\n")


@pytest.mark.parametrize(("stage", "names"), [("features", ["d"]), ("train", ["d", "v"])])
def test_stages_on_a_gpu_hold_one_while_they_compute(
    stage: str, names: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(devices.SHARED_GPUS, "a")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "all")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    class Asked:
        def __getattr__(self, name: str) -> None:
            assert os.environ["CUDA_VISIBLE_DEVICES"] == "a"
            assert taker(tmp_path, "a,b").communicate("\n\n")[0] == "b\n", "the GPU is held"
            raise UserError("stop here")

    with pytest.raises(UserError, match="stop here"):
        importlib.import_module(f"tgdfer.stages.{stage}").run(Asked(), *names)
    assert taker(tmp_path, "a,b").communicate("\n\n")[0] == "a\n", "the GPU is free again"


@pytest.mark.parametrize(
    ("asked", "cuda", "mps", "expected"),
    [
        ("auto", False, False, "cpu"),
        ("auto", False, True, "mps"),
        ("auto", True, True, "cuda:0"),
        ("cuda", True, False, "cuda:0"),
        ("cuda:3", True, False, "cuda:3"),
        ("cpu", True, True, "cpu"),
    ],
)
def test_the_device(asked: str, cuda: bool, mps: bool, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    monkeypatch.setattr(torch, "empty", lambda *_, device: None)
    assert str(devices.choose_device(asked)) == expected


@pytest.mark.parametrize("name", ["warp", "cuda:99", "xpu"])
def test_a_device_that_does_not_exist_is_bad_input(name: str) -> None:
    with pytest.raises(UserError, match=rf"training\.device: '{name}' cannot be used here \(.*write auto, cpu"):
        devices.choose_device(name, "training.device")
