"""A small encoder with a real text tower, and every kind of model, for the tests of the model."""

import copy
from functools import cache
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F

from tgdfer.config.architectures import ARCHITECTURES
from tgdfer.config.training import ModelParams
from tgdfer.core.classes import SEVEN
from tgdfer.encoders.text_tower import TextTower
from tgdfer.model import build_model

DIM = 16
CONTEXT = 40

BASE: dict[str, Any] = {
    "heads": 2,
    "dropout": 0.3,
    "context_place": "before",
    "visual_prompt": "pooled",
    "aggregation": "top-k",
}
VARIANTS: dict[str, dict[str, Any]] = {
    "full": {},
    "window-1": {"temporal": "short", "window": 1},
    "window-5": {"temporal": "short", "window": 5},
    "long": {"temporal": "long"},
    "no-temporal": {"temporal": "none"},
    "class-name": {"text": "class-name", "context_tokens": 0},
    "template": {"text": "template", "context_tokens": 4, "context": "per-class"},
    "default": {"context_place": "after", "visual_prompt": "per-class", "aggregation": "max"},
    "no-text": {"text": "none", "visual_prompt": "none"},
    "no-text-prompt": {"text": "none"},
    "no-prompt": {"visual_prompt": "none", "context_tokens": 0},
    "prompt-per-class": {"visual_prompt": "per-class", "context_tokens": 0},
    "attention": {"aggregation": "attention"},
    "log-sum-exp": {"aggregation": "log-sum-exp", "context_tokens": 0},
    "max": {"aggregation": "max", "context_tokens": 0},
    "mean": {"aggregation": "mean", "context_tokens": 0, "coarse_weight": 0.0},
    **{name: {"architecture": name} for name in ARCHITECTURES if name != "tgdfer"},
    "transformer-cls-no-text": {"architecture": "transformer-cls", "text": "none"},
}


@cache
def _clip() -> tuple[Any, Any]:
    import open_clip

    torch.manual_seed(0)
    config = {
        "embed_dim": DIM,
        "vision_cfg": {"image_size": 16, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8},
        "text_cfg": {"context_length": CONTEXT, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
    }
    return open_clip.model.CLIP(**config).eval(), open_clip.get_tokenizer("ViT-B-32")


def clip() -> tuple[Any, Any]:
    """open_clip's model and tokenizer; the model is a copy that may be changed."""
    model, tokenizer = _clip()
    return copy.deepcopy(model), tokenizer


def encoder() -> Any:
    """What the model needs of an Encoder."""
    return SimpleNamespace(name="tiny", dim=DIM, logit_scale=20.0, text_tower=lambda: TextTower(*clip(), "tiny"))


def params(variant: str = "full", **changes: Any) -> ModelParams:
    return ModelParams(**{**BASE, **VARIANTS[variant], **changes})


def model(variant: str = "full", seed: int = 0, shake: bool = True, classes=SEVEN, **changes: Any) -> Any:
    """In float64 and evaluation mode; shaken, so that what starts at zero hides nothing."""
    torch.manual_seed(seed)
    built = build_model(params(variant, **changes), classes, DIM, encoder()).double().eval()
    if shake:
        with torch.no_grad():
            for parameter in built.parameters():
                parameter += 0.3 * torch.randn_like(parameter)
    return built


def frames(batch: int, length: int, seed: int = 0) -> torch.Tensor:
    """Unit vectors, float64 [batch, length, DIM]."""
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(batch, length, DIM, generator=generator, dtype=torch.float64), dim=-1)


def mask_of(counts: list[int], length: int) -> torch.Tensor:
    """The first counts[i] of ``length`` frames are valid."""
    return torch.arange(length) < torch.tensor(counts)[:, None]
