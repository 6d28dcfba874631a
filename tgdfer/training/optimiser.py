"""AdamW with parameter groups, the learning rate of every step, and the moving average of weights."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim.adamw import adamw

from tgdfer.config.training import TrainingParams


class AdamW:
    """AdamW with torch's fused kernel (Loshchilov & Hutter, ICLR 2019), bit for bit ``torch.optim.AdamW(fused=True)``.

    That class imports torch's compiler when it is created, which takes longer than many runs.

    Args:
        groups: each with ``params``, ``lr`` (the peak) and ``weight_decay``.
    """

    def __init__(self, groups: Sequence[Mapping[str, Any]]) -> None:
        self.groups = groups
        self.moments: list[tuple[list[torch.Tensor], list[torch.Tensor]]] = [
            ([torch.zeros_like(p) for p in group["params"]], [torch.zeros_like(p) for p in group["params"]])
            for group in groups
        ]
        self.steps = [[torch.zeros((), device=p.device) for p in group["params"]] for group in groups]

    @torch.no_grad()
    def step(self, share: float) -> None:
        """One step at ``share`` of each group's learning rate; parameters without a gradient do not change."""
        for group, (first, second), steps in zip(self.groups, self.moments, self.steps, strict=True):
            live = [i for i, parameter in enumerate(group["params"]) if parameter.grad is not None]
            if not live:
                continue
            adamw(
                [group["params"][i] for i in live],
                [group["params"][i].grad for i in live],
                [first[i] for i in live],
                [second[i] for i in live],
                [],
                [steps[i] for i in live],
                fused=True,
                amsgrad=False,
                beta1=0.9,
                beta2=0.999,
                lr=share * group["lr"],
                weight_decay=group["weight_decay"],
                eps=1e-8,
                maximize=False,
            )

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"moments": self.moments, "steps": self.steps}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """From a checkpoint."""
        for mine, kept in zip(self.moments, state["moments"], strict=True):
            for column, values in zip(mine, kept, strict=True):
                torch._foreach_copy_(column, values)
        for steps, kept in zip(self.steps, state["steps"], strict=True):
            torch._foreach_copy_(steps, kept)


def parameter_groups(model: nn.Module, params: TrainingParams) -> list[dict[str, Any]]:
    """Groups for ``AdamW``: parameters of two dimensions, which decay, the rest, prompt tokens, and the encoder's.

    Groups without a parameter are left out.
    """
    groups: dict[str, list[nn.Parameter]] = {
        "weights": [],
        "rest": [],
        "prompt": [],
        "encoder weights": [],
        "encoder rest": [],
    }
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            kind = "prompt" if name.endswith("labels.context") else "weights" if parameter.ndim > 1 else "rest"
            groups[f"encoder {kind}" if name.startswith("adaptation.") else kind].append(parameter)
    settings = {
        "weights": {"lr": params.learning_rate, "weight_decay": params.weight_decay},
        "rest": {"lr": params.learning_rate, "weight_decay": 0.0},
        "prompt": {"lr": params.prompt_learning_rate, "weight_decay": 0.0},
        "encoder weights": {"lr": params.encoder_learning_rate, "weight_decay": params.weight_decay},
        "encoder rest": {"lr": params.encoder_learning_rate, "weight_decay": 0.0},
    }
    return [{"params": group, **settings[name]} for name, group in groups.items() if group]


def rate(step: int, total: int, warmup: int) -> float:
    """The share of the peak learning rate at ``step`` (from 0) of ``total``: linear warm-up, then a half cosine to 0.

    The warm-up takes at most half of the training.
    """
    warmup = min(warmup, total // 2)
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


class Average:
    """Exponential moving average of weights; it decays faster at first and soon forgets the initial weights.

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
