"""Transformer over frames with a cls token, after DFER-CLIP."""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from tgdfer.config.training import ModelParams
from tgdfer.model.alignment import Alignment, label_features, start_scale
from tgdfer.model.layers import ChannelDropout, check_heads, self_attention
from tgdfer.model.output import BagModel, ModelOutput


class TransformerCls(BagModel):
    """One transformer layer over [cls; frames], the cls state against the label features, eq. (23).

    Pre-norm, sinusoidal positions. With ``text: none`` the label features are learnt vectors.
    """

    def __init__(self, params: ModelParams, classes: Sequence[str], dim: int, encoder: Any) -> None:
        super().__init__()
        check_heads(params.heads, dim)
        self.heads = params.heads
        self.cls = nn.Parameter(torch.randn(dim) / math.sqrt(dim))
        self.position_scale = nn.Parameter(torch.tensor(0.1))
        self.norm_attention = nn.LayerNorm(dim)
        self.project = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.norm_ffn = nn.LayerNorm(dim)
        self.inner = nn.Linear(dim, 2 * dim)
        self.outer = nn.Linear(2 * dim, dim)
        self.norm = nn.LayerNorm(dim)
        self.dropout = ChannelDropout(params.dropout)
        self.labels = label_features(params, classes, dim, encoder)
        self.align = Alignment(start_scale(params, encoder))

    def forward(self, x: torch.Tensor, mask: torch.Tensor, frame_position: torch.Tensor | None = None) -> ModelOutput:
        """See ``BagModel``; the alignment is that of each frame's state."""
        root = math.sqrt(x.shape[2])
        tokens = x * root + self.position_scale * sinusoids(x.shape[1], x.shape[2], x.device).to(x.dtype)
        tokens = torch.cat([(self.cls * root).expand(len(x), 1, -1), tokens], dim=1)
        attended = self_attention(
            self.project(self.norm_attention(tokens)), self.heads, F.pad(mask, (1, 0), value=True)
        )
        tokens = tokens + self.dropout(self.out(attended))
        inner = self.dropout(F.gelu(self.inner(self.norm_ffn(tokens))))
        tokens = self.norm(tokens + self.dropout(self.outer(inner)))
        text = self.labels()
        scores = self.align(tokens, text)
        return ModelOutput(scores[:, 0], None, scores[:, 1:].masked_fill(~mask[..., None], 0), None, text, mask)


def sinusoids(length: int, dim: int, device: torch.device) -> torch.Tensor:
    """Sinusoidal positions of Vaswani et al. (2017): [length, dim], any dim."""
    half = (dim + 1) // 2
    rate = torch.exp(torch.arange(half, device=device) * (-math.log(10000.0) / half))
    angle = torch.arange(length, device=device)[:, None] * rate
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)[:, :dim]
