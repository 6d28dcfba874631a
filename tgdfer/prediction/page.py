"""One HTML page for a video, to watch it with its probabilities."""

from __future__ import annotations

import base64
import json
import math
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from tgdfer.core.errors import UserError
from tgdfer.core.html import render
from tgdfer.core.storage import atomic
from tgdfer.core.version import __version__
from tgdfer.media import ffmpeg
from tgdfer.media.faces.detection import CERTAIN
from tgdfer.media.videos import span
from tgdfer.prediction.annotate import TIMEOUT_S
from tgdfer.prediction.result import NOTICE, FaceBox, Person, Prediction, Thumbnail, entropy, printable
from tgdfer.prediction.thumbnails import choose

TEMPLATES = Path(__file__).parent / "template"
WIDE, HIGH = 1000, 100
"""The size of the drawings in their own units."""
THUMBNAILS = 16
TICKS = 6
STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200)
"""Seconds between the ticks of the time axis."""
BARS = 200
"""With more frames than this, their relevance is drawn as an area."""
SHORTEST = 480
"""The height of an embedded video in pixels."""
CHUNK = 3 << 18
"""How many bytes of a video are encoded at once: a multiple of three, so that there is no padding in between."""
HERE = "<!-- the embedded video -->"


@dataclass(frozen=True)
class Axis:
    """The time axis of the drawings, from ``start`` to ``end`` seconds."""

    start: float
    end: float

    def x(self, time: float) -> float:
        """Where ``time`` is, 0 to ``WIDE``."""
        return round(min(1.0, max(0.0, (time - self.start) / (self.end - self.start))) * WIDE, 1)

    def ticks(self) -> list[tuple[str, float]]:
        """Labels and places of at most ``TICKS`` round times."""
        step = next((one for one in STEPS if (self.end - self.start) / one <= TICKS), STEPS[-1])
        first, last = math.ceil(self.start / step), math.floor(self.end / step)
        return [(clock(number * step, step < 1), self.x(number * step)) for number in range(first, last + 1)]

    def area(self, pieces: Iterable[Iterable[tuple[float, float]]]) -> str:
        """The SVG path of the area below (time, value) points, which are in several pieces; values 0 to 1."""
        path = ""
        for piece in pieces:
            points = [(self.x(time), round(HIGH * (1 - value), 1)) for time, value in piece]
            line = "L".join(f"{x:g} {y:g}" for x, y in points)
            path += f"M{points[0][0]:g} {HIGH}L{line}L{points[-1][0]:g} {HIGH}Z"
        return path


def write_page(prediction: Prediction, path: Path, embed: bool) -> None:
    """Write the page of one video to ``path``; it links to the video, or contains a copy of it (``embed``).

    Raises:
        UserError: ffmpeg cannot copy the video.
    """
    source = Path(prediction.source)
    axis = Axis(prediction.start_s, prediction.start_s + max(prediction.duration_s, 1e-3))
    images = source.is_dir()
    shift = 0.0 if images else span(source, with_sound=True)[0] - span(source)[0]
    data = {
        "start": axis.start,
        "end": axis.end,
        "shift": shift,  # the time in the video of what the prediction calls 0 s
        "certain": CERTAIN,
        "persons": [_followed(person) for person in prediction.persons],
        "others": prediction.others_s,
    }
    text = render(
        TEMPLATES,
        "watch",
        name=printable(source.name),
        version=__version__,
        notice=NOTICE,
        prediction=prediction,
        persons=[_person(person, axis) for person in prediction.persons],
        address=None if images or embed else _address(source, path.parent),
        embedded=Markup(HERE) if embed and not images else None,
        axis=axis,
        clock=clock,
        printable=printable,
        data_url=_data_url,
        data=Markup(json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")),
    )
    before, _, after = text.partition(HERE)
    with atomic(path) as part, part.open("w", encoding="utf-8") as out:
        out.write(before)
        if after:
            out.writelines(_copy(source, path))
            out.write(after)


def _data_url(one: Thumbnail) -> Markup:
    return Markup("data:image/jpeg;base64," + base64.b64encode(one.jpeg).decode("ascii"))


def clock(seconds: float, tenths: bool = True) -> str:
    """A time as people read it: 1:02:03 or 0:04.5."""
    whole, part = divmod(round(seconds * 10), 10)
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    text = f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
    return f"{text}.{part}" if tenths else text


def _address(video: Path, folder: Path) -> str:
    """A video's address on a page in ``folder``: relative, so that both can be moved together."""
    try:
        return quote(os.fsencode(os.path.relpath(video.resolve(), folder.resolve())), safe="/")
    except ValueError:  # another drive
        return video.resolve().as_uri()


def _copy(source: Path, path: Path) -> Iterator[str]:
    """A smaller copy of a video that every browser plays, in base64."""
    import ffmpeg as build

    given = ffmpeg.source(source)
    high = f"min({SHORTEST},ih)"
    shown = given["V:0"].filter("scale", f"max(2,2*round(dar*{high}/2))", f"max(2,2*trunc({high}/2))")
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", suffix=".mp4") as copy:
        options = {**ffmpeg.MP4_ARGS, "vcodec": "libx264", "pix_fmt": "yuv420p", "crf": 27, "preset": "veryfast"}
        output = build.output(shown.filter("setsar", 1), given["a?"], copy.name, **options, **ffmpeg.passthrough())
        try:
            ffmpeg.run(ffmpeg.command(output), TIMEOUT_S)
        except ffmpeg.FFmpegError as error:
            raise UserError(f"{path}: cannot be written: {error}") from None
        while data := copy.read(CHUNK):
            yield base64.b64encode(data).decode("ascii")


def _person(person: Person, axis: Axis) -> dict[str, Any]:
    """What the template says about a person, and the drawings."""
    means = person.probabilities
    pieces = list(_pieces(person))
    rows = [
        {
            "name": printable(name),
            "mean": means[name],
            "path": axis.area([[(time, values[name]) for time, values in piece] for piece in pieces]),
        }
        for name in sorted(means, key=lambda name: -means[name])
    ]
    doubt = [[(time, entropy(values) or 0.0) for time, values in piece] for piece in pieces]
    highest = max(value for _, value in person.relevance) or 1.0
    bars = [(time, value / highest) for time, value in person.relevance]
    gaps = sorted(later - earlier for (earlier, _), (later, _) in pairwise(bars)) or [axis.end - axis.start]
    half = 0.4 * gaps[len(gaps) // 2]
    drawn = [[(time - half, value), (time + half, value)] for time, value in bars] if len(bars) <= BARS else [bars]
    edges = [axis.start, *(edge for interval in person.seen for edge in interval), axis.end]
    blanks = [
        (axis.x(first), axis.x(last) - axis.x(first)) for first, last in zip(edges[::2], edges[1::2], strict=True)
    ]
    frames = choose(person.thumbnails, THUMBNAILS)
    return {
        "number": person.number,
        "answer": printable(person.prediction),
        "share": max(means.values()),
        "entropy": person.entropy,
        "rows": rows,
        "relevance": axis.area(drawn),
        "doubt": axis.area(doubt),
        "blanks": [(x, width) for x, width in blanks if width > 0],
        "doubts": [(axis.x(first), axis.x(last) - axis.x(first)) for first, last in doubtful(person.boxes)],
        "frames": frames,
        "face": next((one for one in frames if one.decisive), frames[0]),
        "seen": person.seen,
        "single": bool(person.windows[0].frames[0].probabilities),
        "windows": person.windows,
    }


def _pieces(person: Person) -> Iterator[list[tuple[float, dict[str, float]]]]:
    """The curve within each interval that shows the person, prolonged to the interval's ends."""
    for first, last in person.seen:
        inside = [one for one in person.curve if first <= one[0] <= last]
        if inside:
            yield [(first, inside[0][1]), *inside, (last, inside[-1][1])]


def doubtful(boxes: Sequence[FaceBox]) -> Iterator[tuple[float, float]]:
    """The intervals in which the detector was not sure that it found a face."""
    for low, group in groupby(boxes, lambda box: box.score is not None and box.score < CERTAIN):
        members = list(group)
        if low:
            yield members[0].time_s, members[-1].time_s


def _followed(person: Person) -> dict[str, Any]:
    """What the script reads to follow the video."""
    names = sorted(person.probabilities, key=lambda name: -person.probabilities[name])
    return {
        "pieces": [
            [
                [round(time, 3), *(round(values[name], 4) for name in names), round(entropy(values) or 0.0, 4)]
                for time, values in piece
            ]
            for piece in _pieces(person)
        ],
        "boxes": [[None if value is None else round(value, 4) for value in astuple(box)] for box in person.boxes],
    }
