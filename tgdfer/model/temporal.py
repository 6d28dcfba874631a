"""The multi-grained temporal network: short-term attention in a window, long-range attention by content and by time."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn


def key_mask(mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Additive mask [B, 1, 1, T]: 0 on valid frames, hugely negative (finite, so never NaN) on padding."""
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(~mask, torch.finfo(dtype).min / 4)[
        :, None, None, :
    ]


def frame_steps(mask: torch.Tensor, position: torch.Tensor | None, dtype: torch.dtype) -> torch.Tensor:
    """Distances between frames in time, in units of the clip's mean spacing of valid frames: [B, T, T].

    Args:
        mask: bool [B, T].
        position: [B, T], ascending over the valid frames, in any unit (a frame's number, seconds, a fraction of the
            clip); None counts the bag's places, which is the same for evenly spaced frames.
        dtype: of the result.
    """
    if position is None:
        place = torch.arange(mask.shape[1], dtype=dtype, device=mask.device)
        return (place[:, None] - place).abs()[None]
    position = position.to(dtype)
    infinity = torch.finfo(dtype).max
    last = position.masked_fill(~mask, -infinity).amax(1)
    first = position.masked_fill(~mask, infinity).amin(1)
    spacing = (last - first) / (mask.sum(1) - 1).clamp_min(1)
    # one valid frame, or all at one moment: no spacing, and every distance that counts is 0
    spacing = spacing.where(spacing > 0, torch.ones_like(spacing))
    return (position[:, :, None] - position[:, None, :]).abs() / spacing[:, None, None]


class TemporalNetwork(nn.Module):
    """H = X + D^-1/2 (g S + (1 - g) L), eqs. (2)-(5); both output projections start at zero, so H starts as X.

    S and L share one layer norm and one fused projection. A frame's window is centred on it and spans ``window`` places
    (one more when that is even). Half of the heads of L attend by content, half by distance in time alone.

    Args:
        dim: D, a multiple of ``heads``.
        heads: attention heads of each branch; even where there is a long-range branch.
        window: W of the short-term branch.
        kind: ``short``, ``long`` or ``both``.
        dropout: on the branches' outputs.
    """

    def __init__(self, dim: int, heads: int, window: int, kind: str, dropout: float) -> None:
        super().__init__()
        self.dim, self.heads, self.reach, self.kind = dim, heads, window // 2, kind
        self.short = kind in ("short", "both")
        self.long = kind in ("long", "both")
        self.norm = nn.LayerNorm(dim)
        # q, k, v of S; v, then q and k of the content half, of L
        self.widths = [dim] * 3 * self.short + [dim, dim // 2, dim // 2] * self.long
        self.project = nn.Linear(dim, sum(self.widths))
        if self.short:
            self.offset_bias = nn.Parameter(torch.zeros(heads, 2 * self.reach + 1))
            self.short_out = _zero_linear(dim)
        if self.long:
            # decay lengths in frames: 1, 2, 4, ... as a start
            self.log_decay = nn.Parameter(torch.arange(heads // 2, dtype=torch.float32) * math.log(2))
            self.long_out = _zero_linear(dim)
        if kind == "both":
            self.gate = nn.Linear(dim, 1)
            nn.init.zeros_(self.gate.weight)
            nn.init.zeros_(self.gate.bias)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor, mask: torch.Tensor, position: torch.Tensor | None = None) -> torch.Tensor:
        """[B, T, D], bool [B, T] and [B, T] or None (see :func:`frame_steps`) -> [B, T, D]."""
        u = self.norm(x)
        parts = list(self.project(u).split(self.widths, dim=-1))
        keys = key_mask(mask, x.dtype)
        branches = []
        if self.short:
            branches.append(self.short_out(self._short(parts[0], parts[1], parts[2], keys)))
        if self.long:
            branches.append(self.long_out(self._long(parts[-3], parts[-2], parts[-1], keys, mask, position)))
        mixed = branches[0]
        if self.kind == "both":
            mixed = torch.lerp(branches[1], mixed, self.gate(u).sigmoid())  # eq. (5)
        # X has unit norm; so has a branch of unit variance after this
        return x + self.dropout(mixed) / math.sqrt(self.dim)

    def _short(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        """Attention within the window, with a learnt bias for each offset; eq. (2)."""
        place = torch.arange(q.shape[1], device=q.device)
        offset = place - place[:, None]
        inside = offset.abs() <= self.reach
        bias = self.offset_bias[:, offset.clamp(-self.reach, self.reach) + self.reach]
        bias = bias.masked_fill(~inside, torch.finfo(keys.dtype).min / 4).to(keys.dtype) + keys
        q, k, v = (_split_heads(part, self.heads) for part in (q, k, v))
        return _join_heads(F.scaled_dot_product_attention(q, k, v, attn_mask=bias))

    def _long(
        self,
        v: torch.Tensor,
        q: torch.Tensor,
        k: torch.Tensor,
        keys: torch.Tensor,
        mask: torch.Tensor,
        position: torch.Tensor | None,
    ) -> torch.Tensor:
        """Half of the heads by content, eq. (3), half by distance in time, eq. (4)."""
        half = self.heads // 2
        q, k, v = _split_heads(q, half), _split_heads(k, half), _split_heads(v, self.heads)
        content = F.scaled_dot_product_attention(q, k, v[:, :half], attn_mask=keys)
        steps = frame_steps(mask, position, keys.dtype)[:, None]
        near = (keys - steps * (-self.log_decay).exp().to(keys.dtype)[:, None, None]).softmax(-1)
        return _join_heads(torch.cat([content, near.to(v.dtype) @ v[:, half:]], dim=1))


def _zero_linear(dim: int) -> nn.Linear:
    linear = nn.Linear(dim, dim)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear


def _split_heads(x: torch.Tensor, heads: int) -> torch.Tensor:
    """[B, T, E] -> [B, heads, T, E / heads]."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def _join_heads(x: torch.Tensor) -> torch.Tensor:
    """[B, heads, T, E] -> [B, T, heads * E]."""
    return x.transpose(1, 2).flatten(2)
