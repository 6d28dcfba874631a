"""vectors.safetensors: features of some test clips as the trained model holds them, for the report's t-SNE figure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from tgdfer.features.bags import BagBatch

EACH = 6
"""Clips of each class, the first of the test fold."""


def chosen(labels: np.ndarray) -> np.ndarray:
    """Places [n] of the first ``EACH`` clips of every class among ``labels`` [N], ascending."""
    return np.sort(np.concatenate([np.flatnonzero(labels == c)[:EACH] for c in np.unique(labels)]))


@torch.no_grad()
def vectors(model: Any, parts: Sequence[BagBatch], labels: np.ndarray) -> dict[str, torch.Tensor]:
    """Vectors of ``n`` test clips of ``parts``, whose class indices are ``labels`` [N].

    Returns:
        ``label`` int64 [n], ``mask`` bool [n, T] and ``frames`` float16 [n, T, D]: the frames' features, behind the
        temporal network where the model has one. Of TG-DFER also ``labels_before`` float16 [C, D], the label features,
        and with a visual prompt ``labels_after`` [n, C, D], enriched for each clip, eq. (11).
    """
    places = torch.from_numpy(chosen(labels))
    ends = np.cumsum([0, *(len(part.x) for part in parts)])
    inside = [places[(places >= a) & (places < b)] - a for a, b in pairwise(ends.tolist())]
    picked = [[tensor[rows.to(tensor.device)] for tensor in part] for part, rows in zip(parts, inside, strict=True)]
    bags = BagBatch(*(torch.cat(tensors) for tensors in zip(*picked, strict=True)))
    frames: torch.Tensor = bags.x
    found = {"label": torch.from_numpy(labels)[places].long(), "mask": bags.mask}
    if getattr(model, "enriches_labels", False):
        seen: list[torch.Tensor] = []
        hook = model.align.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
        training = model.training
        model.eval()
        try:
            text = model(bags.x, bags.mask, bags.frame_index.to(bags.x.dtype)).text
            found["labels_before"] = model.labels().half()
        finally:
            hook.remove()
            model.train(training)
        frames = seen[0]
        if text is not None and text.dim() == 3:
            found["labels_after"] = text.half()
    found["frames"] = (frames * bags.mask[..., None]).half()
    return {name: tensor.cpu().contiguous() for name, tensor in found.items()}
