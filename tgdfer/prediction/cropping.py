"""What the model sees of a window: whole frames, or the face of each person in it; nothing where there is no face."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from tgdfer.config.data import FramesParams
from tgdfer.media import images
from tgdfer.media.frame import Frame
from tgdfer.prediction.result import FaceBox, FaceCounts, Interval

if TYPE_CHECKING:
    from tgdfer.media.faces.crops import Place
    from tgdfer.media.faces.tracking import Track

Crop = Literal["auto", "face", "none"]
Persons = Literal["largest", "all"]
FILLED = 0.5
"""A face whose side is this share of the frame's longer side fills the frame: it is a face crop already."""
LOOKS_PER_S = 3
"""How often faces are looked for in a stream; in between, the box moves on smoothly."""
SEARCH_S = 1.0
"""How many seconds may pass in a stream until faces are looked for where none was."""
EDGE = 0.1
"""Frames before a face appears or after it is gone are left out if they are more than this share of a window."""
OVERTAKES = 1.5
"""Of several persons, another one is followed once its face has covered this many times the area so far."""


@dataclass(frozen=True)
class ModelInput:
    """The frames of a window that the model is to see of one person, not yet cropped."""

    person: int
    """From 0, in the order of appearance."""
    frames: list[Frame]
    places: list[Place] | None
    """Where to crop each frame; None to leave them whole."""
    faces: FaceCounts | None = None
    """What was found of the face; None if nobody looked for faces."""
    boxes: list[FaceBox] = field(default_factory=list)
    """Where the face was found."""

    def picture(self, place: int, params: FramesParams) -> Frame:
        """The frame at ``place`` as the model is to see it."""
        frame = self.frames[place]
        if self.places is not None:
            from tgdfer.media.faces.crops import crop_frame

            return crop_frame(frame, self.places[place], params)
        if params.resize is None or min(frame.width, frame.height) <= params.resize:
            return frame
        small = images.shrink(images.open_image(frame.jpeg), params.resize)
        return replace(frame, jpeg=images.encode(small), width=small.width, height=small.height)


class PersonCropper:
    """Follows the faces of one video through its windows, in order; windows that overlap share what was found.

    Args:
        params: how the frames of the training were extracted.
        crop: see ``tgdfer.prediction.Predictor.predict``.
        persons: whether every person of a window is wanted, or only one: the largest so far.
        every: look for faces in every frame, not ``LOOKS_PER_S`` times a second.
    """

    def __init__(self, params: FramesParams, crop: Crop, persons: Persons, every: bool) -> None:
        self._params, self._crop, self._persons, self._every = params, crop, persons, every
        self.areas: dict[int, float] = {}
        """For each person that was followed, the area of the face, as a share of the frame, summed over the looks."""
        self.seen: dict[int, Interval] = {}
        """For each person whose face was in enough frames of a window, when it was found first and last."""
        self._looked: set[int] = set()
        self._last = -1
        self._tick = -1
        self._leader = -1
        if crop != "none":
            from tgdfer.media.faces.detection import detector
            from tgdfer.media.faces.tracking import Tracker

            self._tracker = Tracker(detector(params.face_detector), *(() if every else (SEARCH_S,)))

    def __call__(self, frames: list[Frame]) -> list[ModelInput]:
        """The inputs for a window with these frames: one for each person that is followed."""
        if self._crop == "none":
            return [ModelInput(0, frames, None)]
        from tgdfer.media.faces import crops

        self._look(frames)
        searched = [frame for frame in frames if frame.index in self._looked]
        inputs = []
        for track in self._tracker.tracks:
            found = [frame for frame in searched if frame.index in track.faces]
            if crops.shows_face(len(found), len(searched)):
                first, _ = self.seen.setdefault(track.person, (found[0].time_s, 0.0))
                self.seen[track.person] = first, found[-1].time_s
                inputs.append(self._input(track, frames, found, len(searched)))
        inputs.sort(key=lambda one: -self.areas[one.person])
        if self._persons == "largest" and inputs:
            staying = next((one for one in inputs if one.person == self._leader), inputs[0])
            overtaken = self.areas[inputs[0].person] > OVERTAKES * self.areas[staying.person]
            inputs = [inputs[0] if overtaken else staying]
            self._leader = inputs[0].person
        return inputs

    def _look(self, frames: list[Frame]) -> None:
        """Look for faces in the frames that no window before had, and forget those before this window."""
        from tgdfer.media.faces.crops import decode

        for frame in frames:
            tick = int(frame.time_s * LOOKS_PER_S)
            if frame.index > self._last and (self._every or tick != self._tick or frame is frames[-1]):
                self._tick, pixels = tick, frame.width * frame.height
                for track, face in self._tracker.add(frame.index, frame.time_s, decode(frame)):
                    self.areas[track.person] = self.areas.get(track.person, 0.0) + face.box.side**2 / pixels
                self._looked.add(frame.index)
        self._last = max(self._last, frames[-1].index)
        self._looked = {number for number in self._looked if number >= frames[0].index}
        self._tracker.forget_before(frames[0].index)

    def _input(self, track: Track, frames: list[Frame], found: list[Frame], searched: int) -> ModelInput:
        from tgdfer.media.faces.crops import places

        seen = [(frame, track.faces[frame.index]) for frame in found]
        boxes = [
            FaceBox(
                frame.time_s,
                (face.box.x - face.box.side / 2) / frame.width,
                (face.box.y - face.box.side / 2) / frame.height,
                face.box.side / frame.width,
                face.box.side / frame.height,
                face.score,
            )
            for frame, face in seen
        ]
        share = float(np.median([face.box.side / max(frame.width, frame.height) for frame, face in seen]))
        score = float(np.median([face.score for _, face in seen]))
        about = FaceCounts(searched, len(found), round(share, 3), round(score, 3))
        shown = frames[self._present(frames, found)]
        leave_whole = self._crop == "auto" and self._params.crop == "none" and share >= FILLED
        where = None if leave_whole else places(track, shown, self._params)
        return ModelInput(track.person, shown, where, about, boxes)

    def _present(self, frames: list[Frame], found: list[Frame]) -> slice:
        """The frames from the first to the last with the face; short gaps at both ends too, but no cut."""
        first, last = frames.index(found[0]), frames.index(found[-1])
        gap = max(2, round(EDGE * len(frames)))
        cuts = self._tracker.cuts
        before = first > gap or any(frames[0].index < cut <= found[0].index for cut in cuts)
        after = len(frames) - 1 - last > gap or any(found[-1].index < cut <= frames[-1].index for cut in cuts)
        return slice(first if before else 0, last + 1 if after else len(frames))
