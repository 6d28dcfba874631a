"""Multiple-instance learning in TG-DFER: instance confidence, and five ways from frames' scores to a clip's logits."""

import torch
from torch import nn

from tgdfer.model.layers import masked_mean, masked_softmax


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
        # the mean, not the sum, of the exponentials: a longer clip has no higher logits for its length
        return (torch.logsumexp(sharpness * valid, 1) - count.to(scores.dtype).log()) / sharpness
    if how == "top-k":
        k = min(k, scores.shape[1])
        best = valid.topk(k, dim=1).values
        used = torch.arange(k, device=mask.device) < count
        return (best * used[..., None]).sum(1) / used.sum(1, keepdim=True)
    raise ValueError(f"unknown aggregation '{how}'")
