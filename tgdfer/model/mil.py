"""Multiple-instance learning under masks: instance confidence, and five ways from frames' scores to a clip's logits.

Frames outside the mask change nothing: they have weight exactly 0.
"""

from __future__ import annotations

import math

import torch
from torch import nn


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


class InstanceConfidence(nn.Module):
    """Instance confidence a = softmax_t(w2 tanh(W1 h_t)), eq. (8); uniform over the valid frames before training."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.scorer = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, hidden), nn.Tanh(), nn.Linear(hidden, 1, bias=False)
        )
        nn.init.zeros_(self.scorer[-1].weight)  # type: ignore[arg-type]

    def forward(self, h: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """[B, T, D] and bool [B, T] -> [B, T], sums to 1 over the valid frames."""
        return masked_softmax(self.scorer(h).squeeze(-1), mask)


def aggregate(
    scores: torch.Tensor,
    mask: torch.Tensor,
    how: str,
    *,
    k: int = 4,
    attention: torch.Tensor | None = None,
    sharpness: float = 1.0,
) -> torch.Tensor:
    """A clip's logits from its frames' scores, eq. (13).

    Args:
        scores: [B, T, C].
        mask: bool [B, T], at least one valid frame in each row.
        how: ``top-k`` (mean of the k highest per class, of all frames where there are fewer than k), ``attention``
            (weighted by instance confidence), ``log-sum-exp``, ``max`` or ``mean``.
        k: of ``top-k``.
        attention: [B, T], sums to 1 over the valid frames; of ``attention``.
        sharpness: r of ``log-sum-exp``: towards 0 it is the mean, towards infinity the maximum.

    Returns:
        [B, C].

    Raises:
        ValueError: an unknown ``how``, or no ``attention`` where it is needed.
    """
    if how == "mean":
        return masked_mean(scores, mask)
    if how == "attention":
        if attention is None:
            raise ValueError("aggregation 'attention' needs the instance confidence")
        return torch.einsum("bt,btc->bc", attention, scores)
    count = mask.sum(1, keepdim=True)
    floor = torch.finfo(scores.dtype).min / 2
    valid = scores.masked_fill(~mask[..., None], floor)
    if how == "max":
        return valid.amax(1)
    if how == "log-sum-exp":
        # mean, not sum, of the exponentials: a clip's length by itself raises no logit
        return (torch.logsumexp(sharpness * valid, 1) - count.clamp_min(1).to(scores.dtype).log()) / sharpness
    if how == "top-k":
        k = min(k, scores.shape[1])
        best = valid.topk(k, dim=1).values
        used = torch.arange(k, device=mask.device) < count
        return (best * used[..., None]).sum(1) / used.sum(1, keepdim=True).clamp_min(1)
    raise ValueError(f"unknown aggregation '{how}'")


class DMIN(nn.Module):
    """Dynamic multi-instance normalisation of M3DFEL (CVPR 2023), eq. (25).

    Mean and variance of each instance over its channels, and of the whole bag over its valid instances and channels,
    are mixed by learnt softmax weights, one pair for the means and one for the variances.
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


class GatedAttention(nn.Module):
    """Gated attention pooling of Ilse et al. (ICML 2018), eq. (27)."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.both = nn.Linear(dim, 2 * hidden)
        self.score = nn.Linear(hidden, 1, bias=False)
        nn.init.normal_(self.score.weight, std=1 / math.sqrt(hidden))

    def forward(self, h: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """[B, T, D] and bool [B, T] -> attention [B, T], sums to 1 over the valid frames."""
        value, gate = self.both(h).chunk(2, dim=-1)
        return masked_softmax(self.score(value.tanh() * gate.sigmoid()).squeeze(-1), mask)
