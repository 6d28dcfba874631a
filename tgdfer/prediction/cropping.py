"""What the model sees of a window: its frames unchanged or the face cropped; nothing where there is no face."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from tgdfer.config.params import FramesParams
from tgdfer.media import images
from tgdfer.media.frame import Frame
from tgdfer.prediction.result import FaceCounts

if TYPE_CHECKING:
    from tgdfer.media.faces import Box

Crop = Literal["auto", "face", "none"]
FILLED = 0.5
"""A face whose side is this share of the frame's longer side fills the frame: it is a face crop already."""
DETECTIONS_PER_S = 3
"""How often faces are detected in a stream; in between, the box moves on smoothly."""
EDGE = 0.1
"""Frames before a face appears or after it is gone are left out if they are more than this share of a window."""


@dataclass(frozen=True)
class ModelInput:
    """The frames of a window that the model is to see, not yet cropped; none where there is no face."""

    frames: list[Frame]
    boxes: list[Box] | None
    """Where to crop each frame; None to leave them whole."""
    faces: FaceCounts | None
    """What the detection found; None if it did not run."""

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


class FaceCropper:
    """Follows the largest face in the windows of one video, in order; windows that overlap share detections.

    Args:
        pool: detects faces in several frames at once.
        params: how the frames of the training were extracted.
        crop: see ``tgdfer.prediction.Predictor.predict``.
        every: detect in every frame, not ``DETECTIONS_PER_S`` times a second.
    """

    def __init__(self, pool: Executor, params: FramesParams, crop: Crop, every: bool) -> None:
        self._pool, self._params, self._crop, self._every = pool, params, crop, every
        self._known: dict[int, list[Box]] = {}

    def __call__(self, frames: list[Frame]) -> ModelInput:
        """The input for a window with these frames."""
        if self._crop == "none":
            return ModelInput(frames, None, None)
        from tgdfer.media import faces

        detections = self._detect(frames)
        track = faces.follow([boxes or [] for boxes in detections])
        searched = [place for place, boxes in enumerate(detections) if boxes is not None]
        found = [place for place, box in enumerate(track) if box is not None]
        sides = [box.side / max(frame.width, frame.height) for box, frame in zip(track, frames, strict=True) if box]
        counts = [len(detections[place] or []) for place in searched]
        share = round(float(np.median(sides)), 3) if sides else None
        about = FaceCounts(len(searched), len(found), sum(count > 1 for count in counts), max(counts), share)
        if share is None or not faces.shows_face([track[place] for place in searched]):
            return ModelInput([], None, about)
        present = _present(len(track), found[0], found[-1])
        leave_whole = self._crop == "auto" and self._params.crop == "none" and share >= FILLED
        return ModelInput(
            frames[present], None if leave_whole else faces.crop_boxes(track[present], self._params), about
        )

    def _detect(self, frames: list[Frame]) -> list[list[Box] | None]:
        """The faces of each frame; None for frames that were not searched."""
        from tgdfer.media.faces import find

        ticks = [int(frame.time_s * DETECTIONS_PER_S) for frame in frames]
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
    """The frames from the ``first`` to the ``last`` that show the face; short gaps at both ends are included."""
    gap = max(2, round(EDGE * count))
    return slice(first if first > gap else 0, last + 1 if count - 1 - last > gap else count)
