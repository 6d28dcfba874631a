"""Training with a real text tower: learnt tokens, zero-shot, and the command line."""

from pathlib import Path

import pytest
import torch
import training_project as project
import yaml
from features_project import make_encoder
from safetensors.torch import load_file
from typer.testing import CliRunner

from tgdfer.cli import app
from tgdfer.core import storage
from tgdfer.stages import train as training

VARIANTS = {
    "text": {"model": {"context_tokens": 2, "dropout": 0.2}},
    "zero-shot": {"model": {"architecture": "zero-shot"}},
}


@pytest.fixture
def folder(new_folder):
    project.make_project(dim=32)
    make_encoder()
    return new_folder


def train(variant: str) -> int:
    return training.run(project.params(VARIANTS), "tiny", variant)


def test_tokens_are_learnt_the_tower_is_not_stored_and_bits_repeat(folder):
    assert train("text") == 0
    first = project.results()
    state = load_file("runs/tiny/text/fold1/seed0/model.safetensors")
    assert any(name.endswith("context") for name in state)
    assert sum(value.numel() for value in state.values()) < 30_000, "the text tower has 1.6 million weights"
    for path in Path("runs").rglob("*.json"):
        path.unlink()
    torch.rand(1)
    assert train("text") == 0
    assert project.results() == first


def test_zero_shot_is_evaluated_once_through_the_command_line(folder):
    Path("params.yaml").write_text(yaml.safe_dump(project.params(VARIANTS).model_dump(mode="json")))
    result = CliRunner().invoke(app, ["train", "--dataset", "tiny", "--variant", "zero-shot"])
    assert result.exit_code == 0, result.output
    metrics = storage.read_json(Path("runs/tiny/zero-shot/fold2/seed0/metrics.json"))
    assert metrics["parameters_trainable"] == 0
    assert {name: chosen["epoch"] for name, chosen in metrics["selections"].items()} == {
        "last": 0,
        "best_val": 0,
        "best_test": 0,
    }
    assert storage.read_json(Path("runs/tiny/zero-shot/summary.json"))["label"] == "zero-shot"


@pytest.mark.parametrize("code", [0, training.FAILED, training.INTERRUPTED])
def test_the_command_line_passes_the_exit_code_on(folder, monkeypatch, code):
    Path("params.yaml").write_text(yaml.safe_dump(project.params().model_dump(mode="json")))
    asked = []
    monkeypatch.setattr(training, "run", lambda *names, **parts: asked.append((names[1:], parts)) or code)
    command = ["train", "--dataset", "tiny", "--variant", "probe", "--fold", "2", "--fold", "1"]
    assert CliRunner().invoke(app, command).exit_code == code
    assert asked == [(("tiny", "probe"), {"folds": [2, 1], "seeds": None, "again": False})]
