"""Zero-shot CLIP."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

from tgdfer.config.training import ModelParams
from tgdfer.core.errors import UserError
from tgdfer.model.layers import masked_mean
from tgdfer.model.output import BagModel, ModelOutput
from tgdfer.model.text import LabelText


class ZeroShot(BagModel):
    """The mean over frames of CLIP's scaled cosine to the texts of the classes, eq. (21). Nothing is trained."""

    trainable = False

    def __init__(self, params: ModelParams, classes: Sequence[str], dim: int, encoder: Any) -> None:
        super().__init__()
        if params.text == "none":
            raise UserError(
                "model.text: the architecture 'zero-shot' classifies by text; "
                "expected class-name, template or descriptions"
            )
        self.labels = LabelText(params.model_copy(update={"context_tokens": 0}), classes, encoder)
        self.scale = float(encoder.logit_scale)

    def forward(self, x: torch.Tensor, mask: torch.Tensor, frame_position: torch.Tensor | None = None) -> ModelOutput:
        """See ``BagModel``."""
        text = self.labels()
        alignment = (self.scale * (F.normalize(x, dim=-1) @ text.T)).masked_fill(~mask[..., None], 0)
        return ModelOutput(masked_mean(alignment, mask), None, alignment, None, text, mask)
