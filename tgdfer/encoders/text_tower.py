"""The frozen text tower of a CLIP model, opened at the token embeddings so that prompts can be learnt in front of it.

The tower is causal and reads its result at the end-of-text token, so whatever stands after the last one of a batch
cannot change the result and is cut off: CLIP pads every text to 77 tokens, a description of a face needs about 20.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from tgdfer.core.errors import UserError


def _is_plain(block: Any) -> bool:
    """Whether ``block`` is what ``TextTower`` computes itself: x + attention(LN(x)), then x + MLP(LN(x))."""
    attention = getattr(block, "attn", None)
    return (
        type(block).__name__ == "ResidualAttentionBlock"
        and isinstance(attention, nn.MultiheadAttention)
        and attention.batch_first
        and isinstance(block.ls_1, nn.Identity)
        and isinstance(block.ls_2, nn.Identity)
    )


def _attend(block: Any, x: torch.Tensor) -> torch.Tensor:
    """Causal self-attention of a plain block: [n, L, width] -> [n, L, width]."""
    attention = block.attn
    projected = F.linear(block.ln_1(x), attention.in_proj_weight, attention.in_proj_bias)
    q, k, v = projected.unflatten(-1, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)
    mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    return attention.out_proj(mixed.transpose(1, 2).flatten(2))


class TextTower(nn.Module):
    """Frozen, in eval mode (also after ``train()``); gradients flow through it only to the embeddings.

    Args:
        model: an open_clip ``CLIP`` or ``CustomTextCLIP``; its text modules are shared, not copied.
        tokenizer: open_clip's tokenizer of the model.
        name: for messages.

    Raises:
        UserError: the tower is not causal or does not read its result at the end-of-text token.
    """

    def __init__(self, model: nn.Module, tokenizer: Any, name: str) -> None:
        super().__init__()
        text: Any = getattr(model, "text", model)
        pool = text.pool_type if hasattr(text, "pool_type") else text.text_pool_type
        self._eos_id = int(text.eos_id if hasattr(text, "eos_id") else text.text_eos_id)
        if text.attn_mask is None or pool not in ("argmax", "eos") or getattr(text, "cls_emb", None) is not None:
            raise UserError(
                f"encoder '{name}': its text tower is not causal with an end-of-text token, as CLIP's is; "
                "use a CLIP model such as ViT-B-32-quickgelu, or a variant with `text: none`"
            )
        self._pool = pool
        self._tokenizer = tokenizer
        self._name = name
        self.token_embedding = text.token_embedding
        self.positional_embedding = text.positional_embedding
        self.transformer = text.transformer
        self.ln_final = text.ln_final
        self.text_projection = text.text_projection
        self.attn_mask: torch.Tensor
        self.register_buffer("attn_mask", text.attn_mask, persistent=False)
        self._plain = all(map(_is_plain, getattr(self.transformer, "resblocks", [None])))
        self.width: int = self.token_embedding.embedding_dim
        self.context_length: int = int(text.context_length)
        self.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> TextTower:
        """Stays in eval mode: a frozen tower has no training behaviour."""
        return super().train(False)

    def tokenize(self, texts: Sequence[str]) -> torch.Tensor:
        """Token numbers, int64 [n, L], L = the last end-of-text of the batch + 1.

        Raises:
            UserError: a text has more tokens than the tower's context (open_clip would cut it silently).
        """
        if not texts:
            return torch.zeros(0, 1, dtype=torch.int64)
        tokens = self._tokenizer(list(texts), context_length=self.context_length)
        if hasattr(self._tokenizer, "encode"):
            for text, row in zip(texts, tokens, strict=True):
                # a row that is full to the end may have been cut
                if row[-1] != 0 and (needed := len(self._tokenizer.encode(text)) + 2) > self.context_length:
                    raise UserError(
                        f"encoder '{self._name}' reads {self.context_length} tokens, this text has {needed}: {text!r}"
                    )
        return tokens[:, : int(self.eot(tokens).max()) + 1]

    def start_tokens(self) -> int:
        """How many tokens stand before every text: 1, or 0 where the tokenizer has no start-of-text, as mT5's."""
        one, other = self.tokenize(["a", "two"])
        return int(one[0] == other[0])

    def eot(self, tokens: torch.Tensor) -> torch.Tensor:
        """Position of the end-of-text token in each row: int64 [n, L] -> int64 [n]."""
        if self._pool == "argmax":  # the end-of-text token has the highest number of the vocabulary
            return tokens.argmax(-1)
        return (tokens == self._eos_id).int().argmax(-1)

    def embed(self, tokens: torch.Tensor) -> torch.Tensor:
        """Token embeddings without positions: int64 [n, L] -> [n, L, width]."""
        return self.token_embedding(tokens)

    def forward(self, embeddings: torch.Tensor, eot: torch.Tensor) -> torch.Tensor:
        """Text features from embeddings.

        Args:
            embeddings: [n, L, width] with L <= context_length, without positions.
            eot: int64 [n], the position whose state is the result.

        Returns:
            [n, D], L2-normalised.

        Raises:
            UserError: L is greater than the tower's context.
        """
        length = embeddings.shape[1]
        if length > self.context_length:
            raise UserError(
                f"encoder '{self._name}' reads {self.context_length} tokens, the prompts have {length}: "
                "use fewer context tokens or shorter descriptions"
            )
        x = embeddings + self.positional_embedding[:length]
        rows = torch.arange(len(x), device=x.device)
        if self._plain:
            # the same as the transformer's own forward: causal attention without a mask in memory, and of the last
            # block the one position that is read
            *blocks, last = self.transformer.resblocks
            for block in blocks:
                x = x + _attend(block, x)
                x = x + block.mlp(block.ln_2(x))
            x = (x + _attend(last, x))[rows, eot]
            x = x + last.mlp(last.ln_2(x))
        else:
            x = self.transformer(x, attn_mask=self.attn_mask[:length, :length])[rows, eot]
        x = self.ln_final(x)
        if isinstance(self.text_projection, nn.Linear):
            x = self.text_projection(x)
        elif self.text_projection is not None:
            x = x @ self.text_projection
        return F.normalize(x, dim=-1)
