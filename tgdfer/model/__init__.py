"""TG-DFER and its relatives: one interface, ``model(x, mask, frame_position) -> ModelOutput``. See docs/model.md."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from torch import nn

from tgdfer.config.architectures import ARCHITECTURES
from tgdfer.core.errors import UserError
from tgdfer.model import losses
from tgdfer.model.output import ModelOutput, relevance

if TYPE_CHECKING:
    from tgdfer.config.params import ModelParams
    from tgdfer.encoders import Encoder

__all__ = ["ModelOutput", "build_model", "losses", "parameter_groups", "relevance"]


def build_model(params: ModelParams, classes: Sequence[str], dim: int, encoder: Encoder | None) -> nn.Module:
    """The model that ``params`` asks for, freshly initialised from torch's global random state.

    Args:
        params: the section ``model``, a variant's overrides applied.
        classes: C names, in the order of the logits.
        dim: D of the features.
        encoder: the encoder that made the features; needed if ``params.uses_text``.

    Raises:
        UserError: a combination of parameters and encoder that cannot be built; the message names the key.
    """
    if params.uses_text:
        if encoder is None:
            raise UserError(f"model.text: '{params.text}' needs the encoder's text tower; expected an encoder")
        if encoder.dim != dim:
            raise UserError(f"encoder '{encoder.name}': makes {encoder.dim} dimensions, the features have {dim}")
    module, _, name = ARCHITECTURES[params.architecture].made_by.rpartition(".")
    model: nn.Module = getattr(import_module(f"tgdfer.model.{module}"), name)(params, classes, dim, encoder)
    return model


def parameter_groups(
    model: nn.Module, learning_rate: float, prompt_learning_rate: float, weight_decay: float
) -> list[dict[str, Any]]:
    """Groups for an optimiser, each with ``name``: weights (of two dimensions: they decay), rest, prompt (tokens).

    Empty groups are left out.
    """
    groups: dict[str, list[nn.Parameter]] = {"weights": [], "rest": [], "prompt": []}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if name.endswith("labels.context"):
            groups["prompt"].append(parameter)
        else:
            groups["weights" if parameter.ndim > 1 else "rest"].append(parameter)
    settings = {
        "weights": {"lr": learning_rate, "weight_decay": weight_decay},
        "rest": {"lr": learning_rate, "weight_decay": 0.0},
        "prompt": {"lr": prompt_learning_rate, "weight_decay": 0.0},
    }
    return [{"name": name, "params": group, **settings[name]} for name, group in groups.items() if group]
