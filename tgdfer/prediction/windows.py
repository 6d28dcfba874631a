"""Sliding windows over a stream of frames; a window is then what a clip is to the model."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tgdfer.config.params import FramesParams
from tgdfer.media.frame import Frame


@dataclass(frozen=True)
class Span:
    """The frames of a window, which reaches from ``start`` to ``end`` in seconds."""

    start: float
    end: float
    frames: list[Frame]


def sampling(params: FramesParams, length: float) -> FramesParams:
    """``params`` for a stream: as many frames in a window of ``length`` seconds as a whole clip would have given."""
    if params.sampling != "uniform":
        return params
    return params.model_copy(update={"sampling": "fps", "fps": params.max_frames / length})


def slide(frames: Iterable[Frame], length: float, stride: float) -> Iterator[Span]:
    """Windows of ``length`` seconds, a new one every ``stride``; the last one ends with the last frame.

    A stream that is shorter than a window gives one, with all frames. No more frames are held than belong to a window
    and the one before.
    """
    held: deque[Frame] = deque()
    first = start = last_end = 0.0
    number = 0
    for frame in frames:
        if not held and not number:
            first = start = frame.time_s
        while frame.time_s >= start + length:
            inside = [one for one in held if start <= one.time_s]
            if inside:
                yield Span(start, start + length, inside)
                last_end = held[-1].time_s
            number += 1
            while held and held[0].time_s < start:
                held.popleft()
            if not held:  # the first window that holds this frame: there may be days in between
                number = max(number, int((frame.time_s - length - first) / stride) + 1)
            start = first + number * stride
        held.append(frame)
    if held and (not last_end or held[-1].time_s > last_end):
        step = held[-1].time_s - held[-2].time_s if len(held) > 1 else 0.0
        end = held[-1].time_s + step
        begin = max(first, end - length) if number else first
        yield Span(begin, end, [one for one in held if one.time_s >= begin])
