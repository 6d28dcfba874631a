"""The weights that a run learns, without the frozen weights of the encoder."""

import torch
from torch import nn


def own_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """The state of ``model`` without its frozen parameters (the text tower, which the encoder's fingerprint names)."""
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    return {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items() if name not in frozen}


def load_own_state(model: nn.Module, state: dict[str, torch.Tensor]) -> None:
    """Undo ``own_state``; a ValueError if the names differ."""
    if state.keys() != own_state(model).keys():
        raise ValueError(f"weights do not fit: {sorted(state.keys() ^ own_state(model).keys())[:3]}")
    model.load_state_dict(state, strict=False)
