"""A frame of a clip, and the error of a clip that has none to give."""

from collections.abc import Sequence
from dataclasses import dataclass


class UnusableError(Exception):
    """A clip cannot be used. The message is one line with the reason, as the rejects list it."""


@dataclass(frozen=True)
class Frame:
    """A frame: its number in the source from 0, its time in seconds, its JPEG bytes and its size in pixels."""

    index: int
    time_s: float
    jpeg: bytes
    width: int
    height: int


def clip_seconds(frames: Sequence[Frame]) -> float:
    """The length of a clip, estimated from evenly sampled frames: n of them span n - 1 of its n equal parts."""
    return (frames[-1].time_s - frames[0].time_s) * len(frames) / max(1, len(frames) - 1)
