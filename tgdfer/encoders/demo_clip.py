"""The small CLIP of the embedded data set: a convolutional image tower and a narrow text tower of open_clip's classes.

It is trained with open_clip's ClipLoss. On one machine the same faces, seed and number of threads give the same
weights to the last bit.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from tgdfer.config.clip_models import DEMO_CONTEXT as CONTEXT
from tgdfer.core.progress import log, track
from tgdfer.demo.captioned import SIZE, Faces
from tgdfer.demo.units import UNITS
from tgdfer.encoders import quiet_open_clip

BATCH = 64
LEARNING_RATE = 4e-3
WEIGHT_DECAY = 0.05
WARMUP = 0.08
UNITS_WEIGHT = 20.0
HEAD_SCALE = 8.0

CONFIG: dict[str, Any] = {
    "embed_dim": 128,
    "vision_cfg": {"layers": [1, 1, 1, 1], "width": 16, "head_width": 32, "image_size": SIZE},
    "text_cfg": {"context_length": CONTEXT, "vocab_size": 49408, "width": 64, "heads": 4, "layers": 2},
}
"""open_clip's model config: a ResNet with one block per stage, which at this size learns far faster than a ViT."""

MEAN, STD = (0.5, 0.45, 0.42), (0.26, 0.26, 0.26)
PREPROCESS = {"mean": MEAN, "std": STD, "interpolation": "bicubic", "resize_mode": "shortest"}


def fit(faces: Faces, epochs: int, seed: int) -> tuple[nn.Module, list[float]]:
    """Train a new model; returns it in eval mode, with the mean contrastive loss of each epoch.

    A linear head predicts the action units from the features of either side, and is then thrown away: with the
    contrastive loss only, both towers stay at a loss of log(BATCH) for most of the training.
    """
    with quiet_open_clip():
        import open_clip
        from open_clip.loss import ClipLoss

        torch.manual_seed(seed)
        model: Any = open_clip.CLIP(**CONFIG)
        tokens = open_clip.SimpleTokenizer(context_length=CONTEXT)(faces.texts)
    model.visual.to(memory_format=torch.channels_last)  # a third faster on a CPU
    used, compact = torch.unique(tokens, return_inverse=True)
    full = model.token_embedding.weight.detach().clone()
    # only the rows of words that occur are trained, so that the optimiser does not walk through all 49,408
    model.token_embedding = nn.Embedding.from_pretrained(full[used].clone(), freeze=False)
    end = (tokens == tokens.max()).int().argmax(1)
    contrastive_loss = ClipLoss()
    head = nn.Linear(CONFIG["embed_dim"], len(UNITS))
    groups = [*_parameter_groups(model), {"params": head.parameters()}]
    optimiser = torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=(0.9, 0.98))
    steps = max(1, len(faces.texts) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, LEARNING_RATE, total_steps=epochs * steps, pct_start=WARMUP, anneal_strategy="cos"
    )
    order = torch.Generator().manual_seed(seed)
    model.train()
    losses = []
    for epoch in range(epochs):
        total = 0.0
        shuffled = torch.randperm(len(faces.texts), generator=order)
        for step in track(range(steps), f"epoch {epoch + 1}/{epochs}", steps, "steps"):
            rows = shuffled[step * BATCH : (step + 1) * BATCH]
            length = int(end[rows].max()) + 1
            images = F.normalize(model.visual(normalise(faces.images[rows])), dim=-1)
            texts = F.normalize(_encode_text(model, compact[rows, :length], end[rows]), dim=-1)
            loss = contrastive_loss(images, texts, model.logit_scale.exp())
            units = faces.units[rows]
            units_loss = F.mse_loss(head(HEAD_SCALE * images), units) + F.mse_loss(head(HEAD_SCALE * texts), units)
            optimiser.zero_grad(set_to_none=True)
            (loss + UNITS_WEIGHT * units_loss).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            with torch.no_grad():
                model.logit_scale.clamp_(0, math.log(100))
            total += float(loss.detach())
        losses.append(total / steps)
        log.info("demo encoder: epoch %d/%d, loss %.3f", epoch + 1, epochs, losses[-1])
    full[used] = model.token_embedding.weight.detach()
    model.token_embedding = nn.Embedding.from_pretrained(full, freeze=False)
    return model.eval().to(memory_format=torch.contiguous_format), losses


def normalise(images: torch.Tensor) -> torch.Tensor:
    """uint8 [n, 3, SIZE, SIZE] -> float32, as the encoder's preprocessing does."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) * 255 for values in (MEAN, STD))
    return ((images.float() - mean) / std).contiguous(memory_format=torch.channels_last)


def _parameter_groups(model: nn.Module) -> list[dict[str, Any]]:
    named = list(model.named_parameters())
    plain = [p for name, p in named if p.ndim < 2 or "embedding" in name]
    decayed = [p for name, p in named if p.ndim >= 2 and "embedding" not in name]
    return [{"params": plain, "weight_decay": 0.0}, {"params": decayed, "weight_decay": WEIGHT_DECAY}]


def _encode_text(model: Any, tokens: torch.Tensor, end: torch.Tensor) -> torch.Tensor:
    """open_clip's encode_text on tokens cut after the last end-of-text, which changes nothing in a causal tower."""
    length = tokens.shape[1]
    x = model.token_embedding(tokens) + model.positional_embedding[:length]
    x = model.transformer(x, attn_mask=model.attn_mask[:length, :length])
    x = model.ln_final(x[torch.arange(len(x)), end])
    return x @ model.text_projection


@torch.no_grad()
def accuracy(model: Any, faces: Faces, prompts: Mapping[str, Sequence[Sequence[str]]]) -> dict[str, float]:
    """Accuracy on single faces, from 0 to 1: zero-shot with each kind of prompts, and of a linear probe.

    Args:
        model: from ``fit``.
        faces: unseen faces; the probe is trained on the first half of them.
        prompts: by kind, the texts of each class.
    """
    import open_clip
    from sklearn.linear_model import LogisticRegression

    features = torch.cat([F.normalize(model.visual(normalise(part)), dim=-1) for part in faces.images.split(256)])
    labels = faces.labels
    tokenizer = open_clip.SimpleTokenizer(context_length=CONTEXT)
    result = {}
    for kind, classes in prompts.items():
        encoded = [F.normalize(model.encode_text(tokenizer(list(texts))), dim=-1) for texts in classes]
        targets = torch.stack([F.normalize(texts.mean(0), dim=-1) for texts in encoded])
        guess = (features @ targets.T).argmax(1)
        result[f"zero_shot_{kind}_accuracy"] = float((guess == labels).float().mean())
    half = len(labels) // 2
    probe = LogisticRegression(C=10.0, max_iter=500).fit(features[:half].numpy(), labels[:half].numpy())
    result["linear_probe_accuracy"] = float(probe.score(features[half:].numpy(), labels[half:].numpy()))
    return {key: round(value, 6) for key, value in result.items()}
