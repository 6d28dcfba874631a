"""Layers and operations that the architectures share. Frames outside the mask have weight exactly 0."""

from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import nn

from tgdfer.core.errors import UserError


def masked_softmax(scores: torch.Tensor, mask: torch.Tensor, dim: int = 1) -> torch.Tensor:
    """Softmax over the entries where ``mask`` is true, exactly 0 elsewhere (everywhere if no entry is valid).

    Args:
        scores: any shape.
        mask: bool, broadcasts to it.
        dim: the dimension that sums to 1.
    """
    # a finite floor: -inf would give NaN, also in the gradient, where nothing is valid
    floor = torch.finfo(scores.dtype).min / 2
    return scores.masked_fill(~mask, floor).softmax(dim).masked_fill(~mask, 0)


def masked_mean(x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean over the valid frames: [B, T, D] and bool [B, T] -> [B, D]."""
    weight = mask.to(x.dtype)
    return torch.einsum("bt,btd->bd", weight / weight.sum(1, keepdim=True).clamp_min(1), x)


def key_mask(mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Additive attention mask [B, 1, 1, T]: 0 on valid frames, hugely negative (finite, so never NaN) on padding."""
    floor = torch.finfo(dtype).min / 4
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(~mask, floor)[:, None, None, :]


def self_attention(projected: torch.Tensor, heads: int, mask: torch.Tensor) -> torch.Tensor:
    """Multi-head attention of queries, keys and values ``projected`` [B, T, 3 D] over the valid frames: [B, T, D]."""
    q, k, v = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in projected.chunk(3, dim=-1))
    attended = F.scaled_dot_product_attention(q, k, v, attn_mask=key_mask(mask, q.dtype))
    return attended.transpose(1, 2).flatten(2)


def check_heads(heads: int, width: int) -> None:
    """Raise a UserError unless ``heads`` divide ``width`` channels of attention."""
    if width < heads or width % heads:
        raise UserError(f"model.heads: {heads} heads do not divide {width} channels of attention")


class ChannelDropout(nn.Module):
    """Dropout of whole channels: [B, T, D] loses the same channels in all its T rows; T times fewer random numbers."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, T, D] -> [B, T, D], unchanged in evaluation."""
        if not self.training or self.p == 0:
            return x
        return x * F.dropout(torch.ones_like(x[:, :1]), self.p)


class Hidden:
    """Keeps a frozen module out of its holder's parameters and state, and shared when the holder is copied."""

    def __init__(self, module: Any) -> None:
        self.module = module

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self
