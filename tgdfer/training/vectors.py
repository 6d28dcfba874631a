"""vectors.safetensors: features of some test clips inside the trained model, for the report's t-SNE figure."""

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
def vectors(model: Any, bags: BagBatch) -> dict[str, torch.Tensor]:
    """Vectors of ``bags`` of ``n`` test clips.

    Returns:
        ``label`` int64 [n], ``mask`` bool [n, T] and ``frames`` float16 [n, T, D]: the frames' features, after the
        temporal network if the model has one. Of TG-DFER also ``labels_before`` float16 [C, D], the label features,
        and with a visual prompt ``labels_after`` [n, C, D], enriched for each clip, eq. (11).
    """
    frames: torch.Tensor = model.features(bags.x)
    found = {"label": bags.y, "mask": bags.mask}
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
