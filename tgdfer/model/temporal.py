"""The multi-grained temporal network: short-term attention in a window, long-range attention by content and by time."""

import math

import torch
from torch import nn

from tgdfer.model.layers import ChannelDropout, key_mask


def frame_steps(mask: torch.Tensor, position: torch.Tensor | None, dtype: torch.dtype) -> torch.Tensor:
    """Distances between frames in time, in units of the clip's mean spacing of valid frames: [B, T, T].

    Args:
        mask: bool [B, T].
        position: [B, T], ascending over the valid frames, in any unit (frame numbers, seconds, fractions of the
            clip); None counts places in the bag, which is the same for evenly spaced frames.
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
    """H = X + D^-1/2 (g S + (1 - g) L), eqs. (2)-(5); the output projection starts at zero, so H starts as X.

    All heads of both branches run as one attention with one additive bias. Half of the heads of L attend by content,
    half by time only.

    Args:
        dim: D.
        width: channels of each branch, a multiple of ``heads``.
        heads: attention heads of each branch; even where there is a long-range branch.
        window: W of the short-term branch, an odd number of places with the frame in the middle.
        kind: ``short``, ``long`` or ``both``.
        dropout: on H - X; whole channels of a clip.
    """

    def __init__(self, dim: int, width: int, heads: int, window: int, kind: str, dropout: float) -> None:
        super().__init__()
        self.dim, self.reach = dim, window // 2
        # heads of S, of L by content, of L by distance in time
        self.short = heads if kind in ("short", "both") else 0
        self.content = self.distant = heads // 2 if kind in ("long", "both") else 0
        self.head_dim = width // heads
        self.norm = nn.LayerNorm(dim)
        compared = self.short + self.content
        self.heads = (compared, compared, compared + self.distant)  # with queries, keys, values
        self.project = nn.Linear(dim, self.head_dim * sum(self.heads))
        self.out = nn.Linear(self.head_dim * self.heads[2], dim)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        if self.short:
            self.offset_bias = nn.Parameter(torch.zeros(heads, 2 * self.reach + 1))
        if self.distant:
            # decay lengths in frames: 1, 2, 4, ... as a start
            self.log_decay = nn.Parameter(torch.arange(self.distant, dtype=torch.float32) * math.log(2))
        self.gate: nn.Linear | None = None
        if kind == "both":
            self.gate = nn.Linear(dim, 1)
            nn.init.zeros_(self.gate.weight)
            nn.init.zeros_(self.gate.bias)
        self.dropout = ChannelDropout(dropout)

    def forward(self, x: torch.Tensor, mask: torch.Tensor, position: torch.Tensor | None = None) -> torch.Tensor:
        """[B, T, D], bool [B, T] and [B, T] or None (see ``frame_steps``) -> [B, T, D]."""
        u = self.norm(x)
        q, k, v = (
            part.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
            for part in self.project(u).split([self.head_dim * heads for heads in self.heads], dim=-1)
        )
        keys = key_mask(mask, q.dtype)
        content = (q / math.sqrt(self.head_dim)) @ k.transpose(-1, -2) + keys
        scores = []
        if self.short:
            scores.append(content[:, : self.short] + self._window_bias(mask.shape[1], q.dtype))  # eq. (2)
        if self.content:
            scores.append(content[:, self.short :])  # eq. (3)
            rate = (-self.log_decay).exp().to(q.dtype)[:, None, None]
            # in the precision of x: under autocast q has eight bits, which cannot tell frames after the 256th apart
            steps = frame_steps(mask, position, x.dtype).to(q.dtype)
            scores.append(keys - rate * steps[:, None])  # eq. (4)
        mixed = torch.cat(scores, dim=1).softmax(-1).to(v.dtype) @ v
        mixed = mixed.transpose(1, 2)  # [B, T, heads, head_dim]
        if self.gate is not None:
            g = self.gate(u).sigmoid()[..., None]
            weight = torch.cat([g.expand(-1, -1, self.short, -1), (1 - g).expand(-1, -1, self.short, -1)], dim=2)
            mixed = mixed * weight  # eq. (5), before the projection of both branches, which is linear
        # X has unit norm; so has a branch of unit variance after this
        return x + self.dropout(self.out(mixed.flatten(2))) / math.sqrt(self.dim)

    def _window_bias(self, length: int, dtype: torch.dtype) -> torch.Tensor:
        """A learnt bias for each offset within the window, hugely negative outside of it: [heads, T, T]."""
        place = torch.arange(length, device=self.offset_bias.device)
        offset = place - place[:, None]
        bias = self.offset_bias[:, offset.clamp(-self.reach, self.reach) + self.reach].to(dtype)
        return bias.masked_fill(offset.abs() > self.reach, torch.finfo(dtype).min / 4)
