"""Relevance along clips: the frames of a clip, how relevant each was to the model, and the true intensity if known."""

import io
from dataclasses import dataclass

import numpy as np
import pyarrow.parquet as pq
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from tgdfer.core import paths, storage
from tgdfer.core.errors import UserError
from tgdfer.core.plots import COLOURS, GREY
from tgdfer.reporting.figures import spaced
from tgdfer.reporting.relevance import Truth
from tgdfer.runs.results import Experiment

THUMBNAILS = 16
WIDTH, HEIGHT = 7.2, 0.42
"""In inches: the width of the figure, and about the height of a thumbnail."""
LONGEST = 60
"""The longest name of a clip in print, in characters."""
EACH = 3
"""Clips that were classified right, and as many that were classified wrong."""


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
    """Right and wrong test clips of the first finished run: of each class the one with the median confidence.

    The most confident clip of a class would make the model look better than it is, the least confident one worse.
    """
    run = next((run for run in experiment.finished(variant) if selection in run.outcomes), None)
    if run is None:
        return []
    outcome, relevance = run.outcomes[selection], run.relevance()[selection]
    examples: list[Example] = []
    for right in (True, False):
        taken = 0
        for c in np.unique(outcome.label):
            members = np.flatnonzero((outcome.label == c) & (outcome.right == right))
            if not len(members) or taken == EACH or experiment.classes[c] == "neutral":
                continue
            n = members[np.argsort(outcome.confidence[members], kind="stable")[len(members) // 2]]
            valid = relevance.frame_index[n] >= 0
            if valid.sum() < 2:
                continue
            label, predicted = (experiment.classes[k] for k in (c, outcome.prediction[n]))
            bag = relevance.frame_index[n][valid], relevance.relevance[n][valid]
            examples.append(Example(str(outcome.clip_id[n]), label, predicted, float(outcome.confidence[n]), *bag))
            taken += 1
    return examples


def read_frames(dataset: str, wanted: dict[str, set[int]], problems: list[str]) -> dict[tuple[str, int], bytes]:
    """The JPEG bytes of the wanted frames; missing or damaged files are added to ``problems``."""
    manifest = paths.frames(dataset)
    if not manifest.exists():
        return {}
    found: dict[tuple[str, int], bytes] = {}
    try:
        shards = storage.read_sealed(manifest)["shards"]
    except UserError as error:
        problems.append(f"{error}: figures lack the frames")
        return {}
    for number in sorted({paths.shard_number(clip, len(shards)) for clip in wanted} if shards else ()):
        path = manifest.parent / shards[number]["file"]
        if not path.exists() or storage.file_fingerprint(path) != shards[number]["sha256"]:
            problem = (
                f"{path}: missing or not the file that its stage wrote: figures lack its frames; {storage.remedy(path)}"
            )
            if problem not in problems:
                problems.append(problem)
            continue
        if "jpeg" not in pq.read_schema(path).names:  # features from elsewhere
            continue
        columns, filters = ["clip_id", "frame_index", "jpeg"], [("clip_id", "in", sorted(wanted))]
        for row in pq.read_table(path, columns=columns, filters=filters).to_pylist():
            if row["frame_index"] in wanted[row["clip_id"]]:
                found[row["clip_id"], row["frame_index"]] = row["jpeg"]
    return found


def draw(experiment: Experiment, variant: str, selection: str, truth: Truth | None) -> Figure | None:
    """A row per clip: thumbnails above, relevance (and true intensity) along the clip below; None without runs."""
    examples = choose(experiment, variant, selection)
    if not examples:
        return None
    picks = {e.clip_id: spaced(len(e.frame_index), THUMBNAILS) for e in examples}
    frames = read_frames(
        experiment.dataset,
        {e.clip_id: {int(e.frame_index[k]) for k in picks[e.clip_id]} for e in examples},
        experiment.problems,
    )
    figure = Figure(figsize=(WIDTH, 1.3 * len(examples) + 0.3), layout="constrained")
    rows = figure.subplots(len(examples) * 2, 1, squeeze=False, height_ratios=[1.0, 1.1] * len(examples))[:, 0]
    for example, strip, axis in zip(examples, rows[::2], rows[1::2], strict=True):
        right, clip = example.prediction == example.label, example.clip_id
        clip = clip if len(clip) <= LONGEST else f"{clip[: LONGEST - 1]}…"
        said = f"Right: {example.label}" if right else f"Wrong: {example.label}, taken for {example.prediction}"
        said += f" ({100 * example.confidence:.0f} %), clip {clip}"
        strip.set_title(said, loc="left", color=COLOURS[0 if right else 1], parse_math=False)
        _thumbnails(strip, example, picks[example.clip_id], frames)
        _bars(axis, example, truth)
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=7.5)
    return figure


def _thumbnails(axis: Axes, example: Example, picks: np.ndarray, frames: dict[tuple[str, int], bytes]) -> None:
    """Draw every picture exactly above the bar of its frame."""
    axis.axis("off")
    count = len(example.frame_index)
    shown = False
    for k in picks:
        jpeg = frames.get((example.clip_id, int(example.frame_index[k])))
        if jpeg is None:
            continue
        picture = Image.open(io.BytesIO(jpeg)).convert("RGB")
        picture.thumbnail((112, 112))
        # as wide as its shape, or narrower where its neighbours leave less room
        half = min(0.47 * count / len(picks), 0.5 * HEIGHT * picture.width / picture.height * count / WIDTH)
        axis.imshow(np.asarray(picture), extent=(k - half, k + half, 0, 1), aspect="auto")
        shown = True
    if not shown:
        axis.text(0.5, 0.5, "frames are not stored here", ha="center", transform=axis.transAxes, color=GREY)
    axis.set_xlim(-0.5, count - 0.5)
    axis.set_ylim(0, 1)


def _bars(axis: Axes, example: Example, truth: Truth | None) -> None:
    """Draw the relevance as bars, and the true intensity, where it is known, as a line of the same height."""
    count = len(example.frame_index)
    places = np.arange(count)
    top = max(float(example.relevance.max()), 1 / count) * 1.08
    axis.bar(places, example.relevance, color=COLOURS[5], width=0.8, label="relevance (share of the clip)")
    axis.axhline(1 / count, color=GREY, linewidth=0.7, linestyle="--", label="all frames alike")
    if truth:
        intensity = truth.of(np.array([example.clip_id]), example.frame_index[None])[0] * top / 1.08
        axis.plot(places, intensity, color="black", linewidth=1.2, marker=".", label="true intensity (0 to 1)")
    axis.set_xlim(-0.5, count - 0.5)
    axis.set_ylim(0, top)
    axis.set_yticks([])
    axis.set_xticks(places, [str(int(index)) for index in example.frame_index], fontsize=6)
    axis.tick_params(length=0)
    axis.spines["left"].set_visible(False)
