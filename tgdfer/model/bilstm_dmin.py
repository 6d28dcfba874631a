"""BiLSTM, attention and dynamic multi-instance normalisation, after M3DFEL (CVPR 2023)."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from tgdfer.config.training import ModelParams
from tgdfer.core.errors import UserError
from tgdfer.model.layers import ChannelDropout, check_heads, masked_mean, self_attention
from tgdfer.model.output import BagModel, ModelOutput


class DMIN(nn.Module):
    """Dynamic multi-instance normalisation, eq. (25).

    The mean and variance of each instance over its channels, and of the whole bag over its valid instances and
    channels, are mixed by learnt softmax weights, one pair for the means and one for the variances.
    """

    def __init__(self, dim: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))
        self.mean_mix = nn.Parameter(torch.zeros(2))
        self.var_mix = nn.Parameter(torch.zeros(2))
        self.eps = eps

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """[B, T, D] and bool [B, T] -> [B, T, D]; rows outside the mask are not meaningful."""
        instance_mean = x.mean(2, keepdim=True)
        instance_var = x.var(2, keepdim=True, unbiased=False)
        # the bag's moments from its instances' moments: E[x] and E[x^2] - E[x]^2
        share = mask[..., None].to(x.dtype)
        share = share / share.sum(1, keepdim=True).clamp_min(1)
        bag_mean = (share * instance_mean).sum(1, keepdim=True)
        bag_var = (share * (instance_var + (instance_mean - bag_mean) ** 2)).sum(1, keepdim=True)
        m, v = self.mean_mix.softmax(0), self.var_mix.softmax(0)
        mean = m[0] * instance_mean + m[1] * bag_mean
        var = v[0] * instance_var + v[1] * bag_var
        return (x - mean) * torch.rsqrt(var + self.eps) * self.weight + self.bias


class BiLSTMDMIN(BagModel):
    """BiLSTM, multi-head attention, DMIN, gate, classifier; eqs. (24)-(26)."""

    def __init__(self, params: ModelParams, classes: Sequence[str], dim: int, encoder: Any) -> None:
        super().__init__()
        check_heads(params.heads, dim)
        if dim % 2:
            raise UserError(
                f"model.architecture: 'bilstm-dmin' needs an even number of dimensions, the features have {dim}"
            )
        self.heads = params.heads
        self.forwards = nn.LSTM(dim, dim // 2, batch_first=True)
        self.backwards = nn.LSTM(dim, dim // 2, batch_first=True)
        self.project = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.dmin = DMIN(dim)
        self.gate = nn.Linear(dim, dim)
        self.dropout = ChannelDropout(params.dropout)
        self.classifier = nn.Linear(dim, len(classes))

    def forward(self, x: torch.Tensor, mask: torch.Tensor, frame_position: torch.Tensor | None = None) -> ModelOutput:
        """See ``BagModel``."""
        # valid frames first, so that the backward pass starts at the last of them
        order = (~mask).int().argsort(dim=1, stable=True)
        count = mask.sum(1, keepdim=True)
        place = torch.arange(mask.shape[1], device=mask.device)
        ordered = place < count
        flip = torch.where(ordered, count - 1 - place, place)
        x = _take(x * math.sqrt(x.shape[2]), order)
        # on GPUs autocast runs LSTMs in float16 whatever its type is, and small gradients vanish there
        with torch.autocast(x.device.type, enabled=False):
            lstm = torch.cat([self.forwards(x)[0], _take(self.backwards(_take(x, flip))[0], flip)], dim=-1)
        attended = self_attention(self.project(self.dropout(lstm)), self.heads, ordered)
        h = self.dmin(lstm + self.out(attended), ordered)
        h = h * self.gate(h).sigmoid()  # eq. (26)
        scores = _take(self.classifier(self.dropout(h)), order.argsort(dim=1)).masked_fill(~mask[..., None], 0)
        return ModelOutput(masked_mean(scores, mask), None, scores, None, None, mask)


def _take(x: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Frames of [B, T, D] in the order of [B, T]."""
    return x.gather(1, index[..., None].expand(-1, -1, x.shape[2]))
