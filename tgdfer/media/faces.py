"""Face crops: one face followed through a clip, in a square box that keeps its size and moves smoothly.

Faces are found by the Haar cascade that lies inside OpenCV's wheel: frontal faces, no download, no GPU. Data sets that
come with aligned faces do not need this.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from tgdfer.config.params import FramesParams
from tgdfer.media.images import encode, open_image, shrink
from tgdfer.media.sampling import Frame, UnusableError

CASCADE = "haarcascade_frontalface_alt2.xml"
LOOK_AT = 240
"""Faces are looked for in a copy whose shorter side has at most so many pixels."""
SMALLEST = 0.1
"""The smallest face, as a share of the shorter side."""
SHARE = 0.1
"""A clip shows a face if one is found, near the same place, in this share of its frames, and in two of several."""
SMOOTH = 0.1
"""Width of the smoothing of a box's path, as a share of the clip's frames."""
_local = threading.local()


@dataclass(frozen=True)
class Box:
    """A square in pixels: its centre and its side."""

    x: float
    y: float
    side: float


def crop(frames: list[Frame], params: FramesParams) -> tuple[list[Frame], int]:
    """The frames of a clip, cut to its face; and in how many of them the face was found.

    Raises:
        UnusableError: there is no face, and ``params.no_face`` is reject.
    """
    track = follow([find(frame) for frame in frames])
    if enough(track):
        boxes, found = around(track, params), sum(box is not None for box in track)
    elif params.no_face == "reject":
        raise UnusableError(f"no face in {len(frames)} frames")
    else:
        boxes, found = [Box(one.width / 2, one.height / 2, min(one.width, one.height)) for one in frames], 0
    return [cut(frame, box, params) for frame, box in zip(frames, boxes, strict=True)], found


def around(track: list[Box | None], params: FramesParams) -> list[Box]:
    """The box of every frame of a clip with a face: steady, the margin included."""
    path = union(track) if params.face_box == "union" else smooth(track)
    return [Box(box.x, box.y, box.side * (1 + 2 * params.face_margin)) for box in path]


def enough(track: list[Box | None]) -> bool:
    """Whether a clip shows the face of ``track``, or what was found in a few frames may be anything."""
    found = sum(box is not None for box in track)
    return found >= max(min(2, len(track)), 1, SHARE * len(track))


def find(frame: Frame) -> list[Box]:
    """All faces of a frame, in its pixels."""
    shorter = min(frame.width, frame.height)
    # JPEG decodes to a half, a fourth or an eighth directly, which is what makes this fast on large frames
    factor = next((step for step in (8, 4, 2) if shorter / step >= LOOK_AT), 1)
    mode = {
        1: cv2.IMREAD_GRAYSCALE,
        2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
        4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
        8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
    }[factor]
    grey = cv2.imdecode(np.frombuffer(frame.jpeg, np.uint8), mode | cv2.IMREAD_IGNORE_ORIENTATION)
    if grey is None:
        return []
    scale = min(1.0, LOOK_AT / min(grey.shape))
    if scale < 1:
        grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    least = max(20, round(SMALLEST * min(grey.shape)))
    faces = _detector().detectMultiScale(cv2.equalizeHist(grey), 1.1, 4, minSize=(least, least))
    unit = frame.width / grey.shape[1]
    boxes = [Box((x + w / 2) * unit, (y + h / 2) * unit, max(w, h) * unit) for x, y, w, h in faces]
    return sorted(boxes, key=lambda box: (-box.side, box.x, box.y))


def follow(candidates: list[list[Box]]) -> list[Box | None]:
    """The largest face of a clip and the same one in the other frames, None where it is not found.

    Every face starts a track, from the frame where it is seen to both ends; the track with the largest area wins.
    """
    best: list[Box | None] = [None] * len(candidates)
    best_area = 0.0
    done: set[tuple[int, Box]] = set()
    for start, boxes in enumerate(candidates):
        for box in boxes:
            if (start, box) in done:
                continue
            track: list[Box | None] = [None] * len(candidates)
            track[start] = box
            for numbers in (range(start + 1, len(candidates)), range(start - 1, -1, -1)):
                last = box
                for number in numbers:
                    near = [one for one in candidates[number] if _same(last, one)]
                    if near:
                        last = min(near, key=lambda one: (one.x - last.x) ** 2 + (one.y - last.y) ** 2)
                        track[number] = last
            done.update((number, one) for number, one in enumerate(track) if one is not None)
            area = sum(one.side**2 for one in track if one is not None)
            if area > best_area:
                best, best_area = track, area
    return best


def _same(a: Box, b: Box) -> bool:
    """Whether two boxes of frames close in time can be one face."""
    near = max(abs(a.x - b.x), abs(a.y - b.y)) < 0.6 * max(a.side, b.side)
    return near and 0.5 < a.side / b.side < 2


def union(track: list[Box | None]) -> list[Box]:
    """One box for all frames that holds the face wherever it goes."""
    boxes = [box for box in track if box is not None]
    left, right = min(box.x - box.side / 2 for box in boxes), max(box.x + box.side / 2 for box in boxes)
    top, bottom = min(box.y - box.side / 2 for box in boxes), max(box.y + box.side / 2 for box in boxes)
    return [Box((left + right) / 2, (top + bottom) / 2, max(right - left, bottom - top))] * len(track)


def smooth(track: list[Box | None]) -> list[Box]:
    """A box of constant size (the median) for every frame; its centre follows the face smoothly and bridges gaps."""
    seen = [(number, box) for number, box in enumerate(track) if box is not None]
    numbers = [number for number, _ in seen]
    side = float(np.median([box.side for _, box in seen]))
    times = np.arange(len(track))
    xs = np.interp(times, numbers, [box.x for _, box in seen])
    ys = np.interp(times, numbers, [box.y for _, box in seen])
    width = max(1.0, SMOOTH * len(track))
    weights = np.exp(-0.5 * ((times[:, None] - times[None, :]) / width) ** 2)
    weights /= weights.sum(axis=1, keepdims=True)
    return [Box(float(x), float(y), side) for x, y in zip(weights @ xs, weights @ ys, strict=True)]


def cut(frame: Frame, box: Box, params: FramesParams) -> Frame:
    """A frame cut to ``box``, which is pushed into the picture; black fills what is wider than the picture."""
    side = max(1, round(box.side))
    if params.face_box == "smooth":  # the margin ends at the border: black would wander with the box
        side = min(side, frame.width, frame.height)
    left, top = round(box.x - side / 2), round(box.y - side / 2)
    if side <= frame.width:
        left = min(max(left, 0), frame.width - side)
    if side <= frame.height:
        top = min(max(top, 0), frame.height - side)
    image = shrink(open_image(frame.jpeg).crop((left, top, left + side, top + side)), params.resize)
    return Frame(frame.index, frame.time_s, encode(image), image.width, image.height)


def _detector() -> cv2.CascadeClassifier:
    # a classifier keeps state while it works: one for every thread
    if not hasattr(_local, "detector"):
        cv2.setNumThreads(1)
        _local.detector = cv2.CascadeClassifier(str(Path(cv2.__file__).parent / "data" / CASCADE))
    return _local.detector
