"""An image tower cut after one of its blocks: the frozen first part, whose output can be cached, and the last part."""

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from tgdfer.core.errors import UserError

STAGES = ("layer1", "layer2", "layer3", "layer4")
FINISH = ("attn_pool", "attn_pool_contrastive", "ln_post", "attnpool")
"""The attributes of towers in open_clip that hold their blocks, and what comes after them."""


class First(nn.Module):
    """Images to tokens [n, L, W] of a ViT, or to maps [n, C, H, W] of a ResNet."""

    def __init__(self, visual: Any, count: int) -> None:
        super().__init__()
        self.start = copy.copy(visual)  # shares the dictionaries of parts with the original, so they are replaced
        self.start._modules = {k: v for k, v in visual._modules.items() if k not in (*STAGES, *FINISH, "transformer")}
        self.start._parameters = {k: v for k, v in visual._parameters.items() if k != "proj"}
        self.blocks = nn.Sequential(*blocks_of(visual)[:count])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Run the first blocks."""
        return self.blocks(self.start.stem(images) if hasattr(self.start, "stem") else self.start._embeds(images))


class Last(nn.Module):
    """Tokens or maps to features [n, D], L2-normalised: the last blocks, and the pooling and projection after them."""

    def __init__(self, visual: Any, count: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks_of(visual)[count:])
        self.finish = visual.attnpool if hasattr(visual, "stem") else _Finish(visual)
        by_class = getattr(visual, "pool_type", "") == "tok" and visual.attn_pool is None
        self.short = by_class and type(self.blocks[-1]).__name__ == "ResidualAttentionBlock"
        """Whether the feature is made only of the class token, so that the last block need not give the other ones."""

    def forward(self, tokens: torch.Tensor, whole: bool = False) -> torch.Tensor:
        """Run the last blocks; with ``whole`` exactly as the tower does, without a short cut, to the last bit."""
        if tokens.dim() == 4:  # convolutions run 1.4 times faster
            tokens = tokens.contiguous(memory_format=torch.channels_last)
        if whole or not self.short:
            tokens = self.blocks(tokens)
        else:
            *before, last = self.blocks
            for block in before:
                tokens = block(tokens)
            tokens = _class_token(last, tokens)
        return F.normalize(self.finish(tokens).float(), dim=-1)


def _class_token(block: Any, tokens: torch.Tensor) -> torch.Tensor:
    """What ``block`` makes of the class token, [n, 1, W]: the other tokens [n, L, W] are only its keys and values."""
    inside = block.ln_1(tokens)
    x = tokens[:, :1] + block.ls_1(block.attention(inside[:, :1], inside, inside))
    return x + block.ls_2(block.mlp(block.ln_2(x)))


class _Finish(nn.Module):
    """What a ViT does after its blocks."""

    def __init__(self, visual: Any) -> None:
        super().__init__()
        self.visual = copy.copy(visual)
        self.visual._modules = {name: part for name, part in visual._modules.items() if name in FINISH}
        self.visual._parameters = {name: value for name, value in visual._parameters.items() if name == "proj"}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pooled = self.visual._pool(x)[0]
        return pooled if self.visual.proj is None else pooled @ self.visual.proj


def blocks_of(visual: Any) -> list[nn.Module]:
    """The blocks of a ViT, or the four stages of a ResNet."""
    if hasattr(visual, "stem"):
        return [getattr(visual, name) for name in STAGES]
    return list(visual.transformer.resblocks)


def cut(visual: Any, block: int, name: str) -> tuple[First, Last]:
    """The two parts of a tower, which share its weights, cut after ``block`` (from 1).

    Raises:
        UserError: the tower is neither a ViT nor a ResNet of open_clip, or has no such block before its last one.
    """
    kind = type(visual).__name__
    if kind not in ("VisionTransformer", "ModifiedResNet"):
        raise UserError(
            f"features.keep: the image tower of encoder '{name}' is a {kind}, which cannot be cut at a block; expected "
            "a ViT or a ResNet of open_clip, such as ViT-B-32"
        )
    count = len(blocks_of(visual))
    if not 1 <= block < count:
        raise UserError(
            f"features.keep: {block}, but the image tower of encoder '{name}' has {count} blocks; "
            f"expected 1 to {count - 1}"
        )
    return First(visual, block), Last(visual, block)
