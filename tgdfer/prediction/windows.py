"""Sliding windows over a stream of frames; the model sees each window as a clip."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tgdfer.config.data import FramesParams
from tgdfer.media.frame import Frame


@dataclass(frozen=True)
class FrameWindow:
    """The frames of a window from ``start`` to ``end`` (seconds)."""

    start: float
    end: float
    frames: list[Frame]


def stream_sampling(params: FramesParams, length: float) -> FramesParams:
    """``params`` for a stream: a window of ``length`` seconds gets as many frames as a whole clip had in training."""
    if params.sampling != "uniform":
        return params
    return params.model_copy(update={"sampling": "fps", "fps": params.max_frames / length})


def sliding_windows(frames: Iterable[Frame], length: float, stride: float) -> Iterator[FrameWindow]:
    """Windows of ``length`` seconds, a new one every ``stride`` seconds; the last one ends with the last frame.

    A stream that is shorter than a window gives one window with all frames. Memory holds only the frames of a window
    and of the one before.
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
                yield FrameWindow(start, start + length, inside)
                last_end = held[-1].time_s
            number += 1
            while held and held[0].time_s < start:
                held.popleft()
            if not held:  # jump to the first window with this frame: the gap may be days long
                number = max(number, int((frame.time_s - length - first) / stride) + 1)
            start = first + number * stride
        held.append(frame)
    if held and (not last_end or held[-1].time_s > last_end):
        step = held[-1].time_s - held[-2].time_s if len(held) > 1 else 0.0
        end = held[-1].time_s + step
        begin = max(first, end - length) if number else first
        yield FrameWindow(begin, end, [one for one in held if one.time_s >= begin])
