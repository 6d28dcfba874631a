"""The prediction for a video, as text and as JSON, with the notice that says what it is not."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

NOTICE = (
    "A model's guess at how onlookers would label what the face does; it is not what the person feels, and no ground "
    "for a decision about anyone."
)
NO_FACE = "no face found"
EDGE = 0.15
"""The share of a window at each end, at least one frame's share, that may lack frames and still counts as seen."""


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
    """What the face detection found in the frames that it searched."""

    frames: int
    with_face: int
    with_several: int
    most: int
    """The most faces in one frame; the largest one is followed."""
    share: float | None
    """The side of the followed face as a share of the frame's longer side (median); None without a face."""


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
    """Whether it is one of the most relevant frames for the predicted class."""


@dataclass(frozen=True)
class Prediction(WithProbabilities):
    """The prediction for a video.

    ``probabilities`` is the mean over the windows that show a face. If none does, it is empty and ``reason`` says so.
    """

    source: str
    duration_s: float
    probabilities: dict[str, float]
    windows: list[Window]
    crop: str
    """What the model saw: ``face`` (cropped) or ``none`` (whole frames)."""
    model: dict[str, Any]
    """The model's name, classes, and fingerprints of run and encoder."""
    seconds: float
    """How long the prediction took."""
    reason: str | None = None
    notes: list[str] = field(default_factory=list)
    thumbnails: list[Thumbnail] = field(default_factory=list, repr=False)

    @property
    def speed(self) -> float:
        """Seconds of video per second."""
        return self.duration_s / self.seconds if self.seconds else 0.0

    @property
    def relevance(self) -> list[tuple[float, float]]:
        """(time in seconds, relevance) of each frame; the mean over the windows that contain it."""
        found: dict[float, list[float]] = {}
        for window in self.windows:
            for frame in window.frames:
                found.setdefault(frame.time_s, []).append(frame.relevance)
        return [(time, sum(values) / len(values)) for time, values in sorted(found.items())]

    @property
    def seen(self) -> list[tuple[float, float]]:
        """The intervals (start, end in seconds) with a face."""
        intervals: list[tuple[float, float]] = []
        for window in (window for window in self.windows if window.frames):
            edge = max(EDGE, 1 / len(window.frames)) * (window.end_s - window.start_s)
            first, last = window.frames[0].time_s, window.frames[-1].time_s
            begin = window.start_s if first - window.start_s <= edge else first
            end = window.end_s if window.end_s - last <= edge else last
            if intervals and begin <= intervals[-1][1]:
                begin, end = intervals[-1][0], max(end, intervals.pop()[1])
            intervals.append((begin, end))
        return intervals

    @property
    def curve(self) -> list[tuple[float, dict[str, float]]]:
        """(time in seconds, probabilities) along the video: of its windows, or of the frames of its only window."""
        frames = [window.frames for window in self.windows if window.frames]
        if len(frames) == 1 and frames[0][0].probabilities:
            return [(frame.time_s, frame.probabilities) for one in frames for frame in one]
        # the middle of the frames, not of the window: the face may be visible for only a part of it
        middles = [(one[0].time_s + one[-1].time_s) / 2 for one in frames]
        return list(zip(middles, (window.probabilities for window in self.windows if window.frames), strict=True))

    def to_dict(self) -> dict[str, Any]:
        """For JSON; times in seconds, at most six decimal places."""
        return {
            "source": printable(self.source),
            "duration_s": round(self.duration_s, 3),
            "prediction": self.prediction,
            "probabilities": _rounded(self.probabilities),
            "entropy": _round(self.entropy),
            "reason": self.reason,
            "notes": self.notes,
            "crop": self.crop,
            "windows": [
                {
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
                for window in self.windows
            ],
            "speed": {"seconds": round(self.seconds, 3), "video_seconds_per_second": round(self.speed, 2)},
            "model": self.model,
            "notice": NOTICE,
        }

    def rows(self) -> Iterator[dict[str, Any]]:
        """A table row for each window, with the probabilities in columns ``p_<class>``."""
        classes = self.model["classes"]
        for window in self.windows or [Window(0.0, self.duration_s, {}, [], reason=self.reason)]:
            yield {
                "source": printable(self.source),
                "start_s": round(window.start_s, 3),
                "end_s": round(window.end_s, 3),
                "prediction": window.prediction or "",
                "entropy": _round(window.entropy),
                "reason": window.reason or "",
                **{f"p_{name}": _round(window.probabilities.get(name)) for name in classes},
            }

    def __str__(self) -> str:
        if not self.probabilities:
            return f"{printable(self.source)}: {self.reason}"
        first = sorted(self.probabilities.items(), key=lambda item: -item[1])[:3]
        text = ", ".join(f"{name} {100 * value:.0f} %" for name, value in first)
        whole = f"{printable(self.source)}: {text}; uncertainty {self.entropy:.2f} of 1"
        if len(self.windows) > 1:
            whole += f"; mean over {sum(bool(w.probabilities) for w in self.windows)} of {len(self.windows)} windows"
        return "; ".join([whole, *self.notes])


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 6) for name, value in values.items()}
