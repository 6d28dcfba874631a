"""Rendered faces with captions, for the training of the demo encoder: people who appear in no clip."""

from dataclasses import dataclass

import cv2
import numpy as np
import torch

from tgdfer.core.classes import SEVEN
from tgdfer.core.processes import spread
from tgdfer.core.progress import track
from tgdfer.demo.captions import caption
from tgdfer.demo.faces import Image, draw, sample_pose, sample_scene
from tgdfer.demo.people import sample_identity
from tgdfer.demo.units import INDEX, UNITS, Floats, sample_expression

SIZE = 64
CHUNK = 500
STREAM = 2  # keeps these random numbers apart from the clips'

Chunk = tuple[Image, list[str], list[int], Floats]


@dataclass(frozen=True)
class Faces:
    """Rendered faces with what is known about them."""

    images: torch.Tensor  # uint8 [n, 3, SIZE, SIZE]
    texts: list[str]
    labels: torch.Tensor  # int64 [n], -1: no expression
    units: torch.Tensor  # float32 [n, U]


def sample_units(rng: np.random.Generator) -> tuple[Floats, str | None]:
    """Intensities float32 [U] and the expression's class, or None for units that combine at random.

    Half of the faces show an expression at any strength, the others any units, so that the encoder learns the words
    from the units and not from the seven combinations.
    """
    if rng.random() < 0.5:
        label = str(rng.choice(SEVEN))
        return sample_expression(label, rng) * np.float32(rng.uniform(0.3, 1.0)), label
    units = np.zeros(len(UNITS), np.float32)
    count = int(rng.integers(1, 6))
    for position in rng.choice(len(UNITS), count, replace=False):
        units[position] = rng.uniform(0.2, 1.0)
    if units[INDEX["lip_press"]]:  # pressed lips do not part
        units[[INDEX["lips_part"], INDEX["jaw_drop"]]] = 0
    if units[INDEX["eyes_closed"]]:
        units[INDEX["upper_lid_raise"]] = 0
    return units, None


def render_faces(seed: int, count: int, held_out: bool, workers: int) -> Faces:
    """``count`` faces; held-out ones show the seven expressions in turn. The number of ``workers`` changes nothing."""
    jobs = [(seed, chunk, min(CHUNK, count - start), held_out) for chunk, start in enumerate(range(0, count, CHUNK))]
    what = "held-out faces" if held_out else "faces with captions"
    chunks = list(track(spread(_render_chunk, jobs, workers), what, len(jobs), "chunks"))
    images, texts, labels, units = zip(*chunks, strict=True)
    return Faces(
        torch.from_numpy(np.concatenate(images)).permute(0, 3, 1, 2).contiguous(),
        [text for some in texts for text in some],
        torch.tensor([label for some in labels for label in some]),
        torch.from_numpy(np.concatenate(units)),
    )


def _render_chunk(job: tuple[int, int, int, bool]) -> Chunk:
    """Images, captions, labels and units of the job (seed, chunk, n, held out); see ``Faces``."""
    seed, chunk, count, held_out = job
    cv2.setNumThreads(0)
    rng = np.random.default_rng([seed, STREAM, int(held_out), chunk])
    images = np.empty((count, SIZE, SIZE, 3), np.uint8)
    shown = np.empty((count, len(UNITS)), np.float32)
    texts, labels = [], []
    for row in range(count):
        label: str | None
        if held_out:
            label = SEVEN[(chunk * CHUNK + row) % len(SEVEN)]
            units = sample_expression(label, rng) * np.float32(rng.uniform(0.5, 1.0))
        else:
            units, label = sample_units(rng)
        face = draw(sample_identity(rng), units, sample_pose(rng), sample_scene(rng), 96, rng)
        quality = int(rng.integers(35, 96))
        packed = cv2.imencode(".jpg", face, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        unpacked = np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR))
        images[row] = cv2.resize(unpacked, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
        shown[row] = units
        texts.append(caption(units, rng, label))
        labels.append(SEVEN.index(label) if label else -1)
    return images, texts, labels, shown
