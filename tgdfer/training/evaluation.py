"""A model over a whole split: class probabilities of every clip, relevance of every frame."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from tgdfer.features.bags import BagBatch, Bags
from tgdfer.model import relevance as relevance_of

BATCH = 512
"""Clips at once. It is fixed, so that the size of a training batch does not change the last bit of an evaluation."""


@dataclass(frozen=True)
class Scores:
    """What a model says about N clips."""

    probabilities: np.ndarray
    """float32 [N, C]; the prediction is the first of the largest."""
    relevance: np.ndarray
    """float32 [N, T]; sums to 1 over the valid frames of a clip, 0 on padding."""

    @property
    def finite(self) -> bool:
        """Whether no number is NaN or infinite."""
        return bool(np.isfinite(self.probabilities).all() and np.isfinite(self.relevance).all())


LARGEST = 4096
"""Numbers of a frame up to which that many clips fit into the memory; where tokens are more, fewer clips are taken."""


def batches(bags: Bags, device: torch.device, size: int = BATCH, view: int = 0) -> Iterator[BagBatch]:
    """The clips of ``bags`` for an evaluation (middle frames, one view), in batches on ``device``."""
    size = max(1, size * LARGEST // max(LARGEST, bags.cache.dim))
    for indices in torch.arange(len(bags)).split(size):
        yield bags.batch(indices, None, device, view)


def evaluate(model: nn.Module, bags: Bags, device: torch.device, views: int = 1) -> Scores:
    """The scores of ``bags``, the mean over their first ``views`` views; the first is the plain one."""
    found = [score(model, batches(bags, device, view=view)) for view in range(views)]
    return Scores(*(np.mean([getattr(one, name) for one in found], axis=0) for name in ("probabilities", "relevance")))


@torch.no_grad()
def score(model: nn.Module, parts: Iterable[BagBatch]) -> Scores:
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


def shown_frames(parts: Iterable[BagBatch]) -> tuple[np.ndarray, np.ndarray]:
    """The masks bool [N, T] and frame numbers int32 [N, T] of all clips of ``parts``."""
    found = [(part.mask.cpu().numpy(), part.frame_index.cpu().numpy()) for part in parts]
    mask, index = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
    return mask, index
