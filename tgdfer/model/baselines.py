"""The closest relatives on the same features: zero-shot CLIP, linear probe, cls-token transformer, BiLSTM-DMIN, MIL."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn

from tgdfer.core.errors import UserError
from tgdfer.model.alignment import Alignment, check_heads, label_features, start_scale
from tgdfer.model.mil import DMIN, GatedAttention, masked_mean
from tgdfer.model.output import ModelOutput
from tgdfer.model.temporal import ChannelDropout, key_mask
from tgdfer.model.text import LabelText

if TYPE_CHECKING:
    from tgdfer.config.params import ModelParams


class ZeroShot(nn.Module):
    """CLIP as it is: mean over frames of the scaled cosine to the classes' texts, eq. (21). Nothing to train."""

    trainable = False

    def __init__(self, params: ModelParams, classes: Sequence[str], dim: int, encoder: Any) -> None:
        super().__init__()
        if params.text == "none":
            raise UserError("model.text: the architecture 'zero-shot' classifies by text; expected another than 'none'")
        self.labels = LabelText(params.model_copy(update={"context_tokens": 0}), classes, encoder)
        self.scale = float(encoder.logit_scale)

    def forward(self, x: torch.Tensor, mask: torch.Tensor, frame_position: torch.Tensor | None = None) -> ModelOutput:
        """See :class:`~tgdfer.model.tgdfer.TGDFER`."""
        text = self.labels()
        alignment = (self.scale * (F.normalize(x, dim=-1) @ text.T)).masked_fill(~mask[..., None], 0)
        return ModelOutput(masked_mean(alignment, mask), None, alignment, None, text, mask)


class LinearProbe(nn.Module):
    """A linear classifier on the mean frame, eq. (22)."""

    trainable = True

    def __init__(self, params: ModelParams, classes: Sequence[str], dim: int, encoder: Any) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.dropout = ChannelDropout(params.dropout)
        self.classifier = nn.Linear(dim, len(classes))

    def forward(self, x: torch.Tensor, mask: torch.Tensor, frame_position: torch.Tensor | None = None) -> ModelOutput:
        """See :class:`~tgdfer.model.tgdfer.TGDFER`."""
        # linear after the norm: the mean of the frames' scores is the score of the mean frame
        scores = self.classifier(self.dropout(self.norm(x))).masked_fill(~mask[..., None], 0)
        return ModelOutput(masked_mean(scores, mask), None, scores, None, None, mask)


class TransformerCls(nn.Module):
    """One transformer layer over [cls; frames], the cls state against the label features; eq. (23), after DFER-CLIP.

    Pre-norm, sinusoidal positions. With ``text: none`` the label features are learnt vectors.
    """

    trainable = True

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
        """See :class:`~tgdfer.model.tgdfer.TGDFER`; the alignment is that of each frame's state."""
        root = math.sqrt(x.shape[2])
        tokens = x * root + self.position_scale * sinusoids(x.shape[1], x.shape[2], x.device).to(x.dtype)
        tokens = torch.cat([(self.cls * root).expand(len(x), 1, -1), tokens], dim=1)
        mask_all = F.pad(mask, (1, 0), value=True)
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in self.project(self.norm_attention(tokens)).chunk(3, dim=-1)
        )
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=key_mask(mask_all, q.dtype))
        tokens = tokens + self.dropout(self.out(attended.transpose(1, 2).flatten(2)))
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


class BiLSTMDMIN(nn.Module):
    """BiLSTM, multi-head attention, DMIN, gate, classifier; eqs. (24)-(26), after M3DFEL's head."""

    trainable = True

    def __init__(self, params: ModelParams, classes: Sequence[str], dim: int, encoder: Any) -> None:
        super().__init__()
        check_heads(params.heads, dim)
        if dim % 2:
            raise UserError(
                f"model.architecture: 'bilstm-dmin' needs an even number of dimensions, the features have {dim}"
            )
        hidden = dim // 2
        self.heads = params.heads
        self.forwards = nn.LSTM(dim, hidden, batch_first=True)
        self.backwards = nn.LSTM(dim, hidden, batch_first=True)
        self.project = nn.Linear(2 * hidden, 6 * hidden)
        self.out = nn.Linear(2 * hidden, 2 * hidden)
        self.dmin = DMIN(2 * hidden)
        self.gate = nn.Linear(2 * hidden, 2 * hidden)
        self.dropout = ChannelDropout(params.dropout)
        self.classifier = nn.Linear(2 * hidden, len(classes))

    def forward(self, x: torch.Tensor, mask: torch.Tensor, frame_position: torch.Tensor | None = None) -> ModelOutput:
        """See :class:`~tgdfer.model.tgdfer.TGDFER`."""
        # valid frames first, so that the backward pass starts at the last of them
        order = (~mask).int().argsort(dim=1, stable=True)
        count = mask.sum(1, keepdim=True)
        place = torch.arange(mask.shape[1], device=mask.device)
        flip = torch.where(place < count, count - 1 - place, place)
        x = _take(x * math.sqrt(x.shape[2]), order)
        # on GPUs autocast runs LSTMs in float16 whatever its type is, and small gradients vanish there
        with torch.autocast(x.device.type, enabled=False):
            lstm = torch.cat([self.forwards(x)[0], _take(self.backwards(_take(x, flip))[0], flip)], dim=-1)
        ordered = place < count
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in self.project(self.dropout(lstm)).chunk(3, dim=-1)
        )
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=key_mask(ordered, q.dtype))
        h = self.dmin(lstm + self.out(attended.transpose(1, 2).flatten(2)), ordered)
        h = h * self.gate(h).sigmoid()  # eq. (26)
        scores = _take(self.classifier(self.dropout(h)), order.argsort(dim=1)).masked_fill(~mask[..., None], 0)
        return ModelOutput(masked_mean(scores, mask), None, scores, None, None, mask)


def _take(x: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Frames of [B, T, D] in the order of [B, T]."""
    return x.gather(1, index[..., None].expand(-1, -1, x.shape[2]))


class AttentionMIL(nn.Module):
    """Gated attention MIL without text, eq. (27), after Ilse et al. (ICML 2018)."""

    trainable = True

    def __init__(self, params: ModelParams, classes: Sequence[str], dim: int, encoder: Any) -> None:
        super().__init__()
        self.embed = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim), nn.GELU(), ChannelDropout(params.dropout))
        self.pool = GatedAttention(dim, max(1, dim // 2))
        self.classifier = nn.Linear(dim, len(classes))

    def forward(self, x: torch.Tensor, mask: torch.Tensor, frame_position: torch.Tensor | None = None) -> ModelOutput:
        """See :class:`~tgdfer.model.tgdfer.TGDFER`."""
        h = self.embed(x)
        attention = self.pool(h, mask)
        scores = self.classifier(h).masked_fill(~mask[..., None], 0)
        # linear: the attention's mean of the scores is the score of the attended mean
        logits = torch.einsum("bt,btc->bc", attention, scores)
        return ModelOutput(logits, None, scores, attention, None, mask, by_attention=True)
