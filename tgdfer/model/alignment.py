"""Frames against label features, with or without words."""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from tgdfer.config.training import ModelParams
from tgdfer.model.text import LabelText

DEFAULT_SCALE = 1 / 0.07
"""CLIP's own start of the scale, where there is no encoder to take it from."""
MAX_SCALE = 100.0


class Alignment(nn.Module):
    """Frames against label features: A = s cos(h_t, t'_c), eq. (12), with s learnt as in CLIP and at most 100."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)))

    def forward(self, h: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        """[B, T, D] and [C, D] or [B, C, D] -> [B, T, C]."""
        # at the limit, where OpenAI's weights start, a clamp would have no gradient and the scale would stay there
        excess = (self.log_scale.detach() - math.log(MAX_SCALE)).clamp_min(0)
        scale = (self.log_scale - excess).exp()
        # dividing the products by the norms of h is the same as normalising h, on a tensor D / C times smaller
        norm = torch.linalg.vector_norm(h, dim=-1, keepdim=True).clamp_min(1e-12)
        return (h @ F.normalize(text, dim=-1).transpose(-1, -2)) * (scale / norm)


class LearntLabels(nn.Module):
    """Label features without words: free vectors."""

    def __init__(self, classes: int, dim: int) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.randn(classes, dim) / math.sqrt(dim))

    def forward(self) -> torch.Tensor:
        """[C, D], L2-normalised."""
        return F.normalize(self.vectors, dim=-1)


def label_features(params: ModelParams, classes: Sequence[str], dim: int, encoder: Any) -> LabelText | LearntLabels:
    """The label features that ``params.text`` asks for."""
    if params.text == "none":
        return LearntLabels(len(classes), dim)
    return LabelText(params, classes, encoder)


def start_scale(params: ModelParams, encoder: Any) -> float:
    """The scale that the alignment starts with: the encoder's own, at most 100, where its text is used."""
    return min(encoder.logit_scale, MAX_SCALE) if params.text != "none" else DEFAULT_SCALE
