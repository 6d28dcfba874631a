"""AdamW with parameter groups, the learning rate of every step, and the moving average of weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import nn

from tgdfer.model import parameter_groups
from tgdfer.params import TrainingParams


def make_optimiser(model: nn.Module, params: TrainingParams) -> torch.optim.AdamW:
    """AdamW over the groups of :func:`tgdfer.model.parameter_groups`: matrices decay, norms, biases, gates and prompt
    tokens do not, and the tokens have a learning rate of their own.
    """
    groups = parameter_groups(model, params.learning_rate, params.prompt_learning_rate, params.weight_decay)
    return torch.optim.AdamW([{**group, "peak": group["lr"]} for group in groups], fused=True)


def rate(step: int, total: int, warmup: int) -> float:
    """The share of the peak learning rate at ``step`` (from 0) of ``total``: linear warm-up, then a half cosine to 0.

    The warm-up takes at most half of the training.
    """
    warmup = min(warmup, total // 2)
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def set_rate(optimiser: torch.optim.Optimizer, share: float) -> float:
    """Set every group to ``share`` of its peak; the first group's learning rate is returned."""
    for group in optimiser.param_groups:
        group["lr"] = share * group["peak"]
    return float(optimiser.param_groups[0]["lr"])


class Average:
    """Exponential moving average of weights; young averages forget faster, so that the start does not linger.

    The decay of update n (from 0) is min(decay, (1 + n) / (10 + n)).
    """

    def __init__(self, parameters: Iterable[nn.Parameter], decay: float) -> None:
        """Start from a copy of ``parameters``."""
        self.live: list[torch.Tensor] = [parameter for parameter in parameters if parameter.requires_grad]
        self.shadow = [parameter.detach().clone() for parameter in self.live]
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self) -> None:
        """Move the average a step towards the live weights."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(self.shadow, self.live, 1 - decay)
        self.updates += 1

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the live weights and the average, in place; call it again to undo."""
        for live, shadow in zip(self.live, self.shadow, strict=True):
            kept = live.detach().clone()
            live.copy_(shadow)
            shadow.copy_(kept)

    def state_dict(self) -> dict[str, object]:
        """For a checkpoint."""
        return {"shadow": self.shadow, "updates": self.updates}

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """From a checkpoint."""
        self.updates = int(state["updates"])  # type: ignore[call-overload]
        for shadow, kept in zip(self.shadow, state["shadow"], strict=True):  # type: ignore[call-overload]
            shadow.copy_(kept)
