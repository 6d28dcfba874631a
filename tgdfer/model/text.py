"""Label features from words: class names, a template or descriptions, with learnt context tokens in front.

The frozen text tower of the encoder is not a part of the model's state: the encoder's fingerprint stands for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn

from tgdfer.config.words import Words, load_words, prompts
from tgdfer.core.errors import UserError

if TYPE_CHECKING:
    from tgdfer.config.params import ModelParams


class LabelText(nn.Module):
    """Label features t_c = normalised mean over a class's texts of the frozen text tower's output, eqs. (6), (7).

    Without learnt tokens they are computed once and kept as a buffer. With them, each call in training runs the tower;
    in evaluation the result is kept until the tokens change.

    Args:
        params: text, context_tokens, context, descriptions_per_class.
        classes: C names.
        encoder: gives ``text_tower()``.
        words: what to say; the project's own file by default.

    Raises:
        UserError: a class without words, or prompts longer than the tower's context.
    """

    features: torch.Tensor
    embedded: torch.Tensor
    eot: torch.Tensor
    owner: torch.Tensor
    mean: torch.Tensor

    def __init__(self, params: ModelParams, classes: Sequence[str], encoder: Any, words: Words | None = None) -> None:
        super().__init__()
        words = words or load_words()
        texts = prompts(params, classes, words)
        tower = encoder.text_tower()
        tokens = tower.tokenize([text for group in texts for text in group])
        eot = tower.eot(tokens)
        count = params.context_tokens
        if tokens.shape[1] + count > tower.context_length:
            raise UserError(
                f"model.context_tokens: {count} learnt tokens and a text of {tokens.shape[1]} tokens exceed the "
                f"{tower.context_length} that encoder '{encoder.name}' reads; use fewer tokens or shorter descriptions"
            )
        owner = torch.tensor([c for c, group in enumerate(texts) for _ in group])
        mean = F.one_hot(owner, len(texts)).T.float()
        device = next(tower.parameters()).device
        tokens, owner, eot = tokens.to(device), owner.to(device), eot.to(device)
        mean = (mean / mean.sum(1, keepdim=True)).to(device)
        with torch.no_grad():
            if count == 0:
                fixed = F.normalize(mean @ tower(tower.embed(tokens), eot).float(), dim=-1)
                self.register_buffer("features", fixed, persistent=False)
                return
            self._start = tower.start_tokens()
            first = _initial_context(tower, words.prefix, count, device)
        self._tower = _Hidden(tower)
        self.per_class = params.context == "per-class"
        self.context = nn.Parameter(first.expand(len(texts), -1, -1).clone() if self.per_class else first.clone())
        with torch.no_grad():
            self.register_buffer("embedded", tower.embed(tokens), persistent=False)
        self.register_buffer("eot", eot + count, persistent=False)
        self.register_buffer("owner", owner, persistent=False)
        self.register_buffer("mean", mean, persistent=False)
        self._kept: tuple[torch.Tensor, torch.Tensor] | None = None

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> LabelText:
        super()._apply(fn, recurse)
        if self.learnt:
            self._tower.module._apply(fn)
            self._kept = None
        return self

    @property
    def learnt(self) -> bool:
        """Whether there are context tokens to learn."""
        return "context" in self._parameters

    def embeddings(self) -> torch.Tensor:
        """Token embeddings of all prompts, [SOS] [context] text [EOT]: [N, L, width]; eq. (6)."""
        context = self.context[self.owner] if self.per_class else self.context.expand(len(self.embedded), -1, -1)
        return torch.cat([self.embedded[:, : self._start], context, self.embedded[:, self._start :]], dim=1)

    def forward(self) -> torch.Tensor:
        """Label features [C, D], L2-normalised; eq. (7)."""
        if not self.learnt:
            return self.features
        if torch.is_grad_enabled():
            return self._encode()
        if self._kept is None or not torch.equal(self._kept[0], self.context):
            self._kept = (self.context.detach().clone(), self._encode())
        return self._kept[1]

    def _encode(self) -> torch.Tensor:
        features = self._tower.module(self.embeddings(), self.eot)
        return F.normalize(self.mean.to(features.dtype) @ features, dim=-1)


class _Hidden:
    """Keeps a frozen module out of its holder's parameters and state, and shared when the holder is copied."""

    def __init__(self, module: Any) -> None:
        self.module = module

    def __deepcopy__(self, memo: dict[int, Any]) -> _Hidden:
        return self


def _initial_context(tower: Any, prefix: str, count: int, device: torch.device) -> torch.Tensor:
    """Embeddings of the prefix's tokens, [1, count, width]: its last ones, or repeated from the front if too few."""
    tokens = tower.tokenize([prefix])
    row = tokens[0, tower.start_tokens() : int(tower.eot(tokens)[0])]
    if len(row) == 0:
        raise UserError("descriptions.yaml: prefix: learnt context tokens start from it, so it must not be empty")
    repeated = row.repeat(-(-count // len(row)))[-count:]
    return tower.embed(repeated[None].to(device)).detach()
