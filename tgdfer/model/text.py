"""Label features from words: class names, a template or descriptions, with learnt context tokens before or after them.

The frozen text tower of the encoder is not part of the model's state: a run names it by the encoder's fingerprint.
"""

from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import nn

from tgdfer.config.training import ModelParams
from tgdfer.config.words import DESCRIPTIONS, load_words, prompts
from tgdfer.core.errors import UserError
from tgdfer.model.layers import Hidden


class LabelText(nn.Module):
    """Label features t_c: the normalised mean of the frozen text tower's output over a class's texts, eqs. (6), (7).

    Without learnt tokens they are computed once and kept as a buffer. With them, each call in training runs the tower,
    over whole texts or, if the tokens follow the words, over the tokens and the end of the text only; in evaluation the
    result is kept until the tokens change.

    Args:
        params: text, context_tokens, context_place, context, descriptions_per_class.
        classes: C names.
        encoder: gives ``text_tower()``.

    Raises:
        UserError: a class without words, or prompts longer than the tower's context.
    """

    features: torch.Tensor
    embedded: torch.Tensor
    eot: torch.Tensor
    """int64 [N]: the place of the end in each text; where learnt tokens follow the words, of the first of them."""
    owner: torch.Tensor
    mean: torch.Tensor
    fixed: torch.Tensor | None
    """Keys and values of the words, where the learnt tokens follow them."""

    def __init__(self, params: ModelParams, classes: Sequence[str], encoder: Any) -> None:
        super().__init__()
        words = load_words()
        texts = prompts(params, classes, words)
        tower = encoder.text_tower()
        tokens = tower.tokenize([text for group in texts for text in group])
        count = params.context_tokens
        if tokens.shape[1] + count > tower.context_length:
            raise UserError(
                f"model.context_tokens: {count} learnt tokens and a text of {tokens.shape[1]} tokens exceed the "
                f"{tower.context_length} that encoder '{encoder.name}' reads; use fewer tokens or shorter descriptions"
            )
        device = next(tower.parameters()).device
        eot = tower.eot(tokens).to(device)
        owner = torch.tensor([c for c, group in enumerate(texts) for _ in group], device=device)
        mean = F.one_hot(owner, len(texts)).T.float()
        mean = mean / mean.sum(1, keepdim=True)
        with torch.no_grad():
            embedded = tower.embed(tokens.to(device))
            if count == 0:
                self.register_buffer("features", F.normalize(mean @ tower(embedded, eot).float(), dim=-1), False)
                return
            first = _initial_context(tower, words.prefix, count, device)
            follows = params.context_place == "after"
            self.register_buffer("fixed", tower.remember(embedded) if follows else None, persistent=False)
            if follows:
                embedded = embedded[torch.arange(len(eot), device=device), eot][:, None]  # the ends of the texts
        self._start = 0 if follows else tower.start_tokens()
        self._tower = Hidden(tower)
        self.per_class = params.context == "per-class"
        self.context = nn.Parameter(first.repeat(len(texts) if self.per_class else 1, 1, 1))
        eot = eot if follows else eot + count
        for name, buffer in (("embedded", embedded), ("eot", eot), ("owner", owner), ("mean", mean)):
            self.register_buffer(name, buffer, persistent=False)
        self._kept: tuple[torch.Tensor, torch.Tensor] | None = None

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Self:
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
        """Token embeddings of all prompts, eq. (6): [N, L, width].

        [SOS] [context] words [EOT], or, where the context follows the words, only [context] [EOT].
        """
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
        tower, embeddings = self._tower.module, self.embeddings()
        features = tower(embeddings, self.eot) if self.fixed is None else tower.follow(embeddings, self.fixed, self.eot)
        return F.normalize(self.mean.to(features.dtype) @ features, dim=-1)


def _initial_context(tower: Any, prefix: str, count: int, device: torch.device) -> torch.Tensor:
    """Embeddings of the prefix's last ``count`` tokens, repeated from the front if it has fewer: [1, count, width]."""
    tokens = tower.tokenize([prefix])
    row = tokens[0, tower.start_tokens() : int(tower.eot(tokens)[0])]
    if len(row) == 0:
        raise UserError(f"{DESCRIPTIONS.name}: prefix: learnt context tokens start from it, so it must not be empty")
    repeated = row.repeat(-(-count // len(row)))[-count:]
    return tower.embed(repeated[None].to(device)).detach()
