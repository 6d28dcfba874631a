"""A run depends on the keys of `model` that its architecture reads: the others change nothing, bit by bit."""

import pytest
import torch
from model_tools import VARIANTS, encoder, frames, mask_of, params

from tgdfer.config.architectures import ARCHITECTURES
from tgdfer.config.training import ModelParams
from tgdfer.core.classes import SEVEN
from tgdfer.model import build_model
from tgdfer.model.losses import loss

OTHER = {
    "temporal": "short",
    "window": 7,
    "attention_width": 6,
    "heads": 1,
    "dropout": 0.6,
    "text": "class-name",
    "descriptions_per_class": 1,
    "context_tokens": 3,
    "context_place": "after",
    "context": "per-class",
    "visual_prompt": "none",
    "prompt_temperature": 0.5,
    "aggregation": "max",
    "top_k": 2,
    "sharpness": 3.0,
    "coarse_weight": 0.1,
    "apart_weight": 0.7,
    "adapt": "lora",
    "adapt_blocks": 2,
    "adapt_rank": 2,
    "label_smoothing": 0.3,
    "imbalance": "logit-adjustment",
}
BASELINES = [name for name in VARIANTS if ARCHITECTURES[params(name).architecture].reads is not None]


def step(chosen: ModelParams) -> list[torch.Tensor]:
    """Weights, logits, and where it is trained the loss and the gradients of a step."""
    encoder().text_tower()  # the first call draws random weights
    torch.manual_seed(0)
    model = build_model(chosen, SEVEN, 16, encoder()).train()
    output = model(frames(3, 5).float(), mask_of([5, 2, 3], 5), torch.arange(5.0).expand(3, -1))
    if not model.trainable:
        return [*model.state_dict().values(), output.logits]
    total, _ = loss(output, torch.tensor([0, 1, 2]), chosen, torch.arange(1, 8))
    total.backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    return [*model.state_dict().values(), output.logits, total, *gradients]


def test_every_key_is_tried() -> None:
    assert set(OTHER) == set(ModelParams.model_fields) - {"architecture"}
    for name, architecture in ARCHITECTURES.items():
        assert set(architecture.reads or ()) < set(OTHER), name


@pytest.mark.parametrize("variant", BASELINES)
def test_keys_that_are_not_read_change_nothing(variant: str) -> None:
    chosen = params(variant)
    unread = {key: value for key, value in OTHER.items() if key not in ARCHITECTURES[chosen.architecture].reads}
    changed = params(variant, **unread)
    assert changed != chosen
    assert changed.as_read() == chosen.as_read()
    for before, after in zip(step(chosen), step(changed), strict=True):
        assert torch.equal(before, after)
