"""The prediction for a video, as text and as JSON, with the notice that says what it is not."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import astuple, dataclass, field
from typing import Any

import numpy as np

from tgdfer.media.faces.detection import CERTAIN

NOTICE = (
    "A model's guess at how onlookers would label what the face does; it is not what the person feels, and no ground "
    "for a decision about anyone."
)
NO_FACE = "no face found"
ANOTHER = "another person was larger"
EDGE = 0.15
"""The share of a window at each end, at least one frame's share, that may lack frames and still counts as seen."""


Interval = tuple[float, float]
"""Start and end in seconds."""


def united(intervals: Iterable[Interval]) -> list[Interval]:
    """The intervals in order, those that touch as one."""
    made: list[Interval] = []
    for begin, end in sorted(intervals):
        if made and begin <= made[-1][1]:
            begin, end = made[-1][0], max(end, made.pop()[1])
        made.append((begin, end))
    return made


def printable(text: object) -> str:
    """``text`` for a file or a terminal: characters that cannot be printed, such as line breaks, are escaped."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in str(text))


def entropy(probabilities: Mapping[str, float]) -> float | None:
    """The entropy as a share of its maximum: 0 (one class) to 1 (all classes alike); None without probabilities."""
    if len(probabilities) < 2:
        return None if not probabilities else 0.0
    value = -sum(p * math.log(p) for p in probabilities.values() if p > 0)
    return min(1.0, max(0.0, value / math.log(len(probabilities))))


def most_likely(probabilities: Mapping[str, float]) -> str | None:
    """The class of the largest probability, the first of several; None without probabilities."""
    return max(probabilities, key=probabilities.__getitem__) if probabilities else None


@dataclass(frozen=True, slots=True)
class FrameScore:
    """A frame that the model saw."""

    index: int
    """Its number in the video, from 0."""
    time_s: float
    relevance: float
    """Its share in the decision; the shares of a window add up to 1."""
    probabilities: dict[str, float]
    """The model's comparison of this one frame with the classes, for the curve of a single clip. Empty if the video has
    several windows, whose probabilities are the curve."""


@dataclass(frozen=True)
class FaceCounts:
    """What was found of a face in the frames of a window that were searched."""

    frames: int
    with_face: int
    share: float
    """The side of the face as a share of the frame's longer side (median)."""
    score: float
    """The detector's confidence, 0 to 1 (median)."""


class WithProbabilities:
    """The most likely class and the uncertainty of ``probabilities``, which are empty without a face."""

    probabilities: dict[str, float]

    @property
    def prediction(self) -> str | None:
        """The most likely class; None without a face."""
        return most_likely(self.probabilities)

    @property
    def entropy(self) -> float | None:
        """The uncertainty, 0 to 1; None without a face."""
        return entropy(self.probabilities)

    @property
    def summary(self) -> str:
        """The three most likely classes and the uncertainty, in words; there must be probabilities."""
        first = sorted(self.probabilities.items(), key=lambda item: -item[1])[:3]
        text = ", ".join(f"{name} {100 * value:.0f} %" for name, value in first)
        return f"{text}; uncertainty {self.entropy:.2f} of 1"


@dataclass(frozen=True)
class Window(WithProbabilities):
    """A part of a video that the model saw as one clip; ``reason`` says why there are no ``probabilities``."""

    start_s: float
    end_s: float
    probabilities: dict[str, float]
    frames: list[FrameScore]
    faces: FaceCounts | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Thumbnail:
    """A small picture of a frame, as the model saw it: JPEG bytes."""

    time_s: float
    jpeg: bytes
    decisive: bool = False
    """Whether it is one of the most relevant frames."""


@dataclass(frozen=True, slots=True)
class FaceBox:
    """Where a face is: its left upper corner and its size, as shares of the frame's width and height."""

    time_s: float
    left: float
    top: float
    width: float
    height: float
    score: float | None
    """The detector's confidence, 0 to 1."""


@dataclass(frozen=True)
class Person(WithProbabilities):
    """A face that was followed without interruption, or the whole pictures if no face was cropped.

    After a cut, or when somebody comes back, a new person begins: nobody is recognised.
    """

    number: int
    """From 1, the largest first."""
    windows: list[Window]
    """Those that show the person, so that they have probabilities."""
    boxes: list[FaceBox] = field(default_factory=list)
    """Where the face was found, in the order of time."""
    thumbnails: list[Thumbnail] = field(default_factory=list, repr=False)

    @property
    def probabilities(self) -> dict[str, float]:  # type: ignore[override]
        """The mean over the windows."""
        names = self.windows[0].probabilities
        return {name: float(np.mean([one.probabilities[name] for one in self.windows])) for name in names}

    @property
    def score(self) -> float | None:
        """The detector's confidence that it is a face (median); None if nobody looked for faces."""
        scores = [box.score for box in self.boxes if box.score is not None]
        return float(np.median(scores)) if scores else None

    @property
    def doubtful(self) -> bool:
        """Whether the detector is not sure that it is a face."""
        return self.score is not None and self.score < CERTAIN

    @property
    def relevance(self) -> list[tuple[float, float]]:
        """(time in seconds, relevance) of each frame; the mean over the windows that contain it."""
        found: dict[float, list[float]] = {}
        for window in self.windows:
            for frame in window.frames:
                found.setdefault(frame.time_s, []).append(frame.relevance)
        return [(time, sum(values) / len(values)) for time, values in sorted(found.items())]

    @property
    def seen(self) -> list[Interval]:
        """The intervals with the face."""
        intervals = []
        for window in self.windows:
            edge = max(EDGE, 1 / len(window.frames)) * (window.end_s - window.start_s)
            first, last = window.frames[0].time_s, window.frames[-1].time_s
            begin = window.start_s if first - window.start_s <= edge else first
            end = window.end_s if window.end_s - last <= edge else last
            intervals.append((begin, end))
        return united(intervals)

    @property
    def curve(self) -> list[tuple[float, dict[str, float]]]:
        """(time in seconds, probabilities) along the video: of the windows, or of the frames of the only window."""
        if len(self.windows) == 1 and self.windows[0].frames[0].probabilities:
            return [(frame.time_s, frame.probabilities) for frame in self.windows[0].frames]
        # the middle of the frames, not of the window: the face may be visible for only a part of it
        return [((one.frames[0].time_s + one.frames[-1].time_s) / 2, one.probabilities) for one in self.windows]

    def to_dict(self) -> dict[str, Any]:
        """For JSON; times in seconds, at most six decimal places."""
        return {
            "person": self.number,
            "seen_s": [[round(start, 3), round(end, 3)] for start, end in self.seen],
            "prediction": self.prediction,
            "probabilities": _rounded(self.probabilities),
            "entropy": _round(self.entropy),
            "face_score": _round(self.score),
            "windows": [_window(one) for one in self.windows],
            "boxes": [[round(value, 4) if value is not None else None for value in astuple(one)] for one in self.boxes],
        }


@dataclass(frozen=True)
class Prediction(WithProbabilities):
    """The prediction for a video: that of its first person, the largest; ``reason`` says why there is nobody."""

    source: str
    start_s: float
    """When the pictures begin."""
    duration_s: float
    size: tuple[int, int]
    """Width and height of its pictures in pixels, upright."""
    persons: list[Person]
    without_face: list[Window]
    """The windows that show none of ``persons``."""
    crop: str
    """What the model saw: ``face`` (cropped) or ``none`` (whole frames)."""
    model: dict[str, Any]
    """The model's name, classes, and fingerprints of run and encoder."""
    seconds: float
    """How long the prediction took."""
    notes: list[str] = field(default_factory=list)
    others_s: list[Interval] = field(default_factory=list)
    """When somebody was seen for whom ``persons`` has no answer."""

    @property
    def reason(self) -> str | None:
        """Why there is no prediction; None if there is one."""
        if self.persons:
            return None
        if len(self.without_face) > 1:  # windows overlap: a sum over them would count most frames twice
            return f"{NO_FACE} in any of {len(self.without_face)} windows"
        return NO_FACE

    @property
    def probabilities(self) -> dict[str, float]:  # type: ignore[override]
        """Those of the first person; empty without one."""
        return self.persons[0].probabilities if self.persons else {}

    @property
    def windows(self) -> list[Window]:
        """All windows in the order of time: those of the persons, one after another, and those without them."""
        both = [*(one for person in self.persons for one in person.windows), *self.without_face]
        return sorted(both, key=lambda one: one.start_s)

    @property
    def speed(self) -> float:
        """Seconds of video per second."""
        return self.duration_s / self.seconds if self.seconds else 0.0

    @property
    def relevance(self) -> list[tuple[float, float]]:
        """``Person.relevance`` of the first person."""
        return self.persons[0].relevance if self.persons else []

    def to_dict(self) -> dict[str, Any]:
        """For JSON; times in seconds, at most six decimal places."""
        return {
            "source": printable(self.source),
            "start_s": round(self.start_s, 6),
            "duration_s": round(self.duration_s, 3),
            "size": list(self.size),
            "prediction": self.prediction,
            "probabilities": _rounded(self.probabilities),
            "entropy": _round(self.entropy),
            "reason": self.reason,
            "notes": self.notes,
            "crop": self.crop,
            "persons": [person.to_dict() for person in self.persons],
            "others_s": [[round(start, 3), round(end, 3)] for start, end in self.others_s],
            "without_face": [_window(one) for one in self.without_face],
            "speed": {"seconds": round(self.seconds, 3), "video_seconds_per_second": round(self.speed, 2)},
            "model": self.model,
            "notice": NOTICE,
        }

    def rows(self) -> Iterator[dict[str, Any]]:
        """A table row for each window, with the probabilities in columns ``p_<class>``."""
        numbered = [(person.number, one) for person in self.persons for one in person.windows]
        for number, window in [*numbered, *(("", one) for one in self.without_face)]:
            yield {
                "source": printable(self.source),
                "person": number,
                "start_s": round(window.start_s, 3),
                "end_s": round(window.end_s, 3),
                "prediction": window.prediction or "",
                "entropy": _round(window.entropy),
                "reason": window.reason or "",
                **{f"p_{name}": _round(window.probabilities.get(name)) for name in self.model["classes"]},
            }

    def __str__(self) -> str:
        if not self.persons:
            return f"{printable(self.source)}: {self.reason}"
        parts = []
        for person in self.persons:
            several = f"person {person.number} ({person.seen[0][0]:.1f} to {person.seen[-1][1]:.1f} s) "
            parts.append((several if len(self.persons) > 1 else "") + person.summary)
        if len(self.windows) > 1 and len(self.persons) == 1:
            parts.append(f"mean over {len(self.persons[0].windows)} of {len(self.windows)} windows")
        return f"{printable(self.source)}: " + "; ".join([*parts, *self.notes])


def _window(window: Window) -> dict[str, Any]:
    return {
        "start_s": round(window.start_s, 6),
        "end_s": round(window.end_s, 6),
        "prediction": window.prediction,
        "probabilities": _rounded(window.probabilities),
        "entropy": _round(window.entropy),
        "reason": window.reason,
        "faces": vars(window.faces) if window.faces else None,
        "frames": [
            {
                "frame_index": frame.index,
                "time_s": frame.time_s,
                "relevance": _round(frame.relevance),
                **({"probabilities": _rounded(frame.probabilities)} if frame.probabilities else {}),
            }
            for frame in window.frames
        ],
    }


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 6) for name, value in values.items()}
