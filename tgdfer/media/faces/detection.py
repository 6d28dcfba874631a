"""Find faces with five landmarks in frames, with CenterFace or a YuNet or SCRFD network of the user.

A search has two passes. The first looks at the whole frame at two scales and lets weak candidates through. The second
looks at each candidate again, turned upright and at one scale, which finds tilted and small faces, drops what is not a
face, and places the landmarks as precisely as in the frames before and after.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from tgdfer.core.errors import UserError
from tgdfer.media.faces.networks import Found, Network, load

SIDES = (832, 256)
"""The longer sides, in pixels, at which the first pass looks at a frame; large faces are found at the smaller one."""
SMALLEST_FRAME = 320
"""A frame whose longer side is shorter than this is enlarged."""
CANDIDATE = 0.04
"""The lowest score of the first pass."""
FAINT = 0.02
"""That score in a frame in which no face is found otherwise: a tilted face may be this weak."""
MOST = 8
"""The most candidates of a frame that get a second look."""
TURNS = (-30, 30)
"""A candidate that looks like no face is turned by these angles and looked at again: its landmarks may be wrong."""
UNCLEAR = 0.08
"""Only candidates with this score are turned."""
FURTHER = (0, -50, 50)
"""The angles of the candidates of a frame in which no face is found otherwise."""
MOST_FAINT = 6
"""The most candidates of such a frame."""
CLOSE_UP = 128
"""The side of the second look in pixels; the face fills half of it."""
ACCEPTED = 0.25
"""The lowest score of a face: the higher one of the two passes."""
KNOWN = 0.1
"""The lowest score of the second look where the first pass, or a frame before, has found a face."""
CERTAIN = 0.6
"""Below this score a face is doubtful, for example a drawn one."""
OVERLAP = 0.3
"""Two boxes that overlap by this share of their union show one face."""


@dataclass(frozen=True)
class Box:
    """A square in pixels: its centre and its side."""

    x: float
    y: float
    side: float


@dataclass(frozen=True, eq=False)
class Detection:
    """A face in a frame, in pixels of the frame.

    ``landmarks``: float32 [5, 2]: the eye on the left of an upright picture, the other eye, the tip of the nose, the
    corners of the mouth from left to right.
    """

    box: Box
    score: float
    landmarks: np.ndarray

    @property
    def roll(self) -> float:
        """The angle in degrees by which the face is turned clockwise in the picture."""
        eyes, mouth = self.landmarks[:2].mean(0), self.landmarks[3:].mean(0)
        return float(np.degrees(np.arctan2(eyes[0] - mouth[0], mouth[1] - eyes[1])))


class Detector:
    """A face detector: YuNet, SCRFD or CenterFace from an ONNX file (None: of this package). Threads may share it."""

    def __init__(self, weights: Path | None = None) -> None:
        self._network: Network = load(weights)

    def detect(self, frames: list[np.ndarray]) -> list[list[Detection]]:
        """The faces of each frame (uint8 [height, width, 3], RGB), the largest first."""
        all_candidates = self._first_pass(frames)
        candidates = [[one for one in found if one.score >= CANDIDATE] for found in all_candidates]
        looks = [(frame, one) for frame, found in zip(frames, candidates, strict=True) for one in found]
        faces = [_accepted(one, face) for (_, one), face in zip(looks, self.look_again(looks), strict=True)]
        missed = [number for number, face in enumerate(faces) if face is None and looks[number][1].score >= UNCLEAR]
        turned = [(looks[number][0], _turned(looks[number][1], angle)) for number in missed for angle in TURNS]
        again = iter(self.look_again(turned))
        for number in missed:
            tries = [_accepted(looks[number][1], next(again)) for _ in TURNS]
            faces[number] = max(filter(None, tries), key=lambda face: face.score, default=None)
        order = iter(faces)
        found = [[face for _ in one if (face := next(order)) is not None] for one in candidates]
        faint = [
            (number, _turned(one, angle))
            for number, kept in enumerate(found)
            if not kept
            for one in all_candidates[number][:MOST_FAINT]
            for angle in FURTHER
        ]
        for (number, one), face in zip(faint, self.look_again([(frames[n], one) for n, one in faint]), strict=True):
            if accepted := _accepted(one, face):
                found[number].append(accepted)
        return [sorted(distinct(one), key=lambda face: (-face.box.side, face.box.x, face.box.y)) for one in found]

    def look_again(self, looks: list[tuple[np.ndarray, Detection]]) -> list[Detection | None]:
        """The face that is where a candidate is, or was in a frame shortly before; None where there is none."""
        if not looks:
            return []
        ways = [_way_to_close_up(face) for _, face in looks]
        views = [
            cv2.warpAffine(frame, way, (CLOSE_UP, CLOSE_UP), flags=cv2.INTER_LINEAR)
            for (frame, _), way in zip(looks, ways, strict=True)
        ]
        found = self._network.find(views, CANDIDATE)
        return [_central(one, way) for one, way in zip(found, ways, strict=True)]

    def _first_pass(self, frames: list[np.ndarray]) -> list[list[Detection]]:
        candidates: list[list[Detection]] = [[] for _ in frames]
        for side in SIDES:
            scales = [_scale(frame, side) for frame in frames]
            sized = [_resize(frame, scale) for frame, scale in zip(frames, scales, strict=True)]
            for kept, found, scale in zip(candidates, self._network.find(sized, FAINT), scales, strict=True):
                kept += [_detection(box / scale, score, points / scale) for box, score, points in found]
        return [distinct(one, MOST) for one in candidates]


@cache
def _detector(weights: Path | None, changed: float) -> Detector:
    return Detector(weights)


_loading = threading.Lock()


def detector(weights: str | Path | None = None) -> Detector:
    """The detector with these weights, loaded once per process."""
    with _loading:
        if weights is None:
            return _detector(None, 0.0)
        path = Path(weights)
        if not path.is_file():
            raise UserError(f"{path}: no such file; frames.face_detector is the path of an ONNX file, or null")
        return _detector(path, path.stat().st_mtime)


def distinct(faces: list[Detection], most: int | None = None) -> list[Detection]:
    """The ``most`` best of ``faces`` without those that overlap one with a higher score, highest score first."""
    kept: list[Detection] = []
    for face in sorted(faces, key=lambda face: -face.score):
        if len(kept) == most:
            break
        if all(overlap(face.box, other.box) < OVERLAP for other in kept):
            kept.append(face)
    return kept


def overlap(a: Box, b: Box) -> float:
    """The intersection of two boxes as a share of their union."""
    width = min(a.x + a.side / 2, b.x + b.side / 2) - max(a.x - a.side / 2, b.x - b.side / 2)
    height = min(a.y + a.side / 2, b.y + b.side / 2) - max(a.y - a.side / 2, b.y - b.side / 2)
    common = max(0.0, width) * max(0.0, height)
    return common / (a.side**2 + b.side**2 - common)


def _accepted(candidate: Detection, face: Detection | None) -> Detection | None:
    """The face of the second look with the better score of both, if that is enough."""
    if face is None or (score := max(face.score, candidate.score)) < ACCEPTED:
        return None
    return replace(face, score=score)


def _turned(face: Detection, angle: float) -> Detection:
    turn = cv2.getRotationMatrix2D((face.box.x, face.box.y), angle, 1)
    return replace(face, landmarks=face.landmarks @ turn[:, :2].T + turn[:, 2])


def _detection(box: np.ndarray, score: float, points: np.ndarray) -> Detection:
    x, y, width, height = map(float, box)
    return Detection(Box(x + width / 2, y + height / 2, max(width, height)), float(score), points.astype(np.float32))


def _scale(frame: np.ndarray, side: int) -> float:
    longer = max(frame.shape[:2])
    return min(side / longer, max(1.0, SMALLEST_FRAME / longer))


def _resize(frame: np.ndarray, scale: float) -> np.ndarray:
    if scale == 1:
        return frame
    height, width = (max(1, round(side * scale)) for side in frame.shape[:2])
    # above a half, no pixel is skipped by linear interpolation, which is five times faster
    return cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA if scale < 0.5 else cv2.INTER_LINEAR)


def _way_to_close_up(face: Detection) -> np.ndarray:
    """The affine map [2, 3] from the frame to a view in which the face is upright and fills half of the side."""
    way = cv2.getRotationMatrix2D((face.box.x, face.box.y), face.roll, CLOSE_UP / 2 / face.box.side)
    way[:, 2] += CLOSE_UP / 2 - np.array([face.box.x, face.box.y])
    return way


def _central(found: list[Found], way: np.ndarray) -> Detection | None:
    """The best face near the centre of a close-up, back in pixels of the frame."""
    near = [
        one
        for one in found
        if one[1] >= KNOWN and np.abs(one[0][:2] + one[0][2:] / 2 - CLOSE_UP / 2).max() < CLOSE_UP / 4
    ]
    if not near:
        return None
    (left, top, width, height), score, points = max(near, key=lambda one: one[1])
    back = cv2.invertAffineTransform(way)
    x, y = back @ np.array([left + width / 2, top + height / 2, 1.0])
    side = float(max(width, height) * np.hypot(back[0, 0], back[0, 1]))
    landmarks = (points @ back[:, :2].T + back[:, 2]).astype(np.float32)
    return Detection(Box(float(x), float(y), side), float(score), landmarks)
