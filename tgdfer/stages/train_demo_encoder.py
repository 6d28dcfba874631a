"""The small CLIP of the embedded data set: faces of other identities than the clips', captions of what they do.

A convolutional image tower and a narrow text tower, open_clip's own classes, trained with its ClipLoss. Weights are the
same to the bit for the same parameters on the same machine: ``demo.encoder_threads`` fixes the order of the sums.
"""

from __future__ import annotations

import multiprocessing
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from tgdfer.config import dependencies
from tgdfer.config.params import DEMO_ENCODER, Params
from tgdfer.core import paths, storage
from tgdfer.core.classes import SEVEN
from tgdfer.core.progress import log, track
from tgdfer.core.provenance import cores
from tgdfer.core.record import recorded
from tgdfer.demo.captions import caption, descriptions
from tgdfer.demo.faces import Image, draw, sample_pose, sample_scene
from tgdfer.demo.people import sample_identity
from tgdfer.demo.units import INDEX, UNITS, Floats, sample_expression
from tgdfer.encoders import quiet_open_clip, write_encoder

if TYPE_CHECKING:
    from collections.abc import Iterator

SIZE = 64
CONTEXT = 40
CHUNK = 500
BATCH = 64
LEARNING_RATE = 4e-3
WEIGHT_DECAY = 0.05
WARMUP = 0.08
UNITS_WEIGHT = 20.0
HEAD_SCALE = 8.0
HELD_OUT = 2100
STREAM = 2  # keeps these random numbers apart from the clips'

CONFIG: dict[str, Any] = {
    "embed_dim": 128,
    "vision_cfg": {"layers": [1, 1, 1, 1], "width": 16, "head_width": 32, "image_size": SIZE},
    "text_cfg": {"context_length": CONTEXT, "vocab_size": 49408, "width": 64, "heads": 4, "layers": 2},
}
"""open_clip's model config: a ResNet with one block a stage, which at this size learns far faster than a ViT."""

PREPROCESS = {
    "mean": [0.5, 0.45, 0.42],
    "std": [0.26, 0.26, 0.26],
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}


@dataclass(frozen=True)
class Faces:
    """Rendered faces with what is known about them."""

    images: torch.Tensor  # uint8 [n, 3, SIZE, SIZE]
    texts: list[str]
    labels: torch.Tensor  # int64 [n], -1: no expression
    units: torch.Tensor  # float32 [n, U]


Chunk = tuple[Image, list[str], list[int], Floats]


def sample_units(rng: np.random.Generator) -> tuple[Floats, str | None]:
    """Intensities float32 [U] and the expression's class, or None for units that combine at random.

    Half of the faces show an expression at any strength, the others whatever units: what the words mean is learnt from
    the units, not from the seven combinations.
    """
    if rng.random() < 0.5:
        label = str(rng.choice(SEVEN))
        units = sample_expression(label, rng) * np.float32(rng.uniform(0.3, 1.0))
        return units, label
    units = np.zeros(len(UNITS), np.float32)
    count = int(rng.integers(1, 6))
    for position in rng.choice(len(UNITS), count, replace=False):
        units[position] = rng.uniform(0.2, 1.0)
    if units[INDEX["lip_press"]]:  # pressed lips do not part
        units[[INDEX["lips_part"], INDEX["jaw_drop"]]] = 0
    if units[INDEX["eyes_closed"]]:
        units[INDEX["upper_lid_raise"]] = 0
    return units, None


def render_chunk(job: tuple[int, int, int, bool]) -> Chunk:
    """Faces, captions, classes and units of the job (seed, chunk, n, held out); see :class:`Faces`."""
    seed, chunk, count, held = job
    cv2.setNumThreads(0)
    rng = np.random.default_rng([seed, STREAM, int(held), chunk])
    images = np.empty((count, SIZE, SIZE, 3), np.uint8)
    shown = np.empty((count, len(UNITS)), np.float32)
    texts, labels = [], []
    for row in range(count):
        if held:
            label: str | None = SEVEN[(chunk * CHUNK + row) % len(SEVEN)]
            units = sample_expression(str(label), rng) * np.float32(rng.uniform(0.5, 1.0))
        else:
            units, label = sample_units(rng)
        face = draw(sample_identity(rng), units, sample_pose(rng), sample_scene(rng), 96, rng)
        quality = int(rng.integers(35, 96))
        packed = cv2.imencode(".jpg", face, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        images[row] = cv2.resize(
            np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR)), (SIZE, SIZE), interpolation=cv2.INTER_AREA
        )
        shown[row] = units
        texts.append(caption(units, rng, label))
        labels.append(SEVEN.index(label) if label is not None else -1)
    return images, texts, labels, shown


def render_faces(seed: int, count: int, held: bool, workers: int) -> Faces:
    """``count`` faces; the same whatever ``workers`` is."""
    jobs = [(seed, chunk, min(CHUNK, count - start), held) for chunk, start in enumerate(range(0, count, CHUNK))]
    images, texts, labels, units = [], [], [], []
    for some_images, some_texts, some_labels, some_units in _map(jobs, workers):
        images.append(some_images)
        texts += some_texts
        labels += some_labels
        units.append(some_units)
    stacked = torch.from_numpy(np.concatenate(images)).permute(0, 3, 1, 2).contiguous()
    return Faces(stacked, texts, torch.tensor(labels), torch.from_numpy(np.concatenate(units)))


def _map(jobs: list[tuple[int, int, int, bool]], workers: int) -> Iterator[Chunk]:
    what = "held-out faces" if jobs[0][3] else "faces with captions"
    if workers < 2 or len(jobs) < 2:
        yield from track(map(render_chunk, jobs), what, len(jobs), "chunks")
        return
    with multiprocessing.get_context("spawn").Pool(min(workers, len(jobs))) as pool:
        yield from track(pool.imap(render_chunk, jobs), what, len(jobs), "chunks")


def normalise(images: torch.Tensor) -> torch.Tensor:
    """uint8 [n, 3, S, S] -> float32, as the encoder's preprocessing does."""
    mean = torch.tensor(PREPROCESS["mean"]).view(1, 3, 1, 1) * 255
    std = torch.tensor(PREPROCESS["std"]).view(1, 3, 1, 1) * 255
    return ((images.float() - mean) / std).contiguous(memory_format=torch.channels_last)


def _groups(model: nn.Module) -> list[dict[str, Any]]:
    plain = [p for name, p in model.named_parameters() if p.ndim < 2 or "embedding" in name]
    decayed = [p for name, p in model.named_parameters() if not (p.ndim < 2 or "embedding" in name)]
    return [{"params": plain, "weight_decay": 0.0}, {"params": decayed, "weight_decay": WEIGHT_DECAY}]


def fit(faces: Faces, epochs: int, seed: int) -> tuple[nn.Module, list[float]]:
    """Train a new model; returns it in eval mode, with the mean contrastive loss of each epoch.

    A linear head that reads the action units from either side's features helps and is thrown away: with the
    contrastive loss alone both towers stay at log(BATCH) for most of the time that there is.
    """
    images, texts = faces.images, faces.texts
    with quiet_open_clip():
        import open_clip
        from open_clip.loss import ClipLoss

        torch.manual_seed(seed)
        model: Any = open_clip.CLIP(**CONFIG)
        tokens = open_clip.SimpleTokenizer(context_length=CONTEXT)(texts)
    model.context_length = CONTEXT
    model.visual.to(memory_format=torch.channels_last)  # a third faster on a CPU
    used, compact = torch.unique(tokens, return_inverse=True)
    full = model.token_embedding.weight.detach().clone()
    # only the rows of words that occur are trained; the optimiser need not walk through 49,408 of them
    model.token_embedding = nn.Embedding.from_pretrained(full[used].clone(), freeze=False)
    end = (tokens == tokens.max()).int().argmax(1)
    loss_of = ClipLoss()
    head = nn.Linear(CONFIG["embed_dim"], len(UNITS))
    optimiser = torch.optim.AdamW([*_groups(model), {"params": head.parameters()}], lr=LEARNING_RATE, betas=(0.9, 0.98))
    steps = max(1, len(texts) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, LEARNING_RATE, total_steps=epochs * steps, pct_start=WARMUP, anneal_strategy="cos"
    )
    order = torch.Generator().manual_seed(seed)
    model.train()
    losses = []
    for epoch in range(epochs):
        total = 0.0
        shuffled = torch.randperm(len(texts), generator=order)
        for step in track(range(steps), f"epoch {epoch + 1}/{epochs}", steps, "steps"):
            rows = shuffled[step * BATCH : (step + 1) * BATCH]
            length = int(end[rows].max()) + 1
            seen = F.normalize(model.visual(normalise(images[rows])), dim=-1)
            read = F.normalize(_encode_text(model, compact[rows, :length], end[rows]), dim=-1)
            loss = loss_of(seen, read, model.logit_scale.exp())
            wanted = faces.units[rows]
            helped = F.mse_loss(head(HEAD_SCALE * seen), wanted) + F.mse_loss(head(HEAD_SCALE * read), wanted)
            optimiser.zero_grad(set_to_none=True)
            (loss + UNITS_WEIGHT * helped).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            with torch.no_grad():
                model.logit_scale.clamp_(0, float(np.log(100)))
            total += float(loss.detach())
        losses.append(total / steps)
        log.info("demo encoder: epoch %d/%d, loss %.3f", epoch + 1, epochs, losses[-1])
    full[used] = model.token_embedding.weight.detach()
    model.token_embedding = nn.Embedding.from_pretrained(full, freeze=False)
    return model.eval().to(memory_format=torch.contiguous_format), losses


def _encode_text(model: Any, tokens: torch.Tensor, end: torch.Tensor) -> torch.Tensor:
    """open_clip's encode_text on compact token numbers, cut after the last end-of-text (the tower is causal)."""
    length = tokens.shape[1]
    x = model.token_embedding(tokens) + model.positional_embedding[:length]
    x = model.transformer(x, attn_mask=model.attn_mask[:length, :length])
    x = model.ln_final(x[torch.arange(len(x)), end])
    return x @ model.text_projection


@torch.no_grad()
def measure(model: Any, faces: Faces) -> dict[str, float]:
    """Accuracy on single frames of unseen identities: zero-shot by name and by description, and a linear probe."""
    import open_clip
    from sklearn.linear_model import LogisticRegression

    features = torch.cat([F.normalize(model.visual(normalise(part)), dim=-1) for part in faces.images.split(256)])
    labels = faces.labels
    tokenizer = open_clip.SimpleTokenizer(context_length=CONTEXT)
    result = {}
    for name, texts in (
        ("name", [[f"a photo of a {label} face"] for label in SEVEN]),
        ("description", [descriptions(label) for label in SEVEN]),
    ):
        towards = [F.normalize(F.normalize(model.encode_text(tokenizer(t)), dim=-1).mean(0), dim=-1) for t in texts]
        guess = (features @ torch.stack(towards).T).argmax(1)
        result[f"zero_shot_{name}_accuracy"] = float((guess == labels).float().mean())
    half = len(labels) // 2
    probe = LogisticRegression(C=10.0, max_iter=500).fit(features[:half].numpy(), labels[:half].numpy())
    result["linear_probe_accuracy"] = float(probe.score(features[half:].numpy(), labels[half:].numpy()))
    return {key: round(value, 6) for key, value in result.items()}


def train(params: Params) -> None:
    """Train the demo encoder and write models/demo-clip/, metrics.json first and encoder.json last."""
    # before the work: what counts is the code that did it
    made_by = dependencies.made_by("train-demo-encoder", dependencies.settings(params, "train-demo-encoder"), {})
    with recorded(made_by, encoder=DEMO_ENCODER) as numbers:
        numbers |= _train(params, made_by)


def _train(params: Params, made_by: dict[str, Any]) -> dict[str, Any]:
    demo = params.demo
    folder = paths.encoder(DEMO_ENCODER).parent
    workers = cores()
    started = time.monotonic()
    faces = render_faces(demo.seed, demo.encoder_faces, False, workers)
    held = render_faces(demo.seed, HELD_OUT, True, workers)
    threads = torch.get_num_threads()
    deterministic = torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(demo.encoder_threads)
    torch.use_deterministic_algorithms(True)
    try:
        model, losses = fit(faces, demo.encoder_epochs, demo.seed)
        metrics = measure(model, held)
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)
    storage.write_json(folder / "metrics.json", {**metrics, "loss": [round(loss, 6) for loss in losses]})
    write_encoder(folder, model, CONFIG, PREPROCESS, made_by)
    log.info("demo encoder: %.0f s, %s", time.monotonic() - started, metrics)
    return {**metrics, "loss": losses, "faces": demo.encoder_faces}
