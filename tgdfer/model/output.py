"""What every architecture is and returns, and the relevance of frames that is read from it."""

from typing import NamedTuple

import torch
from torch import nn

from tgdfer.model.adaptation import Adaptation
from tgdfer.model.layers import masked_softmax

EQUAL = 1e-4
"""Nats of information that every frame is granted; a clip of equal frames would have none to share out."""


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

    def __init__(self) -> None:
        super().__init__()
        self.adaptation: Adaptation | None = None
        """The encoder's adapted blocks: the model then takes the tokens of frames [B, T, K] in place of features."""

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """The features of the frames in a batch, which holds their tokens if the encoder is adapted."""
        return x if self.adaptation is None else self.adaptation(x)

    def forward(self, x: torch.Tensor, mask: torch.Tensor, frame_position: torch.Tensor | None = None) -> ModelOutput:
        """Classify bags.

        Args:
            x: CLIP features of the frames, float [B, T, D], L2-normalised.
            mask: bool [B, T]; each bag has at least one valid frame.
            frame_position: [B, T], ascending in any unit, for attention by distance in time; None: evenly spaced.
        """
        raise NotImplementedError


def relevance(output: ModelOutput) -> torch.Tensor:
    """How much each frame has to do with the answer, eq. (15): its share in the classes' scores times its information.

    The shares are those of all classes, weighted by the model's probabilities, so that a wrong answer does not hide the
    right frames. The information is the divergence of the frame's classes from the clip's average frame: a frame like
    all others says nothing, whatever it resembles.

    Returns:
        [B, T], at least 0, sums to 1 over the valid frames, exactly 0 on padding.
    """
    if output.by_attention and output.attention is not None:
        return output.attention
    mask = output.mask
    shares = masked_softmax(output.alignment, mask[..., None])
    share = torch.einsum("btc,bc->bt", shares, output.logits.softmax(-1))
    logs = output.alignment.log_softmax(-1)
    classes = logs.exp()
    average = torch.einsum("bt,btc->bc", mask.to(classes.dtype), classes) / mask.sum(1, keepdim=True)
    tiny = torch.finfo(classes.dtype).tiny
    average = average[:, None].clamp_min(tiny)
    # the last two terms sum to 0 and cancel rounding errors, which exceed the divergence of nearly equal frames
    information = (classes * (logs - average.log()) - classes + average).sum(-1)
    # where all frames are alike, only the share counts
    scores = share.clamp_min(tiny).log() + (information.clamp_min(0) + EQUAL).log()
    return masked_softmax(scores, mask)
