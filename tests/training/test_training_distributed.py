"""Two processes under torchrun reach the result of one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import training_project as project
from safetensors.torch import load_file

from tgdfer.core import paths, storage
from tgdfer.stages import train as training
from tgdfer.training.distributed import Group

RUN = Path("runs/tiny/tgdfer/fold1/seed0")
VARIANT = {"tgdfer": {"model": {"text": "none", "dropout": 0.0}}}
SETTINGS = {"variants": VARIANT, "epochs": 4, "batch_size": 5}


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("clips", [1, 2, 7, 64])
def test_the_parts_of_a_batch_are_all_of_it(size, clips):
    taken = [i for rank in range(size) for i in range(clips)[Group(rank, size).share(clips)]]
    assert taken == list(range(clips))


def torchrun(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    return subprocess.run(
        [*command, project.__file__, "tgdfer", json.dumps(SETTINGS), *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def test_a_process_without_clips_in_the_first_batch(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    project.make_project(count=9)
    monkeypatch.setitem(SETTINGS, "batch_size", 1)
    monkeypatch.setitem(SETTINGS, "epochs", 1)
    result = torchrun()
    assert result.returncode == 0, result.stderr
    assert set(storage.read_lines(RUN / "history.jsonl")[0]) >= {"loss", "loss_aligned", "loss_coarse"}


def test_two_processes_killed_and_resumed_are_one_within_rounding(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    project.make_project(count=33)
    training.run(project.params(**SETTINGS), "tiny", "tgdfer")
    weights, history = load_file(RUN / "model.safetensors"), storage.read_lines(RUN / "history.jsonl")
    metrics = storage.read_json(RUN / "metrics.json")
    (RUN / "run.json").unlink()
    assert torchrun("killed after its first checkpoint").returncode != 0
    assert paths.checkpoint("tiny", "tgdfer", 1, 0).is_file()
    result = torchrun()
    assert result.returncode == 0, result.stderr
    assert "resumed at epoch" in result.stderr
    assert storage.read_json(RUN / "run.json")["processes"] == 2
    for name, value in load_file(RUN / "model.safetensors").items():
        # Adam blows rounding up to a share of the learning rate (0.01) where a gradient is next to nothing
        torch.testing.assert_close(value, weights[name], rtol=1e-3, atol=1e-3)
    for one, two in zip(history, storage.read_lines(RUN / "history.jsonl"), strict=True):
        assert one == pytest.approx(two, rel=1e-4, abs=1e-5)
    again = storage.read_json(RUN / "metrics.json")
    assert again["selections"]["last"]["confusion"] == metrics["selections"]["last"]["confusion"]
