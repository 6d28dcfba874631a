"""What the model sees of a window: whole frames, or the cropped face; nothing without a face."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from tgdfer.config.params import FramesParams
from tgdfer.media import images
from tgdfer.media.frame import Frame
from tgdfer.prediction.result import Faces

if TYPE_CHECKING:
    from tgdfer.media.faces import Box

Crop = Literal["auto", "face", "none"]
FILLED = 0.5
"""A face whose side is so much of the picture's longer one fills it: the picture is a face crop already."""
LOOKS = 3
"""How many times a second faces are looked for in a stream; between, the box moves on smoothly."""
EDGE = 0.1
"""Frames before the face comes or after it has gone are left out, if they are more than this share of a window."""


@dataclass(frozen=True)
class Shown:
    """Frames, not yet cropped; none without a face. ``boxes`` is None if whole pictures are shown."""

    frames: list[Frame]
    boxes: list[Box] | None
    faces: Faces | None
    """What was found; None if nobody looked."""

    def picture(self, place: int, params: FramesParams) -> Frame:
        """The frame at ``place`` as the model is to see it."""
        frame = self.frames[place]
        if self.boxes is not None:
            from tgdfer.media.faces import crop_frame

            return crop_frame(frame, self.boxes[place], params)
        if params.resize is None or min(frame.width, frame.height) <= params.resize:
            return frame
        small = images.shrink(images.open_image(frame.jpeg), params.resize)
        return replace(frame, jpeg=images.encode(small), width=small.width, height=small.height)


class Look:
    """Looks at the windows of one video in their order; at each frame once, although windows overlap.

    Args:
        pool: finds faces in several frames at once.
        params: how the frames of the training were taken.
        crop: see ``tgdfer.prediction.Predictor.predict``.
        every: look at every frame, and not ``LOOKS`` times a second.
    """

    def __init__(self, pool: Executor, params: FramesParams, crop: Crop, every: bool) -> None:
        self._pool, self._params, self._crop, self._every = pool, params, crop, every
        self._known: dict[int, list[Box]] = {}

    def __call__(self, frames: list[Frame]) -> Shown:
        """What is shown of a window; the largest face is followed."""
        if self._crop == "none":
            return Shown(frames, None, None)
        from tgdfer.media import faces

        candidates = self._find(frames)
        track = faces.follow([boxes or [] for boxes in candidates])
        looked = [place for place, boxes in enumerate(candidates) if boxes is not None]
        found = [place for place, box in enumerate(track) if box is not None]
        sides = [box.side / max(frame.width, frame.height) for box, frame in zip(track, frames, strict=True) if box]
        counts = [len(candidates[place] or []) for place in looked]
        share = round(float(np.median(sides)), 3) if sides else None
        about = Faces(len(looked), len(found), sum(count > 1 for count in counts), max(counts), share)
        if not faces.shows_face([track[place] for place in looked]):
            return Shown([], None, about)
        present = _present(len(track), found[0], found[-1])
        as_it_is = self._crop == "auto" and self._params.crop == "none" and share is not None and share >= FILLED
        return Shown(frames[present], None if as_it_is else faces.crop_boxes(track[present], self._params), about)

    def _find(self, frames: list[Frame]) -> list[list[Box] | None]:
        """The faces of each frame; None where nobody looked."""
        from tgdfer.media.faces import find

        ticks = [int(frame.time_s * LOOKS) for frame in frames]
        new = [
            frame
            for place, frame in enumerate(frames)
            if (self._every or place in (0, len(frames) - 1) or ticks[place] != ticks[place - 1])
            and frame.index not in self._known
        ]
        kept = {frame.index: self._known[frame.index] for frame in frames if frame.index in self._known}
        self._known = kept | dict(zip((frame.index for frame in new), self._pool.map(find, new), strict=True))
        return [self._known.get(frame.index) for frame in frames]


def _present(count: int, first: int, last: int) -> slice:
    """The frames from ``first``, where a face is seen, to ``last``; short gaps at both ends count as seen."""
    gap = max(2, round(EDGE * count))
    return slice(first if first > gap else 0, last + 1 if count - 1 - last > gap else count)
