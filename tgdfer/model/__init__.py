"""TG-DFER and its baselines: one interface, ``model(x, mask, frame_position) -> ModelOutput``. See docs/model.md."""

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING

import torch

from tgdfer.config.architectures import ARCHITECTURES
from tgdfer.config.training import ModelParams
from tgdfer.core.errors import UserError
from tgdfer.model.adaptation import Adaptation
from tgdfer.model.output import BagModel, ModelOutput, relevance

if TYPE_CHECKING:
    from tgdfer.encoders import Encoder

NO_TOKENS = (
    "model.adapt: needs the tokens of frames, which are not in the feature cache; set features.keep to the block after "
    "which they are kept, and run the features stage"
)
__all__ = ["NO_TOKENS", "BagModel", "ModelOutput", "build_model", "relevance"]


def build_model(
    params: ModelParams, classes: Sequence[str], dim: int, encoder: "Encoder | None", block: int | None = None
) -> BagModel:
    """The model that ``params`` asks for, freshly initialised from torch's global random state.

    Args:
        params: the section ``model``, a variant's overrides applied.
        classes: C names, in the order of the logits.
        dim: D of the features.
        encoder: the encoder that made the features; needed if ``params.uses_encoder``.
        block: the block after which tokens were cached; needed if the encoder is adapted.

    Raises:
        UserError: a combination of parameters and encoder that cannot be built; the message names the key.
    """
    if params.uses_encoder:
        if encoder is None:
            raise UserError(f"model.text: '{params.text}' needs the encoder's text tower; expected an encoder")
        if encoder.dim != dim:
            raise UserError(f"encoder '{encoder.name}': makes {encoder.dim} dimensions, the features have {dim}")
    module, _, name = ARCHITECTURES[params.architecture].made_by.rpartition(".")
    model: BagModel = getattr(import_module(f"tgdfer.model.{module}"), name)(params, classes, dim, encoder)
    if params.adapts:
        if block is None:
            raise UserError(NO_TOKENS)
        # last, so that all other weights start as those of the frozen variant do
        model.adaptation = Adaptation(params, encoder, block)
        model.register_forward_pre_hook(_with_features)
    return model


def _with_features(model: BagModel, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return model.features(inputs[0]), *inputs[1:]
