"""A model over a whole split: class probabilities of every clip, relevance of every frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from tgdfer.features.bags import BagBatch, Bags
from tgdfer.model import relevance as relevance_of

BATCH = 512
"""Clips at once. Fixed, so that the size of a training batch does not touch the last bit of an evaluation."""


@dataclass(frozen=True)
class Scores:
    """What a model says about N clips."""

    probabilities: np.ndarray
    """float32 [N, C]; the prediction is the first of the largest."""
    relevance: np.ndarray
    """float32 [N, T]; sums to 1 over the valid frames of a clip, 0 on padding."""

    @property
    def finite(self) -> bool:
        """Whether every number is one."""
        return bool(np.isfinite(self.probabilities).all() and np.isfinite(self.relevance).all())


def place(batch: BagBatch, device: torch.device, part: slice = slice(None)) -> BagBatch:
    """The clips ``part`` of ``batch`` on ``device``."""
    return BagBatch(*(tensor[part].to(device, non_blocking=True) for tensor in batch))


def batches(bags: Bags, device: torch.device, size: int = BATCH) -> list[BagBatch]:
    """The clips of ``bags`` as they are evaluated (middle frames, plain view), in batches on ``device``."""
    return [
        place(bags.batch(torch.arange(start, min(start + size, len(bags))), None), device)
        for start in range(0, len(bags), size)
    ]


@torch.no_grad()
def score(model: nn.Module, parts: Sequence[BagBatch]) -> Scores:
    """Evaluate ``model`` in evaluation mode and float32; its mode afterwards is as before."""
    training = model.training
    model.eval()
    try:
        probabilities, relevance = [], []
        for part in parts:
            output = model(part.x, part.mask, part.frame_index.to(part.x.dtype))
            probabilities.append(output.logits.float().softmax(dim=-1))
            relevance.append(relevance_of(output).float())
        return Scores(torch.cat(probabilities).cpu().numpy(), torch.cat(relevance).cpu().numpy())
    finally:
        model.train(training)


def frames_and_relevance(parts: Sequence[BagBatch], scores: Scores) -> Mapping[str, list[list[float]]]:
    """The columns ``frame_index`` and ``relevance`` of a predictions table: padding left out."""
    mask = torch.cat([part.mask for part in parts]).cpu().numpy()
    index = torch.cat([part.frame_index for part in parts]).cpu().numpy()
    return {
        "frame_index": [row[valid].tolist() for row, valid in zip(index, mask, strict=True)],
        "relevance": [row[valid].tolist() for row, valid in zip(scores.relevance, mask, strict=True)],
    }
