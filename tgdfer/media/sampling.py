"""Which frames of a clip are taken."""

from __future__ import annotations

from dataclasses import dataclass

from tgdfer.config.params import FramesParams


@dataclass(frozen=True)
class Frame:
    """A frame: its number in the source from 0, its time in seconds, its JPEG bytes and its size in pixels."""

    index: int
    time_s: float
    jpeg: bytes
    width: int
    height: int


class UnusableError(Exception):
    """A clip that cannot be used. The message is the reason, in one line, that stands in the rejects."""


def uniform(total: int, at_most: int) -> list[int]:
    """The middles of ``at_most`` equal segments of ``total`` frames, or all frames where there are no more."""
    if total <= at_most:
        return list(range(total))
    return [(2 * step + 1) * total // (2 * at_most) for step in range(at_most)]


def choose(times: list[float], params: FramesParams) -> list[int]:
    """The frames to take of a clip whose frames stand at ``times`` (seconds, ascending)."""
    if params.sampling == "uniform":
        return uniform(len(times), params.max_frames)
    if params.sampling == "every":
        return list(range(0, len(times), params.every))
    if params.sampling == "fps":
        # the first frame at or after every tick of a clock that starts with the clip
        chosen: list[int] = []
        last = -1
        for index, time in enumerate(times):
            tick = int((time - times[0]) * params.fps + 1e-6)
            if tick > last:
                chosen.append(index)
                last = tick
        return chosen
    return list(range(len(times)))
