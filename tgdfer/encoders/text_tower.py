"""The frozen text tower of a CLIP model, opened at the token embeddings so that tokens of a prompt can be learnt.

The tower is causal and reads its result at the end-of-text token. Tokens after the last one of a batch therefore cannot
change the result and are cut off: CLIP pads every text to 77 tokens, a description of a face needs about 20. For the
same reason the keys and values of fixed words do not depend on learnt tokens that follow them: ``remember`` computes
them once.
"""

from collections.abc import Sequence
from typing import Any, Self

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


def _project(block: Any, x: torch.Tensor) -> torch.Tensor:
    """Queries, keys and values of a plain block: [n, L, width] -> [3, n, heads, L, d]."""
    attention = block.attn
    projected = F.linear(block.ln_1(x), attention.in_proj_weight, attention.in_proj_bias)
    return projected.unflatten(-1, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)


def _attend(
    block: Any, x: torch.Tensor, before: torch.Tensor | None = None, seen: torch.Tensor | None = None
) -> torch.Tensor:
    """Causal self-attention of a plain block: [n, L, width] -> [n, L, width].

    Args:
        block: the block.
        x: [n, L, width].
        before: keys and values [2, n, heads, P, d] of P tokens before ``x``.
        seen: bool [n, 1, L, P + L], with ``before``: the keys that each token of ``x`` attends to.
    """
    q, k, v = _project(block, x)
    if before is not None:
        k, v = (torch.cat([old.to(new.dtype), new], dim=2) for old, new in zip(before, (k, v), strict=True))
    mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, is_causal=before is None)
    return block.attn.out_proj(mixed.transpose(1, 2).flatten(2))


def _block(
    block: Any, x: torch.Tensor, before: torch.Tensor | None = None, seen: torch.Tensor | None = None
) -> torch.Tensor:
    """A plain block: [n, L, width] -> [n, L, width]; arguments as for ``_attend``."""
    x = x + _attend(block, x, before, seen)
    return x + block.mlp(block.ln_2(x))


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

    def train(self, mode: bool = True) -> Self:
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
        """How many tokens come before every text: 1, or 0 where the tokenizer has no start-of-text, as mT5's."""
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

    @torch.no_grad()
    def remember(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Keys and values of fixed tokens [n, P, width], for ``follow``: [blocks, 2, n, heads, P, d].

        Raises:
            UserError: the tower's blocks are not those of CLIP.
        """
        if not self._plain:
            raise UserError(
                f"encoder '{self._name}': the blocks of its text tower are not CLIP's, which learnt tokens after the "
                "words need; use `context_place: before`"
            )
        x = embeddings + self.positional_embedding[: embeddings.shape[1]]
        kept = []
        for block in self.transformer.resblocks:
            kept.append(_project(block, x)[1:])
            x = _block(block, x)
        return torch.stack(kept)

    def follow(self, embeddings: torch.Tensor, before: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
        """Text features of texts whose first tokens are fixed.

        Args:
            embeddings: [n, L, width], of the tokens that follow; the last one is the end of the text.
            before: the keys and values of the first tokens, by ``remember``.
            place: int64 [n], how many first tokens each text has; the rest of ``before`` is padding.

        Returns:
            [n, D], L2-normalised.
        """
        new = torch.arange(embeddings.shape[1], device=place.device)
        fixed = torch.arange(before.shape[4], device=place.device) < place[:, None, None]
        seen = torch.cat([fixed.expand(-1, len(new), -1), (new <= new[:, None]).expand(len(place), -1, -1)], dim=-1)
        x = embeddings + self.positional_embedding[place[:, None] + new]
        *blocks, last = zip(self.transformer.resblocks, before, strict=True)
        for block, kept in blocks:
            x = _block(block, x, kept, seen[:, None])
        x = (x + _attend(last[0], x, last[1], seen[:, None]))[:, -1]
        return self._result(x + last[0].mlp(last[0].ln_2(x)))

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
                x = _block(block, x)
            x = (x + _attend(last, x))[rows, eot]
            x = x + last.mlp(last.ln_2(x))
        else:
            x = self.transformer(x, attn_mask=self.attn_mask[:length, :length])[rows, eot]
        return self._result(x)

    def _result(self, x: torch.Tensor) -> torch.Tensor:
        """Features from the states [n, width] at the ends of the texts."""
        x = self.ln_final(x)
        if isinstance(self.text_projection, nn.Linear):
            x = self.text_projection(x)
        elif self.text_projection is not None:
            x = x @ self.text_projection
        return F.normalize(x, dim=-1)
