"""Linear probe on the mean frame."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from tgdfer.config.training import ModelParams
from tgdfer.model.layers import ChannelDropout, masked_mean
from tgdfer.model.output import BagModel, ModelOutput


class LinearProbe(BagModel):
    """A linear classifier on the mean frame, eq. (22)."""

    def __init__(self, params: ModelParams, classes: Sequence[str], dim: int, encoder: Any) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.dropout = ChannelDropout(params.dropout)
        self.classifier = nn.Linear(dim, len(classes))

    def forward(self, x: torch.Tensor, mask: torch.Tensor, frame_position: torch.Tensor | None = None) -> ModelOutput:
        """See ``BagModel``."""
        # linear after the norm: the mean of the frames' scores is the score of the mean frame
        scores = self.classifier(self.dropout(self.norm(x))).masked_fill(~mask[..., None], 0)
        return ModelOutput(masked_mean(scores, mask), None, scores, None, None, mask)
