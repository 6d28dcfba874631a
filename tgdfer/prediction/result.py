"""What is predicted of a video: numbers for people and for programs, and the line that says what they are not."""

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
"""Of a window: so much at each end, or one frame's share, may hold none of its few frames and still count as seen."""


def shown(text: object) -> str:
    """``text`` for a file or a terminal: what cannot be printed stands as an escape, be it a line break in a name."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in str(text))


def entropy(probabilities: Mapping[str, float]) -> float | None:
    """The uncertainty: entropy as a share of the largest possible, 0 (one class) to 1 (all alike); None for nothing."""
    if len(probabilities) < 2:
        return None if not probabilities else 0.0
    value = -sum(p * math.log(p) for p in probabilities.values() if p > 0)
    return min(1.0, max(0.0, value / math.log(len(probabilities))))


def most_likely(probabilities: Mapping[str, float]) -> str | None:
    """The first class of the largest probability; None for nothing."""
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
    """Of this single frame, as the model compares it with the classes: for a curve, not for a conclusion. Empty if
    there are several windows; then their probabilities are the curve."""


@dataclass(frozen=True)
class Faces:
    """What was found in the frames that were looked at."""

    frames: int
    with_face: int
    with_several: int
    most: int
    """The most faces in one frame; the largest one is followed."""
    share: float | None
    """The side of the followed face as a share of the picture's longer one (median); None without a face."""


class Judged:
    """What follows from ``probabilities``; they are empty where there was no face."""

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
class Window(Judged):
    """A stretch of a video, seen by the model as one clip; without ``probabilities`` where ``reason`` says why."""

    start_s: float
    end_s: float
    probabilities: dict[str, float]
    frames: list[FrameScore]
    faces: Faces | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Thumbnail:
    """A small picture of a frame, as the model saw it: JPEG bytes."""

    time_s: float
    jpeg: bytes
    decided: bool = False
    """Whether it is one of the frames that decided."""


@dataclass(frozen=True)
class Prediction(Judged):
    """What the model says of a video.

    ``probabilities`` is the mean over the windows that show a face; it is empty where none does, and ``reason`` says
    so: there is no number without a face.
    """

    source: str
    duration_s: float
    probabilities: dict[str, float]
    windows: list[Window]
    crop: str
    """What the model was shown: ``face`` (cropped) or ``none`` (whole pictures)."""
    model: dict[str, Any]
    """Which model: name, classes, fingerprints of run and encoder."""
    seconds: float
    """How long the prediction took."""
    reason: str | None = None
    notes: list[str] = field(default_factory=list)
    thumbnails: list[Thumbnail] = field(default_factory=list, repr=False)

    @property
    def speed(self) -> float:
        """Seconds of video in a second."""
        return self.duration_s / self.seconds if self.seconds else 0.0

    @property
    def relevance(self) -> list[tuple[float, float]]:
        """(time in seconds, relevance) along the video; the mean over the windows that a frame belongs to."""
        found: dict[float, list[float]] = {}
        for window in self.windows:
            for frame in window.frames:
                found.setdefault(frame.time_s, []).append(frame.relevance)
        return [(time, sum(values) / len(values)) for time, values in sorted(found.items())]

    @property
    def seen(self) -> list[tuple[float, float]]:
        """The stretches of time, from and to in seconds, with a face: of a window, where its frames lie."""
        stretches: list[tuple[float, float]] = []
        for window in (window for window in self.windows if window.frames):
            edge = max(EDGE, 1 / len(window.frames)) * (window.end_s - window.start_s)
            first, last = window.frames[0].time_s, window.frames[-1].time_s
            begin = window.start_s if first - window.start_s <= edge else first
            end = window.end_s if window.end_s - last <= edge else last
            if stretches and begin <= stretches[-1][1]:
                begin, end = stretches[-1][0], max(end, stretches.pop()[1])
            stretches.append((begin, end))
        return stretches

    @property
    def curve(self) -> list[tuple[float, dict[str, float]]]:
        """(time in seconds, probabilities) along the video: of the windows, or, with one window, of each frame."""
        frames = [window.frames for window in self.windows if window.frames]
        if len(frames) == 1 and frames[0][0].probabilities:
            return [(frame.time_s, frame.probabilities) for one in frames for frame in one]
        # in the middle of the frames seen: the face may be visible in only a part of the window
        middles = [(one[0].time_s + one[-1].time_s) / 2 for one in frames]
        return list(zip(middles, (window.probabilities for window in self.windows if window.frames), strict=True))

    def to_dict(self) -> dict[str, Any]:
        """For JSON; times in seconds, at most six digits after the point."""
        return {
            "source": shown(self.source),
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
        """A row per window, for a table: the classes' probabilities are columns ``p_<class>``."""
        classes = self.model["classes"]
        for window in self.windows or [Window(0.0, self.duration_s, {}, [], reason=self.reason)]:
            yield {
                "source": shown(self.source),
                "start_s": round(window.start_s, 3),
                "end_s": round(window.end_s, 3),
                "prediction": window.prediction or "",
                "entropy": _round(window.entropy),
                "reason": window.reason or "",
                **{f"p_{name}": _round(window.probabilities.get(name)) for name in classes},
            }

    def __str__(self) -> str:
        if not self.probabilities:
            return f"{shown(self.source)}: {self.reason}"
        first = sorted(self.probabilities.items(), key=lambda item: -item[1])[:3]
        text = ", ".join(f"{name} {100 * value:.0f} %" for name, value in first)
        whole = f"{shown(self.source)}: {text}; uncertainty {self.entropy:.2f} of 1"
        if len(self.windows) > 1:
            whole += f"; mean over {sum(bool(w.probabilities) for w in self.windows)} of {len(self.windows)} windows"
        return "; ".join([whole, *self.notes])


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 6) for name, value in values.items()}
