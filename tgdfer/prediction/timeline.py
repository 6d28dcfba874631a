"""The timeline: thumbnails, probabilities along time, relevance and uncertainty in one picture."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from tgdfer.core.plots import COLOURS, GREY, style
from tgdfer.core.storage import atomic
from tgdfer.prediction.result import NOTICE, Person, Prediction, Thumbnail, entropy, printable
from tgdfer.prediction.thumbnails import choose

WIDTH = 9.0
"""Inches."""
SLOTS = 14
"""How many thumbnails fit side by side."""
LONGEST = 50
"""Characters of a video's name in the headline."""
MARK = "#D55E00"
"""The colour around decisive frames."""


def write_timeline(prediction: Prediction, path: Path) -> None:
    """Draw the timeline of ``prediction`` as a PNG."""
    with style():
        figure = draw(prediction)
        with atomic(path) as part:
            figure.savefig(part, format="png", dpi=130, metadata={"Software": None})


def draw(prediction: Prediction) -> Figure:
    """The timeline of ``prediction``; only a statement if there is no face."""
    if not prediction.probabilities:
        return _statement(prediction)
    figure = Figure(figsize=(WIDTH, 6.6), layout="constrained")
    strip, curves, relevance, doubt = figure.subplots(4, 1, height_ratios=[0.8, 2.4, 1.0, 1.0])
    start = prediction.start_s
    limits = (start, start + max(prediction.duration_s, 1e-3))
    headline = "\n".join([f"{_name(prediction)}: {prediction.summary}", *prediction.notes])
    figure.suptitle(headline, x=0.01, ha="left", fontsize=10.5, parse_math=False)
    person = prediction.persons[0]
    _strip(strip, person.thumbnails, limits)
    _curves(curves, person)
    _relevance(relevance, person)
    _doubt(doubt, person)
    for axis in (curves, relevance, doubt):
        axis.set_xlim(limits)
        _blank(axis, person, limits)
    for axis in (curves, relevance):
        axis.tick_params(labelbottom=False)
    doubt.set_xlabel("seconds")
    figure.supxlabel(_foot(prediction), x=0.01, ha="left", fontsize=7.5, color=GREY, parse_math=False)
    return figure


def _name(prediction: Prediction) -> str:
    """The video's name, shortened in its middle if it is long."""
    name = printable(Path(prediction.source).name)
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 12]}…{name[-11:]}"


def _foot(prediction: Prediction) -> str:
    return f"{NOTICE}\nModel: {prediction.model['name']}, {prediction.model['fingerprint'][:12]}"


def _statement(prediction: Prediction) -> Figure:
    figure = Figure(figsize=(WIDTH, 1.6))
    figure.text(0.02, 0.72, f"{_name(prediction)}: {prediction.reason}", fontsize=12, parse_math=False)
    figure.text(0.02, 0.48, "Without a face there is nothing to classify, so there is no number.", fontsize=9)
    figure.text(0.02, 0.08, _foot(prediction), fontsize=7.5, color=GREY, parse_math=False)
    return figure


def _strip(axis: Axes, thumbnails: list[Thumbnail], limits: tuple[float, float]) -> None:
    """Thumbnails side by side, each joined to its time by a line; decisive frames are always among them."""
    axis.axis("off")
    axis.set_xlim(0, SLOTS)
    axis.set_ylim(-0.4, 1)
    chosen = choose(thumbnails, SLOTS)
    times = [SLOTS * (one.time_s - limits[0]) / (limits[1] - limits[0]) for one in chosen]
    for one, at, x in zip(chosen, times, _side_by_side(times), strict=True):
        image = np.asarray(Image.open(io.BytesIO(one.jpeg)))
        high, wide = image.shape[:2]
        half = 0.47 * min(1.0, wide / high)
        tall = min(1.0, 0.94 * high / wide)
        axis.imshow(image, extent=(x - half, x + half, 1 - tall, 1), aspect="auto")
        colour, width = (MARK, 1.4) if one.decisive else (GREY, 0.5)
        (line,) = axis.plot([x, at], [1 - tall, -0.6], color=colour, linewidth=width, alpha=0.8, clip_on=False)
        line.set_in_layout(False)  # it reaches into the curves
        if one.decisive:
            axis.add_patch(Rectangle((x - half, 1 - tall), 2 * half, tall, fill=False, color=MARK, linewidth=2.2))


def _side_by_side(wanted: list[float]) -> list[float]:
    """Positions in the strip at least 1 apart, in the given order and close to the wanted ones."""
    places: list[float] = []
    for at in wanted:
        places.append(max(at, places[-1] + 1 if places else 0.5))
    room = SLOTS - 0.5
    for number in range(len(places) - 1, -1, -1):
        places[number] = min(places[number], room)
        room = places[number] - 1
    return places


def _curves(axis: Axes, person: Person) -> None:
    times, values = zip(*person.curve, strict=True)
    order = sorted(person.probabilities, key=lambda name: -person.probabilities[name])
    names = list(person.probabilities)
    for name in order:
        number = names.index(name)
        axis.plot(
            times,
            [one[name] for one in values],
            color=COLOURS[number % len(COLOURS)],
            linestyle="-" if number < len(COLOURS) else "--",
            linewidth=2.0 if name == order[0] else 1.0,
            marker="." if len(times) < 40 else None,
            label=f"{100 * person.probabilities[name]:.0f} %  {printable(name)}",
            zorder=3 if name == order[0] else 2,
        )
    axis.set_ylim(0, 1)
    of = "single frames" if person.windows[0].frames[0].probabilities else "windows"
    axis.set_ylabel(f"probability\n({of})")
    for text in axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8).get_texts():
        text.set_parse_math(False)
    axis.grid(axis="y")


def _relevance(axis: Axes, person: Person) -> None:
    times, values = zip(*person.relevance, strict=True)
    if len(times) <= 200:
        length = person.windows[-1].end_s - person.windows[0].start_s
        width = float(np.median(np.diff(times))) if len(times) > 1 else length
        axis.bar(times, values, width=0.8 * width, color=COLOURS[5])
    else:
        axis.fill_between(times, values, color=COLOURS[5], linewidth=0)
    sizes = [len(window.frames) for window in person.windows]
    axis.axhline(1 / (sum(sizes) / len(sizes)), color=GREY, linewidth=0.7, linestyle="--")  # all frames alike
    axis.set_ylim(0, None)
    axis.set_ylabel("relevance\nof frames")


def _doubt(axis: Axes, person: Person) -> None:
    times, values = zip(*person.curve, strict=True)
    axis.plot(times, [entropy(one) or 0.0 for one in values], color="black", linewidth=1.2)
    axis.axhline(person.entropy or 0.0, color=GREY, linewidth=0.8, linestyle="--")
    axis.set_ylim(0, 1)
    axis.set_ylabel("uncertainty\n(entropy)")
    axis.grid(axis="y")


def _blank(axis: Axes, person: Person, limits: tuple[float, float]) -> None:
    """Grey where no face was found."""
    axis.axvspan(*limits, color="#e5e7eb", linewidth=0, zorder=0)
    for begin, end in person.seen:
        axis.axvspan(begin, end, color="white", linewidth=0, zorder=0.1)
