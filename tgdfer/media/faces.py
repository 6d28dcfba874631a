"""Face crops: one face is followed through a clip, in a square box of constant size that moves smoothly.

OpenCV's Haar cascade finds frontal faces without a download or a GPU. Data sets with aligned faces do not need this.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from tgdfer.config.params import FramesParams
from tgdfer.media.frame import Frame, UnusableError
from tgdfer.media.images import encode, open_image, shrink

CASCADE = "haarcascade_frontalface_alt2.xml"
DETECTION_SIDE = 240
"""Faces are detected in a copy whose shorter side has at most this many pixels."""
SMALLEST = 0.1
"""The side of the smallest face, as a share of the frame's shorter side."""
MIN_SHARE = 0.1
"""A clip shows a face if the face is found in this share of the frames, and in at least two if there are several."""
SMOOTHING = 0.1
"""The width of the smoothing of a box's path, as a share of the clip's frames."""
_REDUCED = {
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
    1: cv2.IMREAD_GRAYSCALE,
}
_local = threading.local()


@dataclass(frozen=True)
class Box:
    """A square in pixels: its centre and its side."""

    x: float
    y: float
    side: float


def crop_clip(frames: list[Frame], params: FramesParams) -> tuple[list[Frame], int]:
    """The frames of a clip, cropped to its face, and the number of frames in which the face was found.

    Raises:
        UnusableError: there is no face, and ``params.no_face`` is reject.
    """
    track = follow([find(frame) for frame in frames])
    if shows_face(track):
        boxes, found = crop_boxes(track, params), sum(box is not None for box in track)
    elif params.no_face == "reject":
        raise UnusableError(f"no face in {len(frames)} frames")
    else:
        centres = [(frame.width / 2, frame.height / 2, min(frame.width, frame.height)) for frame in frames]
        boxes, found = [Box(*centre) for centre in centres], 0
    return [crop_frame(frame, box, params) for frame, box in zip(frames, boxes, strict=True)], found


def find(frame: Frame) -> list[Box]:
    """All faces of a frame, the largest first, in pixels of the frame."""
    # decoding a JPEG at a half, a quarter or an eighth of its size is much faster
    shorter = min(frame.width, frame.height)
    factor = next(factor for factor in _REDUCED if factor == 1 or shorter / factor >= DETECTION_SIDE)
    mode = _REDUCED[factor] | cv2.IMREAD_IGNORE_ORIENTATION
    grey = cv2.imdecode(np.frombuffer(frame.jpeg, np.uint8), mode)
    if grey is None:
        return []
    scale = DETECTION_SIDE / min(grey.shape)
    if scale < 1:
        grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    smallest = max(20, round(SMALLEST * min(grey.shape)))
    faces = _detector().detectMultiScale(cv2.equalizeHist(grey), 1.1, 4, minSize=(smallest, smallest))
    unit = frame.width / grey.shape[1]
    boxes = [Box((x + w / 2) * unit, (y + h / 2) * unit, max(w, h) * unit) for x, y, w, h in faces]
    return sorted(boxes, key=lambda box: (-box.side, box.x, box.y))


def _detector() -> cv2.CascadeClassifier:
    # a classifier keeps state while it works, so every thread has its own
    if not hasattr(_local, "detector"):
        cv2.setNumThreads(1)
        _local.detector = cv2.CascadeClassifier(str(Path(cv2.__file__).parent / "data" / CASCADE))
    return _local.detector


def follow(candidates: list[list[Box]]) -> list[Box | None]:
    """The largest face of a clip, followed through its frames: its box in each, None where it is not found.

    Every face starts a track that is continued to both ends of the clip; the track with the largest area wins.
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
                    near = [candidate for candidate in candidates[number] if _same_face(last, candidate)]
                    if near:
                        last = min(near, key=lambda other: (other.x - last.x) ** 2 + (other.y - last.y) ** 2)
                        track[number] = last
            found = [(number, followed) for number, followed in enumerate(track) if followed is not None]
            done.update(found)
            area = sum(followed.side**2 for _, followed in found)
            if area > best_area:
                best, best_area = track, area
    return best


def _same_face(a: Box, b: Box) -> bool:
    """Whether the boxes of two frames close in time can show one face."""
    near = max(abs(a.x - b.x), abs(a.y - b.y)) < 0.6 * max(a.side, b.side)
    return near and 0.5 < a.side / b.side < 2


def shows_face(track: list[Box | None]) -> bool:
    """Whether the face of ``track`` was found often enough to be more than a false detection."""
    found = sum(box is not None for box in track)
    return found >= max(min(2, len(track)), 1, MIN_SHARE * len(track))


def crop_boxes(track: list[Box | None], params: FramesParams) -> list[Box]:
    """The box to crop in every frame of a clip with a face, the margin included."""
    path = union(track) if params.face_box == "union" else smooth(track)
    return [Box(box.x, box.y, box.side * (1 + 2 * params.face_margin)) for box in path]


def union(track: list[Box | None]) -> list[Box]:
    """One box for all frames that contains the face wherever it goes."""
    boxes = [box for box in track if box is not None]
    left, right = min(box.x - box.side / 2 for box in boxes), max(box.x + box.side / 2 for box in boxes)
    top, bottom = min(box.y - box.side / 2 for box in boxes), max(box.y + box.side / 2 for box in boxes)
    return [Box((left + right) / 2, (top + bottom) / 2, max(right - left, bottom - top))] * len(track)


def smooth(track: list[Box | None]) -> list[Box]:
    """A box of constant size (the median) for every frame; its centre follows the face smoothly and bridges gaps."""
    found = [(number, box) for number, box in enumerate(track) if box is not None]
    numbers = [number for number, _ in found]
    side = float(np.median([box.side for _, box in found]))
    times = np.arange(len(track))
    xs = np.interp(times, numbers, [box.x for _, box in found])
    ys = np.interp(times, numbers, [box.y for _, box in found])
    width = max(1.0, SMOOTHING * len(track))
    weights = np.exp(-0.5 * ((times[:, None] - times[None, :]) / width) ** 2)
    weights /= weights.sum(axis=1, keepdims=True)
    return [Box(float(x), float(y), side) for x, y in zip(weights @ xs, weights @ ys, strict=True)]


def crop_frame(frame: Frame, box: Box, params: FramesParams) -> Frame:
    """``frame`` cropped to ``box``, which is moved inside the frame; black fills what is larger than the frame."""
    side = max(1, round(box.side))
    if params.face_box == "smooth":  # no margin beyond the frame's border: black would move with the box
        side = min(side, frame.width, frame.height)
    left, top = round(box.x - side / 2), round(box.y - side / 2)
    if side <= frame.width:
        left = min(max(left, 0), frame.width - side)
    if side <= frame.height:
        top = min(max(top, 0), frame.height - side)
    image = shrink(open_image(frame.jpeg).crop((left, top, left + side, top + side)), params.resize)
    return Frame(frame.index, frame.time_s, encode(image), image.width, image.height)
