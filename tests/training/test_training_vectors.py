"""The vectors that a run leaves for the report."""

import numpy as np
import pytest
import torch

from tgdfer.config.training import ModelParams
from tgdfer.features.bags import BagBatch
from tgdfer.model import build_model
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
