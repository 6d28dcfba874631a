"""Relevance along clips: the frames of a clip, how relevant each was to the model, and the true intensity if it is known."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import pyarrow.parquet as pq
from matplotlib.figure import Figure
from PIL import Image

from tgdfer import paths
from tgdfer.reporting.collect import Experiment
from tgdfer.reporting.figures import COLOURS, GREY
from tgdfer.reporting.relevance import Truth
from tgdfer.storage import read_json

THUMBNAILS = 8
EACH = 3
"""How many clips that are right, and how many that are wrong."""


@dataclass(frozen=True)
class Example:
    """A test clip with the model's view of it."""

    clip_id: str
    label: str
    prediction: str
    confidence: float
    frame_index: np.ndarray
    relevance: np.ndarray


def choose(experiment: Experiment, variant: str, selection: str) -> list[Example]:
    """Right and wrong test clips of the first finished run, of different classes: the median confidence of each.

    The most confident clip of a class would flatter the model, and the least confident one would belittle it.
    """
    run = next((run for run in experiment.finished(variant) if selection in run.outcomes), None)
    if run is None:
        return []
    outcome, relevance = run.outcomes[selection], run.relevance(selection)
    examples: list[Example] = []
    for right in (True, False):
        taken = 0
        for c in np.unique(outcome.label):
            members = np.flatnonzero((outcome.label == c) & ((outcome.prediction == outcome.label) == right))
            if not len(members) or taken == EACH or experiment.classes[c] == "neutral":
                continue
            n = members[np.argsort(outcome.confidence[members], kind="stable")[len(members) // 2]]
            clip = str(outcome.clip_id[n])
            frames, values = relevance[clip]
            if len(values) < 2:
                continue
            predicted = experiment.classes[outcome.prediction[n]]
            examples.append(
                Example(clip, experiment.classes[c], predicted, float(outcome.confidence[n]), frames, values)
            )
            taken += 1
    return examples


def read_frames(dataset: str, wanted: dict[str, set[int]]) -> dict[tuple[str, int], bytes]:
    """The JPEG bytes of the wanted frames, from the shards; frames that are not there are left out."""
    manifest = paths.frames(dataset)
    if not manifest.exists():
        return {}
    found: dict[tuple[str, int], bytes] = {}
    for shard in read_json(manifest)["shards"]:
        path = manifest.parent / shard["file"]
        if not path.exists():
            continue
        table = pq.read_table(
            path, columns=["clip_id", "frame_index", "jpeg"], filters=[("clip_id", "in", sorted(wanted))]
        )
        columns = (table[name].to_pylist() for name in ("clip_id", "frame_index", "jpeg"))
        for clip, index, jpeg in zip(*columns, strict=True):
            if index in wanted[clip]:
                found[clip, index] = jpeg
    return found


def draw(experiment: Experiment, variant: str, selection: str, truth: Truth | None) -> Figure | None:
    """A row per clip: thumbnails above, relevance (and true intensity) along the clip below; None without runs."""
    examples = choose(experiment, variant, selection)
    if not examples:
        return None
    picks = {
        e.clip_id: np.unique(np.linspace(0, len(e.frame_index) - 1, THUMBNAILS).round().astype(int)) for e in examples
    }
    frames = read_frames(
        experiment.dataset, {e.clip_id: {int(e.frame_index[k]) for k in picks[e.clip_id]} for e in examples}
    )
    figure = Figure(figsize=(7.2, 1.75 * len(examples)), layout="constrained")
    grid = figure.add_gridspec(len(examples) * 2, 1, height_ratios=[1.0, 0.75] * len(examples))
    for n, example in enumerate(examples):
        strip = figure.add_subplot(grid[2 * n])
        right = example.prediction == example.label
        strip.set_title(
            f"{'Right' if right else 'Wrong'}: {example.label}"
            + ("" if right else f", taken for {example.prediction}")
            + f" ({100 * example.confidence:.0f} %) – clip {example.clip_id}",
            loc="left",
            color=COLOURS[0] if right else COLOURS[1],
        )
        strip.axis("off")
        count = len(example.frame_index)
        # thumbnails stand exactly above the place of their frame on the axis below
        strip.set_xlim(-0.5, count - 0.5)
        strip.set_ylim(0, 1)
        width = (count - 0.5) / THUMBNAILS * 0.92
        for k in picks[example.clip_id]:
            jpeg = frames.get((example.clip_id, int(example.frame_index[k])))
            if jpeg is None:
                continue
            picture = Image.open(io.BytesIO(jpeg)).convert("RGB")
            picture.thumbnail((128, 128))
            centre = min(max(float(k), width / 2 - 0.5), count - 0.5 - width / 2)
            strip.imshow(
                np.asarray(picture), extent=(centre - width / 2, centre + width / 2, 0, 1), aspect="auto", zorder=2
            )
        strip.set_xlim(-0.5, count - 0.5)
        if not frames:
            strip.text(0.5, 0.5, "frames are not stored here", ha="center", transform=strip.transAxes, color=GREY)
        axis = figure.add_subplot(grid[2 * n + 1])
        places = np.arange(count)
        axis.bar(places, example.relevance, color=COLOURS[5], width=0.8, label="relevance")
        axis.axhline(1 / count, color=GREY, linewidth=0.7, linestyle="--")
        axis.set_xlim(-0.5, count - 0.5)
        axis.set_yticks([])
        axis.set_xticks(places, [str(int(index)) for index in example.frame_index], fontsize=6)
        axis.tick_params(length=0)
        axis.spines["left"].set_visible(False)
        known = (truth or {}).get(example.clip_id)
        if known:
            second = axis.twinx()
            intensity = [known.get(int(index), np.nan) for index in example.frame_index]
            second.plot(places, intensity, color=COLOURS[1], linewidth=1.5, marker=".", label="true intensity")
            second.set_ylim(0, 1.05)
            second.set_yticks([])
            second.spines[:].set_visible(False)
    return figure
