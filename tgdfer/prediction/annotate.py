"""An annotated copy of a video: a box around the face, and the model's probabilities below the picture."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tgdfer.core.errors import UserError
from tgdfer.core.plots import COLOURS
from tgdfer.core.storage import atomic
from tgdfer.media import ffmpeg
from tgdfer.media.videos import span
from tgdfer.prediction.result import NOTICE, FaceBox, Prediction, entropy

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
    # where time 0 is may depend on whether the sound is read too
    shift = span(source, with_sound=True)[0] - span(source)[0]
    width, height = prediction.size
    above = max(2, 2 * round(WIDTH * height / width / 2))
    first = next(_panels(prediction, shift, above))
    given = ffmpeg.source(source)
    panel = build.input("pipe:0", f="rawvideo", pix_fmt="rgba", s=f"{WIDTH}x{len(first)}", r=PER_SECOND)
    shown = given["V:0"].filter("scale", WIDTH, above).filter("setsar", 1)
    # overlay keeps every frame of the picture and its time, and ends with the last one
    both = shown.filter("pad", "iw", len(first)).overlay(panel, shortest=1)
    with atomic(path) as part:
        options = {**ffmpeg.MP4_ARGS, "vcodec": "libx264", "pix_fmt": "yuv420p", "crf": 23, "preset": "veryfast"}
        options |= ffmpeg.passthrough()
        command = ffmpeg.command(build.output(both, given["a?"], str(part), **options))
        panels = (image.tobytes() for image in _panels(prediction, shift, above))
        try:
            ffmpeg.feed(command, panels, TIMEOUT_S)
        except ffmpeg.FFmpegError as error:
            raise UserError(f"{path}: cannot be written: {error}") from None


def _panels(prediction: Prediction, shift: float, above: int) -> Iterator[np.ndarray]:
    """What is laid over the copy at every moment, uint8 [height, width, 4]; it never ends, so that no frame lacks one.

    Args:
        prediction: of the video.
        shift: the time in the copy of what the prediction calls 0 s.
        above: the height of the picture, below which the probabilities are.
    """
    people = [(person.seen, person.curve) for person in prediction.persons]
    changes = [[(a + b) / 2 for (a, _), (b, _) in pairwise(curve)] for _, curve in people]
    font, small = ImageFont.load_default(14), ImageFont.load_default(9)
    boxes = [sorted(person.boxes, key=lambda box: box.time_s) for person in prediction.persons]
    latest: tuple[Any, np.ndarray] | None = None
    for step in count():
        time = step / PER_SECOND - shift
        present = (k for k, (seen, _) in enumerate(people) if any(first <= time <= last for first, last in seen))
        who = next(present, None)  # the largest of those who are there
        place = None if who is None else (who, bisect_right(changes[who], time))
        box = None if who is None else min(boxes[who], key=lambda box: abs(box.time_s - time), default=None)
        if latest is None or latest[0] != (place, box):
            values = {} if place is None else people[place[0]][1][place[1]][1]
            panel = _panel(prediction, values, font, small)
            canvas = Image.new("RGBA", (WIDTH, above + panel.height))
            canvas.paste(panel, (0, above))
            if box is not None:
                _draw(ImageDraw.Draw(canvas), box, above)
            latest = (place, box), np.asarray(canvas)
        yield latest[1]


def _draw(pen: Any, box: FaceBox, height: int) -> None:
    """The outline of a face within the picture."""
    left, top = box.left * WIDTH, box.top * height
    right, bottom = left + box.width * WIDTH, min(top + box.height * height, height - 1)
    pen.rectangle((left, top, right, bottom), outline="black", width=4)
    pen.rectangle((left + 1, top + 1, right - 1, bottom - 1), outline="white", width=2)


def _panel(prediction: Prediction, values: dict[str, float], font: Any, small: Any) -> Image.Image:
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
    return image
