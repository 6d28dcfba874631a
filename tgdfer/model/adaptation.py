"""The encoder's last blocks, trained with the model on the cached tokens of the frozen blocks before them."""

import math
from collections.abc import Callable
from typing import Any, Self

import torch
from torch import nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from tgdfer.config.training import ModelParams
from tgdfer.core.errors import UserError
from tgdfer.model.layers import Hidden

CHUNK = 64
"""Frames whose activations are computed again together."""


class Adaptation(nn.Module):
    """Tokens of frames to features; only what is learnt is in the state, for the encoder's fingerprint names the rest.

    ``blocks`` learns all weights of the last blocks and of the pooling and projection after them. ``lora`` learns, for
    each matrix or convolution W of them, a low-rank update: W + B A, with A of ``adapt_rank`` rows and B zero at the
    start (Hu et al., ICLR 2022).

    Args:
        params: adapt, adapt_blocks, adapt_rank.
        encoder: gives ``cut(block)`` and ``token_shape(block)``.
        block: the block after which the tokens were cached.

    Raises:
        UserError: fewer blocks follow the cached ones than are to be adapted.
    """

    def __init__(self, params: ModelParams, encoder: Any, block: int) -> None:
        super().__init__()
        last = encoder.cut(block)[1]
        frozen = len(last.blocks) - params.adapt_blocks
        if frozen < 0:
            raise UserError(
                f"model.adapt_blocks: {params.adapt_blocks}, but only {len(last.blocks)} follow the tokens that "
                f"features.keep: {block} caches; expected at most {len(last.blocks)}, or a smaller features.keep"
            )
        self.shape = encoder.token_shape(block)
        self.recompute = False
        self._last = Hidden(last)
        before = tuple(f"blocks.{number}." for number in range(frozen))
        chosen = {name: value for name, value in last.named_parameters() if not name.startswith(before)}
        if params.adapt == "lora":
            learnt = {}
            for name, value in chosen.items():
                if value.ndim > 1 and not name.endswith("positional_embedding"):
                    rows, columns = value.flatten(1).shape
                    rank = min(params.adapt_rank, rows, columns)
                    learnt[f"{name}.A"] = torch.randn(rank, columns, device=value.device) / math.sqrt(columns)
                    learnt[f"{name}.B"] = torch.zeros(rows, rank, device=value.device)
        else:
            learnt = {name: value.detach().clone() for name, value in chosen.items()}
        self.low_rank = params.adapt == "lora"
        # names of parameters have no dots
        self.learnt = nn.ParameterDict({name.replace(".", "/"): nn.Parameter(value) for name, value in learnt.items()})

    @property
    def dim(self) -> int:
        """K, the numbers that are cached of a frame."""
        return math.prod(self.shape)

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)
        self._last.module._apply(fn)
        return self

    def weights(self) -> dict[str, torch.Tensor]:
        """The adapted weights, by their names in the last part of the encoder."""
        learnt = {name.replace("/", "."): value for name, value in self.learnt.items()}
        if not self.low_rank:
            return learnt
        found = {}
        for name, value in self._last.module.named_parameters():
            if f"{name}.A" in learnt:
                update = learnt[f"{name}.B"] @ learnt[f"{name}.A"]
                found[name] = value + update.view(value.shape)
        return found

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Cached tokens [B, T, K] to features [B, T, D], L2-normalised."""
        tokens, weights = x.flatten(0, 1).unflatten(1, self.shape), self.weights()

        def encode(part: torch.Tensor) -> torch.Tensor:
            return functional_call(self._last.module, weights, (part,))

        if self.recompute and torch.is_grad_enabled():
            parts = [checkpoint(encode, part, use_reentrant=False) for part in tokens.split(CHUNK)]
            return torch.cat(parts).unflatten(0, x.shape[:2])
        return encode(tokens).unflatten(0, x.shape[:2])
