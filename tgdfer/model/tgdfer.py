"""TG-DFER: temporal network, label features from text, visual prompt, instance-level alignment, MIL, coarse branch."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from tgdfer.config.training import ModelParams
from tgdfer.core.errors import UserError
from tgdfer.model.alignment import Alignment, label_features, start_scale
from tgdfer.model.layers import check_heads
from tgdfer.model.mil import InstanceConfidence, aggregate
from tgdfer.model.output import BagModel, ModelOutput
from tgdfer.model.temporal import TemporalNetwork
from tgdfer.model.visual_prompt import VisualPrompt


class TGDFER(BagModel):
    """The full model; every part can be replaced or left out by ``params``.

    At the start, with text and without learnt tokens, the alignment is that of zero-shot CLIP, frame by frame.
    """

    enriches_labels = True

    def __init__(self, params: ModelParams, classes: Sequence[str], dim: int, encoder: Any) -> None:
        super().__init__()
        self.params = params
        self.labels = label_features(params, classes, dim, encoder)
        self.temporal = None if params.temporal == "none" else temporal_network(params, dim)
        # only what is used is built
        confident = params.visual_prompt == "pooled" or params.aggregation == "attention" or params.coarse_weight > 0
        self.confidence = InstanceConfidence(dim, max(1, dim // 2)) if confident else None
        self.prompt = (
            None
            if params.visual_prompt == "none"
            else VisualPrompt(dim, params.visual_prompt, params.prompt_temperature, params.dropout)
        )
        self.align = Alignment(start_scale(params, encoder))
        self.coarse = (
            nn.Sequential(nn.LayerNorm(dim), nn.Dropout(params.dropout), nn.Linear(dim, len(classes)))
            if params.coarse_weight > 0
            else None
        )

    def forward(self, x: torch.Tensor, mask: torch.Tensor, frame_position: torch.Tensor | None = None) -> ModelOutput:
        """See ``BagModel``."""
        h = x if self.temporal is None else self.temporal(x, mask, frame_position)
        text = self.labels()
        attention = None if self.confidence is None else self.confidence(h, mask)
        if self.prompt is not None:
            text = self.prompt(h, mask, text, attention)
        alignment = self.align(h, text).masked_fill(~mask[..., None], 0)
        logits = aggregate(
            alignment,
            mask,
            self.params.aggregation,
            k=self.params.top_k,
            attention=attention,
            sharpness=self.params.sharpness,
        )
        coarse = None
        if self.coarse is not None and attention is not None:
            coarse = self.coarse(torch.einsum("bt,btd->bd", attention, h))  # eq. (14)
        return ModelOutput(logits, coarse, alignment, attention, text, mask)


def temporal_network(params: ModelParams, dim: int) -> TemporalNetwork:
    """The temporal network that ``params`` asks for; each branch has half of the features' width by default."""
    width = params.attention_width or dim // 2
    check_heads(params.heads, width)
    if params.temporal != "short" and params.heads % 2:
        raise UserError(
            f"model.heads: temporal '{params.temporal}' gives half of the heads to content and half to time; "
            f"expected an even number, got {params.heads}"
        )
    return TemporalNetwork(dim, width, params.heads, params.window, params.temporal, params.dropout)
