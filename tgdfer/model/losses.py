"""The training loss and its corrections for class imbalance; eqs. (16)-(20)."""

import torch
import torch.nn.functional as F

from tgdfer.config.training import ModelParams
from tgdfer.model.output import ModelOutput

BETA = 0.999
"""Between no re-weighting (0) and inverse class frequency (1)."""


def class_weights(class_counts: torch.Tensor, beta: float = BETA) -> torch.Tensor:
    """Class-balanced weights (1 - beta) / (1 - beta^n_c) of Cui et al. (CVPR 2019), eq. (18).

    They are scaled so that their mean over the training clips is 1: the learning rate keeps its meaning. A class
    without clips has weight 0.

    Args:
        class_counts: int64 [C].
        beta: in [0, 1).

    Returns:
        float32 [C].
    """
    counts = class_counts.double()
    weights = torch.where(counts > 0, (1 - beta) / (1 - beta ** counts.clamp_min(1)), 0.0)
    total = (weights * counts).sum()
    return (weights * counts.sum() / total.clamp_min(torch.finfo(torch.float64).tiny)).float()


def log_prior(class_counts: torch.Tensor) -> torch.Tensor:
    """Logarithm of the classes' frequencies, for logit adjustment (Menon et al., ICLR 2021), eq. (19).

    A class without clips counts as one with one clip, so that every value is finite.
    """
    counts = class_counts.double().clamp_min(1)
    return (counts / counts.sum()).log().float()


def cross_entropy(
    logits: torch.Tensor, target: torch.Tensor, params: ModelParams, class_counts: torch.Tensor
) -> torch.Tensor:
    """Cross-entropy with label smoothing and the chosen correction for imbalance, mean over the batch; eq. (16).

    Args:
        logits: [B, C].
        target: int64 [B], or the shares of the classes of each clip, float [B, C].
        params: label_smoothing, imbalance.
        class_counts: int64 [C], clips of each class in the training split.
    """
    smoothing = params.label_smoothing
    if params.imbalance == "logit-adjustment":
        prior = log_prior(class_counts).to(logits)
        logits = logits + prior
        # towards the classes' frequencies: smoothing towards equal shares would lift the rare classes a second time
        spread = (prior.exp() * logits.log_softmax(-1)).sum(-1)
        return ((1 - smoothing) * F.cross_entropy(logits, target, reduction="none") - smoothing * spread).mean()
    weight: torch.Tensor | float = 1.0
    if params.imbalance == "class-balanced":
        weights = class_weights(class_counts).to(logits)
        if target.is_floating_point():
            weighted = target * weights
            weight = weighted.sum(-1).clamp_min(1e-12)
            target = weighted / weight[:, None]
        else:
            weight = weights[target]
    return (F.cross_entropy(logits, target, reduction="none", label_smoothing=smoothing) * weight).mean()


def apart(text: torch.Tensor) -> torch.Tensor:
    """Mean positive cosine between label features [(B,) C, D] of different classes, eq. (17); 0 at right angles."""
    classes = text.shape[-2]
    product = text @ text.transpose(-1, -2)
    inverse = product.diagonal(dim1=-2, dim2=-1).clamp_min(1e-24).rsqrt()
    cosine = product * inverse[..., None] * inverse[..., None, :]
    other = ~torch.eye(classes, dtype=torch.bool, device=text.device)
    return (cosine.relu() * other).sum((-1, -2)).mean() / (classes * (classes - 1))


def loss(
    output: ModelOutput, target: torch.Tensor, params: ModelParams, class_counts: torch.Tensor
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The whole loss, eq. (20): aligned + coarse_weight * coarse + apart_weight * apart, where the model has them.

    Arguments as for ``cross_entropy``.

    Returns:
        The scalar to minimise, and its parts (unweighted, detached) by name: aligned, coarse, apart.
    """
    total = cross_entropy(output.logits, target, params, class_counts)
    parts = {"aligned": total.detach()}
    if output.coarse is not None and params.coarse_weight > 0:
        coarse = cross_entropy(output.coarse, target, params, class_counts)
        total = total + params.coarse_weight * coarse
        parts["coarse"] = coarse.detach()
    # label features that nothing can move would only add a constant
    if output.text is not None and params.apart_weight > 0 and output.text.requires_grad:
        spread = apart(output.text)
        total = total + params.apart_weight * spread
        parts["apart"] = spread.detach()
    return total, parts
