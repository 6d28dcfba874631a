"""TG-DFER and its relatives: one interface, ``model(x, mask, frame_position) -> ModelOutput``. See docs/model.md."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from torch import nn

from tgdfer.errors import UserError
from tgdfer.model import losses
from tgdfer.model.baselines import AttentionMIL, BiLSTMDMIN, LinearProbe, TransformerCls, ZeroShot
from tgdfer.model.output import ModelOutput, relevance
from tgdfer.model.tgdfer import TGDFER, attention_width

if TYPE_CHECKING:
    from tgdfer.encoders import Encoder
    from tgdfer.params import ModelParams

__all__ = ["ARCHITECTURES", "ModelOutput", "build_model", "losses", "parameter_groups", "relevance", "uses_text"]

ARCHITECTURES: dict[str, Callable[[ModelParams, Sequence[str], int, Any], nn.Module]] = {
    "tgdfer": TGDFER,
    "zero-shot": ZeroShot,
    "linear-probe": LinearProbe,
    "transformer-cls": TransformerCls,
    "bilstm-dmin": BiLSTMDMIN,
    "attention-mil": AttentionMIL,
}
"""By their name in params.yaml. Each has ``trainable: bool``; False means that there is nothing to train."""

TEXTUAL = ("tgdfer", "zero-shot", "transformer-cls")


def uses_text(params: ModelParams) -> bool:
    """Whether the model needs the encoder's text tower; where not, ``build_model`` takes ``encoder=None``."""
    return params.architecture in TEXTUAL and params.text != "none"


def build_model(params: ModelParams, classes: Sequence[str], dim: int, encoder: Encoder | None) -> nn.Module:
    """The model that ``params`` asks for, freshly initialised from torch's global random state.

    Args:
        params: the section ``model``, a variant's overrides applied.
        classes: C names, in the order of the logits.
        dim: D of the features.
        encoder: the encoder that made the features; needed if :func:`uses_text`.

    Raises:
        UserError: a combination of parameters and encoder that cannot be built; the message names the key.
    """
    if uses_text(params):
        if encoder is None:
            raise UserError(f"model.text: '{params.text}' needs the encoder's text tower; expected an encoder")
        if encoder.dim != dim:
            raise UserError(f"encoder '{encoder.name}': makes {encoder.dim} dimensions, the features have {dim}")
    attends = params.architecture in ("transformer-cls", "bilstm-dmin") or (
        params.architecture == "tgdfer" and params.temporal != "none"
    )
    width = attention_width(params, dim) if params.architecture == "tgdfer" else dim
    if attends and (width < params.heads or width % params.heads):
        raise UserError(f"model.heads: {params.heads} heads do not divide {width} channels of attention")
    if params.architecture == "bilstm-dmin" and dim % 2:
        raise UserError(
            f"model.architecture: 'bilstm-dmin' needs an even number of dimensions, the features have {dim}"
        )
    if params.architecture == "tgdfer" and params.temporal in ("long", "both") and params.heads % 2:
        raise UserError(
            f"model.heads: temporal '{params.temporal}' gives half of the heads to content and half to time; "
            f"expected an even number, got {params.heads}"
        )
    return ARCHITECTURES[params.architecture](params, classes, dim, encoder)


def parameter_groups(
    model: nn.Module, learning_rate: float, prompt_learning_rate: float, weight_decay: float
) -> list[dict[str, Any]]:
    """Groups for an optimiser, each with ``name``: weights (decayed), rest (norms, biases, scales), prompt (tokens).

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
