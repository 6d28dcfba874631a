"""An annotated copy of a video, with the model's probabilities below the picture."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tgdfer.core.errors import UserError
from tgdfer.core.plots import COLOURS
from tgdfer.core.storage import atomic
from tgdfer.media import ffmpeg
from tgdfer.prediction.result import NOTICE, Prediction, entropy

WIDTH = 640
PER_SECOND = 5
"""How often the panel may change."""
TIMEOUT_S = 6 * 3600.0


def annotate(prediction: Prediction, path: Path) -> None:
    """Write ``path`` as an H.264 mp4 with the video's sound.

    Raises:
        UserError: the source is a folder of images, or ffmpeg cannot write it.
    """
    import ffmpeg as build

    source = Path(prediction.source)
    if source.is_dir():
        raise UserError(f"{source}: a folder of images; --annotate needs a video")
    first = next(_panels(prediction))
    size = f"{first.shape[1]}x{first.shape[0]}"
    given = ffmpeg.source(source)
    panel = build.input("pipe:0", f="rawvideo", pix_fmt="rgb24", s=size, r=PER_SECOND)
    picture = given["V:0"].filter("scale", WIDTH, -2).filter("setsar", 1).filter("setpts", "PTS-STARTPTS")
    both = build.filter([picture, panel], "vstack", shortest=1)
    with atomic(path) as part:
        options = {**ffmpeg.MP4_ARGS, "vcodec": "libx264", "pix_fmt": "yuv420p", "crf": 23, "preset": "veryfast"}
        command = ffmpeg.command(build.output(both, given["a?"], str(part), **options))
        panels = (image.tobytes() for image in _panels(prediction))
        try:
            ffmpeg.feed(command, panels, TIMEOUT_S)
        except ffmpeg.FFmpegError as error:
            raise UserError(f"{path}: cannot be written: {error}") from None


def _panels(prediction: Prediction) -> Iterator[np.ndarray]:
    """The panel of every moment, uint8 [height, width, 3], a second longer than the video."""
    begin, seen = prediction.windows[0].start_s, prediction.seen
    times = [time for time, _ in prediction.curve]
    values = [{}, *(one for _, one in prediction.curve)]
    changes = [(a + b) / 2 for a, b in pairwise(times)]
    font, small = ImageFont.load_default(14), ImageFont.load_default(9)
    latest: tuple[int, np.ndarray] | None = None
    for step in range(int((prediction.duration_s + 1) * PER_SECOND) + 1):
        time = begin + step / PER_SECOND
        with_face = any(first <= time <= last for first, last in seen)
        place = 1 + bisect_right(changes, time) if with_face else 0
        if latest is None or latest[0] != place:
            latest = place, _panel(prediction, values[place], font, small)
        yield latest[1]


def _panel(prediction: Prediction, values: dict[str, float], font: Any, small: Any) -> np.ndarray:
    names = prediction.model["classes"]
    line = 20
    image = Image.new("RGB", (WIDTH, (line * (len(names) + 2) + 12) // 2 * 2), "white")
    pen = ImageDraw.Draw(image)
    for row, name in enumerate(names):
        value = values.get(name, 0.0)
        top = 6 + row * line
        pen.text((8, top), name, fill="black", font=font)
        pen.rectangle((120, top + 3, 120 + 440, top + 15), outline="#e5e7eb")
        if value > 0:
            pen.rectangle((120, top + 3, 120 + round(440 * value), top + 15), fill=COLOURS[row % len(COLOURS)])
        pen.text((570, top), f"{100 * value:.0f} %" if values else "-", fill="black", font=font)
    uncertainty = entropy(values)
    line_below = "no face found" if uncertainty is None else f"uncertainty {uncertainty:.2f} of 1"
    pen.text((8, 6 + len(names) * line), line_below, fill="black", font=font)
    pen.text((8, 10 + (len(names) + 1) * line), NOTICE, fill="#6b7280", font=small)
    return np.asarray(image)
