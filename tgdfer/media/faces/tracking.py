"""Follow faces through a clip as persons: one track for each, which ends at a cut or when the face stays away.

The whole frame is searched only now and then; in between, each face is looked for where it was.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from scipy.optimize import linear_sum_assignment

from tgdfer.media.faces.alignment import align
from tgdfer.media.faces.detection import Box, Detection, Detector

SEARCH_S = 0.5
"""The most seconds between two searches of whole frames."""
GAP_S = 1.0
"""A track ends if its face has not been found for this many seconds (at least ``GAP_FRAMES`` frames)."""
GAP_FRAMES = 3
REACH = 0.6
"""How far a face moves between two frames at most, in sides of its box, from where its motion leads."""
CUT = 28.0
"""Two frames with a cut between them differ by this much on average (of 255) in small copies."""
SMALL = (32, 18)
STILL = 2.0
"""A face whose pixels differ by less than this on average (of 255) has not moved: it stays where it was found."""
STILL_SIDE = 48
"""The side of the aligned face by which movement is seen."""
LOOK = 24
"""The side of the small aligned face by which two persons are distinguished."""


@dataclass(eq=False)
class Track:
    """A person between two cuts: ``faces`` by frame number; ``person`` counts from 0 in order of appearance."""

    person: int
    faces: dict[int, Detection] = field(default_factory=dict)

    @property
    def area(self) -> float:
        """The sum of the areas of the face over the frames."""
        return sum(face.box.side**2 for face in self.faces.values())


@dataclass(eq=False)
class _Active:
    """A track that may go on, with the last that was seen of it."""

    track: Track
    face: Detection
    time_s: float
    frames_missed: int
    speed: np.ndarray
    look: np.ndarray
    pixels: np.ndarray
    """The aligned face when it was found, int16 [STILL_SIDE, STILL_SIDE, 3]."""

    def is_still(self, image: np.ndarray) -> bool:
        """Whether the face is in the same place as when it was found."""
        return float(np.abs(_pixels(image, self.face) - self.pixels).mean()) < STILL

    def expected(self, time_s: float) -> Detection:
        """Where the face should be by now, if it went on as it moved."""
        moved = np.clip(self.speed * (time_s - self.time_s), -self.face.box.side / 2, self.face.box.side / 2)
        box = Box(self.face.box.x + float(moved[0]), self.face.box.y + float(moved[1]), self.face.box.side)
        return Detection(box, self.face.score, self.face.landmarks + moved.astype(np.float32))


class Tracker:
    """Finds the faces of the frames of one video or clip, in order, and makes tracks of them.

    Between two searches of whole frames are at most ``search_s`` seconds; 0 searches every frame.
    """

    def __init__(self, detector: Detector, search_s: float = SEARCH_S) -> None:
        self._detector, self._search_s = detector, search_s
        self._active: list[_Active] = []
        self._small: np.ndarray | None = None
        self._searched_s, self._alone_s = -np.inf, np.inf
        self.tracks: list[Track] = []
        """All tracks so far."""
        self._persons = 0
        self.cuts: list[int] = []
        """The numbers of the frames that follow a cut."""

    def add(self, frame: int, time_s: float, image: np.ndarray) -> list[tuple[Track, Detection]]:
        """Look at the next frame (uint8 [height, width, 3], RGB): the faces in it with their tracks."""
        self._alone_s = min(self._alone_s, time_s)
        if self._is_cut(image):
            self.cuts.append(frame)
            self._active, self._alone_s = [], time_s
        self._active = [one for one in self._active if time_s - one.time_s <= GAP_S or one.frames_missed < GAP_FRAMES]
        if not self._active and time_s - self._searched_s < min(self._search_s, self._searched_s - self._alone_s):
            return []  # the longer nobody has been found, the longer is the time to the next search
        seen = self._follow(time_s, image)
        if seen is None:
            seen = self._search(time_s, image)
        if seen:
            self._alone_s = time_s
        for active, face in seen:
            active.track.faces[frame] = face
        return [(active.track, face) for active, face in seen]

    def forget_before(self, frame: int) -> list[Track]:
        """Drop what was found before a frame, so that memory does not grow with a video; returns the tracks left."""
        for track in self.tracks:
            track.faces = {number: face for number, face in track.faces.items() if number >= frame}
        active = [one.track for one in self._active]
        self.tracks = [track for track in self.tracks if track.faces or track in active]
        return self.tracks

    def _is_cut(self, image: np.ndarray) -> bool:
        small = cv2.resize(image, SMALL, interpolation=cv2.INTER_AREA).astype(np.int16)
        before, self._small = self._small, small
        return before is not None and float(np.abs(small - before).mean()) > CUT

    def _follow(self, time_s: float, image: np.ndarray) -> list[tuple[_Active, Detection]] | None:
        """The faces where they were a frame ago; None if a search is due, or a face is lost or meets another."""
        if not self._active or time_s - self._searched_s >= self._search_s:
            return None
        moved = [one for one in self._active if one.frames_missed or not one.is_still(image)]
        again = iter(self._detector.look_again([(image, one.expected(time_s)) for one in moved]))
        faces = [next(again) if one in moved else one.face for one in self._active]
        found = [face for face in faces if face is not None]
        sides = [max(face.box.side, 1.0) for face in found]
        meet = any(
            max(abs(a.box.x - b.box.x), abs(a.box.y - b.box.y)) < max(sides)
            for number, a in enumerate(found)
            for b in found[:number]
        )
        if len(found) < len(faces) or meet:
            return None
        return [
            (active, self._go_on(active, face, time_s, image)) for active, face in zip(self._active, found, strict=True)
        ]

    def _search(self, time_s: float, image: np.ndarray) -> list[tuple[_Active, Detection]]:
        """The faces of the whole frame, each with the track that it continues or begins."""
        self._searched_s = time_s
        (faces,) = self._detector.detect([image])
        looks = [look(image, face) for face in faces]
        costs = np.array(
            [[_cost(one, face, seen, time_s) for face, seen in zip(faces, looks, strict=True)] for one in self._active]
        )
        owners: dict[int, _Active] = {}
        if costs.size:
            for row, column in zip(*linear_sum_assignment(np.minimum(costs, 1e6)), strict=True):
                if np.isfinite(costs[row, column]):
                    owners[int(column)] = self._active[row]
        for active in self._active:
            if active not in owners.values():
                active.frames_missed += 1
        seen: list[tuple[_Active, Detection]] = []
        for number, face in enumerate(faces):
            owner = owners.get(number)
            if owner is None:
                self.tracks.append(Track(self._persons))
                self._persons += 1
                owner = _Active(self.tracks[-1], face, time_s, 0, np.zeros(2), looks[number], _pixels(image, face))
                self._active.append(owner)
                seen.append((owner, face))
            else:
                seen.append((owner, self._go_on(owner, face, time_s, image)))
        return seen

    def _go_on(self, active: _Active, face: Detection, time_s: float, image: np.ndarray) -> Detection:
        if active.is_still(image):
            face = active.face  # another detection would only add noise
        else:
            active.pixels, active.look = _pixels(image, face), 0.8 * active.look + 0.2 * look(image, face)
        step = np.array([face.box.x - active.face.box.x, face.box.y - active.face.box.y])
        active.speed = 0.5 * active.speed + 0.5 * step / max(time_s - active.time_s, 1e-3)
        active.face, active.time_s, active.frames_missed = face, time_s, 0
        return face


def _pixels(image: np.ndarray, face: Detection) -> np.ndarray:
    return align(image, face.landmarks, STILL_SIDE, 0.3).astype(np.int16)


def look(image: np.ndarray, face: Detection) -> np.ndarray:
    """What a person looks like: a small aligned face with zero mean and unit length, float32 [LOOK * LOOK * 3]."""
    small = align(image, face.landmarks, LOOK, 0.3).astype(np.float32).ravel()
    small -= small.mean()
    return small / max(1e-6, float(np.linalg.norm(small)))


def _cost(active: _Active, face: Detection, seen: np.ndarray, time_s: float) -> float:
    """How badly a face fits a track; infinite if it is too far away or of another size."""
    expected = active.expected(time_s).box
    larger = max(active.face.box.side, face.box.side)
    away = max(abs(expected.x - face.box.x), abs(expected.y - face.box.y)) / larger
    if away > REACH or not 0.5 < face.box.side / active.face.box.side < 2:
        return np.inf
    return away + 1.0 - float(active.look @ seen)
