"""Face crops of a clip: the largest face of each shot, in a box that moves smoothly, or aligned by its landmarks."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from tgdfer.config.data import FramesParams
from tgdfer.media.faces.alignment import align, smooth, smoothing
from tgdfer.media.faces.detection import Box, detector
from tgdfer.media.faces.tracking import Track, Tracker
from tgdfer.media.frame import Frame, UnusableError
from tgdfer.media.images import encode, open_image, shrink

MIN_SHARE = 0.1
"""A clip shows a face if the face is found in this share of the frames, and in at least two if there are several."""
SMOOTHING = 0.1
"""The width of the smoothing of a box's path, as a share of the clip's frames."""
Place = Box | np.ndarray
"""Where a face is cut out: a box, or landmarks [5, 2] to align."""


@dataclass(frozen=True)
class FacesFound:
    """In how many frames of a clip a face was found, and the medians of its side in pixels and of its score."""

    with_face: int
    frames: int
    side: float | None = None
    score: float | None = None


def crop_clip(frames: list[Frame], params: FramesParams) -> tuple[list[Frame], FacesFound]:
    """The frames of a clip, cropped to its face, and what was found.

    The largest face of each shot is taken; shots without a face are left out if another shot has one.

    Raises:
        UnusableError: there is no face, and ``params.no_face`` is reject.
    """
    tracker = Tracker(detector(params.face_detector))
    for frame in frames:
        tracker.add(frame.index, frame.time_s, decode(frame))
    shots: list[list[Frame]] = [[] for _ in range(len(tracker.cuts) + 1)]
    for frame in frames:
        shots[bisect_right(tracker.cuts, frame.index)].append(frame)
    chosen = [(shot, largest(tracker.tracks, shot)) for shot in shots]
    faces = [face for _, track in chosen if track for face in track.faces.values()]
    if shows_face(len(faces), len(frames)):
        cropped = [
            crop_frame(frame, place, params)
            for shot, track in chosen
            if track
            for frame, place in zip(shot, places(track, shot, params), strict=True)
        ]
        side = round(float(np.median([face.box.side for face in faces])), 1)
        score = round(float(np.median([face.score for face in faces])), 3)
        return cropped, FacesFound(len(faces), len(frames), side, score)
    if params.no_face == "reject":
        found = f"a face in only {len(faces)} of" if faces else "no face in"
        raise UnusableError(f"{found} {len(frames)} frames")
    centres = [Box(frame.width / 2, frame.height / 2, min(frame.width, frame.height)) for frame in frames]
    cropped = [crop_frame(frame, box, params) for frame, box in zip(frames, centres, strict=True)]
    return cropped, FacesFound(0, len(frames))


def decode(frame: Frame) -> np.ndarray:
    """The pixels of a frame: uint8 [height, width, 3], RGB."""
    mode = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    image = cv2.imdecode(np.frombuffer(frame.jpeg, np.uint8), mode)
    if image is None:
        raise UnusableError(f"frame {frame.index} cannot be decoded")
    return image


def largest(tracks: list[Track], frames: list[Frame]) -> Track | None:
    """The track with the largest area that begins in a shot."""
    numbers = {frame.index for frame in frames}
    inside = [track for track in tracks if not numbers.isdisjoint(track.faces)]
    return max(inside, key=lambda track: track.area, default=None)


def shows_face(found: int, searched: int) -> bool:
    """Whether a face that was found in so many of the searched frames is more than a false detection."""
    return found >= max(min(2, searched), 1, MIN_SHARE * searched)


def places(track: Track, frames: list[Frame], params: FramesParams) -> list[Place]:
    """Where to cut the face of ``track`` out of each frame; before, after and between detections it is bridged."""
    seen = [frame for frame in frames if frame.index in track.faces]
    if params.align == "similarity":
        landmarks = [track.faces[frame.index].landmarks for frame in seen]
        return list(smooth(landmarks, [frame.time_s for frame in seen], [frame.time_s for frame in frames]))
    boxes = [track.faces[frame.index].box if frame.index in track.faces else None for frame in frames]
    path = union(boxes) if params.face_box == "union" else smooth_boxes(boxes)
    return [Box(box.x, box.y, box.side * (1 + 2 * params.face_margin)) for box in path]


def union(track: list[Box | None]) -> list[Box]:
    """One box for all frames that contains the face wherever it goes."""
    boxes = [box for box in track if box is not None]
    left, right = min(box.x - box.side / 2 for box in boxes), max(box.x + box.side / 2 for box in boxes)
    top, bottom = min(box.y - box.side / 2 for box in boxes), max(box.y + box.side / 2 for box in boxes)
    return [Box((left + right) / 2, (top + bottom) / 2, max(right - left, bottom - top))] * len(track)


def smooth_boxes(track: list[Box | None]) -> list[Box]:
    """A box of constant size (the median) for every frame; its centre follows the face smoothly and bridges gaps."""
    found = [(number, box) for number, box in enumerate(track) if box is not None]
    numbers = [number for number, _ in found]
    side = float(np.median([box.side for _, box in found]))
    times = np.arange(len(track))
    xs = np.interp(times, numbers, [box.x for _, box in found])
    ys = np.interp(times, numbers, [box.y for _, box in found])
    weights = smoothing(times, max(1.0, SMOOTHING * len(track)))
    return [Box(float(x), float(y), side) for x, y in zip(weights @ xs, weights @ ys, strict=True)]


def crop_frame(frame: Frame, place: Place, params: FramesParams) -> Frame:
    """``frame`` cut to a box or aligned by landmarks; its size is as ``params`` say.

    A box is moved inside the frame; black fills what is larger than the frame.
    """
    if isinstance(place, Box):
        image = _cut(open_image(frame.jpeg), place, params)
    else:
        image = Image.fromarray(align(decode(frame), place, params.face_size, params.face_margin))
    return Frame(frame.index, frame.time_s, encode(image), image.width, image.height)


def _cut(image: Image.Image, box: Box, params: FramesParams) -> Image.Image:
    side = max(1, round(box.side))
    if params.face_box == "smooth":  # no margin beyond the frame's border: black would move with the box
        side = min(side, image.width, image.height)
    left, top = round(box.x - side / 2), round(box.y - side / 2)
    if side <= image.width:
        left = min(max(left, 0), image.width - side)
    if side <= image.height:
        top = min(max(top, 0), image.height - side)
    return shrink(image.crop((left, top, left + side, top + side)), params.resize)
