"""What every architecture is and returns, and the relevance of frames that is read from it."""

from typing import NamedTuple

import torch
from torch import nn

from tgdfer.model.layers import masked_softmax


class ModelOutput(NamedTuple):
    """The result for B bags of T frames, with C classes and D dimensions; frames outside ``mask`` hold zeros."""

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
    """Whether the relevance of frames is ``attention`` rather than read from ``alignment``."""


class BagModel(nn.Module):
    """An architecture.

    Every subclass is made with ``(params, classes, dim, encoder)``: the section ``model`` with a variant's overrides,
    the C class names in the order of the logits, D of the features, and the CLIP encoder, which may be None where
    frames are not compared with words.
    """

    trainable = True
    """False: nothing is trained, and the model is evaluated once."""
    enriches_labels = False
    """Whether the label features ``labels()`` are enriched for each clip before ``align`` compares frames with them."""

    def forward(self, x: torch.Tensor, mask: torch.Tensor, frame_position: torch.Tensor | None = None) -> ModelOutput:
        """Classify bags.

        Args:
            x: CLIP features of the frames, float [B, T, D], L2-normalised.
            mask: bool [B, T]; each bag has at least one valid frame.
            frame_position: [B, T], ascending in any unit, for attention by distance in time; None: evenly spaced.
        """
        raise NotImplementedError


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
