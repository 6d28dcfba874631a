"""What every model returns, and the relevance of frames that is read from it."""

from __future__ import annotations

from typing import NamedTuple

import torch

from tgdfer.model.mil import masked_softmax


class ModelOutput(NamedTuple):
    """The result for a batch of B bags of T frames, C classes, D dimensions; frames outside ``mask`` hold zeros."""

    logits: torch.Tensor
    """[B, C]: the prediction is their argmax."""
    coarse: torch.Tensor | None
    """[B, C]: logits of the coarse branch, eq. (14)."""
    alignment: torch.Tensor
    """[B, T, C]: how well each frame fits each class, eq. (12); without text, the classifier's score of the frame."""
    attention: torch.Tensor | None
    """[B, T]: instance confidence, sums to 1 over the valid frames, eq. (8)."""
    text: torch.Tensor | None
    """[B, C, D] or [C, D]: the label features that the frames were compared with."""
    mask: torch.Tensor
    """bool [B, T]: the valid frames."""
    by_attention: bool = False
    """Whether the model's own statement about frames is ``attention`` rather than ``alignment``."""


def relevance(output: ModelOutput) -> torch.Tensor:
    """How much each frame speaks for the predicted class, eq. (15).

    Returns:
        [B, T], at least 0, sums to 1 over the valid frames, exactly 0 on padding.
    """
    if output.by_attention and output.attention is not None:
        return output.attention
    predicted = output.logits.argmax(-1)
    scores = output.alignment.gather(2, predicted[:, None, None].expand(-1, output.alignment.shape[1], 1))
    return masked_softmax(scores.squeeze(2), output.mask)
