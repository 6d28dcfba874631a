"""Gated attention MIL without text, after Ilse et al. (ICML 2018)."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from tgdfer.config.training import ModelParams
from tgdfer.model.layers import ChannelDropout, masked_softmax
from tgdfer.model.output import BagModel, ModelOutput


class AttentionMIL(BagModel):
    """A classifier on the attended mean of embedded frames, eq. (27)."""

    def __init__(self, params: ModelParams, classes: Sequence[str], dim: int, encoder: Any) -> None:
        super().__init__()
        self.embed = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim), nn.GELU(), ChannelDropout(params.dropout))
        self.pool = GatedAttention(dim, max(1, dim // 2))
        self.classifier = nn.Linear(dim, len(classes))

    def forward(self, x: torch.Tensor, mask: torch.Tensor, frame_position: torch.Tensor | None = None) -> ModelOutput:
        """See ``BagModel``."""
        h = self.embed(x)
        attention = self.pool(h, mask)
        scores = self.classifier(h).masked_fill(~mask[..., None], 0)
        # linear: the attention's mean of the scores is the score of the attended mean
        logits = torch.einsum("bt,btc->bc", attention, scores)
        return ModelOutput(logits, None, scores, attention, None, mask, by_attention=True)


class GatedAttention(nn.Module):
    """Gated attention pooling, eq. (27)."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.both = nn.Linear(dim, 2 * hidden)
        self.score = nn.Linear(hidden, 1, bias=False)
        nn.init.normal_(self.score.weight, std=1 / math.sqrt(hidden))

    def forward(self, h: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """[B, T, D] and bool [B, T] -> attention [B, T], sums to 1 over the valid frames."""
        value, gate = self.both(h).chunk(2, dim=-1)
        return masked_softmax(self.score(value.tanh() * gate.sigmoid()).squeeze(-1), mask)
