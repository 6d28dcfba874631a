"""The visual prompt: what the clip looks like, added to the label features; eqs. (9)-(11)."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from tgdfer.model.layers import ChannelDropout, masked_softmax


class VisualPrompt(nn.Module):
    """t'_c = t_c + D^-1/2 FFN(LN(t_c + V)); the FFN's last layer starts at zero, so t'_c starts as t_c.

    Args:
        dim: D.
        kind: ``pooled`` (one prompt per clip, by instance confidence) or ``per-class`` (by similarity to the class).
        temperature: tau of ``per-class``.
        dropout: in the FFN.
    """

    def __init__(self, dim: int, kind: str, temperature: float, dropout: float) -> None:
        super().__init__()
        self.dim, self.kind, self.temperature = dim, kind, temperature
        self.norm = nn.LayerNorm(dim)
        self.inner = nn.Linear(dim, dim)
        self.outer = nn.Linear(dim, dim)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)
        self.dropout = ChannelDropout(dropout)

    def forward(
        self, h: torch.Tensor, mask: torch.Tensor, text: torch.Tensor, attention: torch.Tensor | None
    ) -> torch.Tensor:
        """Label features enriched for each clip, eq. (11).

        Args:
            h: frames [B, T, D].
            mask: bool [B, T].
            text: [C, D], L2-normalised.
            attention: instance confidence [B, T]; needed if pooled.

        Returns:
            [B, C, D], not normalised.
        """
        if self.kind == "per-class":  # eq. (10)
            scores = F.normalize(h, dim=-1) @ text.T / self.temperature
            visual = torch.einsum("btc,btd->bcd", masked_softmax(scores, mask[..., None]), h)
        elif attention is not None:  # eq. (9)
            visual = torch.einsum("bt,btd->bd", attention, h)[:, None]
        else:
            raise ValueError("a pooled visual prompt needs the instance confidence")
        # sqrt(D): unit norm to unit variance, which the layer norm's epsilon is made for
        mixed = (text + F.normalize(visual, dim=-1)) * math.sqrt(self.dim)
        inner = self.dropout(F.gelu(self.inner(self.norm(mixed))))
        return text + self.outer(inner) / math.sqrt(self.dim)
