"""What a run leaves of its model: vectors for the report, and answers to a fixed input."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from tgdfer.config.training import ModelParams
from tgdfer.features.bags import BagBatch
from tgdfer.model import build_model
from tgdfer.training.description import answers
from tgdfer.training.vectors import chosen, vectors

CLASSES = ["happiness", "sadness", "fear"]


def bags(count: int, start: int) -> BagBatch:
    generator = torch.Generator().manual_seed(start)
    x = torch.nn.functional.normalize(torch.randn(count, 4, 8, generator=generator), dim=-1)
    mask = torch.ones(count, 4, dtype=torch.bool)
    mask[0, 3] = False
    return BagBatch(x, mask, torch.arange(count) % 3, torch.arange(4).expand(count, 4).int())


def test_the_first_clips_of_every_class_that_occurs() -> None:
    labels = np.array([2] * 9 + [0] * 2 + [2])
    assert chosen(labels).tolist() == [0, 1, 2, 3, 4, 5, 9, 10]


@pytest.mark.parametrize("prompt", ["pooled", "per-class", "none"])
def test_vectors_are_what_the_model_computes(prompt: str) -> None:
    torch.manual_seed(0)
    model = build_model(ModelParams(text="none", visual_prompt=prompt, temporal="long"), CLASSES, 8, None)  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in model.parameters():  # at the start the visual prompt adds nothing
            parameter.add_(0.3 * torch.randn_like(parameter))
    model.train()
    both = bags(12, 1)
    found = vectors(model, both)
    assert model.training
    assert found["label"].tolist() == both.y.tolist()
    assert found["frames"].shape == (12, 4, 8)
    assert not found["frames"][0, 3].any()
    model.eval()
    with torch.no_grad():
        output = model(both.x, both.mask, both.frame_index.float())
        assert torch.equal(found["labels_before"], model.labels().half())  # type: ignore[operator]
    if prompt == "none":
        assert "labels_after" not in found
    else:
        assert torch.allclose(found["labels_after"].float(), output.text, atol=2e-3)
        assert not torch.allclose(found["labels_after"][0].float(), found["labels_before"].float(), atol=1e-2)


def test_a_baseline_has_only_vectors_of_frames() -> None:
    model = build_model(ModelParams(architecture="linear-probe"), CLASSES, 8, None)
    part = bags(6, 3)
    found = vectors(model, part)
    assert set(found) == {"label", "mask", "frames"}
    assert torch.equal(found["frames"][1], part.x[1].half())


class Recorder(nn.Module):
    def forward(self, x: torch.Tensor, mask: torch.Tensor, position: torch.Tensor) -> SimpleNamespace:
        self.seen = x, mask, position, self.training
        return SimpleNamespace(logits=x[:, 0, :2])


def test_the_answers_are_to_the_input_of_all_saved_models() -> None:
    found = answers(model := Recorder(), 4, 3)
    x, mask, position, training = model.seen
    sines = np.sin(0.7 * np.arange(24)).reshape(2, 3, 4)
    sines /= np.linalg.norm(sines, axis=-1, keepdims=True)
    assert x.numpy() == pytest.approx(sines, abs=1e-6)
    assert mask.tolist() == [[True, True, True], [True, True, False]]
    assert position.tolist() == [[0, 1, 2], [0, 1, 2]]
    assert (training, model.training) == (False, True)
    shares = np.exp(sines[:, 0, :2])
    assert np.array(found) == pytest.approx(shares / shares.sum(axis=1, keepdims=True), abs=2e-6)
    assert found == [[round(value, 6) for value in row] for row in found]
